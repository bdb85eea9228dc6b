//! The sweeper: what is older than its retention is deleted, in small batches.
//! It must not know what the rows mean.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Clock;
use crate::model::Millis;
use crate::store::{Store, SweepHorizon};

/// Rows of each table deleted at once.
const BATCH: u32 = 500;

/// Rest between two sweeps, and after each batch of one.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
const BATCH_REST: Duration = Duration::from_millis(50);

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Receipts and finished notifications.
    pub receipts: Duration,
    /// Payloads and audiences of finished notifications.
    pub payloads: Duration,
    /// Dead rows.
    pub dead: Duration,
    /// Idempotency keys.
    pub idempotency: Duration,
    /// The audit log, and counts of what API keys were used for.
    pub audit: Duration,
    /// Daily counts of tenants.
    pub analytics: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        Self {
            receipts: hours(7 * 24),
            payloads: hours(72),
            dead: hours(14 * 24),
            idempotency: hours(24),
            audit: hours(365 * 24),
            analytics: hours(100 * 24),
        }
    }
}

/// What a sweeper works with.
pub(super) struct Sweeper {
    pub(super) store: Arc<dyn Store>,
    pub(super) retention: Retention,
    pub(super) clock: Clock,
}

impl Sweeper {
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let rest = match self.store.sweep(&self.horizon(), BATCH).await {
                Ok(0) => SWEEP_INTERVAL,
                Ok(_) => BATCH_REST,
                Err(error) => {
                    tracing::warn!(%error, "old rows could not be deleted");
                    SWEEP_INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = stop.changed() => {}
            }
        }
    }

    fn horizon(&self) -> SweepHorizon {
        let now = (self.clock)();
        let before =
            |kept: Duration| now - Millis::try_from(kept.as_millis()).unwrap_or(Millis::MAX / 2);
        let Retention {
            receipts,
            payloads,
            dead,
            idempotency,
            audit,
            analytics,
        } = self.retention;
        SweepHorizon {
            receipts: before(receipts),
            payloads: before(payloads),
            dead: before(dead),
            idempotency: before(idempotency),
            audit: before(audit),
            expired: now,
            analytics: before(analytics),
        }
    }
}
