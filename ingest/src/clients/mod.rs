//! What a tenant's people give to applications on devices: registered client applications, and the secrets of the IBM Push
//! face.
//! It must not know what these credentials may do.

mod apps;
mod secrets;

use clarion_auth::permission::Operation;
use utoipa::OpenApi;

use crate::routes::Routes;

#[derive(OpenApi)]
#[openapi(paths(
    apps::create,
    apps::list,
    apps::add_secret,
    apps::delete,
    secrets::read,
    secrets::rotate,
    secrets::patch,
))]
pub(crate) struct Document;

/// Every route, with the operation that is authorised before its handler runs.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .tenant::<apps::__path_create, _, _>(Operation::CreateClient,
            &["/apps/{tenant}/clients"], apps::create)
        .tenant::<apps::__path_list, _, _>(Operation::ListClients,
            &["/apps/{tenant}/clients"], apps::list)
        .tenant::<apps::__path_add_secret, _, _>(Operation::SetClientSecret,
            &["/apps/{tenant}/clients/{client_id}/secret"], apps::add_secret)
        .tenant::<apps::__path_delete, _, _>(Operation::DeleteClient,
            &["/apps/{tenant}/clients/{client_id}"], apps::delete)
        .tenant::<secrets::__path_read, _, _>(Operation::ListClients,
            &["/apps/{tenant}/push-secrets"], secrets::read)
        .tenant::<secrets::__path_rotate, _, _>(Operation::RotateClientSecret,
            &["/apps/{tenant}/push-secrets"], secrets::rotate)
        .tenant::<secrets::__path_patch, _, _>(Operation::RotateClientSecret,
            &["/apps/{tenant}/push-secrets"], secrets::patch)
}
