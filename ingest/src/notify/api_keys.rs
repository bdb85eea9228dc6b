//! `…/api-keys`: a key is shown once, listed without its secret, and dead when its deletion is answered.
//! It must not know how keys are compared.

use std::collections::BTreeMap;

use clarion_auth::api_key::{ApiKey, ApiKeyKind};
use clarion_auth::{KeyId, Scope, Scopes};
use clarion_engine::model::Millis;
use clarion_engine::store::{self, ApiKeyPatch, ApiKeyRecord, Usage, day_of};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tenants::said;
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError};

/// Longest name of a key, bytes.
const NAME_MAX: usize = 200;
/// Draws until a key id is free: with eight base62 characters one is enough.
const DRAWS_MAX: usize = 4;
/// Most requests a second of a key with a rate.
const RATE_MAX: u32 = 1_000_000;
/// How long a rotated key is good beside its successor, seconds: when nothing is said, and at most.
const OVERLAP_DEFAULT: u32 = 24 * 60 * 60;
const OVERLAP_MAX: u32 = 90 * 24 * 60 * 60;
/// Days of use that the list tells of.
const USAGE_DAYS: i64 = 30;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateApiKeyRequest {
    /// The holder's name, such as `backend-server`.
    #[schema(max_length = 200)]
    name: String,
    /// Make a `msk_test_` key instead of a `msk_live_` one; both have the same powers.
    test: Option<bool>,
    /// What it may be used for: `send`, `devices`, `read`; all of them when left out.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["send", "devices", "read"]))]
    scopes: Option<Vec<Scope>>,
    /// Requests a second at each of Clarion's processes; unlimited when left out.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_per_second: Option<u32>,
}

/// Changes to a key; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PatchApiKeyRequest {
    #[schema(max_length = 200)]
    name: Option<String>,
    /// What it may be used for from now on.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["devices"]))]
    scopes: Option<Vec<Scope>>,
    /// Requests a second; null takes the limit away.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate_per_second: Option<Option<u32>>,
}

/// How a key is to be replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct RotateApiKeyRequest {
    /// How long the old key stays good, seconds; a day when left out, 0 ends it now.
    #[schema(maximum = 7_776_000)]
    overlap_seconds: Option<u32>,
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

/// A new key in place of another; the only answer that contains it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedApiKey {
    #[serde(flatten)]
    new: CreatedApiKey,
    #[schema(value_type = String, example = "key_Ab3dEf9z")]
    replaces: KeyId,
    /// From when on the old key is good no more.
    replaced_until: String,
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedApiKey {
    #[schema(value_type = String, example = "key_Ab3dEf9z")]
    key_id: KeyId,
    name: String,
    created_at: String,
    created_by: String,
    /// To the minute; null before its first use.
    last_used_at: Option<String>,
    test: bool,
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    rate_per_second: Option<u32>,
    /// From when on it is good no more, because another took its place; null for ever.
    expires_at: Option<String>,
    usage: KeyUsage,
}

/// What a key was used for in the last 30 days, today included; behind by up to a minute.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct KeyUsage {
    calls: u64,
    calls_today: u64,
    /// Calls by operation.
    operations: BTreeMap<String, u64>,
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
    let draft = Draft {
        name: check_name(request.name)?,
        is_test: request.test.unwrap_or_default(),
        scopes: check_scopes(request.scopes)?.unwrap_or(Scopes::ALL),
        rate: check_rate(request.rate_per_second)?,
    };
    let new = draft.store(&call, None).await?;
    Ok(Answer::json(&new)?.made("key_id", &new.key_id))
}

/// Change an API key's name, scopes or rate.
#[utoipa::path(patch, path = "/tenants/{tenant}/api-keys/{key_id}", tag = "api keys",
    params(("tenant" = String, Path), ("key_id" = String, Path)),
    request_body = PatchApiKeyRequest,
    responses((status = 200, body = ListedApiKey)), security(("access_token" = [])))]
pub(crate) async fn patch(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PatchApiKeyRequest = call.json().await?;
    let key_id = key_id(&call)?;
    let rate = request.rate_per_second;
    let patch = ApiKeyPatch {
        name: request.name.map(check_name).transpose()?,
        scopes: check_scopes(request.scopes)?,
        rate: rate.map(check_rate).transpose()?,
    };
    let store = &call.app.store;
    let record = store.update_api_key(&call.tenant, &key_id, &patch).await?;
    call.app.keys.revoke(&key_id).await;
    let usage = usage(&call).await?;
    Answer::json(&ListedApiKey::new(record, &usage, call.now))
}

/// Replace an API key by a new one with the same name, scopes and rate; both are good for a while.
#[utoipa::path(post, path = "/tenants/{tenant}/api-keys/{key_id}/rotate", tag = "api keys",
    params(("tenant" = String, Path), ("key_id" = String, Path)),
    request_body = RotateApiKeyRequest,
    responses((status = 200, body = RotatedApiKey)), security(("access_token" = [])))]
pub(crate) async fn rotate(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: RotateApiKeyRequest = call.json().await?;
    let overlap = request.overlap_seconds.unwrap_or(OVERLAP_DEFAULT);
    if overlap > OVERLAP_MAX {
        let loc = ["body".into(), "overlap_seconds".into()];
        let problem = format!("is a number of seconds from 0 to {OVERLAP_MAX}");
        return Err(ApiError::field(FieldError::value(loc, problem)));
    }
    let old_id = key_id(&call)?;
    let keys = call.app.store.api_keys(&call.tenant).await?;
    let old = keys.into_iter().find(|key| key.key_id == old_id);
    let old = old.ok_or_else(unknown)?;
    let draft = Draft {
        name: old.name,
        is_test: old.is_test,
        scopes: old.scopes,
        rate: old.rate,
    };
    let until = call.now + Millis::from(overlap) * 1_000;
    let until = old.expires_at.map_or(until, |ends| ends.min(until));
    let new = draft.store(&call, Some((old_id, until))).await?;
    call.app.keys.revoke(&old_id).await;
    let made = new.key_id;
    let answer = Answer::json(&RotatedApiKey {
        new,
        replaces: old_id,
        replaced_until: rfc3339(until),
    })?;
    Ok(answer.made("new_key_id", &made))
}

/// List the API keys with what they were used for.
#[utoipa::path(get, path = "/tenants/{tenant}/api-keys", tag = "api keys",
    params(("tenant" = String, Path)), responses((status = 200, body = Vec<ListedApiKey>)),
    security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let keys = call.app.store.api_keys(&call.tenant).await?;
    let usage = usage(&call).await?;
    let listed = |key| ListedApiKey::new(key, &usage, call.now);
    let keys: Vec<ListedApiKey> = keys.into_iter().map(listed).collect();
    Answer::json(&keys)
}

/// Delete an API key: when this is answered, no process serves a request with it any more (with the database down, up to
/// five minutes).
#[utoipa::path(delete, path = "/tenants/{tenant}/api-keys/{key_id}", tag = "api keys",
    params(("tenant" = String, Path), ("key_id" = String, Path)),
    responses((status = 200, body = DeletedApiKey)), security(("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let key_id = key_id(&call)?;
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

/// A key before it is drawn.
struct Draft {
    name: String,
    is_test: bool,
    scopes: Scopes,
    rate: Option<u32>,
}

impl Draft {
    /// Draws the key and stores it, in place of another that is good until then.
    async fn store(
        self,
        call: &TenantCall,
        replaces: Option<(KeyId, Millis)>,
    ) -> Result<CreatedApiKey, ApiError> {
        let kind = if self.is_test {
            ApiKeyKind::Test
        } else {
            ApiKeyKind::Live
        };
        for _ in 0..DRAWS_MAX {
            let key = ApiKey::generate(kind).map_err(|error| ApiError::internal(&error))?;
            let record = ApiKeyRecord {
                tenant: call.tenant.clone(),
                key_id: key.public().key_id,
                is_test: self.is_test,
                hash: key.hash(),
                name: self.name.clone(),
                scopes: self.scopes,
                rate: self.rate,
                expires_at: None,
                created_by: call.principal.to_string(),
                created_at: call.now,
                last_used_at: None,
            };
            let store = &call.app.store;
            let stored = match &replaces {
                None => store.create_api_key(&record).await,
                Some((old, until)) => store.rotate_api_key(old, &record, *until).await,
            };
            match stored {
                Err(store::Error::Conflict(_)) => continue,
                answer => answer?,
            }
            return Ok(CreatedApiKey {
                key_id: record.key_id,
                key: key.reveal().to_owned(),
                name: record.name,
                created_at: rfc3339(record.created_at),
            });
        }
        Err(ApiError::unavailable("no free key id was found: try again"))
    }
}

impl ListedApiKey {
    fn new(record: ApiKeyRecord, usage: &[Usage], now: Millis) -> Self {
        let own = usage.iter().filter(|used| used.key_id == record.key_id);
        let mut sum = KeyUsage::default();
        for used in own {
            sum.calls += used.calls;
            if used.day == day_of(now) {
                sum.calls_today += used.calls;
            }
            *sum.operations.entry(used.operation.clone()).or_default() += used.calls;
        }
        Self {
            key_id: record.key_id,
            name: record.name,
            created_at: rfc3339(record.created_at),
            created_by: record.created_by,
            last_used_at: record.last_used_at.map(rfc3339),
            test: record.is_test,
            scopes: record.scopes,
            rate_per_second: record.rate,
            expires_at: record.expires_at.map(rfc3339),
            usage: sum,
        }
    }
}

async fn usage(call: &TenantCall) -> Result<Vec<Usage>, ApiError> {
    let since = day_of(call.now) - USAGE_DAYS + 1;
    Ok(call.app.store.key_usage(&call.tenant, since).await?)
}

fn unknown() -> ApiError {
    ApiError::not_found("API key")
}

fn key_id(call: &TenantCall) -> Result<KeyId, ApiError> {
    call.path("key_id").parse().map_err(|_| unknown())
}

fn check_scopes(scopes: Option<Vec<Scope>>) -> Result<Option<Scopes>, ApiError> {
    let Some(scopes) = scopes else {
        return Ok(None);
    };
    let scopes: Scopes = scopes.into_iter().collect();
    if scopes.is_empty() {
        let loc = ["body".into(), "scopes".into()];
        let problem = "is empty: name send, devices or read, or delete the key";
        return Err(ApiError::field(FieldError::value(loc, problem)));
    }
    Ok(Some(scopes))
}

fn check_rate(rate: Option<u32>) -> Result<Option<u32>, ApiError> {
    if rate.is_none_or(|rate| (1..=RATE_MAX).contains(&rate)) {
        return Ok(rate);
    }
    let loc = ["body".into(), "rate_per_second".into()];
    let problem = format!("is a number from 1 to {RATE_MAX}");
    Err(ApiError::field(FieldError::value(loc, problem)))
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
