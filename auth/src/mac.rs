//! Keyed MACs (HMAC-SHA256, truncated): ids that prove themselves, device tokens in logs.
//! Knows nothing of what the bytes mean, nor of where the key came from.

use std::fmt;
use std::fmt::Write as _;

use aws_lc_rs::{constant_time, hmac, rand};
use zeroize::Zeroizing;

use crate::CryptoUnavailable;

/// Length of a MAC key, in bytes.
pub const MAC_KEY_LEN: usize = 32;
/// Bytes of a device token's hash that are shown: 64 bits tell tokens apart and tell nothing of them.
const DEVICE_TOKEN_HASH_LEN: usize = 8;

/// Keeps the uses of one key apart: no tag of one use is ever a tag of another.
const DOMAIN_TAG32: &[u8] = b"clarion tag32";
const DOMAIN_DEVICE_TOKEN: &[u8] = b"clarion device token";

/// A key for MACs. Debug shows nothing of it.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> Result<Self, CryptoUnavailable> {
        let mut bytes = Zeroizing::new([0; MAC_KEY_LEN]);
        rand::fill(&mut *bytes).map_err(|_| CryptoUnavailable {
            doing: "drawing random bytes",
        })?;
        Ok(Self::new(&bytes))
    }

    /// A key from 32 secret bytes.
    #[must_use]
    pub fn new(bytes: &[u8; MAC_KEY_LEN]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A 32-bit tag over `parts`, each with its length, so that no two lists of parts run together.
    ///
    /// 32 bits keep strangers from guessing ids of things that exist; they are no signature.
    #[must_use]
    pub fn tag32(&self, parts: &[&[u8]]) -> [u8; 4] {
        let mut tag = [0; 4];
        tag.copy_from_slice(&self.sign(DOMAIN_TAG32, parts).as_ref()[..4]);
        tag
    }

    /// Whether `tag` is the tag of `parts`; compared in constant time.
    #[must_use]
    pub fn verify32(&self, parts: &[&[u8]], tag: [u8; 4]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag32(parts), &tag).is_ok()
    }

    /// What stands for a device token in logs: 16 hex digits, the same for the same device token under
    /// the same key, and useless to whoever lacks the key.
    #[must_use]
    pub fn device_token_hash(&self, device_token: &str) -> String {
        let tag = self.sign(DOMAIN_DEVICE_TOKEN, &[device_token.as_bytes()]);
        let mut hex = String::with_capacity(2 * DEVICE_TOKEN_HASH_LEN);
        for byte in &tag.as_ref()[..DEVICE_TOKEN_HASH_LEN] {
            // Writing to a String cannot fail.
            write!(hex, "{byte:02x}").unwrap_or_default();
        }
        hex
    }

    fn sign(&self, domain: &[u8], parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(&domain).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> MacKey {
        MacKey::new(&[byte; MAC_KEY_LEN])
    }

    #[test]
    fn tags_depend_on_the_key_and_verify_under_it_only() {
        let parts: [&[u8]; 2] = [b"tenant", b"notification"];
        let tag = key(1).tag32(&parts);
        assert_eq!(tag, key(1).tag32(&parts));
        assert!(key(1).verify32(&parts, tag));
        assert!(!key(2).verify32(&parts, tag));
        assert!(!key(1).verify32(&parts, [0; 4]));
        assert_ne!(MacKey::generate().unwrap().tag32(&parts), tag);
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = key(1);
        let lists: [&[&[u8]]; 5] = [
            &[b"ab", b"c"],
            &[b"a", b"bc"],
            &[b"abc"],
            &[b"abc", b""],
            &[],
        ];
        let tags: std::collections::HashSet<[u8; 4]> =
            lists.iter().map(|parts| key.tag32(parts)).collect();
        assert_eq!(tags.len(), lists.len());
    }

    #[test]
    fn a_device_token_is_shown_as_sixteen_hex_digits_that_need_the_key() {
        let device_token = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
        let shown = key(1).device_token_hash(device_token);
        assert_eq!(shown.len(), 16);
        assert!(shown.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(shown, key(1).device_token_hash(device_token));
        assert_ne!(shown, key(2).device_token_hash(device_token));
        // Not the beginning of the tag32 of the same bytes.
        let tag = key(1).tag32(&[device_token.as_bytes()]);
        let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.starts_with(&tag));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", key(7)), "MacKey { .. }");
    }

    proptest! {
        #[test]
        fn a_changed_part_is_noticed(mut part in prop::collection::vec(any::<u8>(), 1..64)) {
            let key = key(1);
            let tag = key.tag32(&[&part]);
            prop_assert!(key.verify32(&[&part], tag));
            part[0] ^= 1;
            // A false match is one in 2^32.
            prop_assert!(!key.verify32(&[&part], tag));
        }
    }
}
