//! FCM HTTP v1 as a protocol: message JSON out, Google's errors in.
//! It must not know connections, pools or the clock (`now` is passed).

mod access_token;
mod credential;
mod errors;
mod message;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Version};

use super::{EncodeError, Prepared as AnyPrepared, Provider, Route, Stamp, Verdict};
use crate::http2::{Request, Response};
use crate::model::{Millis, Notification};

pub use access_token::{AccessTokens, Authorization, Refusal};
pub use credential::{Credential, CredentialError, TokenEndpoint};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fcm;

/// A notification for FCM: the message in pieces, with holes for what is a recipient's own.
#[derive(Debug)]
pub struct Prepared {
    path: PathAndQuery,
    pieces: message::Pieces,
}

impl Provider for Fcm {
    fn encode(
        &self,
        notification: &Notification,
        route: &Route,
        now: Millis,
    ) -> Result<AnyPrepared, EncodeError> {
        let super::Credential::Fcm(credential) = &route.credential else {
            return Err(EncodeError::Field {
                field: "credential".to_owned(),
                problem: "is not one for FCM",
            });
        };
        let (message, _) = message::encode(notification, now)?;
        Ok(AnyPrepared::Fcm(Prepared {
            path: credential.send_path().clone(),
            pieces: message::Pieces::new(message, notification.options.collapse_id.as_deref())?,
        }))
    }

    fn decode(&self, response: &Response) -> Verdict {
        errors::decode(response)
    }
}

/// Checks what does not depend on the route; `data` and `notification` in bytes.
pub(super) fn validate(notification: &Notification) -> Result<usize, EncodeError> {
    let (message, size) = message::encode(notification, notification.created_at)?;
    message::Pieces::new(message, notification.options.collapse_id.as_deref())?;
    Ok(size)
}

impl Prepared {
    /// The body for one recipient.
    #[must_use]
    pub fn body(&self, device_token: &str, recipient_id: uuid::Uuid) -> Bytes {
        Bytes::from(self.pieces.fill(device_token, recipient_id))
    }

    pub(super) fn stamp(&self, stamp: &Stamp<'_>) -> Request {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = stamp.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers.insert(X_REQUEST_ID, request_id(stamp.recipient_id));
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = absolute(stamp.authority.clone(), self.path.clone());
        *head.headers_mut() = headers;
        Request {
            head,
            body: self.body(stamp.device_token.0, stamp.recipient_id),
        }
    }
}

/// FCM takes no id of ours. This header it ignores, but a proxy or a simulator on the way can tell duplicates by it.
fn request_id(recipient_id: uuid::Uuid) -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = recipient_id.hyphenated().encode_lower(&mut buffer);
    #[expect(
        clippy::expect_used,
        reason = "hexadecimal digits and hyphens are visible ASCII"
    )]
    let mut value = HeaderValue::from_str(text).expect("uuid");
    // Changes with every request: not for HPACK's table.
    value.set_sensitive(true);
    value
}

/// An https URI of parts that are valid by their types.
fn absolute(authority: http::uri::Authority, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    #[expect(
        clippy::expect_used,
        reason = "scheme, authority and path are all there"
    )]
    Uri::from_parts(parts).expect("complete URI")
}

#[cfg(test)]
mod tests;
