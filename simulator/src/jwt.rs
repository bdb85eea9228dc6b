//! Compact JSON web signatures (RFC 7515), taken apart strictly. Knows nothing of keys or of what the
//! claims mean.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

/// Octets of the longest signature text looked at.
const TEXT_OCTETS_MAX: usize = 8 * 1024;

/// A signed text in its parts; nothing is verified yet.
#[derive(Debug)]
pub(crate) struct Parts<'a, H, C> {
    pub(crate) header: H,
    pub(crate) claims: C,
    /// What the signature is over.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
}

/// Takes a signed text apart: three parts of unpadded base64url, the first two JSON objects.
pub(crate) fn parse<H: DeserializeOwned, C: DeserializeOwned>(
    text: &str,
) -> Option<Parts<'_, H, C>> {
    if text.len() > TEXT_OCTETS_MAX {
        return None;
    }
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    Some(Parts {
        header: serde_json::from_slice(&decode(header)?).ok()?,
        claims: serde_json::from_slice(&decode(claims)?).ok()?,
        signed,
        signature: decode(signature)?,
    })
}

/// The signed part of a text with this header and these claims, for test credentials.
pub(crate) fn unsigned(header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Adds a signature.
pub(crate) fn join(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_strict_texts_parse() {
        let good = join(&unsigned(&json!({"alg": "x"}), &json!({"iat": 1})), b"sig");
        let parts = parse::<Value, Value>(&good);
        assert!(parts.is_some_and(|parts| parts.signature == b"sig" && parts.claims["iat"] == 1));
        for bad in [
            format!("{good}="),                      // padded
            good.replace('.', ""),                   // one part
            format!("{good}.more"),                  // four parts
            good.replacen("ey", "e+", 1),            // another alphabet
            join("bm90IGpzb24.bm90IGpzb24", b"sig"), // not JSON
            "x".repeat(TEXT_OCTETS_MAX + 1),
        ] {
            assert!(parse::<Value, Value>(&bad).is_none(), "{bad:.40}");
        }
    }
}
