//! Keyed tags: what proves that an id is ours, and what stands in a log in place of a device token.
//! It must not know what is tagged.

use aws_lc_rs::hmac;

/// A key for HMAC-SHA256 tags, derived from the deployment's master secret.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A key from 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The first 32 bits of the tag over the parts, each preceded by its length.
    #[must_use]
    pub fn tag32(&self, parts: &[&[u8]]) -> [u8; 4] {
        let tag = self.tag(parts);
        let mut out = [0; 4];
        out.copy_from_slice(&tag.as_ref()[..4]);
        out
    }

    /// A short name for a device token, fit for logs: the same token has the same name within one deployment, and the name does
    /// not lead back to the token.
    #[must_use]
    pub fn device_token_hash(&self, device_token: &str) -> String {
        let tag = self.tag(&[b"device token", device_token.as_bytes()]);
        tag.as_ref()[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn tag(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::MacKey;

    #[test]
    fn parts_do_not_run_together() {
        let key = MacKey::new(&[7; 32]);
        assert_ne!(key.tag32(&[b"ab", b"c"]), key.tag32(&[b"a", b"bc"]));
        assert_eq!(key.tag32(&[b"ab", b"c"]), key.tag32(&[b"ab", b"c"]));
        assert_ne!(key.tag32(&[b"a"]), MacKey::new(&[8; 32]).tag32(&[b"a"]));
    }

    #[test]
    fn a_device_token_is_not_in_its_name() {
        let name = MacKey::new(&[7; 32]).device_token_hash("abcdef0123456789");
        assert_eq!(name.len(), 12);
        assert!(!"abcdef0123456789".contains(&name));
    }
}
