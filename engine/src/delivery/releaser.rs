//! The releaser: waiting rows that are due become jobs in the broker again.
//! It must not know why a row waited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clarion_auth::TenantId;
use tokio::sync::{Notify, watch};

use crate::broker::{Broker, Publish, QueueName};
use crate::delivery::Clock;
use crate::limits::RELEASE_AHEAD;
use crate::model::{JobId, Lane, Millis};
use crate::store::{Store, WaitingRow};

/// Rows released in one round.
const RELEASE_MAX: u32 = 256;

/// How often the releaser looks without being told, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_000);

/// How long it rests when every due row must wait for released ones to end.
const FULL_INTERVAL: Duration = Duration::from_millis(50);

/// A released job of which nothing was heard for this long no longer counts: it ended elsewhere, or was ended before, and
/// only this process's count does not know.
const FORGET_AFTER: Millis = 30_000;

/// The jobs of each queue with the instants of their releases.
type Queues = HashMap<(TenantId, Lane), HashMap<JobId, Millis>>;

/// Released jobs of each queue that are not known to have ended, with the instant of their release. By id, because a row is
/// released again when its deletion failed. A restart forgets them, which only releases some more.
#[derive(Clone, Debug, Default)]
pub struct Released(Arc<Mutex<Queues>>);

impl Released {
    /// A row is released at `now`.
    pub fn add(&self, row: &WaitingRow, now: Millis) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry((row.tenant.clone(), row.lane)).or_default();
        queue.insert(row.job, now);
    }

    /// A released job ended, or was not released after all.
    pub fn end(&self, tenant: &TenantId, lane: Lane, job: JobId) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), lane);
        if let Some(jobs) = queues.get_mut(&key) {
            jobs.remove(&job);
            if jobs.is_empty() {
                queues.remove(&key);
            }
        }
    }

    /// How many of each queue are unfinished at `now`.
    #[must_use]
    pub fn list(&self, now: Millis) -> Vec<(TenantId, Lane, u32)> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, jobs| {
            jobs.retain(|_, released| now.saturating_sub(*released) < FORGET_AFTER);
            !jobs.is_empty()
        });
        let count = |jobs: &HashMap<JobId, Millis>| u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        queues
            .iter()
            .map(|((tenant, lane), jobs)| (tenant.clone(), *lane, count(jobs)))
            .collect()
    }
}

/// What a releaser works with.
#[derive(Clone)]
pub struct Releaser {
    /// Where rows wait.
    pub store: Arc<dyn Store>,
    /// Where jobs go.
    pub broker: Arc<dyn Broker>,
    /// Told when rows were written or released jobs ended.
    pub wake: Arc<Notify>,
    /// Counts what is out.
    pub released: Released,
    /// Reads the time.
    pub clock: Clock,
}

impl std::fmt::Debug for Releaser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Releaser")
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

impl Releaser {
    /// Releases until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let rest = match self.release().await {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::warn!(%error, "waiting jobs could not be released; they are tried again");
                    LOOK_INTERVAL
                }
            };
            if rest.is_zero() {
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One round: read what is due, publish it, delete it after the confirm. A crash between the two makes a copy that finds its
    /// job's record. Returns how long to rest.
    async fn release(&self) -> Result<Duration, ReleaseError> {
        let now = (self.clock)();
        let per_queue = u32::try_from(RELEASE_AHEAD).unwrap_or(u32::MAX);
        let rows = self
            .store
            .due(now, RELEASE_MAX, per_queue, &self.released.list(now))
            .await?;
        if rows.is_empty() {
            let next = self.store.next_due().await?;
            let rest = match next {
                Some(due) if due <= now => FULL_INTERVAL,
                Some(due) => Duration::from_millis(u64::try_from(due - now).unwrap_or_default()),
                None => LOOK_INTERVAL,
            };
            return Ok(rest.clamp(Duration::from_millis(1), LOOK_INTERVAL));
        }
        let keys: Vec<_> = rows
            .iter()
            .map(|row| (row.tenant.clone(), row.job))
            .collect();
        for row in &rows {
            self.released.add(row, now);
        }
        let queues: Vec<_> = rows
            .iter()
            .map(|row| (row.tenant.clone(), row.lane, row.job))
            .collect();
        let messages = rows.into_iter().map(|row| Publish {
            queue: QueueName {
                tenant: row.tenant,
                lane: row.lane,
            },
            body: Bytes::from(row.body),
        });
        let published = self.broker.publish(messages.collect()).await;
        if let Err(error) = published {
            for (tenant, lane, job) in &queues {
                self.released.end(tenant, *lane, *job);
            }
            return Err(error.into());
        }
        self.store.delete_released(&keys).await?;
        Ok(Duration::ZERO)
    }
}

#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Broker(#[from] crate::broker::Error),
}
