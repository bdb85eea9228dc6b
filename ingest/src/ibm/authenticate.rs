//! Who calls the IBM Push face: the first kind of credential that a request shows decides, in the order access token, API
//! key, `appSecret`, API Connect's pair, `clientSecret`; whoever shows none is known by the application id of the path.
//! It must not know what the caller may do.

use std::pin::Pin;

use clarion_auth::TenantId;
use clarion_auth::api_key;
use clarion_auth::permission::Operation;
use clarion_auth::principal::Principal;
use clarion_engine::store::PushSecrets;
use http::{HeaderName, header};

use crate::app::Inner;
use crate::authenticate::{Shown, by_bearer, by_key, by_pair};
use crate::error::{ApiError, Kind};
use crate::metrics;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const APP_SECRET: HeaderName = HeaderName::from_static("appsecret");
const CLIENT_SECRET: HeaderName = HeaderName::from_static("clientsecret");

/// The code of "try again later".
pub(super) const BUSY: &str = "FPWSE0025E";

/// What is said of a credential that is not good; never which part of it.
const BAD_TOKEN: &str = "the access token is not valid: exchange your API key for a new one";
const BAD_KEY: &str = "the API key is not valid";
const BAD_APP_SECRET: &str = "the appSecret is not valid, or this application does not accept one: use \
                              Authorization with an access token";
const BAD_CLIENT_SECRET: &str = "the clientSecret is not valid";

type Found<'a> = Pin<Box<dyn Future<Output = Result<Principal, ApiError>> + Send + 'a>>;

/// See [`crate::authenticate::Authenticator`].
pub(super) fn authenticate<'a>(app: &'a Inner, shown: Shown<'a>) -> Found<'a> {
    Box::pin(async move {
        match credential(app, shown).await {
            // Published clients call no callback after a 401 or a 503 to this route, and knowing the device's id is
            // enough for it.
            Err(error) if shown.operation == Operation::ReadDevice => match error.kind() {
                Kind::Unauthenticated if !is_pair(shown) => by_app_id(app, shown, None).await,
                Kind::Unavailable => Err(error.turned(Kind::Internal).code(BUSY)),
                _ => Err(error),
            },
            answer => answer,
        }
    })
}

async fn credential(app: &Inner, shown: Shown<'_>) -> Result<Principal, ApiError> {
    let refused = |says| ApiError::new(Kind::Unauthenticated, says);
    let has = |name: &HeaderName| shown.headers.contains_key(name);
    if has(&header::AUTHORIZATION) {
        let person = by_bearer(app, shown).await?;
        return person.ok_or_else(|| refused(BAD_TOKEN));
    }
    if has(&X_API_KEY) {
        let key = by_key(app, shown).await?;
        return key.ok_or_else(|| refused(BAD_KEY));
    }
    let tenant = tenant(shown);
    if has(&APP_SECRET) {
        let secrets = secrets(app, tenant.as_ref()).await?;
        let allowed = secrets.app_secret.as_ref();
        let allowed = allowed.filter(|_| secrets.allows_app_secret);
        let stored = allowed.map(|(hash, _)| hash);
        let is_right = api_key::verify(stored, shown.header(&APP_SECRET).unwrap_or_default());
        return match tenant.filter(|_| is_right) {
            Some(tenant) => Ok(Principal::AppSecret { tenant }),
            None => Err(bad("app_secret", BAD_APP_SECRET)),
        };
    }
    if let Some(client) = by_pair(app, shown, tenant.as_ref()).await? {
        return Ok(client);
    }
    let secrets = secrets(app, tenant.as_ref()).await?;
    if has(&CLIENT_SECRET) {
        let stored = secrets.client_secret.as_ref().map(|(hash, _)| hash);
        let is_right = api_key::verify(stored, shown.header(&CLIENT_SECRET).unwrap_or_default());
        return match tenant.filter(|_| is_right) {
            Some(tenant) => Ok(Principal::ClientApp {
                tenant,
                client_id: None,
                is_proven: true,
            }),
            None => Err(bad("client_secret", BAD_CLIENT_SECRET)),
        };
    }
    by_app_id(app, shown, Some(&secrets)).await
}

/// Whoever knows the application's id. A tenant may say that this is proof enough.
async fn by_app_id(
    app: &Inner,
    shown: Shown<'_>,
    secrets: Option<&PushSecrets>,
) -> Result<Principal, ApiError> {
    let unknown = || ApiError::not_found("application: check the application id in the path");
    let tenant = tenant(shown).ok_or_else(unknown)?;
    let row = app.store.tenant(&tenant).await?;
    row.ok_or_else(unknown)?;
    if secrets.is_some_and(|secrets| !secrets.verifies_client_secret) {
        return Ok(Principal::ClientApp {
            tenant,
            client_id: None,
            is_proven: true,
        });
    }
    Ok(Principal::AppId { tenant })
}

/// The push secrets of a tenant, known or not: the same work for both.
async fn secrets(app: &Inner, tenant: Option<&TenantId>) -> Result<PushSecrets, ApiError> {
    match tenant {
        Some(tenant) => Ok(app.store.push_secrets(tenant).await?),
        None => Ok(PushSecrets::default()),
    }
}

fn tenant(shown: Shown<'_>) -> Option<TenantId> {
    shown.part("applicationId").parse().ok()
}

fn is_pair(shown: Shown<'_>) -> bool {
    let has = |name: &str| shown.headers.contains_key(name);
    has("x-ibm-client-id") || has("x-ibm-client-secret")
}

fn bad(credential: &'static str, says: &'static str) -> ApiError {
    metrics::unauthenticated(credential);
    ApiError::new(Kind::Unauthenticated, says)
}
