//! Whether the process lives and whether it would take a request now.
//! It must not know why a part is not ready; the parts say so themselves.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::app::{App, EngineHealth};
use crate::error::ApiError;

/// The version of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this server is.
#[derive(Serialize, ToSchema)]
pub(crate) struct About {
    /// `ok` as long as the process answers.
    status: &'static str,
    service: &'static str,
    version: &'static str,
    /// Where the API is described.
    documentation: &'static str,
}

/// Whether the server takes requests, and which part does not.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    store: bool,
    queue: bool,
    engine: bool,
}

/// Whether the process makes progress.
#[derive(Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// `alive` or `stalled`.
    status: &'static str,
}

const ABOUT: About = About {
    status: "ok",
    service: "clarion",
    version: VERSION,
    documentation: "/openapi.json",
};

/// What this server is.
#[utoipa::path(get, path = "/", tag = "health", responses((status = 200, body = About)))]
pub(crate) async fn root(_: App) -> Response {
    json(StatusCode::OK, &ABOUT)
}

/// Whether the server answers, as documented.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = About)))]
pub(crate) async fn health(_: App) -> Response {
    json(StatusCode::OK, &ABOUT)
}

/// Whether the process makes progress; if not, restart it.
#[utoipa::path(get, path = "/livez", tag = "health", responses(
    (status = 200, body = Liveness), (status = 503, body = Liveness),
))]
pub(crate) async fn livez(app: App) -> Response {
    if (app.0.health)() == EngineHealth::Stalled {
        return json(
            StatusCode::SERVICE_UNAVAILABLE,
            &Liveness { status: "stalled" },
        );
    }
    json(StatusCode::OK, &Liveness { status: "alive" })
}

/// Whether a request would be taken now; if not, send them elsewhere.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Readiness), (status = 503, body = Readiness),
))]
pub(crate) async fn readyz(app: App) -> Response {
    let store = app.0.store.is_ready().await;
    let queue = app.0.broker.is_ready().await;
    let engine = matches!(
        (app.0.health)(),
        EngineHealth::Running | EngineHealth::Elsewhere
    );
    let (status, code) = if store && queue && engine {
        ("ready", StatusCode::OK)
    } else {
        ("not_ready", StatusCode::SERVICE_UNAVAILABLE)
    };
    json(
        code,
        &Readiness {
            status,
            store,
            queue,
            engine,
        },
    )
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = match Answer::json(value) {
        Ok(answer) => answer.into_response(),
        Err(error) => return ApiError::into_response(error),
    };
    *response.status_mut() = status;
    response
}
