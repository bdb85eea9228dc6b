//! Organisations: who is in them as what, and their audit log.
//! It must not know what a role allows.

pub(crate) mod audit;
pub(crate) mod members;
pub(crate) mod orgs;

use clarion_auth::OrgId;
use clarion_auth::permission::Operation;

use crate::call::Call;
use crate::error::ApiError;
use crate::routes::Routes;

/// Every route of organisations.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .organisation::<orgs::__path_create, _, _>(Operation::CreateOrg, &[], orgs::create)
        .organisation::<orgs::__path_list, _, _>(Operation::ListOrgs, &[], orgs::list)
        .organisation::<orgs::__path_read, _, _>(Operation::ReadOrg, &[], orgs::read)
        .organisation::<orgs::__path_delete, _, _>(Operation::DeleteOrg, &[], orgs::delete)
        .organisation::<members::__path_list, _, _>(Operation::ReadOrg, &[], members::list)
        .organisation::<members::__path_me, _, _>(Operation::ListOrgs, &[], members::me)
        .organisation::<members::__path_put, _, _>(Operation::ManageMembers, &[], members::put)
        .organisation::<members::__path_remove, _, _>(Operation::RemoveMember, &[], members::remove)
        .organisation::<audit::__path_list, _, _>(Operation::ReadAudit, &[], audit::list)
}

/// The organisation of the path.
fn org_of(call: &Call) -> Result<OrgId, ApiError> {
    let parsed = call.path("org").parse();
    parsed.map_err(|_| ApiError::not_found("organisation"))
}
