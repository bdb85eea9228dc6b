//! What surrounds every request: its id in and out, rendering of refusals in the shape of the path's face, security headers
//! and those that browsers of other origins need, a deadline, tracing, metrics.
//! It must not know routes or bodies, and writes neither paths nor headers to the log: both may hold secrets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use tokio::time::Instant;
use tracing::Instrument;

use crate::audit::RequestId;
use crate::error::{ApiError, Kind, Success};
use crate::face::Face;
use crate::{fresh, metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken over from a caller, bytes.
const REQUEST_ID_MAX: usize = 128;
/// What a page of another origin may send along.
const BROWSER_HEADERS: &str = "accept, accept-language, appsecret, authorization, clientsecret, \
                               content-type, x-ibm-client-id, x-ibm-client-secret, x-request-id";
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
    pub(crate) now: fn() -> SystemTime,
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

async fn surround(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let given = request.headers().get(X_REQUEST_ID);
    let request_id = request_id(given).unwrap_or_else(|| fresh::request_id((edge.now)()));
    let known_as = RequestId(request_id.as_str().into());
    request.extensions_mut().insert(known_as);
    let method = request.method().clone();
    let face = Face::of(request.uri().path());
    let span = tracing::debug_span!("request", request_id = %request_id, method = %method);
    let answer = tokio::time::timeout(edge.timeout, next.run(request)).instrument(span);
    let response = answer
        .await
        .unwrap_or_else(|_| ApiError::unavailable("this took too long: try again").into_response());
    let mut response = render(response, face, &request_id);
    if face.is_for_browsers() {
        let is_preflight = method == http::Method::OPTIONS;
        share(&mut response, is_preflight);
    }
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
fn render(mut response: Response, face: Face, request_id: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    let mut rendered = error.render(face, request_id);
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

/// Lets pages of every origin read the answer, refusals included. They show their credentials in headers that they set
/// themselves, never in cookies, so that no page gains by a visitor of another.
fn share(response: &mut Response, is_preflight: bool) {
    if is_preflight {
        // What may be asked depends on no credential, and a preflight carries none.
        *response = Success::Silent.status().into_response();
    }
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    let shown = HeaderValue::from_static("x-request-id, retry-after");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
    if is_preflight {
        let methods = HeaderValue::from_static("GET, POST, PUT, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(BROWSER_HEADERS),
        );
        let day = HeaderValue::from_static("86400");
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, day);
    }
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

    #[tokio::test]
    async fn a_browser_may_ask_and_read_ibms_push_api_and_nothing_else() {
        let edge = Edge {
            timeout: Duration::from_secs(5),
            now: || SystemTime::UNIX_EPOCH,
        };
        let service = hyper_util::service::TowerToHyperService::new(wrap(Router::new(), edge));
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
            hyper::service::Service::call(&service, request)
                .await
                .unwrap()
        };
        let preflight = ask("OPTIONS", "/imfpush/v1/apps/a/devices").await;
        assert_eq!(preflight.status(), Success::Silent.status());
        let headers = preflight.headers();
        assert_eq!(headers["access-control-allow-origin"], "*");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("clientsecret") && allowed.contains("content-type"));
        let refused = ask("GET", "/imfpush/v1/nowhere").await;
        assert_eq!(refused.headers()["access-control-allow-origin"], "*");
        let elsewhere = ask("OPTIONS", "/tenants").await;
        assert!(
            elsewhere
                .headers()
                .get("access-control-allow-origin")
                .is_none()
        );
    }

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
