//! What an answer means: for the push, for its connection and for the credential.
//! It must not know how any of the three is carried out.

use crate::model::{Millis, Outcome, Reason};

/// What one answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the push.
    pub outcome: Outcome,
    /// For the connection it came by.
    pub connection: ConnectionEffect,
    /// For the credential it was sent with.
    pub credential: CredentialEffect,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEffect {
    /// It stays in use.
    Keep,
    /// No new streams; those in flight finish.
    Drain,
    /// It is of no use any more: as drain, but it counts as broken.
    Close,
}

/// What becomes of the credential's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialEffect {
    /// The provider accepts it.
    Accepted,
    /// The answer says nothing about it.
    None,
    /// The provider or access token is too old, or revoked: a new one, if that can help.
    Refresh,
    /// The credential itself is refused.
    Refused,
    /// Too many provider tokens were minted: none for a while.
    StopMinting,
}

/// What an operator or a tenant should hear about a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialAlert {
    /// The provider refuses it; it rests.
    Refused {
        /// The provider's word.
        reason: Reason,
    },
    /// Our clock and the provider's disagree; no provider token is minted.
    Clock {
        /// Ours minus theirs, milliseconds.
        offset: Millis,
    },
    /// Apple saw too many provider tokens; the last one is kept.
    MintingStopped,
}

/// The provider's word in an outcome; empty for an accepted one.
pub(super) fn reason_of(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Accepted => Reason::Borrowed(""),
        Outcome::Unregistered { reason, .. }
        | Outcome::Rejected { reason, .. }
        | Outcome::Throttled { reason, .. }
        | Outcome::Unavailable { reason, .. }
        | Outcome::Unauthorized { reason, .. } => reason.clone(),
    }
}
