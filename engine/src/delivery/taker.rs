//! The taker: what backends publish straight to the queue goes through the door, or becomes a dead row, and is then acked.
//! It must not know how a message is judged, nor which queue it waited in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Clock;
use crate::broker::Published;
use crate::http2::Jitter;
use crate::intake::{self, Incoming, Intake, Trust, Verdict};
use crate::store::{self, DeadOrigin, NewDead, RequestOrigin, Store};

/// Messages in hand: one of each queue, and those that a lost connection has left behind.
const TAKING_MAX: usize = 64;
/// One try at a message; one that takes longer is made again.
const TRY_WITHIN: Duration = Duration::from_secs(30);
/// First and last pause between two tries, before jitter: up to as much again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often it is noted when API keys were last used.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// What a taker works with.
#[derive(Clone)]
pub struct Taker {
    /// The door.
    pub intake: Arc<Intake>,
    /// Where dead rows go.
    pub store: Arc<dyn Store>,
    /// Who vouches for publishers.
    pub trust: Trust,
    /// Reads the time.
    pub clock: Clock,
}

impl std::fmt::Debug for Taker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taker")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// Why a message is tried again.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Intake(#[from] intake::Error),
    #[error("its dead letter cannot be written: {0}")]
    Store(#[from] store::Error),
    #[error("it took too long")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl Taker {
    /// Takes until `stop`. What is being taken then is finished; what waits for another try goes back to the broker.
    pub async fn run(self, mut published: mpsc::Receiver<Published>, stop: watch::Receiver<bool>) {
        let mut stopped = stop.clone();
        let mut taking = JoinSet::new();
        let mut notes = interval(NOTE_EVERY);
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                next = published.recv(), if taking.len() < TAKING_MAX => match next {
                    Some(message) => {
                        taking.spawn(self.clone().take(message, stop.clone()));
                    }
                    None => break,
                },
                Some(ended) = taking.join_next() => report(ended),
                _ = notes.tick() => {
                    let intake = Arc::clone(&self.intake);
                    taking.spawn(async move { intake.note_used_keys().await });
                }
                // The sender says one thing only, or is gone.
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        while let Some(ended) = taking.join_next().await {
            report(ended);
        }
        self.intake.note_used_keys().await;
    }

    /// Takes one message, however long that may need. Others are taken meanwhile.
    async fn take(self, mut message: Published, mut stop: watch::Receiver<bool>) {
        let (mut pause, mut jitter) = (PAUSES.0, Jitter::seeded());
        let mut may_have_been_seen = message.redelivered;
        loop {
            let tried = timeout(TRY_WITHIN, self.attempt(&message, may_have_been_seen));
            let error = match tried.await.map_err(TryError::from).flatten() {
                Ok(()) => return message.done().await,
                Err(error) => error,
            };
            tracing::warn!(%error, "a published request cannot be taken now; it is tried again");
            may_have_been_seen = true;
            tokio::select! {
                () = sleep(pause + jitter.part_of(pause)) => {}
                () = message.lost() => return,
                _ = stop.wait_for(|stop| *stop) => return,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt(&self, message: &Published, may_have_been_seen: bool) -> Result<(), TryError> {
        let now = (self.clock)();
        let incoming = Incoming {
            routing_key: &message.routing_key,
            body: &message.body,
            api_key: message.api_key.as_ref().map(|key| key.as_str()),
            may_have_been_seen,
        };
        match self.intake.take(&incoming, self.trust, now).await {
            Verdict::Accepted(_) | Verdict::Waiting(_) | Verdict::Repeated(_) => Ok(()),
            Verdict::Again(error) => Err(error.into()),
            Verdict::Dead(dead) => {
                let (tenant, reason) = (&dead.tenant, &dead.reason);
                tracing::info!(%tenant, reason, "a published request became a dead letter");
                match self.store.bury(&dead, now).await {
                    Err(store::Error::Data(error)) => {
                        tracing::error!(%error, "a dead letter cannot be written as it is");
                        self.store.bury(&bare(&dead), now).await?;
                    }
                    buried => drop(buried?),
                }
                Ok(())
            }
        }
    }
}

/// A dead row without anything that a publisher wrote: it can always be written.
fn bare(dead: &NewDead) -> NewDead {
    NewDead {
        origin: DeadOrigin::External(RequestOrigin::default()),
        reason: intake::Reason::Unrecordable.as_str().to_owned(),
        detail: format!(
            "the dead letter of {} bytes could not be written",
            dead.body.len()
        ),
        body: Vec::new(),
        ..dead.clone()
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "taking a published request broke; it comes again");
    }
}
