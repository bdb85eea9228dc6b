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
use crate::model::Lane;
use crate::store::Store;

/// Rows released in one round.
const RELEASE_MAX: u32 = 256;

/// How often the releaser looks without being told, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_000);

/// How long it rests when every due row must wait for released ones to end.
const FULL_INTERVAL: Duration = Duration::from_millis(50);

/// Released and unfinished jobs of each queue. A restart forgets them, which only releases some more.
#[derive(Clone, Debug, Default)]
pub struct Released(Arc<Mutex<HashMap<(TenantId, Lane), u32>>>);

impl Released {
    fn add(&self, tenant: &TenantId, lane: Lane) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((tenant.clone(), lane)).or_insert(0) += 1;
    }

    /// A released job ended.
    pub fn end(&self, tenant: &TenantId, lane: Lane) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&(tenant.clone(), lane)) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&(tenant.clone(), lane));
            }
        }
    }

    fn list(&self) -> Vec<(TenantId, Lane, u32)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|((tenant, lane), count)| (tenant.clone(), *lane, *count))
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
            .due(now, RELEASE_MAX, per_queue, &self.released.list())
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
        let queues: Vec<_> = rows
            .iter()
            .map(|row| (row.tenant.clone(), row.lane))
            .collect();
        for (tenant, lane) in &queues {
            self.released.add(tenant, *lane);
        }
        let messages = rows.into_iter().map(|row| Publish {
            queue: QueueName {
                tenant: row.tenant,
                lane: row.lane,
            },
            body: Bytes::from(row.body),
        });
        let published = self.broker.publish(messages.collect()).await;
        if let Err(error) = published {
            for (tenant, lane) in &queues {
                self.released.end(tenant, *lane);
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
