//! APNs as a protocol: request headers and payload out, Apple's reasons in.
//! It must not know connections, pools or the clock (`now` is passed).

mod certificate;
mod credential;
mod headers;
mod payload;
mod provider_token;
mod reasons;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Version};

use super::{
    BadDeviceToken, EncodeError, Prepared as AnyPrepared, Provider, Route, Stamp, Verdict,
};
use crate::http2::{Request, Response};
use crate::model::{Millis, Notification};

pub use certificate::Certificate;
pub use credential::{Credential, CredentialError};
pub use provider_token::{NotMinted, ProviderTokens};

const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// Room for `apns-id`, `apns-collapse-id` and `authorization` beside the shared headers.
const STAMPED_HEADERS: usize = 3;

/// The protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apns;

/// A notification for APNs: shared headers, payload, and what each recipient adds.
#[derive(Debug)]
pub struct Prepared {
    headers: HeaderMap,
    payload: Bytes,
    /// The recipient's id is the collapse id, so that a duplicate replaces its twin.
    collapses_on_recipient: bool,
}

impl Provider for Apns {
    fn encode(
        &self,
        notification: &Notification,
        route: &Route,
        _now: Millis,
    ) -> Result<AnyPrepared, EncodeError> {
        let payload = payload::encode(notification)?;
        let fixed = headers::encode(notification, app(route))?;
        if !fixed.map.contains_key(headers::APNS_TOPIC) {
            return Err(EncodeError::TopicMissing);
        }
        Ok(AnyPrepared::Apns(Prepared {
            headers: fixed.map,
            payload: Bytes::from(payload),
            collapses_on_recipient: fixed.collapses_on_recipient,
        }))
    }

    fn decode(&self, response: &Response) -> Verdict {
        reasons::decode(response)
    }
}

/// The app that a route's pushes are for: the tenant's, or else the certificate's first.
fn app(route: &Route) -> Option<&str> {
    let of_certificate = || match &route.credential {
        super::Credential::Apns(credential) => credential.certificate()?.topics().first(),
        super::Credential::Fcm(_) => None,
    };
    let bundle_id = route.bundle_id.as_deref();
    bundle_id.or_else(|| of_certificate().map(|topic| &**topic))
}

/// Checks what does not depend on the route; the payload's size in bytes.
pub(super) fn validate(notification: &Notification) -> Result<usize, EncodeError> {
    headers::encode(notification, None)?;
    payload::encode(notification).map(|payload| payload.len())
}

impl Prepared {
    /// The final payload, as every recipient gets it.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(super) fn stamp(&self, stamp: &Stamp<'_>) -> Result<Request, BadDeviceToken> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + STAMPED_HEADERS);
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let id = recipient_header(stamp)?;
        if self.collapses_on_recipient {
            headers.insert(APNS_COLLAPSE_ID, id.clone());
        }
        headers.insert(APNS_ID, id);
        if let Some(authorization) = stamp.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = device_uri(stamp)?;
        *head.headers_mut() = headers;
        Ok(Request {
            head,
            body: self.payload.clone(),
        })
    }
}

/// Changes with every request: marked sensitive, so that HPACK does not index it (4 KiB of table would churn).
fn recipient_header(stamp: &Stamp<'_>) -> Result<HeaderValue, BadDeviceToken> {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = stamp.recipient_id.hyphenated().encode_lower(&mut buffer);
    let mut value = HeaderValue::from_str(text).map_err(|_| BadDeviceToken)?;
    value.set_sensitive(true);
    Ok(value)
}

fn device_uri(stamp: &Stamp<'_>) -> Result<Uri, BadDeviceToken> {
    const DEVICE: &[u8] = b"/3/device/";
    let device_token = stamp.device_token.0.as_bytes();
    if device_token.is_empty() || !device_token.iter().all(u8::is_ascii_hexdigit) {
        return Err(BadDeviceToken);
    }
    let mut path = Vec::with_capacity(DEVICE.len() + device_token.len());
    path.extend_from_slice(DEVICE);
    path.extend_from_slice(device_token);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path)).map_err(|_| BadDeviceToken)?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(stamp.authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| BadDeviceToken)
}

#[cfg(test)]
mod tests;
