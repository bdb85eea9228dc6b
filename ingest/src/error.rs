//! Every refusal of the HTTP faces, and the only table of HTTP status codes.
//! It must not know which route failed or who asked; it renders what it is given.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use clarion_auth::permission::Denied;
use clarion_engine::intake::request::{self, ProblemKind};
use clarion_engine::{intake, store};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

pub(crate) use clarion_engine::intake::request::Step;

/// Field errors reported at once; the rest is left out.
const FIELD_ERRORS_MAX: usize = 20;
/// What a caller is told to wait when we cannot take its request now.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(2);

/// What kind of refusal it is; each has one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A device token or a provider credential that cannot be right.
    BadValue,
    /// No credential, an unknown or an expired one.
    Unauthenticated,
    /// A credential that may not do this.
    Forbidden,
    /// No such thing.
    NotFound,
    /// No such method here.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// Something else is there, or still running.
    Conflict,
    /// A body or a payload over a limit.
    TooLarge,
    /// Not JSON.
    UnsupportedMediaType,
    /// Fields that break a rule.
    Invalid,
    /// The tenant's own limit.
    LimitReached,
    /// Our fault.
    Internal,
    /// We cannot take it now.
    Unavailable,
}

/// The table: kind, status, title. The last part of the problem type is the title in lower case with dashes.
const TABLE: [(Kind, StatusCode, &str); 13] = [
    (Kind::BadValue, StatusCode::BAD_REQUEST, "Bad value"),
    (
        Kind::Unauthenticated,
        StatusCode::UNAUTHORIZED,
        "Unauthenticated",
    ),
    (Kind::Forbidden, StatusCode::FORBIDDEN, "Forbidden"),
    (Kind::NotFound, StatusCode::NOT_FOUND, "Not found"),
    (
        Kind::MethodNotAllowed,
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
    ),
    (
        Kind::RequestTimeout,
        StatusCode::REQUEST_TIMEOUT,
        "Request timeout",
    ),
    (Kind::Conflict, StatusCode::CONFLICT, "Conflict"),
    (Kind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
    (
        Kind::UnsupportedMediaType,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
    ),
    (
        Kind::Invalid,
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid request",
    ),
    (
        Kind::LimitReached,
        StatusCode::TOO_MANY_REQUESTS,
        "Limit reached",
    ),
    (
        Kind::Internal,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
    ),
    (
        Kind::Unavailable,
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
    ),
];

/// One field that breaks a rule. Never holds the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// Where: `body`, `query`, `path` or `header`, then the way to the field.
    pub(crate) loc: Vec<Step>,
    /// What is wrong and what to do.
    pub(crate) msg: Cow<'static, str>,
    /// Machine-readable kind.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

impl FieldError {
    /// A field whose value breaks a rule.
    pub(crate) fn value(
        loc: impl IntoIterator<Item = Step>,
        msg: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            loc: loc.into_iter().collect(),
            msg: msg.into(),
            kind: "value_error",
        }
    }

    /// A required field that is not there.
    pub(crate) fn missing(loc: impl IntoIterator<Item = Step>) -> Self {
        Self {
            loc: loc.into_iter().collect(),
            msg: "Field required".into(),
            kind: "missing",
        }
    }
}

/// A refusal, ready to be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    kind: Kind,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// A refusal of a kind other than [`Kind::Invalid`].
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after: None,
        }
    }

    /// Fields that break rules; at most [`FIELD_ERRORS_MAX`] of them are reported.
    pub(crate) fn fields(mut fields: Vec<FieldError>) -> Self {
        fields.truncate(FIELD_ERRORS_MAX);
        Self {
            fields,
            ..Self::new(Kind::Invalid, "")
        }
    }

    /// One field that breaks a rule.
    pub(crate) fn field(field: FieldError) -> Self {
        Self::fields(vec![field])
    }

    /// No such thing.
    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what}"))
    }

    /// We cannot take it now.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, detail).retry_after(UNAVAILABLE_RETRY)
    }

    /// Our fault; the reason goes to the log, not to the caller.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a request failed");
        Self::new(
            Kind::Internal,
            "this is our fault; the log has the reason under the request id",
        )
    }

    /// The same with a `Retry-After`.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.row().1
    }

    fn row(&self) -> (Kind, StatusCode, &'static str) {
        let row = TABLE.into_iter().find(|(kind, ..)| *kind == self.kind);
        row.unwrap_or((
            Kind::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error",
        ))
    }

    /// The answer, with the id under which the log knows the request.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let (_, status, title) = self.row();
        let problem = Problem {
            r#type: format!(
                "urn:clarion:problem:{}",
                title.to_ascii_lowercase().replace(' ', "-")
            ),
            title,
            status: status.as_u16(),
            detail: match self.kind {
                Kind::Invalid => Detail::Fields(&self.fields),
                _ => Detail::Text(&self.detail),
            },
            request_id,
        };
        // Plain strings and numbers always serialise.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if self.kind == Kind::Unauthenticated {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// Problem-shaped, with the documented `detail`.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: Detail<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Fields(&'a [FieldError]),
}

/// The outermost layer renders it with the request's id; see [`crate::envelope`].
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(Kind::Forbidden, denied.to_string())
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => {
                tracing::warn!(error = %Chain(&error), "the store cannot serve a request");
                Self::unavailable("the store cannot be reached: try again")
            }
            store::Error::NotFound(what) => Self::not_found(what),
            store::Error::Conflict(what) => Self::new(Kind::Conflict, what),
            store::Error::Corrupt { .. }
            | store::Error::Data(_)
            | store::Error::NewerSchema { .. } => Self::internal(&error),
        }
    }
}

impl From<request::Problem> for FieldError {
    fn from(problem: request::Problem) -> Self {
        let kind = problem.kind.as_str();
        let mut loc = vec![Step::from("body")];
        loc.extend(problem.path);
        if let ProblemKind::Malformed(at) = problem.kind {
            loc.push(at.into());
        }
        Self {
            loc,
            msg: problem.message,
            kind,
        }
    }
}

impl From<Vec<request::Problem>> for ApiError {
    /// One answer has one status: that of the first problem.
    fn from(mut problems: Vec<request::Problem>) -> Self {
        let Some(first) = problems.first_mut() else {
            return Self::fields(Vec::new());
        };
        match first.kind {
            ProblemKind::TooLarge => Self::new(
                Kind::TooLarge,
                format!("{}: {}", first.way(), first.message),
            ),
            ProblemKind::DeviceToken => {
                // The place of the entry, as documented, not that of its member.
                first.path.pop();
                let detail = format!("invalid token format: {}: {}", first.way(), first.message);
                Self::new(Kind::BadValue, detail)
            }
            _ => Self::fields(problems.into_iter().map(FieldError::from).collect()),
        }
    }
}

impl From<request::Problem> for ApiError {
    fn from(problem: request::Problem) -> Self {
        vec![problem].into()
    }
}

impl From<intake::Refusal> for ApiError {
    fn from(refusal: intake::Refusal) -> Self {
        match refusal {
            intake::Refusal::Field { path, problem } => {
                let way = path.into_iter().map(Step::from);
                let loc = std::iter::once(Step::from("body")).chain(way);
                Self::field(FieldError::value(loc, problem))
            }
            intake::Refusal::Expired { field } => {
                let loc = ["body".into(), "options".into(), field.into()];
                Self::field(FieldError::value(loc, intake::Refusal::IS_OVER))
            }
            intake::Refusal::TooLarge { .. } => Self::new(Kind::TooLarge, refusal.to_string()),
            intake::Refusal::Unwritable(_) => Self::internal(&refusal),
        }
    }
}

impl From<intake::Error> for ApiError {
    fn from(error: intake::Error) -> Self {
        match error {
            intake::Error::Refused(refusal) => refusal.into(),
            intake::Error::UnknownTenant => Self::not_found("tenant"),
            intake::Error::Suspended => Self::new(Kind::Forbidden, error.to_string()),
            intake::Error::BacklogFull { retry_after, .. } => {
                Self::new(Kind::LimitReached, error.to_string()).retry_after(retry_after)
            }
            intake::Error::Queue(_) => {
                tracing::warn!(error = %Chain(&error), "the queue did not take a notification");
                Self::unavailable(
                    "the queue did not confirm: try again with the same Idempotency-Key",
                )
            }
            intake::Error::Store(error) => error.into(),
        }
    }
}

/// An error and its causes in one line, for logs.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_decided_status() {
        let decided = [
            (Kind::BadValue, 400),
            (Kind::Unauthenticated, 401),
            (Kind::Forbidden, 403),
            (Kind::NotFound, 404),
            (Kind::MethodNotAllowed, 405),
            (Kind::RequestTimeout, 408),
            (Kind::Conflict, 409),
            (Kind::TooLarge, 413),
            (Kind::UnsupportedMediaType, 415),
            (Kind::Invalid, 422),
            (Kind::LimitReached, 429),
            (Kind::Internal, 500),
            (Kind::Unavailable, 503),
        ];
        for (kind, status) in decided {
            assert_eq!(ApiError::new(kind, "x").status(), status, "{kind:?}");
        }
        assert_eq!(decided.len(), TABLE.len());
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let error =
            ApiError::new(Kind::LimitReached, "x").retry_after(Duration::from_millis(1_001));
        assert_eq!(error.render("r").headers()["retry-after"], "2");
        let now = ApiError::new(Kind::LimitReached, "x").retry_after(Duration::ZERO);
        assert_eq!(now.render("r").headers()["retry-after"], "1");
    }
}
