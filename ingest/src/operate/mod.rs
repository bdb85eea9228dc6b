//! The operator's face, on its own listener: metrics, dead letters, the prune brake, effective limits.
//! It must not know how jobs die or why the brake went on. Whoever calls needs a role in the tenant's organisation here
//! too: a listener on loopback is reached by every page that a browser on the machine has open.

mod dead;
mod limits;
mod prunes;

use axum::response::{IntoResponse, Response};
use clarion_auth::permission::Operation;
use http::{HeaderValue, header};
use utoipa::OpenApi;

use crate::app::App;
use crate::health;
use crate::routes::Routes;

/// The operator's routes.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .public::<health::__path_livez, _, _>(health::livez)
        .public::<health::__path_readyz, _, _>(health::readyz)
        .public::<health::__path_health, _, _>(health::health)
        .public::<__path_metrics, _, _>(metrics)
        .organisation::<dead::__path_list_all, _, _>(Operation::ListDeadLetters, &[], dead::list_all)
        .tenant::<dead::__path_list, _, _>(Operation::ListDeadLetters, &[], dead::list)
        .tenant::<dead::__path_show, _, _>(Operation::ListDeadLetters, &[], dead::show)
        .tenant::<dead::__path_replay, _, _>(Operation::ReplayDeadLetters, &[], dead::replay)
        .tenant::<dead::__path_purge, _, _>(Operation::PurgeDeadLetters, &[], dead::purge)
        .tenant::<prunes::__path_list, _, _>(Operation::ReadTenant, &[], prunes::list)
        .tenant::<prunes::__path_release, _, _>(Operation::UpdateTenant, &[], prunes::release)
        .tenant::<prunes::__path_discard, _, _>(Operation::UpdateTenant, &[], prunes::discard)
        .tenant::<limits::__path_read, _, _>(Operation::ReadTenant, &[], limits::read)
}

/// The operator's part of the documentation.
#[derive(OpenApi)]
#[openapi(
    info(title = "Clarion, operator's listener"),
    paths(
        health::livez,
        health::readyz,
        health::health,
        metrics,
        dead::list_all,
        dead::list,
        dead::show,
        dead::replay,
        dead::purge,
        prunes::list,
        prunes::release,
        prunes::discard,
        limits::read,
    )
)]
pub(crate) struct Document;

/// All metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(app: App) -> Response {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], (app.0.metrics)()).into_response()
}
