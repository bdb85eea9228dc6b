//! From what a request shows to the caller. On the Notify face: an API key first, else an access token, else a registered
//! application's id and secret; one valid credential suffices. A face with other credentials has an [`Authenticator`] of its own, made of the same parts.
//! It must not know what the caller may do.

mod cache;
mod channel;
mod pace;
mod pair;

use std::collections::BTreeMap;
use std::pin::Pin;

use clarion_auth::permission::Operation;
use clarion_auth::principal::Principal;
use clarion_auth::{Verified, api_key};
use http::{HeaderMap, HeaderName, header};

use crate::app::Inner;
use crate::error::{ApiError, Kind};
use crate::metrics;

pub use cache::KeyCache;
pub(crate) use pair::by_pair;

/// The header of tenant API keys.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The same text whatever was wrong, so that it tells nothing about which keys exist.
const REFUSED: &str = "no valid credential: send an API key in X-API-Key, or an access token in \
                       Authorization as Bearer";

/// What a request shows of its caller.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) headers: &'a HeaderMap,
    /// The named parts of the path, percent-decoded.
    pub(crate) path: &'a [(String, String)],
    /// What is asked for: some routes must never answer 401.
    pub(crate) operation: Operation,
}

impl<'a> Shown<'a> {
    /// A part of the path; empty when the route has none of that name.
    pub(crate) fn part(&self, name: &str) -> &'a str {
        let part = self.path.iter().find(|(known, _)| known == name);
        part.map_or("", |(_, value)| value)
    }

    /// A header's only value; two of the same credential are none.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&'a str> {
        single(self.headers, name)
    }
}

/// Finds out who is calling, or refuses: 401 without a valid credential, 503 when the store must be asked and cannot.
pub(crate) type Authenticator =
    for<'a> fn(
        &'a Inner,
        Shown<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Principal, ApiError>> + Send + 'a>>;

/// The way of the Notify face and of all that follow it: an API key, else an access token.
pub(crate) fn by_headers<'a>(
    app: &'a Inner,
    shown: Shown<'a>,
) -> Pin<Box<dyn Future<Output = Result<Principal, ApiError>> + Send + 'a>> {
    Box::pin(async move {
        let mut outage = None;
        match by_key(app, shown).await {
            Ok(Some(principal)) => return Ok(principal),
            Ok(None) => {}
            Err(error) => outage = Some(error),
        }
        match by_bearer(app, shown).await {
            Ok(Some(principal)) => return Ok(principal),
            Ok(None) => {}
            Err(error) => outage = Some(error),
        }
        if let Some(outage) = outage {
            return Err(outage);
        }
        let tenant = shown.part("tenant").parse().ok();
        let client = by_pair(app, shown, tenant.as_ref()).await?;
        client.ok_or_else(|| ApiError::new(Kind::Unauthenticated, REFUSED))
    })
}

/// The holder of the access token in `Authorization`; `None` when there is none that is good.
pub(crate) async fn by_bearer(
    app: &Inner,
    shown: Shown<'_>,
) -> Result<Option<Principal>, ApiError> {
    let Some(presented) = shown.header(&header::AUTHORIZATION).and_then(bearer) else {
        return Ok(None);
    };
    let Ok(verified) = app.access_tokens.verify(presented, (app.now)()) else {
        metrics::unauthenticated("access_token");
        return Ok(None);
    };
    holder(app, verified).await
}

/// The holder of a good access token, with what is stored of it now: a role or a grant that was taken away counts no more.
async fn holder(app: &Inner, verified: Verified) -> Result<Option<Principal>, ApiError> {
    let (subject, mut orgs) = match verified {
        Verified::Minted { subject, orgs } => (subject, orgs),
        Verified::Exchanged(subject) => (subject, BTreeMap::new()),
        Verified::Service(id) => {
            let service = app.store.service_id(&id).await?;
            return Ok(service.map(|service| Principal::ServiceId {
                id: service.id,
                org: service.org,
                grants: service.grants,
            }));
        }
    };
    for (org, stored) in app.store.roles_of(&subject).await? {
        let role = orgs.entry(org).or_insert(stored);
        *role = stored.max(*role);
    }
    Ok(Some(Principal::Person { subject, orgs }))
}

/// The tenant whose API key is in `X-API-Key`; `None` when there is none that is good.
pub(crate) async fn by_key(app: &Inner, shown: Shown<'_>) -> Result<Option<Principal>, ApiError> {
    let Some(presented) = shown.header(&X_API_KEY) else {
        return Ok(None);
    };
    let found = look_up(app, presented, shown.operation).await?;
    if found.is_none() {
        metrics::unauthenticated("api_key");
    }
    Ok(found)
}

async fn look_up(
    app: &Inner,
    presented: &str,
    operation: Operation,
) -> Result<Option<Principal>, ApiError> {
    let Ok(parsed) = api_key::parse(presented) else {
        return Ok(None);
    };
    let now = (app.now)();
    let record = app.keys.look_up(&parsed.key_id, now).await?;
    // An unknown id is compared too, so that it takes as long as a wrong secret.
    let stored = record.as_ref().map(|record| &record.hash);
    let is_right = api_key::verify(stored, presented);
    let Some(record) = record.filter(|record| is_right && !record.is_expired(now)) else {
        return Ok(None);
    };
    app.keys.pace(&record, now)?;
    app.keys.used(&record, operation, now);
    Ok(Some(Principal::TenantKey {
        tenant: record.tenant.clone(),
        key_id: record.key_id,
        kind: if record.is_test {
            api_key::ApiKeyKind::Test
        } else {
            api_key::ApiKeyKind::Live
        },
        scopes: record.scopes,
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
