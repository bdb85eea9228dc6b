//! Apple's reasons: one table from the wire to what follows, for device pushes and for broadcasts.
//! It must not know how retries, pauses or refreshes are carried out.
//!
//! Sources: Apple, "Handling notification responses from APNs" and "Handling error responses from APNs" (broadcast).

use std::borrow::Cow;

use serde::Deserialize;

use crate::http2::Response;
use crate::model::{Millis, Outcome, Processed, Reason, ThrottleScope};
use crate::provider::{ConnectionEffect, CredentialEffect, Verdict};

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
/// A push that another connection, or a fresh provider token, would take at once.
const SOON: Millis = SECOND;
/// Apple forbids a new provider token for this long.
const MINTING_REST: Millis = 20 * MINUTE;
/// Longest reason that is kept of an unknown one, bytes.
const REASON_MAX: usize = 64;

/// What follows for the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Refused for good.
    Rejected,
    /// Refused for good, and the device token looks wrong.
    Suspect,
    /// The device token is dead.
    Unregistered,
    /// Too many for this device token.
    ThrottledDevice(Millis),
    /// Too many for this credential.
    ThrottledCredential(Millis),
    /// Not taken; the hint is when it is worth another try, unless the retry schedule knows better.
    Unavailable(Option<Millis>),
    /// The credential is refused and rests.
    Unauthorized(Millis),
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) class: Class,
    pub(super) connection: ConnectionEffect,
    pub(super) credential: CredentialEffect,
}

const fn row(status: u16, reason: &'static str, class: Class) -> Row {
    Row {
        status,
        reason,
        class,
        connection: ConnectionEffect::Keep,
        credential: CredentialEffect::None,
    }
}

impl Row {
    const fn drain(mut self) -> Self {
        self.connection = ConnectionEffect::Drain;
        self
    }

    const fn close(mut self) -> Self {
        self.connection = ConnectionEffect::Close;
        self
    }

    const fn credential(mut self, effect: CredentialEffect) -> Self {
        self.credential = effect;
        self
    }
}

use Class::{
    Rejected, Suspect, ThrottledCredential, ThrottledDevice, Unauthorized, Unavailable,
    Unregistered,
};

/// Every documented reason.
pub(super) static TABLE: &[Row] = &[
    row(400, "BadCollapseId", Rejected),
    row(400, "BadDeviceToken", Suspect),
    row(400, "BadExpirationDate", Rejected),
    row(400, "BadMessageId", Rejected),
    row(400, "BadPriority", Rejected),
    row(400, "BadTopic", Rejected),
    row(400, "DeviceTokenNotForTopic", Suspect),
    row(400, "DuplicateHeaders", Rejected),
    row(400, "IdleTimeout", Unavailable(Some(SOON))).close(),
    row(400, "InvalidPushType", Rejected),
    row(400, "MissingDeviceToken", Rejected),
    row(400, "MissingTopic", Rejected),
    row(400, "PayloadEmpty", Rejected),
    // A newly added topic needs a new connection: the caller forgets the route when topics change.
    row(400, "TopicDisallowed", Rejected),
    row(403, "BadCertificate", Unauthorized(5 * MINUTE))
        .close()
        .credential(CredentialEffect::Refused),
    row(403, "BadCertificateEnvironment", Unauthorized(5 * MINUTE))
        .close()
        .credential(CredentialEffect::Refused),
    // The connection is wedged afterwards: only closing it helps.
    row(403, "ExpiredProviderToken", Unavailable(Some(SOON)))
        .close()
        .credential(CredentialEffect::Refresh),
    row(403, "Forbidden", Rejected),
    row(403, "InvalidProviderToken", Unauthorized(MINUTE))
        .close()
        .credential(CredentialEffect::Refused),
    row(403, "MissingProviderToken", Rejected),
    row(403, "UnrelatedKeyIdInToken", Unavailable(Some(SOON))).drain(),
    row(403, "BadEnvironmentKeyIdInToken", Unauthorized(5 * MINUTE))
        .close()
        .credential(CredentialEffect::Refused),
    // The same by field reports.
    row(403, "BadEnvironmentKeyInToken", Unauthorized(5 * MINUTE))
        .close()
        .credential(CredentialEffect::Refused),
    row(404, "BadPath", Rejected),
    row(405, "MethodNotAllowed", Rejected),
    row(410, "ExpiredToken", Unregistered),
    row(410, "Unregistered", Unregistered),
    row(413, "PayloadTooLarge", Rejected),
    row(
        429,
        "TooManyProviderTokenUpdates",
        ThrottledCredential(MINTING_REST),
    )
    .close()
    .credential(CredentialEffect::StopMinting),
    row(429, "TooManyRequests", ThrottledDevice(MINUTE)),
    row(500, "InternalServerError", Unavailable(None)),
    row(503, "ServiceUnavailable", Unavailable(None)).drain(),
    // This one server stops; another takes the push.
    row(503, "Shutdown", Unavailable(Some(SOON))).drain(),
    // Broadcast and channel API.
    row(400, "FeatureNotEnabled", Rejected),
    row(400, "MissingChannelId", Rejected),
    row(400, "BadChannelId", Rejected),
    row(400, "ChannelNotRegistered", Rejected),
    row(400, "BadRequestParams", Rejected),
    row(400, "BadRequestPayload", Rejected),
    row(400, "MissingPushType", Rejected),
    row(400, "CannotCreateChannelConfig", Rejected),
    row(400, "MissingChannelQueueSize", Rejected),
    row(403, "TopicMismatch", Rejected),
    row(503, "Service", Unavailable(None)),
];

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(default)]
    timestamp: Option<Millis>,
}

pub(super) fn decode(response: &Response) -> Verdict {
    if response.status == 200 {
        return Verdict {
            outcome: Outcome::Accepted,
            connection: ConnectionEffect::Keep,
            credential: CredentialEffect::Accepted,
        };
    }
    let body = serde_json::from_slice::<Body<'_>>(&response.body).ok();
    let said = body.as_ref().map(|body| &*body.reason);
    let timestamp = body.as_ref().and_then(|body| body.timestamp);
    match said.and_then(|reason| find(response.status, reason)) {
        Some(row) => Verdict {
            outcome: outcome(row, response.retry_after, timestamp),
            connection: row.connection,
            credential: row.credential,
        },
        None => Verdict {
            outcome: unknown(response, said),
            connection: ConnectionEffect::Keep,
            credential: CredentialEffect::None,
        },
    }
}

/// A reason under another status than documented is still that reason, except for "dead", which prunes: that takes
/// exactly Apple's word.
fn find(status: u16, reason: &str) -> Option<&'static Row> {
    let named = |row: &&Row| row.reason == reason;
    let exact = TABLE.iter().find(|row| named(row) && row.status == status);
    exact.or_else(|| {
        let loose = TABLE.iter().find(named)?;
        let same_family = loose.status / 100 == status / 100;
        (same_family && loose.class != Unregistered).then_some(loose)
    })
}

fn outcome(row: &Row, retry_after: Option<Millis>, timestamp: Option<Millis>) -> Outcome {
    let reason = Reason::Borrowed(row.reason);
    match row.class {
        Rejected => Outcome::Rejected {
            reason,
            suspect: false,
        },
        Suspect => Outcome::Rejected {
            reason,
            suspect: true,
        },
        Unregistered => Outcome::Unregistered {
            reason,
            since: timestamp,
        },
        ThrottledDevice(wait) => Outcome::Throttled {
            reason,
            scope: ThrottleScope::DeviceToken,
            retry_after: Some(retry_after.unwrap_or(wait)),
        },
        ThrottledCredential(wait) => Outcome::Throttled {
            reason,
            scope: ThrottleScope::Credential,
            retry_after: Some(retry_after.unwrap_or(0).max(wait)),
        },
        Unavailable(hint) => Outcome::Unavailable {
            reason,
            processed: Processed::Answered,
            retry_after: retry_after.or(hint),
        },
        Unauthorized(pause) => Outcome::Unauthorized { reason, pause },
    }
}

/// Never prunes: what we do not know, we do not act on.
fn unknown(response: &Response, said: Option<&str>) -> Outcome {
    let reason = match said {
        Some(said) => Reason::Owned(printable(said)),
        None => Reason::Owned(format!("HTTP {}", response.status)),
    };
    match response.status {
        429 => Outcome::Throttled {
            reason,
            scope: ThrottleScope::Credential,
            retry_after: Some(response.retry_after.unwrap_or(MINUTE)),
        },
        400..=499 => Outcome::Rejected {
            reason,
            suspect: false,
        },
        _ => Outcome::Unavailable {
            reason,
            processed: Processed::Answered,
            retry_after: response.retry_after,
        },
    }
}

fn printable(said: &str) -> String {
    let visible = |c: &char| c.is_ascii_graphic() || *c == ' ';
    said.chars().filter(visible).take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests;
