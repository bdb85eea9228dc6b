//! `/orgs/{org}/members`: who is in an organisation, and as what.
//! It must not know what a role allows.

use clarion_auth::permission::{Operation, Target};
use clarion_auth::principal::Role;
use clarion_auth::{OrgId, PrincipalId};
use clarion_engine::store::Member;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::org_of;
use super::orgs::person;
use crate::answer::{Answer, rfc3339};
use crate::call::Call;
use crate::error::{ApiError, Kind};

/// Members that one organisation may have.
const MEMBERS_MAX: usize = 10_000;

/// A member's new role.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PutMemberRequest {
    /// `member`, `admin`, or `owner`: the latter hands the organisation over, and its owner becomes an admin.
    #[schema(value_type = String, example = "admin")]
    role: Role,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberBody {
    #[schema(value_type = String)]
    org_id: OrgId,
    /// The subject of the member's access tokens.
    #[schema(value_type = String, example = "ada@example.com")]
    user_id: PrincipalId,
    #[schema(value_type = String, example = "admin")]
    role: Role,
    /// Who gave this role; null where an access token did.
    added_by: Option<String>,
    added_at: Option<String>,
}

/// The members, by their ids.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberList {
    members: Vec<MemberBody>,
}

/// The answer to a removal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedMember {
    removed: bool,
    #[schema(value_type = String)]
    user_id: PrincipalId,
}

/// List an organisation's members.
#[utoipa::path(get, operation_id = "list_members",
    path = "/orgs/{org}/members", tag = "organisations",
    params(("org" = String, Path)), responses((status = 200, body = MemberList)),
    security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    let org = org_of(&call)?;
    call.authorize_in(&org)?;
    let members = call.app.store.members(&org).await?;
    let members = members.into_iter().map(MemberBody::from).collect();
    Answer::json(&MemberList { members })
}

/// Read the caller's own role in an organisation; 404 for whoever is no member.
#[utoipa::path(get, operation_id = "my_membership",
    path = "/orgs/{org}/members/me", tag = "organisations",
    params(("org" = String, Path)), responses((status = 200, body = MemberBody)),
    security(("access_token" = [])))]
pub(crate) async fn me(call: Call) -> Result<Answer, ApiError> {
    let org_id = org_of(&call)?;
    call.authorize_everywhere()?;
    let user_id = person(&call)?.clone();
    let role = call.principal.role_in(&org_id);
    let role = role.ok_or_else(|| ApiError::not_found("member"))?;
    Answer::json(&MemberBody {
        org_id,
        user_id,
        role,
        added_by: None,
        added_at: None,
    })
}

/// Add a member or change its role.
#[utoipa::path(put, operation_id = "put_member",
    path = "/orgs/{org}/members/{user_id}", tag = "organisations",
    params(("org" = String, Path), ("user_id" = String, Path)), request_body = PutMemberRequest,
    responses((status = 200, body = MemberBody)), security(("access_token" = [])))]
pub(crate) async fn put(mut call: Call) -> Result<Answer, ApiError> {
    let org = org_of(&call)?;
    call.authorize_in(&org)?;
    let request: PutMemberRequest = call.json().await?;
    let subject = user_of(&call)?;
    let by = call.principal.to_string();
    let member = Member {
        org: org.clone(),
        subject: subject.clone(),
        role: request.role,
        added_by: by.clone(),
        added_at: call.now,
    };
    let store = &call.app.store;
    if request.role == Role::Owner {
        call.authorize_about(Operation::TransferOrg, Target::org(&org))?;
        store.transfer_org(&org, &subject, &by, call.now).await?;
        return Answer::json(&MemberBody::from(member));
    }
    let known = store.members(&org).await?;
    if known.len() >= MEMBERS_MAX && !known.iter().any(|member| member.subject == subject) {
        let says = format!("an organisation has at most {MEMBERS_MAX} members: remove one first");
        return Err(ApiError::new(Kind::Conflict, says));
    }
    store.put_member(&member).await?;
    Answer::json(&MemberBody::from(member))
}

/// Remove a member; everybody may leave.
#[utoipa::path(delete, operation_id = "remove_member",
    path = "/orgs/{org}/members/{user_id}", tag = "organisations",
    params(("org" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, body = RemovedMember)), security(("access_token" = [])))]
pub(crate) async fn remove(call: Call) -> Result<Answer, ApiError> {
    let org = org_of(&call)?;
    let user_id = user_of(&call)?;
    call.authorize_about(call.operation, Target::person(&user_id).owned_by(&org))?;
    if !call.app.store.remove_member(&org, &user_id).await? {
        return Err(ApiError::not_found("member"));
    }
    Answer::json(&RemovedMember {
        removed: true,
        user_id,
    })
}

fn user_of(call: &Call) -> Result<PrincipalId, ApiError> {
    let parsed = call.path("user_id").parse();
    parsed.map_err(|_| ApiError::not_found("member"))
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self {
            org_id: member.org,
            user_id: member.subject,
            role: member.role,
            added_by: Some(member.added_by),
            added_at: Some(rfc3339(member.added_at)),
        }
    }
}
