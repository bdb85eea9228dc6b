//! Google's errors: one table from the wire to what follows.
//! It must not know how retries, pauses or refreshes are carried out.
//!
//! `FcmError.errorCode` counts first, then the HTTP status; never the message text. Only `UNREGISTERED` says that a
//! device token is dead: a wrong project id is a 404 too. Sources: Google, "FCM error codes", "Best practices when
//! sending FCM messages at scale".

use serde_json::Value;

use crate::http2::Response;
use crate::model::{Millis, Outcome, Processed, Reason, ThrottleScope};
use crate::provider::{ConnectionEffect, CredentialEffect, Verdict};

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
/// Google: wait at least this long before any retry.
const RETRY_MIN: Millis = 10 * SECOND;
/// Google: a 429 without Retry-After waits this long.
const QUOTA_WAIT: Millis = MINUTE;
/// With a fresh access token the same push is taken at once.
const SOON: Millis = SECOND;

/// What follows for the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Refused for good.
    Rejected,
    /// Refused for good, and the device token looks wrong.
    Suspect,
    /// The device token is dead.
    Unregistered,
    /// Over a quota.
    Throttled,
    /// Not taken; worth another try after this, or after Retry-After if that is longer.
    Unavailable(Millis),
    /// The credential is refused and rests.
    Unauthorized(Millis),
}

use Class::{Rejected, Suspect, Throttled, Unauthorized, Unavailable, Unregistered};

/// One line: HTTP status, errorCode or status word, class, effect on the credential.
pub(super) type Row = (u16, &'static str, Class, CredentialEffect);

/// Lines that are found by `FcmError.errorCode`, under whatever HTTP status.
pub(super) static BY_CODE: &[Row] = &[
    (400, "INVALID_ARGUMENT", Rejected, CredentialEffect::None),
    (
        401,
        "THIRD_PARTY_AUTH_ERROR",
        Unavailable(15 * MINUTE),
        CredentialEffect::None,
    ),
    (403, "SENDER_ID_MISMATCH", Suspect, CredentialEffect::None),
    (404, "UNREGISTERED", Unregistered, CredentialEffect::None),
    (429, "QUOTA_EXCEEDED", Throttled, CredentialEffect::None),
    (
        500,
        "INTERNAL",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
    (
        503,
        "UNAVAILABLE",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
];

/// Lines that are found by HTTP status, when there is no errorCode; the word is Google's status for it.
pub(super) static BY_STATUS: &[Row] = &[
    (400, "INVALID_ARGUMENT", Rejected, CredentialEffect::None),
    (
        401,
        "UNAUTHENTICATED",
        Unavailable(SOON),
        CredentialEffect::Refresh,
    ),
    (
        403,
        "PERMISSION_DENIED",
        Unauthorized(5 * MINUTE),
        CredentialEffect::Refused,
    ),
    (
        404,
        "NOT_FOUND",
        Unauthorized(5 * MINUTE),
        CredentialEffect::Refused,
    ),
    (429, "RESOURCE_EXHAUSTED", Throttled, CredentialEffect::None),
    (
        500,
        "INTERNAL",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
    (
        502,
        "BAD_GATEWAY",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
    (
        503,
        "UNAVAILABLE",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
    (
        504,
        "GATEWAY_TIMEOUT",
        Unavailable(RETRY_MIN),
        CredentialEffect::None,
    ),
];

/// What an error's body says in its `details`, whose order and presence vary.
struct Details<'a>(&'a [Value]);

impl<'a> Details<'a> {
    fn of(body: &'a Value) -> Self {
        let details = body["error"]["details"].as_array();
        Self(details.map_or(&[], Vec::as_slice))
    }

    fn error_code(&self) -> Option<&'a str> {
        let of_fcm = |detail: &&Value| {
            let kind = detail["@type"].as_str().unwrap_or_default();
            kind.ends_with("google.firebase.fcm.v1.FcmError")
        };
        let code = self.0.iter().find(of_fcm)?["errorCode"].as_str()?;
        (code != "UNSPECIFIED_ERROR").then_some(code)
    }

    fn any(&self, list: &str, member: &str, wanted: fn(&str) -> bool) -> bool {
        let entries = self.0.iter().filter_map(|detail| detail[list].as_array());
        let texts = entries.flatten().filter_map(|entry| entry[member].as_str());
        texts.into_iter().any(wanted)
    }

    fn blames_device_token(&self) -> bool {
        self.any("fieldViolations", "field", |field| {
            matches!(field, "message.token" | "message.fid")
        })
    }

    fn speaks_of_one_device(&self) -> bool {
        self.any("violations", "subject", |subject| {
            subject.starts_with("device")
        })
    }
}

pub(super) fn decode(response: &Response) -> Verdict {
    if response.status == 200 {
        return verdict(Outcome::Accepted, CredentialEffect::Accepted);
    }
    // A front end's HTML, or nothing, is classed by its status alone.
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let details = Details::of(&body);
    let by_code = details
        .error_code()
        .and_then(|code| BY_CODE.iter().find(|row| row.1 == code));
    let by_status = || BY_STATUS.iter().find(|row| row.0 == response.status);
    match by_code.or_else(by_status) {
        Some(row) => verdict(outcome(row, response, &details), row.3),
        None => verdict(unknown(response), CredentialEffect::None),
    }
}

fn verdict(outcome: Outcome, credential: CredentialEffect) -> Verdict {
    Verdict {
        outcome,
        // Authorisation is per request: no answer speaks of the connection.
        connection: ConnectionEffect::Keep,
        credential,
    }
}

fn outcome(row: &Row, response: &Response, details: &Details<'_>) -> Outcome {
    let reason = Reason::Borrowed(row.1);
    let wait = |least: Millis| Some(response.retry_after.unwrap_or(0).max(least));
    match row.2 {
        Rejected => Outcome::Rejected {
            reason,
            suspect: details.blames_device_token(),
        },
        Suspect => Outcome::Rejected {
            reason,
            suspect: true,
        },
        Unregistered => Outcome::Unregistered {
            reason,
            since: None,
        },
        Throttled => Outcome::Throttled {
            reason,
            scope: if details.speaks_of_one_device() {
                ThrottleScope::DeviceToken
            } else {
                ThrottleScope::Credential
            },
            retry_after: wait(QUOTA_WAIT),
        },
        Unavailable(least) => Outcome::Unavailable {
            reason,
            processed: Processed::Answered,
            retry_after: wait(least),
        },
        Unauthorized(pause) => Outcome::Unauthorized { reason, pause },
    }
}

/// Never prunes: what we do not know, we do not act on.
fn unknown(response: &Response) -> Outcome {
    let reason = Reason::Owned(format!("HTTP {}", response.status));
    match response.status {
        400..=499 => Outcome::Rejected {
            reason,
            suspect: false,
        },
        _ => Outcome::Unavailable {
            reason,
            processed: Processed::Answered,
            retry_after: Some(response.retry_after.unwrap_or(0).max(RETRY_MIN)),
        },
    }
}

#[cfg(test)]
mod tests;
