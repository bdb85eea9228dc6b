//! The control API: plain HTTP on loopback, for people and for tests in other processes. Knows nothing of
//! how anything it asks for is done.
//!
//! | request | does | |---|---| | `GET /` | where APNs, FCM and the token endpoint are | | `GET /ca.pem` |
//! the certificate authority to trust | | `GET /rules`, `PUT /rules` | the rules; put as TOML, or as JSON
//! with `content-type: application/json` | | `GET /stats`, `POST /reset` | the counters | | `GET
//! /received?after=SEQ&limit=N` | receipts still in memory | | `POST /connections` | `"cut"`, `"freeze"`,
//! `{"goaway": {…}}` or `{"stream_limit": N}`, for every open connection | | `PUT /clock` | `{"offset_ms":
//! N}`: moves the providers' clock | | `PUT /credentials/apns` | `{"team_id", "key_id", "pem"}` | | `DELETE
//! /credentials/apns/{team_id}/{key_id}` | revokes a key | | `PUT /credentials/fcm` | a service account's
//! JSON | | `DELETE /credentials/fcm/{client_email}` | revokes an account |

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Error;
use crate::receipt::Receipt;
use crate::rules::Rules;
use crate::stats::Stats;
use crate::world::{Command, World};

/// Receipts in one answer, unless asked for fewer.
const RECEIVED_MAX: usize = 1_000;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) world: Arc<World>,
    pub(crate) ca_pem: String,
    /// What `GET /` tells.
    pub(crate) places: Value,
}

type Shared = State<Arc<Control>>;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut detail = self.to_string();
        let mut cause = std::error::Error::source(&self);
        while let Some(source) = cause {
            detail = format!("{detail}: {source}");
            cause = source.source();
        }
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({ "detail": detail })),
        )
            .into_response()
    }
}

/// Serves until `stop` changes or its sender is gone.
pub(crate) async fn serve(listener: TcpListener, control: Control, mut stop: watch::Receiver<()>) {
    let stopped = async move {
        // An error says that the sender is gone, which is as good a reason to stop.
        drop(stop.changed().await);
    };
    let served = axum::serve(listener, router(control))
        .with_graceful_shutdown(stopped)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the control API ended");
    }
}

fn router(control: Control) -> Router {
    Router::new()
        .route(
            "/",
            get(|State(control): Shared| async move { Json(control.places.clone()) }),
        )
        .route(
            "/ca.pem",
            get(|State(control): Shared| async move { control.ca_pem.clone() }),
        )
        .route("/rules", get(rules).put(put_rules))
        .route("/stats", get(stats))
        .route("/reset", post(reset))
        .route("/received", get(received))
        .route("/connections", post(connections))
        .route("/clock", put(clock))
        .route("/credentials/apns", put(put_apns))
        .route("/credentials/apns/{team_id}/{key_id}", delete(delete_apns))
        .route("/credentials/fcm", put(put_fcm))
        .route("/credentials/fcm/{client_email}", delete(delete_fcm))
        .with_state(Arc::new(control))
}

async fn rules(State(control): Shared) -> Json<Rules> {
    Json(control.world.rules().rules().clone())
}

async fn put_rules(
    State(control): Shared,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Rules>, Error> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let rules = match json {
        true => serde_json::from_str(&body).map_err(|error| Error::Rules(error.to_string()))?,
        false => Rules::from_toml(&body)?,
    };
    control.world.set_rules(rules)?;
    Ok(Json(control.world.rules().rules().clone()))
}

async fn stats(State(control): Shared) -> Json<Stats> {
    Json(control.world.stats())
}

async fn reset(State(control): Shared) -> StatusCode {
    control.world.reset();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn received(State(control): Shared, Query(page): Query<Page>) -> Json<Vec<Receipt>> {
    let limit = page.limit.unwrap_or(RECEIVED_MAX).min(RECEIVED_MAX);
    Json(control.world.received(page.after, limit))
}

async fn connections(
    State(control): Shared,
    Json(command): Json<Command>,
) -> Result<Json<Value>, Error> {
    let reached = control.world.command(command)?;
    Ok(Json(json!({ "connections": reached })))
}

#[derive(Debug, Deserialize)]
struct Clock {
    offset_ms: i64,
}

async fn clock(State(control): Shared, Json(clock): Json<Clock>) -> StatusCode {
    control.world.set_clock_offset_ms(clock.offset_ms);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct ApnsKey {
    team_id: String,
    key_id: String,
    pem: String,
}

async fn put_apns(State(control): Shared, Json(key): Json<ApnsKey>) -> Result<StatusCode, Error> {
    let name = (key.team_id, key.key_id);
    control
        .world
        .change_registry(|registry| registry.add_apns_key(name, &key.pem))?;
    Ok(StatusCode::NO_CONTENT)
}

fn removed(known: bool) -> StatusCode {
    if known {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    }
}

async fn delete_apns(State(control): Shared, Path(name): Path<(String, String)>) -> StatusCode {
    removed(
        control
            .world
            .change_registry(|registry| registry.remove_apns_key(&name)),
    )
}

async fn put_fcm(State(control): Shared, body: String) -> Result<StatusCode, Error> {
    control
        .world
        .change_registry(|registry| registry.add_account(&body))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_fcm(State(control): Shared, Path(client_email): Path<String>) -> StatusCode {
    removed(
        control
            .world
            .change_registry(|registry| registry.remove_account(&client_email)),
    )
}
