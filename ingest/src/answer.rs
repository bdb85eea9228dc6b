//! The shape of success: JSON, with status 200 on the Notify face, whose published clients take nothing else for success,
//! and the documented one on the others.
//! It must not know refusals.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clarion_engine::model::Millis;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use crate::error::{ApiError, Success};

/// A success.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    /// A header beyond the usual ones.
    extra: Option<(HeaderName, HeaderValue)>,
    success: Success,
    /// What was made, for the audit log: the path of a request that creates something cannot name it.
    made: Option<String>,
}

impl Answer {
    /// `value` as JSON.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| ApiError::internal(&error))?;
        Ok(Self::bytes(body))
    }

    /// A body that is JSON already.
    pub(crate) fn bytes(body: impl Into<Bytes>) -> Self {
        Self::stream(Body::from(body.into()))
    }

    /// A body that is JSON already and comes in pieces.
    pub(crate) fn stream(body: Body) -> Self {
        Self {
            body,
            extra: None,
            success: Success::Done,
            made: None,
        }
    }

    /// 204 without a body.
    pub(crate) fn silent() -> Self {
        Self::stream(Body::empty()).with_status(Success::Silent)
    }

    /// The same with another status.
    pub(crate) fn with_status(mut self, success: Success) -> Self {
        self.success = success;
        self
    }

    /// The same, saying what was made: `name=id`, never a secret.
    pub(crate) fn made(mut self, name: &str, id: &impl std::fmt::Display) -> Self {
        self.made = Some(format!("{name}={id}"));
        self
    }

    /// What was made.
    pub(crate) fn what_was_made(&self) -> Option<&str> {
        self.made.as_deref()
    }

    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.success.status().as_u16()
    }

    /// The same with a header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.extra = Some((name, value));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.success.status();
        if self.success != Success::Silent {
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        if let Some((name, value)) = self.extra {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Milliseconds as RFC 3339 in UTC.
pub(crate) fn rfc3339(at: Millis) -> String {
    // Only instants some 7,900 years away fall outside.
    jiff::Timestamp::from_millisecond(at)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_rfc_3339_with_z() {
        assert_eq!(rfc3339(1_705_314_600_000), "2024-01-15T10:30:00Z");
        assert_eq!(rfc3339(1_705_314_600_042), "2024-01-15T10:30:00.042Z");
    }
}
