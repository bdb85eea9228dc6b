//! From a request's headers to the caller: an API key first, else an access token; one valid credential suffices.
//! It must not know what the caller may do.

mod cache;

use clarion_auth::api_key;
use clarion_auth::principal::Principal;
use http::{HeaderMap, HeaderName, header};

use crate::app::Inner;
use crate::error::{ApiError, Kind};
use crate::metrics;

pub use cache::KeyCache;

/// The header of tenant API keys.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The same text whatever was wrong, so that it tells nothing about which keys exist.
const REFUSED: &str = "no valid credential: send an API key in X-API-Key, or an access token in \
                       Authorization as Bearer";

/// Who sent these headers.
///
/// # Errors
/// 401 without a valid credential; 503 when the store must be asked and cannot.
pub(crate) async fn authenticate(app: &Inner, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let now = (app.now)();
    let mut outage = None;
    if let Some(presented) = single(headers, &X_API_KEY) {
        match by_key(app, presented).await {
            Ok(Some(principal)) => return Ok(principal),
            Ok(None) => metrics::unauthenticated("api_key"),
            Err(error) => outage = Some(error),
        }
    }
    if let Some(presented) = single(headers, &header::AUTHORIZATION).and_then(bearer) {
        match app.access_tokens.verify(presented, now) {
            Ok(principal) => return Ok(principal),
            Err(_) => metrics::unauthenticated("access_token"),
        }
    }
    Err(outage.unwrap_or_else(|| ApiError::new(Kind::Unauthenticated, REFUSED)))
}

async fn by_key(app: &Inner, presented: &str) -> Result<Option<Principal>, ApiError> {
    let Ok(parsed) = api_key::parse(presented) else {
        return Ok(None);
    };
    let now = (app.now)();
    let record = app.keys.look_up(&parsed.key_id, now).await?;
    // An unknown id is compared too, so that it takes as long as a wrong secret.
    let stored = record.as_ref().map(|record| &record.hash);
    if !api_key::verify(stored, presented) {
        return Ok(None);
    }
    Ok(record.map(|record| {
        app.keys.used(record.key_id, now);
        Principal::TenantKey {
            tenant: record.tenant.clone(),
            key_id: record.key_id,
            kind: if record.is_test {
                api_key::ApiKeyKind::Test
            } else {
                api_key::ApiKeyKind::Live
            },
        }
    }))
}

/// The header's only value; two of the same credential are none.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_case_insensitive_and_must_be_bearer() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }

    #[test]
    fn a_credential_sent_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.append(X_API_KEY, "a".parse().unwrap());
        assert_eq!(single(&headers, &X_API_KEY), Some("a"));
        headers.append(X_API_KEY, "b".parse().unwrap());
        assert_eq!(single(&headers, &X_API_KEY), None);
    }
}
