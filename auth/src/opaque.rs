//! Secrets that carry nothing but themselves: IAM keys and refresh tokens. They are found by their hash.
//! Knows nothing of where hashes are kept, or of what a secret stands for.
//!
//! ```text
//! iam_ 3kT…(44 base62, 262 bits) 0Zk41q
//! prefix  secret                 CRC32 of all before it, base62, zero padded
//! ```
//!
//! Whoever looks one up hashes it first, and asks for the row of that hash: an unknown secret and a wrong one are the same
//! thing, and the database compares hashes that nobody can choose. The checksum refuses junk before that.

use std::fmt;

use zeroize::Zeroizing;

use crate::CryptoUnavailable;
use crate::api_key::{self, ApiKeyHash, CHECKSUM_LEN};

/// Length of the secret part, in base62 characters.
const SECRET_LEN: usize = 44;

/// What a secret is for: secrets of one kind are never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpaqueKind {
    /// An IAM key of a person or a service ID.
    IamKey,
    /// What renews an access token without the key.
    RefreshToken,
}

impl OpaqueKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::IamKey => "iam_",
            Self::RefreshToken => "rt_",
        }
    }
}

/// A newly drawn secret in plain text: shown once, wiped when dropped.
pub struct Opaque(Zeroizing<String>);

impl Opaque {
    /// Draws a new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate(kind: OpaqueKind) -> Result<Self, CryptoUnavailable> {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        api_key::draw_base62(&mut *secret)?;
        // The final size from the start: growing would leave copies of the secret behind.
        let len = kind.prefix().len() + SECRET_LEN + CHECKSUM_LEN;
        let mut plain = Zeroizing::new(String::with_capacity(len));
        plain.push_str(kind.prefix());
        plain.extend(secret.iter().map(|&byte| char::from(byte)));
        let checksum = api_key::checksum(plain.as_bytes());
        plain.extend(checksum.iter().map(|&byte| char::from(byte)));
        Ok(Self(plain))
    }

    /// The whole secret: for the one answer that shows it, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What to store.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        api_key::hash(&self.0)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(..)")
    }
}

/// The hash to look up, if `presented` could be a secret of this kind at all.
#[must_use]
pub fn hash_of(kind: OpaqueKind, presented: &str) -> Option<ApiKeyHash> {
    let rest = presented.strip_prefix(kind.prefix())?;
    let fits = rest.len() == SECRET_LEN + CHECKSUM_LEN
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        return None;
    }
    let (body, given) = presented
        .as_bytes()
        .split_at(presented.len() - CHECKSUM_LEN);
    (api_key::checksum(body) == given).then(|| api_key::hash(presented))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_hash_and_only_as_what_it_is() {
        let (key, token) = (OpaqueKind::IamKey, OpaqueKind::RefreshToken);
        let one = Opaque::generate(key).unwrap();
        assert_eq!(hash_of(key, one.reveal()), Some(one.hash()));
        assert_eq!(hash_of(token, one.reveal()), None);
        assert_ne!(one.hash(), Opaque::generate(key).unwrap().hash());
        assert_eq!(one.reveal().len(), 4 + 44 + 6);
        assert_eq!(format!("{one:?}"), "Opaque(..)");
    }

    #[test]
    fn junk_is_told_by_its_shape_and_checksum() {
        let one = Opaque::generate(OpaqueKind::IamKey).unwrap();
        let good = one.reveal();
        let last = if good.ends_with('0') { "1" } else { "0" };
        let mistyped = format!("{}{last}", &good[..good.len() - 1]);
        let foreign = format!("{}é", &good[..good.len() - 2]);
        for bad in [
            "",
            "iam_",
            &good[1..],
            &good[..good.len() - 1],
            &mistyped,
            &foreign,
        ] {
            assert_eq!(hash_of(OpaqueKind::IamKey, bad), None, "{bad}");
        }
    }
}
