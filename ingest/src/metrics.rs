//! Every metric of the HTTP faces: its name and its recording function.
//! It must not know what a request was about: labels are closed sets, never ids.

use std::time::Duration;

use http::Method;

/// A request was answered. `route` is the route's template, never the path.
pub(crate) fn answered(method: &Method, route: &str, status: u16, took: Duration) {
    let (method, route) = (method_label(method), route.to_owned());
    metrics::counter!(
        "clarion_http_requests_total",
        "method" => method, "route" => route.clone(), "status" => status.to_string(),
    )
    .increment(1);
    metrics::histogram!("clarion_http_request_seconds", "method" => method, "route" => route)
        .record(took.as_secs_f64());
}

/// Notifications and entries were accepted.
pub(crate) fn accepted(lane: &'static str, entries: u64) {
    metrics::counter!("clarion_notifications_accepted_total", "lane" => lane).increment(1);
    metrics::counter!("clarion_entries_accepted_total", "lane" => lane).increment(entries);
}

/// A credential was refused.
pub(crate) fn unauthenticated(credential: &'static str) {
    metrics::counter!("clarion_authentications_failed_total", "credential" => credential)
        .increment(1);
}

/// A cached key was used while the store could not be asked.
pub(crate) fn served_from_stale_cache() {
    metrics::counter!("clarion_api_keys_unconfirmed_total").increment(1);
}

/// A row of the audit log could not be written.
pub(crate) fn audit_lost() {
    metrics::counter!("clarion_audit_rows_lost_total").increment(1);
}

/// A connection came (`1.0`) or went (`-1.0`).
pub(crate) fn connections(change: f64) {
    metrics::gauge!("clarion_http_connections").increment(change);
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
