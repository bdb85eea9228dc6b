//! Providers are protocols, not clients: what to write and what an answer means, as pure functions.
//! It must not know connections, queues, stores or the clock (`now` is passed).
//!
//! A notification is encoded once per job and platform into [`Prepared`]; each recipient is then only stamped in.

pub mod apns;
pub mod fcm;
mod merge;
mod refusals;
mod route;
mod stored;
#[cfg(test)]
mod test_keys;
mod verdict;

use http::HeaderValue;
use http::uri::Authority;
use uuid::Uuid;

use crate::http2::{Request, Response};
use crate::model::{Millis, Notification, Platform};

pub use route::{Credential, Route, RouteKey};
pub use stored::{CredentialError, StoredCredential};
pub use verdict::{ConnectionEffect, CredentialAlert, CredentialEffect, Verdict};

/// A provider's protocol: two pure functions.
pub trait Provider {
    /// Everything of a notification that its recipients share. `now` enters only where a provider counts from now.
    ///
    /// # Errors
    /// When the provider would refuse it for every recipient.
    fn encode(
        &self,
        notification: &Notification,
        route: &Route,
        now: Millis,
    ) -> Result<Prepared, EncodeError>;

    /// What an answer means.
    fn decode(&self, response: &Response) -> Verdict;
}

/// An encoded notification, without its recipients.
#[derive(Debug)]
pub enum Prepared {
    /// For APNs.
    Apns(apns::Prepared),
    /// For FCM.
    Fcm(fcm::Prepared),
}

/// What is particular to one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// `:authority` of the connection.
    pub authority: &'a Authority,
    /// [`crate::model::recipient_id`].
    pub recipient_id: Uuid,
    /// Where it goes. Never logged.
    pub device_token: DeviceTokenRef<'a>,
    /// The current authorization; none with a client certificate.
    pub authorization: Option<&'a HeaderValue>,
}

/// A borrowed device token that no `Debug` output shows.
#[derive(Clone, Copy)]
pub struct DeviceTokenRef<'a>(pub &'a str);

impl std::fmt::Debug for DeviceTokenRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceTokenRef(..)")
    }
}

/// The device token cannot stand in a request: it is not one that the provider ever issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device token has characters that no device token has")]
pub struct BadDeviceToken;

impl Prepared {
    /// The request for one recipient.
    ///
    /// # Errors
    /// When the device token cannot be written into a request.
    pub fn stamp(&self, stamp: &Stamp<'_>) -> Result<Request, BadDeviceToken> {
        match self {
            Self::Apns(prepared) => prepared.stamp(stamp),
            Self::Fcm(prepared) => Ok(prepared.stamp(stamp)),
        }
    }
}

/// Why a notification cannot be said to a provider. Every recipient would be refused, so it is refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The final payload is over the provider's limit.
    #[error(
        "the {provider} payload has {bytes} bytes, the limit is {limit}: shorten the text or the data"
    )]
    PayloadTooLarge {
        /// `APNs` or `FCM`.
        provider: &'static str,
        /// Its size.
        bytes: usize,
        /// The provider's limit.
        limit: usize,
    },
    /// A key that belongs to the provider or to us.
    #[error("`{key}` is reserved in `{place}`: use another key")]
    ReservedKey {
        /// Where.
        place: &'static str,
        /// The key.
        key: String,
    },
    /// A header that is not the caller's, or has a value that no header can have.
    #[error("the header `{name}` {problem}")]
    Header {
        /// Which.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A field with a value that the provider refuses.
    #[error("`{field}` {problem}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Neither the options nor the tenant say for which app the push is.
    #[error("no topic: give the tenant a bundle id, or `options.topic`")]
    TopicMissing,
}

impl EncodeError {
    /// A word for failure rows.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PayloadTooLarge { .. } => "PayloadTooLarge",
            Self::ReservedKey { .. } => "ReservedKey",
            Self::Header { .. } => "BadHeader",
            Self::Field { .. } => "BadField",
            Self::TopicMissing => "MissingTopic",
        }
    }
}

/// Bytes of a notification as each provider counts them; `None` for platforms that were not asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The APNs payload.
    pub apns: Option<usize>,
    /// FCM's `data` and `notification`, keys and values.
    pub fcm: Option<usize>,
}

/// Checks before acceptance that a notification can be said on these platforms. Credentials and topics are not
/// looked at: they may change until it is sent.
///
/// # Errors
/// What would refuse every recipient; [`EncodeError::PayloadTooLarge`] is a 413, all others are a 422.
pub fn validate(notification: &Notification, platforms: &[Platform]) -> Result<Sizes, EncodeError> {
    let mut sizes = Sizes::default();
    if platforms.iter().any(|platform| platform.is_apple()) {
        sizes.apns = Some(apns::validate(notification)?);
    }
    if platforms.iter().any(|platform| !platform.is_apple()) {
        sizes.fcm = Some(fcm::validate(notification)?);
    }
    Ok(sizes)
}

/// Encodes for whatever provider the route leads to.
///
/// # Errors
/// See [`Provider::encode`].
pub fn encode(
    notification: &Notification,
    route: &Route,
    now: Millis,
) -> Result<Prepared, EncodeError> {
    match route.credential {
        Credential::Apns(_) => apns::Apns.encode(notification, route, now),
        Credential::Fcm(_) => fcm::Fcm.encode(notification, route, now),
    }
}
