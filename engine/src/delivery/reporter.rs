//! The reporter: what the outbox holds is published, and deleted once the broker has it.
//! It must not know what an event says.
//!
//! At least once: a process that dies between the confirm and the deletion, or a confirm that is lost, has the event published
//! again under the same id, by this process or another. Events that the broker refuses (a bound queue that is full and rejects)
//! are tried again when their lease is over, and keep nobody else's waiting. After a failure events go one by one at first: one that
//! the broker ends the channel for (larger than it allows) does not take its neighbours along for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::{Clock, events};
use crate::broker::{Event, EventExchange};
use crate::limits::{EVENTS_AT_ONCE, EVENTS_BYTES_AT_ONCE};
use crate::metrics::outcome_events;
use crate::model::Millis;
use crate::store::{OutboxRow, Store};

/// How often the outbox is looked at without being told, and after a failure.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a reporter works with.
pub(super) struct Reporter {
    pub(super) store: Arc<dyn Store>,
    pub(super) exchange: Arc<dyn EventExchange>,
    /// Told when something was written to the outbox.
    pub(super) wake: Arc<Notify>,
    /// An event that could not be published for so long is dropped and counted.
    pub(super) kept: Duration,
    pub(super) clock: Clock,
}

impl Reporter {
    /// Publishes until `stop`.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut most = EVENTS_AT_ONCE;
        while !*stop.borrow() {
            match self.report(most).await {
                Ok(true) => {
                    most = (most * 2).min(EVENTS_AT_ONCE);
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    most = 1;
                    tracing::warn!(%error, "outcome events could not be published; they are tried again");
                }
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One round: take at most so many, publish, delete what was confirmed. `true` when there may be more.
    async fn report(&self, most: u32) -> Result<bool, ReportError> {
        if !self.exchange.takes_events() {
            return Ok(false);
        }
        let now = (self.clock)();
        let rows = self
            .store
            .take_events(most, EVENTS_BYTES_AT_ONCE, now)
            .await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let (rows, mut done) = self.sort_out(rows, now);
        outcome_events("dropped", done.len());
        let told = rows.iter().map(|(row, body)| Event {
            tenant: row.key.tenant.clone(),
            id: events::id(row),
            body: body.clone(),
        });
        let confirmed = self.exchange.publish_events(told.collect()).await;
        if let Ok(confirmed) = &confirmed {
            let published = confirmed.iter().filter(|confirmed| **confirmed).count();
            outcome_events("published", published);
            outcome_events("refused", confirmed.len() - published);
            let rows = rows.into_iter().zip(confirmed);
            done.extend(
                rows.filter(|(_, confirmed)| **confirmed)
                    .map(|((row, _), _)| row),
            );
        }
        if !done.is_empty() {
            self.store.delete_events(&done).await?;
        }
        confirmed?;
        Ok(true)
    }

    /// What is to be published, with its payload, and what nobody wants any more.
    fn sort_out(
        &self,
        rows: Vec<OutboxRow>,
        now: Millis,
    ) -> (Vec<(OutboxRow, Bytes)>, Vec<OutboxRow>) {
        let kept = Millis::try_from(self.kept.as_millis()).unwrap_or(Millis::MAX);
        let (mut told, mut dropped) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            if now.saturating_sub(row.at) > kept {
                dropped.push(row);
                continue;
            }
            match events::payload(&row) {
                Ok(payload) => told.push((row, Bytes::from(payload))),
                Err(error) => {
                    tracing::error!(%error, job = %row.key.job, "an outcome event is dropped");
                    dropped.push(row);
                }
            }
        }
        (told, dropped)
    }
}

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Broker(#[from] crate::broker::Error),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
