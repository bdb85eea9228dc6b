//! Tenant API keys: their format, how they are drawn, hashed and compared.
//! Knows nothing of where hashes are kept, of requests or of what a key may do.
//!
//! ```text
//! msk_live_ Ab3dEf9z 3kT…(30 or more base62) 0Zk41q
//! prefix    key id   secret                  CRC32 of all before it, base62, zero padded
//! ```
//!
//! The checksum lets junk be refused, and leaked keys be found by scanners, without a database.
//! A random secret of 178 bits needs no slow hash: SHA-256 of the whole key is what is stored.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest, rand};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::CryptoUnavailable;
use crate::ids::{KEY_ID_LEN, KeyId};

/// Length of the secret part of new keys, in base62 characters (178 bits).
pub const SECRET_LEN: usize = 30;
/// Longest secret part that is accepted, in base62 characters.
pub const SECRET_LEN_MAX: usize = 64;
/// Length of the checksum, in base62 characters.
pub(crate) const CHECKSUM_LEN: usize = 6;
/// Rounds of drawing random bytes before giving up; one is enough but once in 10^5 keys.
const DRAWS_MAX: usize = 16;
/// Random bytes drawn in a round.
const DRAW_LEN: usize = 64;
/// The largest multiple of 62 that fits a byte: bytes from here on would favour some characters.
const UNBIASED: u8 = 248;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of a whole key, prefix included: all that is ever stored of it.
pub type ApiKeyHash = [u8; 32];

/// What a tenant's key is for. Both kinds have the same powers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiKeyKind {
    /// `msk_live_…`
    Live,
    /// `msk_test_…`
    Test,
}

impl ApiKeyKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// The name of the kind as it is stored: `live` or `test`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// How keys of this kind begin.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "msk_live_",
            Self::Test => "msk_test_",
        }
    }
}

impl fmt::Display for ApiKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ApiKeyKind {
    type Err = ApiKeyError;

    /// Reads what [`ApiKeyKind::as_str`] wrote.
    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(ApiKeyError::Kind)
    }
}

/// Why a text is no API key. Never holds any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// It does not begin with a known prefix.
    #[error("an API key begins with msk_live_ or msk_test_: send the whole key in X-API-Key")]
    Prefix,
    /// Its length or characters are not those of a key.
    #[error("the API key is cut off or holds foreign characters: copy it again as a whole")]
    Shape,
    /// Its checksum does not match.
    #[error("the API key's checksum is wrong, so it was mistyped: copy it again as a whole")]
    Checksum,
    /// Not the name of a kind of key.
    #[error("the kind of an API key is live or test")]
    Kind,
    /// No key could be drawn.
    #[error(transparent)]
    Crypto(#[from] CryptoUnavailable),
}

/// The public half of a well-formed key. Says nothing about whether such a key was ever issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedApiKey {
    /// By which the stored hash is looked up.
    pub key_id: KeyId,
    /// As its prefix says; for a known key the stored row decides.
    pub kind: ApiKeyKind,
}

/// A newly drawn key in plain text: shown once to its creator, wiped when dropped.
pub struct ApiKey {
    plain: Zeroizing<String>,
    public: ParsedApiKey,
}

impl ApiKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`ApiKeyError::Crypto`] when the system has no random bytes.
    pub fn generate(kind: ApiKeyKind) -> Result<Self, ApiKeyError> {
        let mut key_id = [0; KEY_ID_LEN];
        draw_base62(&mut key_id)?;
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        draw_base62(&mut *secret)?;

        // The final size from the start: growing would leave copies of the secret behind.
        let len = kind.prefix().len() + KEY_ID_LEN + SECRET_LEN + CHECKSUM_LEN;
        let mut plain = Zeroizing::new(String::with_capacity(len));
        plain.push_str(kind.prefix());
        plain.extend(
            key_id
                .iter()
                .chain(secret.iter())
                .map(|&byte| char::from(byte)),
        );
        let checksum = checksum(plain.as_bytes());
        plain.extend(checksum.iter().map(|&byte| char::from(byte)));

        let public = ParsedApiKey {
            key_id: KeyId::from_base62(key_id),
            kind,
        };
        Ok(Self { plain, public })
    }

    /// The whole key: for the one answer that shows it, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.plain
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> ParsedApiKey {
        self.public
    }

    /// What to store.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        hash(&self.plain)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Reads the public half of a presented key and refuses junk by its checksum.
///
/// # Errors
/// [`ApiKeyError::Prefix`], [`ApiKeyError::Shape`] or [`ApiKeyError::Checksum`].
pub fn parse(presented: &str) -> Result<ParsedApiKey, ApiKeyError> {
    let (kind, rest) = ApiKeyKind::ALL
        .into_iter()
        .find_map(|kind| Some((kind, presented.strip_prefix(kind.prefix())?)))
        .ok_or(ApiKeyError::Prefix)?;

    let fixed = KEY_ID_LEN + CHECKSUM_LEN;
    let expected_len = fixed + SECRET_LEN..=fixed + SECRET_LEN_MAX;
    if !expected_len.contains(&rest.len()) || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(ApiKeyError::Shape);
    }
    let (body, given) = presented
        .as_bytes()
        .split_at(presented.len() - CHECKSUM_LEN);
    if checksum(body) != given {
        return Err(ApiKeyError::Checksum);
    }
    let key_id = rest[..KEY_ID_LEN].parse().map_err(|_| ApiKeyError::Shape)?;
    Ok(ParsedApiKey { key_id, kind })
}

/// SHA-256 of the whole key, prefix included.
#[must_use]
pub fn hash(presented: &str) -> ApiKeyHash {
    let digest = digest::digest(&digest::SHA256, presented.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Whether `presented` is the key whose hash is `stored`.
///
/// Takes the same time for a wrong secret and for an unknown key id (`None`): both hash the key and
/// compare 32 bytes in constant time.
#[must_use]
pub fn verify(stored: Option<&ApiKeyHash>, presented: &str) -> bool {
    matches(stored, &hash(presented))
}

/// Constant time, whether or not there is a stored hash; without one never true.
fn matches(stored: Option<&ApiKeyHash>, presented: &ApiKeyHash) -> bool {
    const NOBODY: ApiKeyHash = [0; 32];
    let equal = constant_time::verify_slices_are_equal(stored.unwrap_or(&NOBODY), presented);
    equal.is_ok() & stored.is_some()
}

/// Fills `out` with base62 characters, each equally likely: bytes that would favour one are drawn again.
pub(crate) fn draw_base62(out: &mut [u8]) -> Result<(), CryptoUnavailable> {
    let failed = CryptoUnavailable {
        doing: "drawing random bytes",
    };
    let mut random = Zeroizing::new([0_u8; DRAW_LEN]);
    let mut filled = 0;
    for _ in 0..DRAWS_MAX {
        rand::fill(&mut *random).map_err(|_| failed)?;
        for letter in random.iter().filter_map(|&byte| base62_of(byte)) {
            let Some(slot) = out.get_mut(filled) else {
                return Ok(());
            };
            *slot = letter;
            filled += 1;
        }
    }
    out.zeroize();
    Err(failed)
}

/// The character that a random byte stands for; `None` where it would favour some characters.
fn base62_of(byte: u8) -> Option<u8> {
    (byte < UNBIASED).then(|| BASE62[usize::from(byte % 62)])
}

/// CRC32 of `body` as 6 base62 characters, most significant first, padded with `0`.
pub(crate) fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32(body);
    let mut text = [b'0'; CHECKSUM_LEN];
    for slot in text.iter_mut().rev() {
        *slot = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    text
}

/// CRC-32/ISO-HDLC, the CRC of zip and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32_table();
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xFF) as usize]
    })
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key() -> ApiKey {
        ApiKey::generate(ApiKeyKind::Live).unwrap()
    }

    #[test]
    fn crc32_gives_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn checksums_are_padded_and_big_endian() {
        assert_eq!(&checksum(b""), b"000000");
        // 0xCBF43926 = 3·62^5 + 45·62^4 + 35·62^3 + 27·62^2 + 22·62 + 14
        let digits = [3, 45, 35, 27, 22, 14].map(|digit: usize| BASE62[digit]);
        assert_eq!(checksum(b"123456789"), digits);
    }

    #[test]
    fn a_new_key_has_the_decided_shape_and_parses_to_its_public_half() {
        for kind in ApiKeyKind::ALL {
            let key = ApiKey::generate(kind).unwrap();
            let plain = key.reveal();
            assert!(plain.starts_with(kind.prefix()));
            assert_eq!(plain.len(), 9 + 8 + 30 + 6);
            assert_eq!(plain.len(), plain.chars().count());
            let parsed = parse(plain).unwrap();
            assert_eq!(parsed, key.public());
            assert_eq!(parsed.kind, kind);
            assert_eq!(&plain[9..17], parsed.key_id.as_str());
            assert_eq!(parsed.key_id.to_string(), format!("key_{}", &plain[9..17]));
        }
    }

    #[test]
    fn keys_differ_and_use_the_whole_alphabet() {
        let keys: Vec<ApiKey> = (0..200).map(|_| key()).collect();
        let ids: HashSet<KeyId> = keys.iter().map(|key| key.public().key_id).collect();
        assert_eq!(ids.len(), keys.len());
        let seen: HashSet<u8> = keys
            .iter()
            .flat_map(|key| key.reveal().bytes().skip(9))
            .collect();
        // 200 keys hold 7,600 random characters: one of 62 is missing once in 10^51 runs.
        assert!(BASE62.iter().all(|byte| seen.contains(byte)));
    }

    #[test]
    fn every_character_is_equally_likely() {
        for letter in BASE62 {
            let bytes = (0..=u8::MAX).filter(|byte| base62_of(*byte) == Some(*letter));
            assert_eq!(bytes.count(), 4, "{}", char::from(*letter));
        }
    }

    #[test]
    fn only_the_whole_right_key_verifies() {
        let key = key();
        let stored = key.hash();
        assert!(verify(Some(&stored), key.reveal()));
        assert!(!verify(Some(&stored), self::key().reveal()));
        assert!(!verify(Some(&stored), &key.reveal()[9..]));
        assert!(!verify(None, key.reveal()));
        // Whatever stands in for an unknown id's hash must never count as a match.
        assert!(!matches(None, &[0; 32]));
    }

    #[test]
    fn the_hash_is_sha256_of_the_whole_key() {
        let hex: String = hash("abc")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn junk_is_refused_with_its_reason() {
        let good = key();
        let good = good.reveal();
        let swapped = good.replace("msk_live_", "msk_test_");
        let cases: [(&str, ApiKeyError); 9] = [
            ("", ApiKeyError::Prefix),
            ("pk_live_x", ApiKeyError::Prefix),
            ("MSK_LIVE_x", ApiKeyError::Prefix),
            ("msk_live_", ApiKeyError::Shape),
            ("msk_live_xxxxxxxxxxxxxxxxxxxx", ApiKeyError::Shape),
            (&good[..good.len() - 1], ApiKeyError::Shape),
            (&format!("{good} "), ApiKeyError::Shape),
            (&format!("msk_live_{}", "é".repeat(22)), ApiKeyError::Shape),
            (&swapped, ApiKeyError::Checksum),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
        let endless = format!("msk_live_{}", "a".repeat(1_000_000));
        assert_eq!(parse(&endless), Err(ApiKeyError::Shape));
    }

    #[test]
    fn longer_secrets_are_read_up_to_the_bound() {
        for (len, fits) in [(29, false), (30, true), (43, true), (64, true), (65, false)] {
            let body = format!("msk_live_Ab3dEf9z{}", "s".repeat(len));
            let checksum = checksum(body.as_bytes());
            let text = format!("{body}{}", std::str::from_utf8(&checksum).unwrap());
            assert_eq!(parse(&text).is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn debug_shows_only_the_public_half() {
        let key = key();
        let shown = format!("{key:?}");
        assert!(shown.contains(key.public().key_id.as_str()));
        assert!(!shown.contains(&key.reveal()[17..25]));
    }

    #[test]
    fn kinds_are_stored_by_name() {
        for kind in ApiKeyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("LIVE".parse::<ApiKeyKind>(), Err(ApiKeyError::Kind));
    }

    proptest! {
        #[test]
        fn every_single_mistyped_character_is_noticed(at in 9_usize..53, other in 0_usize..62) {
            let key = key();
            let mut text = key.reveal().as_bytes().to_vec();
            prop_assume!(text[at] != BASE62[other]);
            text[at] = BASE62[other];
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(parse(&text), Err(ApiKeyError::Checksum));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "(msk_live_)?.{0,120}") {
            prop_assert!(parse(&text).is_err());
        }
    }
}
