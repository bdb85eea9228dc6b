//! The feeder: pages of a bulk become jobs in the broker, only as many as the engine will soon send.
//! It must not know what is in a page beyond its entries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::broker::{Broker, Publish, QueueName};
use crate::delivery::Clock;
use crate::limits::{FED_PAGE_TTL, RESERVATION_TTL, pages_ahead};
use crate::model::{Envelope, Job, Millis};
use crate::store::{ReservedPage, StalePages, Store};

/// Pages reserved in one transaction and published together. Few, because a single push that comes meanwhile waits until they are
/// written.
const RESERVE_MAX: u32 = 8;

/// How often the feeder looks without being told.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a feeder works with.
#[derive(Clone)]
pub struct Feeder {
    /// Where pages are.
    pub store: Arc<dyn Store>,
    /// Where jobs go.
    pub broker: Arc<dyn Broker>,
    /// Told when a bulk was accepted or a page ended.
    pub wake: Arc<Notify>,
    /// Bounds the pages on their way.
    pub unrecorded_max: usize,
    /// Reads the time.
    pub clock: Clock,
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder")
            .field("unrecorded_max", &self.unrecorded_max)
            .finish_non_exhaustive()
    }
}

impl Feeder {
    /// Feeds until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let fed = match self.feed().await {
                Ok(pages) => pages,
                Err(error) => {
                    tracing::warn!(%error, "pages could not be fed; they are tried again");
                    0
                }
            };
            if fed > 0 {
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One round: reserve, publish, mark. Each step may be repeated, because a page's job id is derived. Returns the number of
    /// pages fed.
    async fn feed(&self) -> Result<usize, FeedError> {
        let now = (self.clock)();
        let ahead = u32::try_from(pages_ahead(self.unrecorded_max)).unwrap_or(u32::MAX);
        let stale = StalePages {
            reserved_before: now - RESERVATION_TTL.as_millis() as Millis,
            fed_before: now - FED_PAGE_TTL.as_millis() as Millis,
        };
        let pages = self
            .store
            .reserve_pages(ahead, RESERVE_MAX, stale, now)
            .await?;
        if pages.is_empty() {
            return Ok(0);
        }
        let marks: Vec<_> = pages
            .iter()
            .map(|page| {
                (
                    page.notification.tenant.clone(),
                    page.notification.id,
                    page.page,
                )
            })
            .collect();
        let messages = pages
            .into_iter()
            .map(message)
            .collect::<Result<Vec<_>, _>>()?;
        self.broker.publish(messages).await?;
        self.store.mark_fed(&marks, (self.clock)()).await?;
        Ok(marks.len())
    }
}

fn message(page: ReservedPage) -> Result<Publish, crate::model::WireError> {
    let queue = QueueName {
        tenant: page.notification.tenant.clone(),
        lane: page.notification.lane,
    };
    let mut job = Job::first(page.notification, page.page, page.entries);
    job.recheck = page.recheck;
    let body = Envelope::encode(std::slice::from_ref(&job))?;
    Ok(Publish {
        queue,
        body: Bytes::from(body),
    })
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Broker(#[from] crate::broker::Error),
    #[error(transparent)]
    Wire(#[from] crate::model::WireError),
}
