//! The Notify face: its route table. Each file is the wire form and the handlers of one noun.
//! It must not know how routes are authenticated, nor what happens behind the engine's door.

pub(crate) mod analytics;
pub(crate) mod api_keys;
pub(crate) mod credentials;
pub(crate) mod devices;
pub(crate) mod notifications;
mod presence;
pub(crate) mod send;
pub(crate) mod tags;
pub(crate) mod tenants;
pub(crate) mod unified;

use clarion_auth::permission::Operation;

pub(crate) use presence::Presence;

use crate::routes::Routes;

/// Every route of the face, with the operation that is authorised before its handler runs.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes
        .organisation::<tenants::__path_create, _, _>(Operation::CreateTenant, &["/apps"], tenants::create)
        .organisation::<tenants::__path_list, _, _>(Operation::ListTenants, &[], tenants::list)
        .organisation::<tenants::__path_list_configs, _, _>(Operation::ListTenants, &[],
            tenants::list_configs)
        .tenant::<tenants::__path_read, _, _>(Operation::ReadTenant,
            &["/apps/{tenant}", "/apps/{tenant}/notify"], tenants::read)
        .tenant::<tenants::__path_patch, _, _>(Operation::UpdateTenant,
            &["/apps/{tenant}", "/apps/{tenant}/notify"], tenants::patch)
        .tenant::<tenants::__path_delete, _, _>(Operation::DeleteTenant,
            &["/apps/{tenant}", "/apps/{tenant}/notify"], tenants::delete)
        .tenant::<api_keys::__path_create, _, _>(Operation::CreateApiKey,
            &["/apps/{tenant}/api-keys", "/apps/{tenant}/notify/api-keys"], api_keys::create)
        .tenant::<api_keys::__path_list, _, _>(Operation::ListApiKeys,
            &["/apps/{tenant}/api-keys", "/apps/{tenant}/notify/api-keys"], api_keys::list)
        .tenant::<api_keys::__path_patch, _, _>(Operation::UpdateApiKey,
            &["/apps/{tenant}/api-keys/{key_id}", "/apps/{tenant}/notify/api-keys/{key_id}"],
            api_keys::patch)
        .tenant::<api_keys::__path_rotate, _, _>(Operation::RotateApiKey,
            &["/apps/{tenant}/api-keys/{key_id}/rotate",
                "/apps/{tenant}/notify/api-keys/{key_id}/rotate"],
            api_keys::rotate)
        .tenant::<api_keys::__path_delete, _, _>(Operation::DeleteApiKey,
            &["/apps/{tenant}/api-keys/{key_id}", "/apps/{tenant}/notify/api-keys/{key_id}"],
            api_keys::delete);
    let routes = routes
        .tenant::<credentials::__path_list, _, _>(Operation::ListCredentials,
            &["/apps/{tenant}/credentials"], credentials::list)
        .tenant::<credentials::__path_put, _, _>(Operation::PutCredential,
            &["/apps/{tenant}/credentials/{provider}"], credentials::put)
        .tenant::<credentials::__path_delete, _, _>(Operation::DeleteCredential,
            &["/apps/{tenant}/credentials/{provider}"], credentials::delete)
        .tenant::<devices::__path_register, _, _>(Operation::RegisterDevice,
            &["/apps/{tenant}/devices"], devices::register)
        .tenant::<devices::__path_register_bulk, _, _>(Operation::RegisterDevice,
            &["/apps/{tenant}/devices/bulk"], devices::register_bulk)
        .tenant::<devices::__path_list, _, _>(Operation::ListDevices,
            &["/apps/{tenant}/devices"], devices::list)
        .tenant::<devices::__path_unregister, _, _>(Operation::UnregisterDevice,
            &["/apps/{tenant}/devices/{token}"], devices::unregister)
        .tenant::<tags::__path_list, _, _>(Operation::ListTags, &["/apps/{tenant}/tags"], tags::list)
        .tenant::<tags::__path_put, _, _>(Operation::WriteTag,
            &["/apps/{tenant}/tags/{tag}"], tags::put)
        .tenant::<tags::__path_delete, _, _>(Operation::DeleteTag,
            &["/apps/{tenant}/tags/{tag}"], tags::delete)
        .tenant::<tags::__path_of_device, _, _>(Operation::ReadSubscriptions,
            &["/apps/{tenant}/devices/{token}/tags"], tags::of_device)
        .tenant::<tags::__path_put_of_device, _, _>(Operation::Subscribe,
            &["/apps/{tenant}/devices/{token}/tags"], tags::put_of_device);
    routes
        .tenant::<send::__path_notify, _, _>(Operation::Send, &["/apps/{tenant}/notify"], send::notify)
        .tenant::<send::__path_notify_bulk, _, _>(Operation::SendBulk,
            &["/apps/{tenant}/notify/bulk"], send::notify_bulk)
        .tenant::<unified::__path_unified, _, _>(Operation::Send,
            &["/apps/{tenant}/notify/unified"], unified::unified)
        .organisation::<unified::__path_short, _, _>(Operation::Send, &[], unified::short)
        .tenant::<analytics::__path_read, _, _>(Operation::ReadAnalytics,
            &["/apps/{tenant}/analytics"], analytics::read)
        .tenant::<analytics::__path_time_series, _, _>(Operation::ReadAnalytics,
            &["/apps/{tenant}/analytics/timeseries"], analytics::time_series)
        .tenant::<notifications::__path_status, _, _>(Operation::ReadNotification,
            &["/apps/{tenant}/notifications/{id}"], notifications::status)
        .tenant::<notifications::__path_failures, _, _>(Operation::ReadFailures,
            &["/apps/{tenant}/notifications/{id}/failures"], notifications::failures)
}
