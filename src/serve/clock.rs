//! The clock that processes share: this machine's, put right by the store's.
//! It must not know what the time is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use clarion_engine::delivery::Clock;
use clarion_engine::model::Millis;
use clarion_engine::store::Store;
use tokio::sync::watch;

/// How often the difference is measured again.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);

/// The wall clock of this machine, Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the composition root is where the clock is read"
)]
pub(crate) fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// This machine's clock and how far the store's is ahead of it. Claims and due instants of many processes are compared with
/// each other, and no two machines have the same time.
#[derive(Clone, Debug)]
pub(super) struct StoreClock {
    ahead: Arc<AtomicI64>,
    store: Arc<dyn Store>,
}

impl StoreClock {
    /// Measures for the first time.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn start(
        store: &Arc<dyn Store>,
    ) -> Result<Self, clarion_engine::store::Error> {
        let clock = Self {
            ahead: Arc::default(),
            store: Arc::clone(store),
        };
        clock.measure().await?;
        Ok(clock)
    }

    /// The clock for everybody else.
    pub(super) fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.ahead);
        Arc::new(move || now() + ahead.load(Ordering::Relaxed))
    }

    async fn measure(&self) -> Result<(), clarion_engine::store::Error> {
        let before = now();
        let there = self.store.clock().await?;
        let middle = before + (now() - before) / 2;
        self.ahead.store(there - middle, Ordering::Relaxed);
        Ok(())
    }

    /// Measures again and again until `stopped`; while the store does not answer, the last difference holds.
    pub(super) async fn keep(self, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut interval = tokio::time::interval(MEASURE_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                // The sender says one thing only, or is gone.
                _ = stopped.changed() => return Ok(()),
            }
            if let Err(error) = self.measure().await {
                tracing::debug!(%error, "the store's clock cannot be read");
            }
        }
    }
}
