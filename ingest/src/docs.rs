//! `/docs`: a page that shows the API's description to people, served whole by this process.
//! It must not know any route: the page reads `/openapi.json`.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};

use crate::app::App;

/// Nothing from elsewhere, nothing inline, and nobody frames it: a credential may be typed into it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// The API's description, to be read and tried in a browser.
#[utoipa::path(get, path = "/docs", tag = "health",
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn page(_: App) -> Response {
    file("text/html; charset=utf-8", include_str!("docs/index.html"))
}

/// The page's script.
#[utoipa::path(get, path = "/docs/page.js", tag = "health",
    responses((status = 200, body = String, content_type = "text/javascript")))]
pub(crate) async fn script(_: App) -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    )
}

/// The page's style.
#[utoipa::path(get, path = "/docs/style.css", tag = "health",
    responses((status = 200, body = String, content_type = "text/css")))]
pub(crate) async fn style(_: App) -> Response {
    file("text/css; charset=utf-8", include_str!("docs/style.css"))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
