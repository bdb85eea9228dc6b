//! The ids every room shares: validated once, cheap to copy around afterwards.
//! Knows nothing of where an id is stored, of requests or of what an id may do.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest tenant, organisation or credential id, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// Longest principal id (the subject of an access token), in bytes.
pub const PRINCIPAL_LEN_MAX: usize = 128;
/// Length of a key id, in base62 characters.
pub const KEY_ID_LEN: usize = 8;
/// What precedes a key id wherever it is shown in public.
pub const KEY_ID_PREFIX: &str = "key_";

/// Why a text is not an id. The message names the kind of id and the rule, never the text itself,
/// because what a caller puts in place of an id may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("the {what} is empty: give 1 to {max} characters")]
    Empty {
        /// Kind of id, as in "tenant id".
        what: &'static str,
        /// Longest accepted length, in bytes.
        max: usize,
    },
    /// The text is too long.
    #[error("the {what} is longer than {max} bytes: shorten it")]
    TooLong {
        /// Kind of id.
        what: &'static str,
        /// Longest accepted length, in bytes.
        max: usize,
    },
    /// The text holds a character that is not allowed.
    #[error("the {what} has a wrong character at byte {at}: use only {allowed}")]
    Character {
        /// Kind of id.
        what: &'static str,
        /// The allowed characters, in words.
        allowed: &'static str,
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// A key id that is not exactly [`KEY_ID_LEN`] characters.
    #[error("a key id is \"key_\" and 8 letters or digits: copy it from the list of keys")]
    KeyIdLength,
}

/// Letters, digits, `_` and `-`: safe in URLs, routing keys, queue names and file names.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Visible ASCII: names of people and services such as `ada@example.com`, without control characters.
const fn is_principal_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn check(
    text: &str,
    what: &'static str,
    max: usize,
    allowed: (&'static str, fn(u8) -> bool),
) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what, max });
    }
    if text.len() > max {
        return Err(IdError::TooLong { what, max });
    }
    let (allowed, accepts) = allowed;
    match text.bytes().position(|byte| !accepts(byte)) {
        Some(at) => Err(IdError::Character { what, allowed, at }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, $what, $max, $allowed)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

const NAME_CHARACTERS: (&str, fn(u8) -> bool) = ("letters, digits, '_' and '-'", is_name_byte);
const PRINCIPAL_CHARACTERS: (&str, fn(u8) -> bool) =
    ("visible ASCII characters without spaces", is_principal_byte);

text_id! {
    /// A tenant: one app with its devices, credentials, keys and limits. `[A-Za-z0-9_-]{1,64}`.
    TenantId, "tenant id", NAME_LEN_MAX, NAME_CHARACTERS
}
text_id! {
    /// An organisation: the people who own tenants. `[A-Za-z0-9_-]{1,64}`.
    OrgId, "organisation id", NAME_LEN_MAX, NAME_CHARACTERS
}
text_id! {
    /// A stored provider credential of a tenant. `[A-Za-z0-9_-]{1,64}`.
    CredentialId, "credential id", NAME_LEN_MAX, NAME_CHARACTERS
}
text_id! {
    /// A person or service that holds access tokens: the `sub` claim. 1 to 128 visible ASCII characters.
    PrincipalId, "principal id", PRINCIPAL_LEN_MAX, PRINCIPAL_CHARACTERS
}
text_id! {
    /// A service ID: a service of an organisation that holds IAM keys. `[A-Za-z0-9_-]{1,64}`, made as `ServiceId-` and
    /// a UUID.
    ServiceId, "service id", NAME_LEN_MAX, NAME_CHARACTERS
}
text_id! {
    /// A registered client application: the `X-IBM-Client-Id` header. `[A-Za-z0-9_-]{1,64}`.
    ClientId, "client id", NAME_LEN_MAX, NAME_CHARACTERS
}
text_id! {
    /// The public id of an IAM key. `[A-Za-z0-9_-]{1,64}`, made as `ApiKey-` and a UUID.
    IamKeyId, "IAM key id", NAME_LEN_MAX, NAME_CHARACTERS
}

/// The public half of an API key: 8 base62 characters, shown as `key_<id>`, stored bare.
///
/// Display writes the public form; [`KeyId::as_str`] gives the bare one. Both parse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    /// The bare 8 characters: the database key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// A key id from bytes that are base62 by construction.
    pub(crate) const fn from_base62(bytes: [u8; KEY_ID_LEN]) -> Self {
        Self(bytes)
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    /// Accepts the bare and the public form. A bare id never holds `_`, so the two cannot be confused.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bare = text.strip_prefix(KEY_ID_PREFIX).unwrap_or(text);
        let bytes: [u8; KEY_ID_LEN] = bare
            .as_bytes()
            .try_into()
            .map_err(|_| IdError::KeyIdLength)?;
        match bytes.iter().position(|byte| !byte.is_ascii_alphanumeric()) {
            Some(at) => Err(IdError::Character {
                what: "key id",
                allowed: "letters and digits",
                at,
            }),
            None => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_ID_PREFIX}{}", self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tenant_ids_follow_the_rule_of_the_job_protocol() {
        for good in ["a", "acme", "Acme_1-x", &"z".repeat(NAME_LEN_MAX)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
        let refused = [
            ("", "empty"),
            (&"z".repeat(NAME_LEN_MAX + 1), "longer than 64"),
            ("a.b", "byte 1"),
            ("a/b", "byte 1"),
            ("a b", "byte 1"),
            ("ok\n", "byte 2"),
            ("a\0", "byte 1"),
            ("käse", "byte 1"),
        ];
        for (text, says) in refused {
            let message = text.parse::<TenantId>().unwrap_err().to_string();
            assert!(message.contains(says), "{text:?}: {message}");
        }
    }

    #[test]
    fn principals_may_be_mail_addresses_but_hold_no_spaces_or_controls() {
        assert!("ada@example.com".parse::<PrincipalId>().is_ok());
        for bad in [
            "",
            "ada lovelace",
            "ada\r\nx: y",
            "adä",
            &"p".repeat(PRINCIPAL_LEN_MAX + 1),
        ] {
            assert!(bad.parse::<PrincipalId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_id_parses_bare_and_public_and_shows_public() {
        let bare: KeyId = "Ab3dEf9z".parse().unwrap();
        assert_eq!("key_Ab3dEf9z".parse::<KeyId>().unwrap(), bare);
        assert_eq!(
            (bare.to_string().as_str(), bare.as_str()),
            ("key_Ab3dEf9z", "Ab3dEf9z")
        );
        assert_eq!(serde_json::to_string(&bare).unwrap(), "\"key_Ab3dEf9z\"");
        for bad in [
            "",
            "Ab3dEf9",
            "Ab3dEf9zz",
            "Ab3dEf9-",
            "key_",
            "key_key_Ab3d",
            "Ab3dEfé",
        ] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_refuses_what_parsing_refuses_and_reads_escapes() {
        assert_eq!(
            serde_json::from_str::<TenantId>("\"acme\"")
                .unwrap()
                .as_str(),
            "acme"
        );
        assert_eq!(
            serde_json::from_str::<TenantId>("\"acm\\u0065\"")
                .unwrap()
                .as_str(),
            "acme"
        );
        assert!(serde_json::from_str::<TenantId>("\"a b\"").is_err());
        assert!(serde_json::from_str::<TenantId>("7").is_err());
    }

    #[test]
    fn errors_never_repeat_the_text() {
        let error = "msk_live_secret value".parse::<TenantId>().unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    proptest! {
        #[test]
        fn what_is_accepted_round_trips_and_is_within_the_rule(text in ".{0,80}") {
            if let Ok(id) = text.parse::<TenantId>() {
                prop_assert!(!text.is_empty() && text.len() <= NAME_LEN_MAX);
                prop_assert!(text.bytes().all(is_name_byte));
                let json = serde_json::to_string(&id).unwrap();
                prop_assert_eq!(serde_json::from_str::<TenantId>(&json).unwrap(), id);
            }
        }
    }
}
