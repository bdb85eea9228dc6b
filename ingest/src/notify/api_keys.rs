//! `…/api-keys`: a key is shown once, listed without its secret, and dead when its deletion is answered.
//! It must not know how keys are compared.

use clarion_auth::KeyId;
use clarion_auth::api_key::{ApiKey, ApiKeyKind};
use clarion_engine::store::{self, ApiKeyRecord};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError};

/// Longest name of a key, bytes.
const NAME_MAX: usize = 200;
/// Draws until a key id is free: with eight base62 characters one is enough.
const DRAWS_MAX: usize = 4;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateApiKeyRequest {
    /// The holder's name, such as `backend-server`.
    #[schema(max_length = 200)]
    name: String,
    /// Make a `msk_test_` key instead of a `msk_live_` one; both have the same powers.
    test: Option<bool>,
}

/// A new key; the only answer that contains it.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    #[schema(value_type = String, example = "key_Ab3dEf9z")]
    key_id: KeyId,
    /// The whole key. It is never shown again.
    key: String,
    name: String,
    created_at: String,
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedApiKey {
    #[schema(value_type = String, example = "key_Ab3dEf9z")]
    key_id: KeyId,
    name: String,
    created_at: String,
    /// To the minute; null before its first use.
    last_used_at: Option<String>,
    test: bool,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedApiKey {
    deleted: bool,
    #[schema(value_type = String, example = "key_Ab3dEf9z")]
    key_id: KeyId,
}

/// Create an API key.
#[utoipa::path(post, path = "/tenants/{tenant}/api-keys", tag = "api keys",
    params(("tenant" = String, Path)), request_body = CreateApiKeyRequest,
    responses((status = 200, body = CreatedApiKey)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: CreateApiKeyRequest = call.json().await?;
    let name = check_name(request.name)?;
    let is_test = request.test.unwrap_or_default();
    let kind = if is_test {
        ApiKeyKind::Test
    } else {
        ApiKeyKind::Live
    };
    for _ in 0..DRAWS_MAX {
        let key = ApiKey::generate(kind).map_err(|error| ApiError::internal(&error))?;
        let record = ApiKeyRecord {
            tenant: call.tenant.clone(),
            key_id: key.public().key_id,
            is_test,
            hash: key.hash(),
            name: name.clone(),
            created_at: call.now,
            last_used_at: None,
        };
        match call.app.store.create_api_key(&record).await {
            Err(store::Error::Conflict(_)) => continue,
            answer => answer?,
        }
        return Answer::json(&CreatedApiKey {
            key_id: record.key_id,
            key: key.reveal().to_owned(),
            name: record.name,
            created_at: rfc3339(record.created_at),
        });
    }
    Err(ApiError::unavailable("no free key id was found: try again"))
}

/// List the API keys.
#[utoipa::path(get, path = "/tenants/{tenant}/api-keys", tag = "api keys",
    params(("tenant" = String, Path)), responses((status = 200, body = Vec<ListedApiKey>)),
    security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let keys = call.app.store.api_keys(&call.tenant).await?;
    let keys: Vec<ListedApiKey> = keys.into_iter().map(ListedApiKey::from).collect();
    Answer::json(&keys)
}

/// Delete an API key: when this is answered, no process serves a request with it any more (with the database down, up to
/// five minutes).
#[utoipa::path(delete, path = "/tenants/{tenant}/api-keys/{key_id}", tag = "api keys",
    params(("tenant" = String, Path), ("key_id" = String, Path)),
    responses((status = 200, body = DeletedApiKey)), security(("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let unknown = || ApiError::not_found("API key");
    let key_id: KeyId = call.path("key_id").parse().map_err(|_| unknown())?;
    let deleted = call
        .app
        .store
        .delete_api_key(&call.tenant, &key_id, call.now)
        .await?;
    call.app.keys.revoke(&key_id).await;
    if !deleted {
        return Err(unknown());
    }
    Answer::json(&DeletedApiKey { deleted, key_id })
}

impl From<ApiKeyRecord> for ListedApiKey {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            key_id: record.key_id,
            name: record.name,
            created_at: rfc3339(record.created_at),
            last_used_at: record.last_used_at.map(rfc3339),
            test: record.is_test,
        }
    }
}

fn check_name(name: String) -> Result<String, ApiError> {
    let problem = if name.trim().is_empty() {
        "is blank: name the key's holder"
    } else if name.len() > NAME_MAX {
        "has more than 200 bytes"
    } else if name.chars().any(char::is_control) {
        "holds control characters: leave them out"
    } else {
        return Ok(name);
    };
    let loc = ["body".into(), "name".into()];
    Err(ApiError::field(FieldError::value(loc, problem)))
}
