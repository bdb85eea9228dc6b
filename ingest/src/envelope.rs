//! What surrounds every request: its id in and out, rendering of refusals, security headers, a deadline, tracing, metrics.
//! It must not know routes or bodies, and writes neither paths nor headers to the log: both may hold secrets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use tokio::time::Instant;
use tracing::Instrument;

use crate::app::Clock;
use crate::error::{ApiError, Kind};
use crate::{fresh, metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken over from a caller, bytes.
const REQUEST_ID_MAX: usize = 128;
/// The label of requests that met no route.
const NO_ROUTE: &str = "none";

/// The template of the route that answered, for metrics and logs.
#[derive(Clone, Debug)]
pub(crate) struct Template(pub(crate) Arc<str>);

impl Template {
    /// Marks a response with the route it came from.
    pub(crate) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// What surrounding needs.
#[derive(Clone)]
pub(crate) struct Edge {
    /// How long a request may take in all.
    pub(crate) timeout: Duration,
    /// The clock, for new ids.
    pub(crate) now: Clock,
}

/// Surrounds all routes of `router`.
pub(crate) fn wrap(router: Router, edge: Edge) -> Router {
    router
        .fallback(|| async { ApiError::new(Kind::NotFound, "no such path: see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                Kind::MethodNotAllowed,
                "this path has other methods: see /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(edge, surround))
}

async fn surround(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let given = request.headers().get(X_REQUEST_ID);
    let request_id = request_id(given).unwrap_or_else(|| fresh::request_id((edge.now)()));
    let method = request.method().clone();
    let span = tracing::debug_span!("request", request_id = %request_id, method = %method);
    let answer = tokio::time::timeout(edge.timeout, next.run(request)).instrument(span);
    let response = answer
        .await
        .unwrap_or_else(|_| ApiError::unavailable("this took too long: try again").into_response());
    let mut response = render(response, &request_id);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let template = response.extensions().get::<Template>();
    let route = template.map_or(NO_ROUTE, |template| &template.0);
    metrics::answered(&method, route, status, took);
    tracing::debug!(
        %request_id, %method, route, status, took_us = took.as_micros(), "answered"
    );
    finish(&mut response, &request_id);
    response
}

/// Gives a refusal its body, now that the request's id is at hand.
fn render(mut response: Response, request_id: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    let mut rendered = error.render(request_id);
    std::mem::swap(rendered.extensions_mut(), response.extensions_mut());
    // `Allow` of a 405.
    for (name, value) in response.headers() {
        rendered
            .headers_mut()
            .entry(name)
            .or_insert_with(|| value.clone());
    }
    if let Some(zero) = response.headers().get(header::CONTENT_LENGTH)
        && rendered.headers().get(header::CONTENT_LENGTH) == Some(zero)
    {
        rendered.headers_mut().remove(header::CONTENT_LENGTH);
    }
    rendered
}

fn finish(response: &mut Response<Body>, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The caller's id if it is harmless in logs and headers.
fn request_id(given: Option<&HeaderValue>) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    given
        .and_then(|value| value.to_str().ok())
        .filter(|text| (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(fits))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_request_id_is_kept_and_any_other_replaced() {
        let given = |text: &str| request_id(Some(&text.parse().unwrap()));
        assert_eq!(given("abc-1.2_Z").as_deref(), Some("abc-1.2_Z"));
        for bad in ["", "a b", "a\tb", "<script>", &"a".repeat(129)] {
            assert_eq!(given(bad), None);
        }
        assert_eq!(request_id(None), None);
    }
}
