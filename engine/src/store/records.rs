//! Job records: the append-only, fenced log of what came of each job. See the job protocol, section 2.

use async_trait::async_trait;
use clarion_auth::TenantId;
use uuid::Uuid;

use super::waiting::WaitingRow;
use super::{Error, NewDead};
use crate::model::{
    Counts, DeviceId, FinalState, JobId, JobKind, Lane, Millis, NotificationId, Platform,
};

/// The key of a job's record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The notification.
    pub notification: NotificationId,
    /// The job.
    pub job: JobId,
}

/// Who writes: a process, and its generation (raised whenever it drops all its leases).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    /// Drawn at the process's start.
    pub process: Uuid,
    /// Counts up.
    pub generation: u32,
}

/// A wish to send what is left of a job that may have been handed out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The job.
    pub key: JobKey,
    /// Digest of its recipients; stored with the first claim or part and compared afterwards.
    pub digest: [u8; 32],
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The claim is written: send what is not in `settled`.
    Granted {
        /// The next place in the log.
        next_seq: u32,
        /// (ordinal, device) of every recipient and entry that has its final state.
        settled: Vec<(u32, DeviceId)>,
        /// Claims since the log last grew by an outcome, this one included.
        claims_without_progress: u32,
    },
    /// Somebody else's claim or part is younger than CLAIM_TTL: look again.
    Held,
    /// The job has its end: ack.
    Ended,
    /// The same id with another digest: a foreign or corrupt message.
    IdReused,
}

/// A part of a job's log: outcomes, and the end if the job closes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Place in the log: one after the last this writer read or wrote.
    pub seq: u32,
    /// What ended since the last part.
    pub counts: Counts,
    /// (ordinal, device, state) of everything that ended since the last part.
    pub block: Vec<(u32, DeviceId, FinalState)>,
    /// Whether the job closes.
    pub end: bool,
}

/// A failed recipient, to become a row of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// The entry.
    pub ordinal: u32,
    /// The device, or 0.
    pub device: DeviceId,
    /// The platform, where a device was met.
    pub platform: Option<Platform>,
    /// The user, where the entry named one.
    pub user_id: Option<Box<str>>,
    /// The device token, where one was met.
    pub device_token: Option<Box<str>>,
    /// How it ended.
    pub state: FinalState,
    /// The provider's word, or ours.
    pub reason: String,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failure")
            .field("ordinal", &self.ordinal)
            .field("state", &self.state)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// A device that the provider called dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The device.
    pub device: DeviceId,
    /// Its platform.
    pub platform: Platform,
    /// Pruned only if it has not registered after this instant.
    pub dead_since: Millis,
    /// The provider's word.
    pub reason: String,
    /// The brake is on: keep it as a candidate instead.
    pub frozen: bool,
}

/// All that follows a send, for one job, in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The job.
    pub key: JobKey,
    /// Its kind.
    pub kind: JobKind,
    /// The page whose first job it is.
    pub page: Option<u32>,
    /// The lane, for a notification that has no row yet.
    pub lane: Lane,
    /// When the notification was accepted and when it expires, for a notification that has no row yet.
    pub created_at: Millis,
    /// See `created_at`.
    pub expires_at: Millis,
    /// Entries of the job, for a notification that has no row yet.
    pub entries: u32,
    /// Digest of the job's recipients.
    pub digest: [u8; 32],
    /// Recipients this job resolved to; added to the notification's when the job ends (0 for children of resolved jobs).
    pub resolved: u32,
    /// What is appended to the log.
    pub part: Part,
    /// Failed recipients.
    pub failures: Vec<Failure>,
    /// Dead devices.
    pub prunes: Vec<Prune>,
    /// Devices whose device token looks wrong.
    pub suspects: Vec<DeviceId>,
    /// Devices whose `last_accepted_at` is a day old or absent.
    pub accepted: Vec<DeviceId>,
    /// What is left of the job; only with an end.
    pub waiting: Vec<WaitingRow>,
    /// The job becomes a dead row; only with an end.
    pub dead: Option<NewDead>,
    /// What backends are told of this part, as the outbox keeps it.
    pub event: Option<Vec<u8>>,
}

/// Whether a settlement was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It was (now, or by this writer's earlier attempt whose answer was lost).
    Taken,
    /// Somebody else wrote in its place: nothing of it was written.
    Fenced,
}

/// Job records.
#[async_trait]
pub trait Records: Send + Sync {
    /// Appends claims and reads the logs, all in one transaction; one answer per request, in order. A claim older than
    /// CLAIM_TTL (counted from its writer's last part, on the store's clock), or of a process that the data-directory lock
    /// proves dead, does not hold. A request by the writer that holds the claim already is granted again.
    async fn claim(
        &self,
        writer: Writer,
        requests: &[ClaimRequest],
        now: Millis,
    ) -> Result<Vec<ClaimAnswer>, Error>;

    /// Commits many settlements in one transaction; one answer per settlement, in order. For each that is taken: the part is
    /// appended, the notification's counts, pages and open jobs follow (a notification without a row gets one), failures,
    /// prunes, suspects, waiting rows and the event are written. A fenced one leaves no trace.
    ///
    /// # Errors
    /// [`Error::Data`] when one of the group cannot be written: commit one by one to find it. Nothing is written then.
    async fn commit(
        &self,
        writer: Writer,
        settlements: &[Settlement],
        now: Millis,
    ) -> Result<Vec<CommitAnswer>, Error>;
}
