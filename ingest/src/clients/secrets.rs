//! `…/push-secrets`: a tenant's `clientSecret` and `appSecret`, and what they are demanded for. Both are shown once.
//! It must not know how a secret is compared.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion_auth::api_key;
use clarion_engine::store::{PushSecrets, PushSecretsPatch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind};

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Which secrets are to be made anew.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RotateSecretsRequest {
    /// What mobile clients send as `clientSecret`.
    client_secret: Option<bool>,
    /// What legacy servers send as `appSecret`; it is accepted from then on.
    app_secret: Option<bool>,
}

/// What the secrets are demanded for.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PatchSecretsRequest {
    /// Whether `appSecret` is accepted.
    allow_app_secret: Option<bool>,
    /// Whether a registration with a user needs `clientSecret`.
    verify_client_secret: Option<bool>,
}

/// New secrets; the only answer that contains them.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedSecrets {
    /// It is never shown again. The old one is of no use any more.
    client_secret: Option<String>,
    /// It is never shown again. The old one is of no use any more.
    app_secret: Option<String>,
}

/// What there is, without the secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretsBody {
    /// Since when there is a `clientSecret`; null when there is none.
    client_secret_created_at: Option<String>,
    /// Since when there is an `appSecret`; null when there is none.
    app_secret_created_at: Option<String>,
    /// Whether `appSecret` is accepted.
    allow_app_secret: bool,
    /// Whether a registration with a user needs `clientSecret`.
    verify_client_secret: bool,
}

/// Which push secrets there are, and what they are demanded for.
#[utoipa::path(get, path = "/tenants/{tenant}/push-secrets", tag = "clients",
    params(("tenant" = String, Path)), responses((status = 200, body = SecretsBody)),
    security(("access_token" = [])))]
pub(crate) async fn read(call: TenantCall) -> Result<Answer, ApiError> {
    let secrets = call.app.store.push_secrets(&call.tenant).await?;
    Answer::json(&SecretsBody::from(secrets))
}

/// Make `clientSecret`, `appSecret` or both anew.
#[utoipa::path(post, path = "/tenants/{tenant}/push-secrets", tag = "clients",
    params(("tenant" = String, Path)), request_body = RotateSecretsRequest,
    responses((status = 200, body = RotatedSecrets)), security(("access_token" = [])))]
pub(crate) async fn rotate(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: RotateSecretsRequest = call.json().await?;
    let wanted = |wish: Option<bool>| match wish {
        Some(true) => new_secret().map(Some),
        _ => Ok(None),
    };
    let client_secret = wanted(request.client_secret)?;
    let app_secret = wanted(request.app_secret)?;
    if client_secret.is_none() && app_secret.is_none() {
        let problem = "say client_secret, app_secret or both";
        return Err(ApiError::field(FieldError::value(["body".into()], problem)));
    }
    let patch = PushSecretsPatch {
        client_secret: client_secret.as_deref().map(api_key::hash),
        app_secret: app_secret.as_deref().map(api_key::hash),
        allows_app_secret: app_secret.as_ref().map(|_| true),
        ..PushSecretsPatch::default()
    };
    let store = &call.app.store;
    store
        .update_push_secrets(&call.tenant, &patch, call.now)
        .await?;
    Answer::json(&RotatedSecrets {
        client_secret: client_secret.map(|secret| secret.to_string()),
        app_secret: app_secret.map(|secret| secret.to_string()),
    })
}

/// Switch what the secrets are demanded for.
#[utoipa::path(patch, path = "/tenants/{tenant}/push-secrets", tag = "clients",
    params(("tenant" = String, Path)), request_body = PatchSecretsRequest,
    responses((status = 200, body = SecretsBody)), security(("access_token" = [])))]
pub(crate) async fn patch(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PatchSecretsRequest = call.json().await?;
    let store = &call.app.store;
    let there = store.push_secrets(&call.tenant).await?;
    if request.allow_app_secret == Some(true) && there.app_secret.is_none() {
        let problem = "there is no appSecret: make one with POST, which switches it on as well";
        return Err(ApiError::new(Kind::Conflict, problem));
    }
    let patch = PushSecretsPatch {
        allows_app_secret: request.allow_app_secret,
        verifies_client_secret: request.verify_client_secret,
        ..PushSecretsPatch::default()
    };
    let secrets = store
        .update_push_secrets(&call.tenant, &patch, call.now)
        .await?;
    Answer::json(&SecretsBody::from(secrets))
}

/// A fresh secret of 256 bits.
pub(super) fn new_secret() -> Result<Box<str>, ApiError> {
    let mut random = [0; SECRET_BYTES];
    rand::fill(&mut random)
        .map_err(|_| ApiError::unavailable("the system has no random bytes: try again"))?;
    Ok(URL_SAFE_NO_PAD.encode(random).into())
}

impl From<PushSecrets> for SecretsBody {
    fn from(secrets: PushSecrets) -> Self {
        let at = |secret: Option<(_, _)>| secret.map(|(_, at): ([u8; 32], _)| rfc3339(at));
        Self {
            client_secret_created_at: at(secrets.client_secret),
            app_secret_created_at: at(secrets.app_secret),
            allow_app_secret: secrets.allows_app_secret,
            verify_client_secret: secrets.verifies_client_secret,
        }
    }
}
