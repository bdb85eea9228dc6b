//! `/orgs`: created, listed, read, deleted.
//! It must not know members beyond the one who creates it.

use clarion_auth::ids::IdError;
use clarion_auth::permission::{Target, operators};
use clarion_auth::principal::{Principal, Role};
use clarion_auth::{OrgId, PrincipalId};
use clarion_engine::store::Org;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::org_of;
use crate::answer::{Answer, rfc3339};
use crate::call::Call;
use crate::error::{ApiError, FieldError, Kind};
use crate::fresh;

/// Longest name, bytes.
const NAME_MAX: usize = 200;
/// Organisations that one person may own.
const OWNED_MAX: usize = 100;

/// An organisation to be created.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateOrgRequest {
    /// What people call it.
    #[schema(max_length = 200)]
    name: String,
    /// Best left out: an id is made. An id of one's own choice needs an access token that names its holder owner of it.
    org_id: Option<String>,
}

/// An organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrgBody {
    #[schema(value_type = String)]
    org_id: OrgId,
    /// Null where only access tokens know of it.
    name: Option<String>,
    /// The caller's role.
    #[schema(value_type = Option<String>, example = "owner")]
    role: Option<Role>,
    created_at: Option<String>,
    created_by: Option<String>,
}

/// The caller's organisations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrgList {
    orgs: Vec<OrgBody>,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedOrg {
    deleted: bool,
    #[schema(value_type = String)]
    org_id: OrgId,
    /// Tenants that were deleted with it.
    tenants: u64,
}

/// Create an organisation; the caller becomes its owner.
#[utoipa::path(post, path = "/orgs", tag = "organisations", request_body = CreateOrgRequest,
    responses((status = 200, body = OrgBody)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: Call) -> Result<Answer, ApiError> {
    call.authorize_everywhere()?;
    let request: CreateOrgRequest = call.json().await?;
    let name = check_name(request.name)?;
    let owner = person(&call)?.clone();
    let id = match request.org_id {
        None => generated(&call)?,
        Some(text) => chosen(&call, &text)?,
    };
    let stored = call.app.store.roles_of(&owner).await?;
    let owned = stored.values().filter(|role| **role == Role::Owner).count();
    if owned >= OWNED_MAX {
        let says = format!("you own {OWNED_MAX} organisations, the most there may be: delete one");
        return Err(ApiError::new(Kind::Conflict, says));
    }
    let org = Org {
        id,
        name,
        created_by: owner.to_string(),
        created_at: call.now,
    };
    call.app.store.create_org(&org, &owner).await?;
    call.is_about(&org.id);
    let id = org.id.clone();
    Ok(Answer::json(&OrgBody::new(org, Some(Role::Owner)))?.made("org", &id))
}

fn generated(call: &Call) -> Result<OrgId, ApiError> {
    let id = fresh::uuid(call.now)?.to_string().parse();
    id.map_err(|error: IdError| ApiError::internal(&error))
}

/// A stranger must not become the owner of an organisation that access tokens or tenants already speak of.
fn chosen(call: &Call, text: &str) -> Result<OrgId, ApiError> {
    let id: OrgId = text.parse().map_err(|error: IdError| {
        let loc = ["body".into(), "org_id".into()];
        ApiError::field(FieldError::value(loc, error.to_string()))
    })?;
    if call.principal.role_in(&id) == Some(Role::Owner) && id != operators() {
        return Ok(id);
    }
    let says =
        "an id of your own choice needs an access token that names you its owner: leave org_id out";
    Err(ApiError::new(Kind::Forbidden, says))
}

/// List the caller's organisations.
#[utoipa::path(get, path = "/orgs", tag = "organisations",
    responses((status = 200, body = OrgList)), security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    call.authorize_everywhere()?;
    let Principal::Person { orgs: roles, .. } = &call.principal else {
        return Answer::json(&OrgList { orgs: Vec::new() });
    };
    let ids: Vec<OrgId> = roles.keys().cloned().collect();
    let mut stored = call.app.store.orgs(&ids).await?.into_iter().peekable();
    let body = |(id, role): (&OrgId, &Role)| match stored.next_if(|org| org.id == *id) {
        Some(org) => OrgBody::new(org, Some(*role)),
        None => OrgBody::unknown(id.clone(), Some(*role)),
    };
    Answer::json(&OrgList {
        orgs: roles.iter().map(body).collect(),
    })
}

/// Read an organisation.
#[utoipa::path(get, path = "/orgs/{org}", tag = "organisations", params(("org" = String, Path)),
    responses((status = 200, body = OrgBody)), security(("access_token" = [])))]
pub(crate) async fn read(call: Call) -> Result<Answer, ApiError> {
    let id = org_of(&call)?;
    call.authorize_in(&id)?;
    let role = call.principal.role_in(&id);
    let body = match call.app.store.org(&id).await? {
        Some(org) => OrgBody::new(org, role),
        None => OrgBody::unknown(id, role),
    };
    Answer::json(&body)
}

/// Delete an organisation with its tenants, their keys, its service IDs and its members. Only its owner may.
#[utoipa::path(delete, path = "/orgs/{org}", tag = "organisations", params(("org" = String, Path)),
    responses((status = 200, body = DeletedOrg)), security(("access_token" = [])))]
pub(crate) async fn delete(call: Call) -> Result<Answer, ApiError> {
    let org_id = org_of(&call)?;
    call.authorize_in(&org_id)?;
    let app = &call.app;
    let tenants = app
        .store
        .tenants(Some(std::slice::from_ref(&org_id)))
        .await?;
    let mut count = 0;
    for tenant in tenants {
        count += u64::from(app.store.delete_tenant(&tenant.id, call.now).await?);
        app.keys.revoke_tenant(&tenant.id).await;
        app.intake.tenant_changed(&tenant.id);
    }
    (app.control_obeyed)().await;
    let deleted = app.store.delete_org(&org_id).await?;
    if !deleted && count == 0 {
        return Err(ApiError::not_found("organisation"));
    }
    Answer::json(&DeletedOrg {
        deleted: true,
        org_id,
        tenants: count,
    })
}

impl OrgBody {
    fn new(org: Org, role: Option<Role>) -> Self {
        Self {
            org_id: org.id,
            name: Some(org.name),
            role,
            created_at: Some(rfc3339(org.created_at)),
            created_by: Some(org.created_by),
        }
    }

    fn unknown(org_id: OrgId, role: Option<Role>) -> Self {
        Self {
            org_id,
            name: None,
            role,
            created_at: None,
            created_by: None,
        }
    }
}

/// The person who calls.
pub(super) fn person(call: &Call) -> Result<&PrincipalId, ApiError> {
    // Nobody else is authorised; whoever is not a person is refused as by the table.
    let denied = || {
        call.authorize_about(call.operation, Target::unnamed())
            .err()
    };
    let subject = call.principal.subject();
    subject.ok_or_else(|| denied().unwrap_or_else(|| ApiError::new(Kind::Forbidden, "people only")))
}

fn check_name(name: String) -> Result<String, ApiError> {
    let problem = if name.trim().is_empty() {
        "is blank: name the organisation"
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
