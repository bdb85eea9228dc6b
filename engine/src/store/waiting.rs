//! What waits: retries, what was set aside by a limit, a pause or a breaker, and schedules.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{JobId, Lane, Millis, NotificationId};

/// Why a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitingWhy {
    /// A retry.
    Retry,
    /// The tenant's rate.
    Limited,
    /// A pause.
    Paused,
    /// A send time in the future.
    Scheduled,
    /// A breaker or a refused credential.
    Breaker,
    /// What one resolve could not hold, or an operator's replay: due at once.
    Continued,
}

impl WaitingWhy {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Retry,
        Self::Limited,
        Self::Paused,
        Self::Scheduled,
        Self::Breaker,
        Self::Continued,
    ];

    /// The word in the database and on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Limited => "limited",
            Self::Paused => "paused",
            Self::Scheduled => "scheduled",
            Self::Breaker => "breaker",
            Self::Continued => "continued",
        }
    }
}

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Of which notification.
    pub notification: NotificationId,
    /// The job's own id; the row's key.
    pub job: JobId,
    /// Its lane.
    pub lane: Lane,
    /// When it may be released.
    pub due: Millis,
    /// Why it waits.
    pub why: WaitingWhy,
    /// How many recipients (or unresolved entries) it has.
    pub recipients: u32,
    /// The encoded envelope with this one job.
    pub body: Vec<u8>,
}

/// Waiting rows.
#[async_trait]
pub trait Waiting: Send + Sync {
    /// Rows due at `now`, tenants in turn, at most `max` in all and at most `per_queue` of one tenant and lane minus what
    /// `released` says is released and unfinished there. Where processes share the store, rows handed to one are handed to no
    /// other for RESERVATION_TTL; to the same one they are, should its publish have failed.
    async fn due(
        &self,
        now: Millis,
        max: u32,
        per_queue: u32,
        released: &[(TenantId, Lane, u32)],
    ) -> Result<Vec<WaitingRow>, Error>;

    /// Deletes released rows after their publish was confirmed.
    async fn delete_released(&self, rows: &[(TenantId, JobId)]) -> Result<(), Error>;

    /// When the next row is due, if any.
    async fn next_due(&self) -> Result<Option<Millis>, Error>;
}
