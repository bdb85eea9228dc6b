//! The outbox: what backends are to be told, committed with the records it speaks of, until the broker has it.

use async_trait::async_trait;

use super::{Error, JobKey};
use crate::model::Millis;

/// What is to be told of one part of a job's record.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number: later commits have, nearly always, larger ones.
    pub id: i64,
    /// The job.
    pub key: JobKey,
    /// The part's place in the job's log.
    pub seq: u32,
    /// When it was committed.
    pub at: Millis,
    /// As the settlement gave it.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for OutboxRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The body holds device tokens.
        f.debug_struct("OutboxRow")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// The outbox.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes the oldest rows, at most `most` of them and at most `bytes` in all, but at least one where there is one. They
    /// are returned in the order of their numbers, and given to nobody for EVENT_LEASE.
    async fn take_events(
        &self,
        most: u32,
        bytes: u64,
        now: Millis,
    ) -> Result<Vec<OutboxRow>, Error>;

    /// Deletes rows: the broker has them, or nobody wants them any more.
    async fn delete_events(&self, rows: &[OutboxRow]) -> Result<(), Error>;
}
