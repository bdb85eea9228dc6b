//! The IBM Push face: the paths, statuses and bodies of IBM's push API. Each file is the wire form and the handlers of one
//! noun; `map` puts a message in the engine's words.
//! It must not know what happens behind the engine's door.

mod authenticate;
mod devices;
mod map;
mod messages;
mod multipart;
mod page;
mod reports;
mod settings;
mod subscriptions;
mod tags;
mod target;
mod wire;

use clarion_auth::permission::Operation;
use utoipa::OpenApi;

use crate::authenticate::by_headers;
use crate::routes::Routes;

#[derive(OpenApi)]
#[openapi(paths(
    devices::create,
    devices::list,
    devices::report,
    devices::read,
    devices::update,
    devices::delete,
    messages::send,
    messages::send_bulk,
    messages::list,
    messages::read,
    messages::delete,
    reports::put,
    reports::put_delivery_status,
    reports::status,
    reports::delivery_status,
    reports::report,
    tags::create,
    tags::list,
    tags::read,
    tags::change,
    tags::delete,
    subscriptions::subscribe,
    subscriptions::list,
    subscriptions::unsubscribe,
    settings::links,
    settings::read_apns,
    settings::put_apns,
    settings::delete_apns,
    settings::read_gcm,
    settings::put_gcm,
    settings::delete_gcm,
    settings::read_gcm_public,
    settings::read_other,
    settings::put_other,
    settings::delete_other,
))]
pub(crate) struct Document;

/// Every route of the face, with the least operation that is authorised before its handler runs.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes
        .authenticated_by(authenticate::authenticate)
        .tenant::<devices::__path_create, _, _>(Operation::RegisterAnonymousDevice, &[], devices::create)
        .tenant::<devices::__path_list, _, _>(Operation::ListDevices, &[], devices::list)
        .tenant::<devices::__path_report, _, _>(Operation::ListDevices, &[], devices::report)
        .tenant::<devices::__path_read, _, _>(Operation::ReadDevice, &[], devices::read)
        .tenant::<devices::__path_update, _, _>(Operation::UpdateDevice, &[], devices::update)
        .tenant::<devices::__path_delete, _, _>(Operation::DeleteDevice, &[], devices::delete)
        .tenant::<messages::__path_send, _, _>(Operation::Send, &[], messages::send)
        .tenant::<messages::__path_send_bulk, _, _>(Operation::SendBulk, &[], messages::send_bulk)
        .tenant::<messages::__path_list, _, _>(Operation::ReadMessages, &[], messages::list)
        .tenant::<messages::__path_read, _, _>(Operation::ReadMessages, &[], messages::read)
        .tenant::<messages::__path_delete, _, _>(Operation::DeleteMessage, &[], messages::delete)
        .tenant::<reports::__path_put, _, _>(Operation::PutReceipt, &[], reports::put)
        .tenant::<reports::__path_put_delivery_status, _, _>(Operation::PutReceipt, &[],
            reports::put_delivery_status)
        .tenant::<reports::__path_status, _, _>(Operation::ReadMessages, &[], reports::status)
        .tenant::<reports::__path_delivery_status, _, _>(Operation::ReadMessages, &[],
            reports::delivery_status)
        .tenant::<reports::__path_report, _, _>(Operation::ReadMessages, &[], reports::report);
    let routes = routes
        .tenant::<tags::__path_create, _, _>(Operation::WriteTag, &[], tags::create)
        .tenant::<tags::__path_list, _, _>(Operation::ListTags, &[], tags::list)
        .tenant::<tags::__path_read, _, _>(Operation::ListTags, &[], tags::read)
        .tenant::<tags::__path_change, _, _>(Operation::WriteTag, &[], tags::change)
        .tenant::<tags::__path_delete, _, _>(Operation::DeleteTag, &[], tags::delete)
        .tenant::<subscriptions::__path_subscribe, _, _>(Operation::Subscribe, &[], subscriptions::subscribe)
        .tenant::<subscriptions::__path_list, _, _>(Operation::ReadSubscriptions, &[], subscriptions::list)
        .tenant::<subscriptions::__path_unsubscribe, _, _>(Operation::Unsubscribe, &[],
            subscriptions::unsubscribe);
    routes
        .tenant::<settings::__path_links, _, _>(Operation::ReadSettings, &[], settings::links)
        .tenant::<settings::__path_read_apns, _, _>(Operation::ReadSettings, &[], settings::read_apns)
        .tenant::<settings::__path_put_apns, _, _>(Operation::PutSettings, &[], settings::put_apns)
        .tenant::<settings::__path_delete_apns, _, _>(Operation::DeleteSettings, &[], settings::delete_apns)
        .tenant::<settings::__path_read_gcm, _, _>(Operation::ReadSettings, &[], settings::read_gcm)
        .tenant::<settings::__path_put_gcm, _, _>(Operation::PutSettings, &[], settings::put_gcm)
        .tenant::<settings::__path_delete_gcm, _, _>(Operation::DeleteSettings, &[], settings::delete_gcm)
        .tenant::<settings::__path_read_gcm_public, _, _>(Operation::ReadPublicSettings, &[],
            settings::read_gcm_public)
        .tenant::<settings::__path_read_other, _, _>(Operation::ReadPublicSettings, &[], settings::read_other)
        .tenant::<settings::__path_put_other, _, _>(Operation::PutSettings, &[], settings::put_other)
        .tenant::<settings::__path_delete_other, _, _>(Operation::DeleteSettings, &[], settings::delete_other)
        .authenticated_by(by_headers)
}
