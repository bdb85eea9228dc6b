//! Outcome events: what of a record's part backends are told, how the outbox keeps it, and the event it becomes.
//! Pure. It must not know how events are committed or published.

use minicbor::{Decode, Encode};

use crate::contract::{OutcomeEvent, RecipientOutcome};
use crate::intake::request::VERSION;
use crate::model::FinalState;
use crate::store::{Failure, OutboxRow, Part};

/// Of which recipients backends are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// Of none: nothing is written for them.
    #[default]
    Off,
    /// Of those that were not accepted.
    Failures,
    /// Of all.
    All,
}

/// Why a row of the outbox is no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The row was damaged, or written by a newer Clarion.
    #[error("the row cannot be read: was it written by a newer clarion?")]
    Unreadable(#[source] minicbor::decode::Error),
    /// The row holds a state or an instant that this build does not know.
    #[error("the row holds a value that this build does not know")]
    Unknown,
    /// The event cannot be written as JSON.
    #[error("the event cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// What the outbox keeps of a part: those of whom there is nothing but the state take few bytes.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Kept<'a> {
    #[n(0)]
    accepted: Vec<u32>,
    #[n(1)]
    cancelled: Vec<u32>,
    #[b(2)]
    failed: Vec<KeptFailure<'a>>,
}

/// A recipient that failed.
#[derive(Debug, Encode, Decode)]
struct KeptFailure<'a> {
    #[n(0)]
    ordinal: u32,
    #[n(1)]
    state: u8,
    #[b(2)]
    reason: Option<&'a str>,
    #[b(3)]
    user_id: Option<&'a str>,
    #[b(4)]
    platform: Option<&'a str>,
    #[b(5)]
    device_token: Option<&'a str>,
}

/// What the outbox is to keep of a part; `None` when there is nothing to tell. `failures` are those of this part, or none
/// where they could not be written: then the part alone speaks.
#[must_use]
pub fn keep(events: Events, part: &Part, failures: &[Failure]) -> Option<Vec<u8>> {
    if events == Events::Off {
        return None;
    }
    let ordinals = |wanted: FinalState| -> Vec<u32> {
        let ended = part.block.iter().filter(|(_, _, state)| *state == wanted);
        ended.map(|(ordinal, _, _)| *ordinal).collect()
    };
    let kept = Kept {
        accepted: match events {
            Events::All => ordinals(FinalState::Accepted),
            Events::Off | Events::Failures => Vec::new(),
        },
        cancelled: ordinals(FinalState::Cancelled),
        failed: match failures {
            [] => nameless(part),
            _ => failures.iter().map(KeptFailure::of).collect(),
        },
    };
    if kept.accepted.is_empty() && kept.cancelled.is_empty() && kept.failed.is_empty() {
        return None;
    }
    // Into memory, numbers and text: there is nothing that could fail.
    minicbor::to_vec(kept).ok()
}

/// Failures of which only the part is left.
fn nameless(part: &Part) -> Vec<KeptFailure<'static>> {
    let failed = part
        .block
        .iter()
        .filter(|(_, _, state)| !matches!(state, FinalState::Accepted | FinalState::Cancelled));
    let kept = failed.map(|(ordinal, _, state)| KeptFailure {
        ordinal: *ordinal,
        state: *state as u8,
        reason: None,
        user_id: None,
        platform: None,
        device_token: None,
    });
    kept.collect()
}

impl<'a> KeptFailure<'a> {
    fn of(failure: &'a Failure) -> Self {
        Self {
            ordinal: failure.ordinal,
            state: failure.state as u8,
            reason: Some(&failure.reason),
            user_id: failure.user_id.as_deref(),
            platform: failure.platform.map(|platform| platform.as_str()),
            device_token: failure.device_token.as_deref(),
        }
    }

    fn told(&self) -> Option<RecipientOutcome> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(RecipientOutcome {
            user_id: owned(self.user_id),
            platform: owned(self.platform),
            device_token: owned(self.device_token),
            reason: owned(self.reason),
            ..told(self.ordinal, FinalState::from_number(self.state)?)
        })
    }
}

fn told(ordinal: u32, state: FinalState) -> RecipientOutcome {
    RecipientOutcome {
        ordinal,
        state: state.as_str().to_owned(),
        user_id: None,
        platform: None,
        device_token: None,
        reason: None,
    }
}

/// The id of what is told of a part: the receipt's. The same part has the same id, however often it is told.
#[must_use]
pub fn id(row: &OutboxRow) -> String {
    format!("{}.{}", row.key.job, row.seq)
}

/// The event that a row becomes.
///
/// # Errors
/// [`EventError`] when the row cannot be read.
pub fn event(row: &OutboxRow) -> Result<OutcomeEvent, EventError> {
    let kept: Kept<'_> = minicbor::decode(&row.body).map_err(EventError::Unreadable)?;
    let alike = |ordinals: &[u32], state| -> Vec<RecipientOutcome> {
        let ordinals = ordinals.iter();
        ordinals.map(|ordinal| told(*ordinal, state)).collect()
    };
    let failed: Option<Vec<_>> = kept.failed.iter().map(KeptFailure::told).collect();
    let mut recipients = failed.ok_or(EventError::Unknown)?;
    recipients.extend(alike(&kept.accepted, FinalState::Accepted));
    recipients.extend(alike(&kept.cancelled, FinalState::Cancelled));
    recipients.sort_by_key(|recipient| recipient.ordinal);
    let at = jiff::Timestamp::from_millisecond(row.at).map_err(|_| EventError::Unknown)?;
    Ok(OutcomeEvent {
        v: VERSION,
        id: id(row),
        tenant: row.key.tenant.to_string(),
        notification_id: row.key.notification.to_string(),
        job_id: row.key.job.to_string(),
        at: at.to_string(),
        recipients,
    })
}

/// The event's payload.
///
/// # Errors
/// [`EventError`] when the row cannot be read.
pub fn payload(row: &OutboxRow) -> Result<Vec<u8>, EventError> {
    serde_json::to_vec(&event(row)?).map_err(EventError::Unwritable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
