//! `/v1/apikeys`: IAM keys of people and of service IDs: shown once, listed without their secret, locked, disabled, deleted.
//! It must not know how a key is exchanged.

use clarion_auth::ids::IdError;
use clarion_auth::opaque::{Opaque, OpaqueKind, hash_of};
use clarion_auth::permission::Target;
use clarion_auth::token::SERVICE_IAM_ID;
use clarion_auth::{IamKeyId, OrgId, ServiceId};
use clarion_engine::store::{IamKeyRecord, IamOwner};
use http::HeaderName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{body_error, check_description, check_name, check_version, is_set};
use crate::answer::{Answer, rfc3339};
use crate::call::{Call, query_error};
use crate::error::{ApiError, Kind, Success};
use crate::fresh;

/// Keys of one person or service ID.
const KEYS_MAX: usize = 100;

const ENTITY_LOCK: HeaderName = HeaderName::from_static("entity-lock");
const ENTITY_DISABLE: HeaderName = HeaderName::from_static("entity-disable");
const IAM_APIKEY: HeaderName = HeaderName::from_static("iam-apikey");

/// A key to be made.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateIamKeyRequest {
    #[schema(max_length = 255)]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// For whom: the caller when left out, or a service ID as `iam-ServiceId-…`.
    iam_id: Option<String>,
    /// Of a person's key, the organisation whose admins may manage it too.
    account_id: Option<String>,
    /// Must be left out: keys are drawn here, so that none is weak.
    apikey: Option<String>,
    /// Must not be true: a key is never shown again.
    store_value: Option<bool>,
    /// From when on it is good no more, as RFC 3339.
    expires_at: Option<String>,
}

/// Changes to a key; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdateIamKeyRequest {
    #[schema(max_length = 255)]
    name: Option<String>,
    #[schema(max_length = 1000)]
    description: Option<String>,
}

/// A key.
#[derive(Serialize, ToSchema)]
pub(crate) struct IamKeyBody {
    #[schema(value_type = String, example = "ApiKey-0190…")]
    id: IamKeyId,
    crn: String,
    entity_tag: String,
    locked: bool,
    disabled: bool,
    created_at: String,
    created_by: String,
    modified_at: String,
    name: String,
    description: String,
    iam_id: String,
    #[schema(value_type = Option<String>)]
    account_id: Option<OrgId>,
    /// The key itself, in the answer to its creation only; empty everywhere else.
    apikey: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// The keys of a person or a service ID, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct IamKeyList {
    offset: u32,
    limit: u32,
    apikeys: Vec<IamKeyBody>,
}

/// Create a key of one's own or of a service ID. With `Entity-Lock: true` it is born locked, with `Entity-Disable: true`
/// disabled.
#[utoipa::path(post, operation_id = "create_key",
    path = "/v1/apikeys", tag = "iam", request_body = CreateIamKeyRequest,
    params(("Entity-Lock" = Option<String>, Header), ("Entity-Disable" = Option<String>, Header)),
    responses((status = 201, body = IamKeyBody)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let request: CreateIamKeyRequest = call.json().await?;
    if request.apikey.is_some_and(|given| !given.is_empty()) {
        return Err(body_error(
            "apikey",
            "cannot be chosen: leave it out, and a key is drawn",
        ));
    }
    if request.store_value == Some(true) {
        return Err(body_error(
            "store_value",
            "cannot be true: a key is never shown again",
        ));
    }
    let (owner, org) = owner_of(&call, request.iam_id.as_deref(), request.account_id).await?;
    let key = Opaque::generate(OpaqueKind::IamKey).map_err(|error| ApiError::internal(&error))?;
    let id = format!("ApiKey-{}", fresh::uuid(call.now)?);
    let record = IamKeyRecord {
        id: id
            .parse()
            .map_err(|error: IdError| ApiError::internal(&error))?,
        hash: key.hash(),
        owner,
        org,
        name: check_name(request.name)?,
        description: check_description(request.description)?,
        is_locked: is_set(&call, &ENTITY_LOCK),
        is_disabled: is_set(&call, &ENTITY_DISABLE),
        version: 1,
        expires_at: expiry(&call, request.expires_at.as_deref())?,
        created_by: call.principal.to_string(),
        created_at: call.now,
        updated_at: call.now,
    };
    let store = &call.app.store;
    if store.iam_keys(&record.owner).await?.len() >= KEYS_MAX {
        let says = format!("an identity has at most {KEYS_MAX} keys: delete one first");
        return Err(ApiError::new(Kind::Conflict, says));
    }
    store.create_iam_key(&record).await?;
    let id = record.id.clone();
    let mut body = IamKeyBody::from(record);
    key.reveal().clone_into(&mut body.apikey);
    let answer = Answer::json(&body)?;
    Ok(answer.with_status(Success::Created).made("id", &id))
}

/// List keys: one's own, or those of `iam_id`; of another person, those of the organisation `account_id`.
#[utoipa::path(get, operation_id = "list_keys",
    path = "/v1/apikeys", tag = "iam",
    params(("iam_id" = Option<String>, Query), ("account_id" = Option<String>, Query)),
    responses((status = 200, body = IamKeyList)), security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let account = call
        .query("account_id")
        .map(str::parse::<OrgId>)
        .transpose();
    let account = account.map_err(|error| query_error("account_id", error.to_string()))?;
    let named = call.query("iam_id");
    let owner = read_owner(&call, named)?;
    let is_own = match &owner {
        IamOwner::Person(subject) => {
            let target = Target {
                org: account.as_ref(),
                ..Target::person(subject)
            };
            call.authorize_about(call.operation, target)?;
            call.principal.subject() == Some(subject)
        }
        IamOwner::Service(id) => {
            let service = call.app.store.service_id(id).await?;
            let service = service.ok_or_else(|| ApiError::not_found("service ID"))?;
            call.authorize_about(call.operation, Target::org(&service.org))?;
            true
        }
    };
    let keys = call.app.store.iam_keys(&owner).await?;
    let seen = keys.into_iter().filter(|key| match &account {
        Some(account) => key.org.as_ref() == Some(account),
        None => is_own,
    });
    Answer::json(&IamKeyList {
        offset: 0,
        limit: u32::try_from(KEYS_MAX).unwrap_or(u32::MAX),
        apikeys: seen.map(IamKeyBody::from).collect(),
    })
}

/// Read what stands behind a key that is shown by its value, in the header `IAM-ApiKey`.
#[utoipa::path(get, operation_id = "key_details",
    path = "/v1/apikeys/details", tag = "iam",
    params(("IAM-ApiKey" = String, Header)),
    responses((status = 200, body = IamKeyBody)), security(("access_token" = [])))]
pub(crate) async fn details(call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let shown = call
        .headers
        .get(&IAM_APIKEY)
        .and_then(|value| value.to_str().ok());
    let hash = shown.and_then(|shown| hash_of(OpaqueKind::IamKey, shown));
    let found = match hash {
        Some(hash) => call.app.store.iam_key_by_hash(&hash).await?,
        None => None,
    };
    let record = found.ok_or_else(|| ApiError::not_found("IAM key"))?;
    judge(&call, &record)?;
    Answer::json(&IamKeyBody::from(record))
}

/// Read a key, without its value.
#[utoipa::path(get, operation_id = "read_key",
    path = "/v1/apikeys/{id}", tag = "iam", params(("id" = String, Path)),
    responses((status = 200, body = IamKeyBody)), security(("access_token" = [])))]
pub(crate) async fn read(call: Call) -> Result<Answer, ApiError> {
    let record = key_of(&call).await?;
    Answer::json(&IamKeyBody::from(record))
}

/// Change a key's name or description.
#[utoipa::path(put, operation_id = "update_key",
    path = "/v1/apikeys/{id}", tag = "iam",
    params(("id" = String, Path), ("If-Match" = String, Header)),
    request_body = UpdateIamKeyRequest,
    responses((status = 200, body = IamKeyBody)), security(("access_token" = [])))]
pub(crate) async fn update(mut call: Call) -> Result<Answer, ApiError> {
    let mut record = key_of(&call).await?;
    check_version(&call, record.version)?;
    refuse_locked(&record)?;
    let request: UpdateIamKeyRequest = call.json().await?;
    if let Some(name) = request.name {
        record.name = check_name(name)?;
    }
    if request.description.is_some() {
        record.description = check_description(request.description)?;
    }
    let record = store_change(&call, record).await?;
    Answer::json(&IamKeyBody::from(record))
}

/// Delete a key. Access tokens that were exchanged for it stay good until they expire; it renews none.
#[utoipa::path(delete, operation_id = "delete_key",
    path = "/v1/apikeys/{id}", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn delete(call: Call) -> Result<Answer, ApiError> {
    let record = key_of(&call).await?;
    if !call.app.store.delete_iam_key(&record.id).await? {
        return Err(ApiError::not_found("IAM key"));
    }
    Ok(Answer::silent())
}

/// Lock a key: it can be used, and neither changed nor deleted.
#[utoipa::path(post, operation_id = "lock_key",
    path = "/v1/apikeys/{id}/lock", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn lock(call: Call) -> Result<Answer, ApiError> {
    set(call, |record| record.is_locked = true).await
}

/// Unlock a key.
#[utoipa::path(delete, operation_id = "unlock_key",
    path = "/v1/apikeys/{id}/lock", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn unlock(call: Call) -> Result<Answer, ApiError> {
    set(call, |record| record.is_locked = false).await
}

/// Disable a key: it is exchanged and renewed no more.
#[utoipa::path(post, operation_id = "disable_key",
    path = "/v1/apikeys/{id}/disable", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn disable(call: Call) -> Result<Answer, ApiError> {
    set_unlocked(call, true).await
}

/// Enable a key.
#[utoipa::path(delete, operation_id = "enable_key",
    path = "/v1/apikeys/{id}/disable", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn enable(call: Call) -> Result<Answer, ApiError> {
    set_unlocked(call, false).await
}

async fn set_unlocked(call: Call, is_disabled: bool) -> Result<Answer, ApiError> {
    let mut record = key_of(&call).await?;
    refuse_locked(&record)?;
    record.is_disabled = is_disabled;
    store_change(&call, record).await?;
    Ok(Answer::silent())
}

async fn set(call: Call, change: impl FnOnce(&mut IamKeyRecord)) -> Result<Answer, ApiError> {
    let mut record = key_of(&call).await?;
    change(&mut record);
    store_change(&call, record).await?;
    Ok(Answer::silent())
}

async fn store_change(call: &Call, mut record: IamKeyRecord) -> Result<IamKeyRecord, ApiError> {
    record.version += 1;
    record.updated_at = call.now;
    call.app.store.update_iam_key(&record).await?;
    Ok(record)
}

fn refuse_locked(record: &IamKeyRecord) -> Result<(), ApiError> {
    if record.is_locked {
        return Err(ApiError::new(
            Kind::Conflict,
            "the IAM key is locked: unlock it first",
        ));
    }
    Ok(())
}

/// The key of the path, if the caller may do this to it.
async fn key_of(call: &Call) -> Result<IamKeyRecord, ApiError> {
    call.refuse_never()?;
    let unknown = || ApiError::not_found("IAM key");
    let id: IamKeyId = call.path("id").parse().map_err(|_| unknown())?;
    let record = call.app.store.iam_key(&id).await?.ok_or_else(unknown)?;
    judge(call, &record)?;
    Ok(record)
}

fn judge(call: &Call, record: &IamKeyRecord) -> Result<(), ApiError> {
    let person = match &record.owner {
        IamOwner::Person(subject) => Some(subject),
        IamOwner::Service(_) => None,
    };
    let target = Target {
        tenant: None,
        org: record.org.as_ref(),
        person,
    };
    call.authorize_about(call.operation, target)
}

/// For whom a key is made, and whose admins may manage it: oneself, or a service ID of an organisation that one administers.
/// Never another person: whoever holds such a key would be that person, everywhere.
async fn owner_of(
    call: &Call,
    iam_id: Option<&str>,
    account: Option<String>,
) -> Result<(IamOwner, Option<OrgId>), ApiError> {
    let account = account.filter(|text| !text.is_empty());
    let account = account.map(|text| text.parse::<OrgId>()).transpose();
    let account = account.map_err(|_| body_error("account_id", "is no organisation id"))?;
    let owner = read_owner(call, iam_id)?;
    match &owner {
        IamOwner::Person(subject) => {
            call.authorize_about(call.operation, Target::person(subject))?;
            let theirs = |org: &OrgId| call.principal.role_in(org).is_some();
            if account.as_ref().is_some_and(|org| !theirs(org)) {
                return Err(body_error("account_id", "is no organisation of yours"));
            }
            Ok((owner, account))
        }
        IamOwner::Service(id) => {
            let service = call.app.store.service_id(id).await?;
            let service = service.ok_or_else(|| ApiError::not_found("service ID"))?;
            call.authorize_about(call.operation, Target::org(&service.org))?;
            if account.is_some_and(|account| account != service.org) {
                return Err(body_error(
                    "account_id",
                    "is not the service ID's organisation",
                ));
            }
            Ok((owner, Some(service.org)))
        }
    }
}

/// The identity of an `iam_id`: the caller's own when there is none.
fn read_owner(call: &Call, iam_id: Option<&str>) -> Result<IamOwner, ApiError> {
    let bad = || body_error("iam_id", "is neither a person nor a service ID");
    let service = |id: &str| id.parse::<ServiceId>().map(IamOwner::Service);
    match iam_id {
        None => {
            let subject = call.principal.subject().cloned();
            subject.map(IamOwner::Person).ok_or_else(bad)
        }
        Some(text) => match text.strip_prefix(SERVICE_IAM_ID) {
            Some(id) => service(id).map_err(|_| bad()),
            None => text.parse().map(IamOwner::Person).map_err(|_| bad()),
        },
    }
}

fn expiry(call: &Call, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let at = text.parse::<jiff::Timestamp>().ok();
    let at = at.map(|at| at.as_millisecond()).filter(|at| *at > call.now);
    let says = "is no time to come, written as in 2030-01-31T00:00:00Z";
    at.map(Some).ok_or_else(|| body_error("expires_at", says))
}

impl From<IamKeyRecord> for IamKeyBody {
    fn from(record: IamKeyRecord) -> Self {
        let iam_id = match &record.owner {
            IamOwner::Person(subject) => subject.to_string(),
            IamOwner::Service(id) => format!("{SERVICE_IAM_ID}{id}"),
        };
        Self {
            crn: format!("crn:v1:clarion:iam-identity:{iam_id}:apikey:{}", record.id),
            id: record.id,
            entity_tag: record.version.to_string(),
            locked: record.is_locked,
            disabled: record.is_disabled,
            created_at: rfc3339(record.created_at),
            created_by: record.created_by,
            modified_at: rfc3339(record.updated_at),
            name: record.name,
            description: record.description,
            iam_id,
            account_id: record.org,
            apikey: String::new(),
            expires_at: record.expires_at.map(rfc3339),
        }
    }
}
