//! The HTTP faces: parse, authenticate, authorise, one call to the engine's door or the store, answer.
//! It must not know what happens behind the door, where configuration comes from, or how a process is put together.
//!
//! # Layout
//!
//! - [`app`]: what every handler works with
//! - `serve`: connections, their bounds and their end
//! - `envelope`: request ids, rendering of refusals, deadlines, metrics around every request
//! - `routes`, `call`: the route table; authentication and authorisation before any handler
//! - `face`: which contract a path belongs to
//! - `authenticate`: what a request shows → principal, cached, with revocation
//! - `body`, `json`: bodies within their limits; field errors with their place
//! - `idempotency`: the same request twice is one notification
//! - `audit`: what is noted of administrative calls, at the route
//! - `notify`, `org`, `iam`, `operate`, `health`, `openapi`: the faces
//! - `error`: the only table of HTTP status codes

mod answer;
pub mod app;
mod audit;
mod authenticate;
mod body;
mod call;
mod clients;
mod docs;
mod envelope;
mod error;
mod face;
mod fresh;
mod health;
mod iam;
mod ibm;
mod idempotency;
mod json;
mod metrics;
mod notify;
mod openapi;
mod operate;
mod org;
mod routes;
mod serve;

use std::time::SystemTime;

use axum::Router;

pub use app::{
    App, BrakeRelease, Clock, ControlObeyed, DefaultLimits, EngineHealth, HealthProbe,
    IngestConfig, MetricsPage, Parts,
};
pub use authenticate::KeyCache;
pub use openapi::{openapi, operator_openapi};
pub use serve::serve;

use envelope::Edge;
use routes::Routes;

/// The public listener's routes.
pub fn router(app: App) -> Router {
    let edge = edge(&app);
    let (router, _) = openapi::public_routes(Routes::new(app, true)).finish();
    envelope::wrap(router, edge)
}

/// The operator's listener's routes.
pub fn operator_router(app: App) -> Router {
    let edge = edge(&app);
    let (router, _) = operate::routes(Routes::new(app, false)).finish();
    envelope::wrap(router, edge)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the instant of arrival enters a request's id and decides nothing"
)]
fn edge(app: &App) -> Edge {
    Edge {
        // A body has the whole time to arrive, and its request as much again.
        timeout: app.0.config.request_timeout.saturating_mul(2),
        now: SystemTime::now,
    }
}
