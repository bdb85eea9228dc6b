//! The key check: what a request costs before anything is looked up. It must not know where hashes are kept.

use anyhow::{Result, ensure};
use clarion_auth::api_key::{self, ApiKey, ApiKeyKind};

use crate::stage::{Per, Stage};

/// Parse, hash, and both together with the comparison.
///
/// # Errors
/// When no key can be drawn.
pub fn stages() -> Result<Vec<Stage>> {
    let key = ApiKey::generate(ApiKeyKind::Live)?;
    let (plain, stored) = (key.reveal().to_owned(), key.hash());
    ensure!(api_key::parse(&plain).is_ok() && api_key::verify(Some(&stored), &plain));
    let (parsed, hashed) = (plain.clone(), plain.clone());
    let per = Per::one("key");
    Ok(vec![
        Stage::new("api key: parse and checksum", per, move || {
            api_key::parse(&parsed)
        }),
        Stage::new("api key: hash", per, move || api_key::hash(&hashed)),
        Stage::new("api key: parse, hash, compare", per, move || {
            api_key::parse(&plain).is_ok() && api_key::verify(Some(&stored), &plain)
        }),
    ])
}
