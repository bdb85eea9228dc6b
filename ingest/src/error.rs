//! Every refusal of the HTTP faces, and the only table of HTTP status codes.
//! It must not know which route failed or who asked; it renders what it is given.

mod convert;
mod render;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

pub(crate) use clarion_engine::intake::request::Step;

use crate::face::Face;

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

/// What kind of success it is; each has one status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Success {
    /// 200
    #[default]
    Done,
    /// 201: something new is there.
    Created,
    /// 202: it will be done.
    Accepted,
    /// 204: done, and there is nothing to say.
    Silent,
    /// 207: some of it was done; the body says which.
    Partial,
}

impl Success {
    /// Its status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Done => StatusCode::OK,
            Self::Created => StatusCode::CREATED,
            Self::Accepted => StatusCode::ACCEPTED,
            Self::Silent => StatusCode::NO_CONTENT,
            Self::Partial => StatusCode::MULTI_STATUS,
        }
    }
}

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
    /// Its code on the face that is asked, where the kind does not say enough.
    code: Option<&'static str>,
    /// Its shape, where that is not the one of the path's face.
    face: Option<Face>,
}

impl ApiError {
    /// A refusal of a kind other than [`Kind::Invalid`].
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after: None,
            code: None,
            face: None,
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

    /// The same with the code by which a face's clients know it.
    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same in the shape of another face than that of the path.
    pub(crate) fn shaped(mut self, face: Face) -> Self {
        self.face = Some(face);
        self
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same as another kind.
    pub(crate) fn turned(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with another sentence before it.
    pub(crate) fn saying(mut self, before: impl fmt::Display) -> Self {
        self.detail = format!("{before}: {}", self.detail).into();
        self
    }

    /// Its status on the Notify face.
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
}

/// The outermost layer renders it with the request's id; see [`crate::envelope`].
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
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
    fn what_a_credential_lacks_is_a_401_only_where_none_or_half_of_one_was_shown() {
        use clarion_auth::principal::CredentialType;
        use clarion_auth::{Denied, Role, Scope};
        let (role, scope) = (Role::Admin, Scope::Send);
        for (denied, kind) in [
            (
                Denied::NotInList(CredentialType::AppId),
                Kind::Unauthenticated,
            ),
            (Denied::Unproven, Kind::Unauthenticated),
            (
                Denied::NotInList(CredentialType::ClientApp),
                Kind::Forbidden,
            ),
            (
                Denied::NotInList(CredentialType::TenantKey),
                Kind::Forbidden,
            ),
            (Denied::Scope { needed: scope }, Kind::Forbidden),
            (Denied::Role { needed: role }, Kind::Forbidden),
            (Denied::ForeignTenant, Kind::Forbidden),
        ] {
            assert_eq!(ApiError::from(denied).kind(), kind, "{denied:?}");
        }
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let error =
            ApiError::new(Kind::LimitReached, "x").retry_after(Duration::from_millis(1_001));
        assert_eq!(
            error.render(Face::Notify, "r").headers()["retry-after"],
            "2"
        );
        let now = ApiError::new(Kind::LimitReached, "x").retry_after(Duration::ZERO);
        assert_eq!(now.render(Face::Notify, "r").headers()["retry-after"], "1");
    }
}
