//! `/v1/serviceids`: services of an organisation, and what they are granted.
//! It must not know what a role allows, nor keys.

use clarion_auth::permission::Target;
use clarion_auth::token::SERVICE_IAM_ID;
use clarion_auth::{Grants, IamRole, OrgId, ServiceId, TenantId};
use clarion_engine::store::ServiceIdRecord;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{body_error, check_description, check_name, check_version};
use crate::answer::{Answer, rfc3339};
use crate::call::{Call, query_error};
use crate::error::{ApiError, Kind, Success};
use crate::fresh;

/// Service IDs of an organisation.
const SERVICES_MAX: usize = 1_000;
/// Tenants that one service ID is granted one by one.
const GRANTS_MAX: usize = 256;

/// A service ID to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateServiceIdRequest {
    /// The organisation that it belongs to.
    account_id: String,
    #[schema(max_length = 255)]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// What it may do; nothing when left out.
    grants: Option<Vec<Grant>>,
}

/// Changes to a service ID; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdateServiceIdRequest {
    #[schema(max_length = 255)]
    name: Option<String>,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// What it may do from now on.
    grants: Option<Vec<Grant>>,
}

/// A role on a tenant, or on all tenants of the organisation.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Grant {
    /// Absent or null: all tenants of the organisation, present and future.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// `Reader`, `Writer` or `Manager`.
    #[serde(deserialize_with = "role")]
    #[schema(value_type = String, example = "Writer")]
    role: IamRole,
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IamRole, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// A service ID.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceIdBody {
    #[schema(value_type = String, example = "ServiceId-0190…")]
    id: ServiceId,
    /// As its access tokens name it: `iam-` and the id.
    iam_id: String,
    entity_tag: String,
    crn: String,
    locked: bool,
    created_at: String,
    created_by: String,
    modified_at: String,
    #[schema(value_type = String)]
    account_id: OrgId,
    name: String,
    description: String,
    grants: Vec<Grant>,
}

/// The service IDs of an organisation, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceIdList {
    offset: u32,
    limit: u32,
    serviceids: Vec<ServiceIdBody>,
}

/// Create a service ID.
#[utoipa::path(post, operation_id = "create_service_id",
    path = "/v1/serviceids", tag = "iam", request_body = CreateServiceIdRequest,
    responses((status = 201, body = ServiceIdBody)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let request: CreateServiceIdRequest = call.json().await?;
    let org: OrgId = request
        .account_id
        .parse()
        .map_err(|_| body_error("account_id", "is no organisation id"))?;
    call.authorize_in(&org)?;
    let grants = read_grants(&call, &org, request.grants.unwrap_or_default()).await?;
    let id = format!("ServiceId-{}", fresh::uuid(call.now)?);
    let record = ServiceIdRecord {
        id: id
            .parse()
            .map_err(|error: clarion_auth::ids::IdError| ApiError::internal(&error))?,
        org,
        name: check_name(request.name)?,
        description: check_description(request.description)?,
        grants,
        version: 1,
        created_by: call.principal.to_string(),
        created_at: call.now,
        updated_at: call.now,
    };
    let store = &call.app.store;
    if store.service_ids(&record.org).await?.len() >= SERVICES_MAX {
        let says =
            format!("an organisation has at most {SERVICES_MAX} service IDs: delete one first");
        return Err(ApiError::new(Kind::Conflict, says));
    }
    store.create_service_id(&record).await?;
    let id = record.id.clone();
    let answer = Answer::json(&ServiceIdBody::from(record))?;
    Ok(answer.with_status(Success::Created).made("id", &id))
}

/// List the service IDs of an organisation.
#[utoipa::path(get, operation_id = "list_service_ids",
    path = "/v1/serviceids", tag = "iam", params(("account_id" = String, Query)),
    responses((status = 200, body = ServiceIdList)), security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let named = call.query("account_id").and_then(|text| text.parse().ok());
    let org: OrgId =
        named.ok_or_else(|| query_error("account_id", "names the organisation: send its id"))?;
    call.authorize_in(&org)?;
    let services = call.app.store.service_ids(&org).await?;
    Answer::json(&ServiceIdList {
        offset: 0,
        limit: u32::try_from(SERVICES_MAX).unwrap_or(u32::MAX),
        serviceids: services.into_iter().map(ServiceIdBody::from).collect(),
    })
}

/// Read a service ID.
#[utoipa::path(get, operation_id = "read_service_id",
    path = "/v1/serviceids/{id}", tag = "iam", params(("id" = String, Path)),
    responses((status = 200, body = ServiceIdBody)), security(("access_token" = [])))]
pub(crate) async fn read(call: Call) -> Result<Answer, ApiError> {
    let record = service_of(&call).await?;
    Answer::json(&ServiceIdBody::from(record))
}

/// Change a service ID's name, description or grants; these count from the next request on.
#[utoipa::path(put, operation_id = "update_service_id",
    path = "/v1/serviceids/{id}", tag = "iam",
    params(("id" = String, Path), ("If-Match" = String, Header)),
    request_body = UpdateServiceIdRequest,
    responses((status = 200, body = ServiceIdBody)), security(("access_token" = [])))]
pub(crate) async fn update(mut call: Call) -> Result<Answer, ApiError> {
    let mut record = service_of(&call).await?;
    check_version(&call, record.version)?;
    let request: UpdateServiceIdRequest = call.json().await?;
    if let Some(name) = request.name {
        record.name = check_name(name)?;
    }
    if request.description.is_some() {
        record.description = check_description(request.description)?;
    }
    if let Some(grants) = request.grants {
        record.grants = read_grants(&call, &record.org, grants).await?;
    }
    record.version += 1;
    record.updated_at = call.now;
    call.app.store.update_service_id(&record).await?;
    Answer::json(&ServiceIdBody::from(record))
}

/// Delete a service ID with its keys; its access tokens are refused from then on.
#[utoipa::path(delete, operation_id = "delete_service_id",
    path = "/v1/serviceids/{id}", tag = "iam", params(("id" = String, Path)),
    responses((status = 204)), security(("access_token" = [])))]
pub(crate) async fn delete(call: Call) -> Result<Answer, ApiError> {
    let record = service_of(&call).await?;
    if !call.app.store.delete_service_id(&record.id).await? {
        return Err(ApiError::not_found("service ID"));
    }
    Ok(Answer::silent())
}

/// The service ID of the path, if the caller may do this to it.
async fn service_of(call: &Call) -> Result<ServiceIdRecord, ApiError> {
    call.refuse_never()?;
    let unknown = || ApiError::not_found("service ID");
    let id: ServiceId = call.path("id").parse().map_err(|_| unknown())?;
    let record = call.app.store.service_id(&id).await?.ok_or_else(unknown)?;
    call.authorize_about(call.operation, Target::org(&record.org))?;
    Ok(record)
}

/// Grants on tenants of the organisation.
async fn read_grants(call: &Call, org: &OrgId, given: Vec<Grant>) -> Result<Grants, ApiError> {
    if given.len() > GRANTS_MAX {
        return Err(body_error(
            "grants",
            "has more than 256 entries: grant all tenants instead",
        ));
    }
    let mut grants = Grants::default();
    for grant in given {
        let Some(tenant) = grant.tenant_id else {
            grants.everywhere = grants.everywhere.max(Some(grant.role));
            continue;
        };
        let row = call.app.store.tenant(&tenant).await?;
        if row.is_none_or(|row| row.org != *org) {
            return Err(body_error(
                "grants",
                "names a tenant that is not of this organisation",
            ));
        }
        let held = grants.tenants.entry(tenant).or_insert(grant.role);
        *held = grant.role.max(*held);
    }
    Ok(grants)
}

impl From<ServiceIdRecord> for ServiceIdBody {
    fn from(record: ServiceIdRecord) -> Self {
        let everywhere = record.grants.everywhere.map(|role| Grant {
            tenant_id: None,
            role,
        });
        let single = record
            .grants
            .tenants
            .into_iter()
            .map(|(tenant, role)| Grant {
                tenant_id: Some(tenant),
                role,
            });
        Self {
            iam_id: format!("{SERVICE_IAM_ID}{}", record.id),
            entity_tag: record.version.to_string(),
            crn: format!(
                "crn:v1:clarion:iam-identity:{}:serviceid:{}",
                record.org, record.id
            ),
            locked: false,
            created_at: rfc3339(record.created_at),
            created_by: record.created_by,
            modified_at: rfc3339(record.updated_at),
            account_id: record.org,
            name: record.name,
            description: record.description,
            grants: everywhere.into_iter().chain(single).collect(),
            id: record.id,
        }
    }
}
