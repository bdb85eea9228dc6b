//! What came of a push: the provider's answer as a value, the final states, and their counts.

use std::borrow::Cow;

use super::Millis;

/// The provider's own word for what it answered, or ours where there was no answer. Known words are static.
pub type Reason = Cow<'static, str>;

/// What one request to a provider came to. A rejection is a value, never an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it.
    Accepted,
    /// The provider says that the device token is dead.
    Unregistered {
        /// The provider's word.
        reason: Reason,
        /// Since when, where the provider says so (APNs).
        since: Option<Millis>,
    },
    /// The provider refuses this push for good.
    Rejected {
        /// The provider's word.
        reason: Reason,
        /// The device token looks wrong, but the provider did not say that it is dead.
        suspect: bool,
    },
    /// Too many: try later.
    Throttled {
        /// The provider's word.
        reason: Reason,
        /// What is too busy.
        scope: ThrottleScope,
        /// `Retry-After`, milliseconds.
        retry_after: Option<Millis>,
    },
    /// Nobody took it, or nobody knows.
    Unavailable {
        /// The provider's word, or the transport's.
        reason: Reason,
        /// What is known of the provider's side.
        processed: Processed,
        /// `Retry-After` or the transport's hint, milliseconds.
        retry_after: Option<Millis>,
    },
    /// The credential is refused; the push itself is not at fault and waits.
    Unauthorized {
        /// The provider's word.
        reason: Reason,
        /// How long the credential should rest, milliseconds.
        pause: Millis,
    },
}

impl Outcome {
    /// Handed over and never answered: the provider may have taken it.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                processed: Processed::Unknown,
                ..
            }
        )
    }
}

/// What a throttled answer speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleScope {
    /// Only this device token.
    DeviceToken,
    /// The whole credential or project.
    Credential,
}

/// What is known of the provider's side of an unsuccessful request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processed {
    /// It was never handed over, or the peer proved that it did not process it.
    No,
    /// The provider answered that it cannot.
    Answered,
    /// It was handed over and no answer came.
    Unknown,
}

/// The states in which a recipient (or an entry without a device) can end. Each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FinalState {
    /// The provider took it.
    Accepted = 0,
    /// The device token is dead.
    Unregistered = 1,
    /// The provider refused it for good.
    Rejected = 2,
    /// Its time was over before it could be sent.
    Expired = 3,
    /// All attempts were used up.
    Exhausted = 4,
    /// It was cancelled, or its tenant is gone.
    Cancelled = 5,
    /// Its job became a dead row.
    Dead = 6,
    /// The user has no device.
    NoDevice = 7,
    /// At most once: no answer came.
    Unknown = 8,
}

impl FinalState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Unregistered,
        Self::Rejected,
        Self::Expired,
        Self::Exhausted,
        Self::Cancelled,
        Self::Dead,
        Self::NoDevice,
        Self::Unknown,
    ];

    /// The word in the API, in metrics and in the database's columns.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unregistered => "unregistered",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
            Self::NoDevice => "no_device",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a number in a record's block.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// How many ended in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; 9]);

impl Counts {
    /// One more in `state`.
    pub fn add(&mut self, state: FinalState) {
        self.0[state as usize] += 1;
    }

    /// How many ended in `state`.
    #[must_use]
    pub fn get(&self, state: FinalState) -> u64 {
        self.0[state as usize]
    }

    /// All that ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Recipients that ended: all but the entries without a device.
    #[must_use]
    pub fn recipients(&self) -> u64 {
        self.total() - self.get(FinalState::NoDevice)
    }
}
