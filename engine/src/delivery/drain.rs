//! The drain: messages that the broker itself gave up on become dead rows, and are acked when those are written.
//! It must not know why the broker gave up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::Clock;
use super::events::Events;
use super::worker::{Standing, close_given_up, users_of};
use crate::broker::rabbitmq::{DeadLetter, RabbitBroker};
use crate::limits::{HELD_RECHECK, JOB_RECIPIENTS_MAX};
use crate::model::{Envelope, Job};
use crate::store::{ClaimAnswer, ClaimRequest, CommitAnswer, JobKey, NewDead, Store, Writer};
use crate::{broker, intake, store};

/// How often it is looked for dead letters.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Dead letters in hand at a time.
const LETTERS_MAX: usize = 16;
/// The broker's word for a message that was given back too often.
const DELIVERY_LIMIT: &str = "delivery_limit";
/// The reason of dead rows where its word is another.
const GIVEN_UP: &str = "given_up";

/// What a drain works with.
pub struct Drain {
    /// Where dead letters lie.
    pub broker: Arc<RabbitBroker>,
    /// Where dead rows go.
    pub store: Arc<dyn Store>,
    /// Of which recipients backends are told.
    pub events: Events,
    /// Reads the time.
    pub clock: Clock,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum DrainError {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Drain {
    /// Drains until `stop`; what is in hand then stays with the broker.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        // A process of its own in the record: whoever it fences finds out by its part.
        let writer = Writer {
            process: Uuid::new_v4(),
            generation: 0,
        };
        let draining = async {
            loop {
                match self.round(writer).await {
                    Ok(LETTERS_MAX) => continue,
                    Ok(_) => {}
                    Err(DrainError::Broker(broker::Error::Unavailable(why))) => {
                        tracing::debug!(why, "dead letters cannot be looked for yet");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "dead letters cannot be taken; they are tried again");
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = draining => {}
            // The sender says one thing only, or is gone.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Takes what is there, and acks all of it once it is written down. Returns how many it took.
    async fn round(&self, writer: Writer) -> Result<usize, DrainError> {
        let batch = self.broker.dead_letters(LETTERS_MAX).await?;
        for letter in &batch.letters {
            self.write_down(letter, writer).await?;
        }
        let taken = batch.letters.len();
        batch.done().await?;
        Ok(taken)
    }

    async fn write_down(&self, letter: &DeadLetter, writer: Writer) -> Result<(), DrainError> {
        tracing::error!(
            routing_key = letter.routing_key,
            reason = letter.reason,
            "RabbitMQ gave up on a message"
        );
        if letter.is_request {
            let dead = intake::given_up(&letter.routing_key, &letter.body);
            return self.bury(&dead).await;
        }
        let Some(queue) = &letter.queue else {
            let text = "the message says nothing of its tenant".to_owned();
            return self.bury(&unparsed(letter, "foreign_tenant", text)).await;
        };
        let jobs = match Envelope::decode(&letter.body) {
            Ok(envelope) => envelope.jobs,
            Err(error) => {
                let dead = unparsed(letter, error.reason(), error.to_string());
                return self.bury(&dead).await;
            }
        };
        let is_foreign = |job: &Job| {
            job.notification.tenant != queue.tenant || job.notification.lane != queue.lane
        };
        if jobs.iter().any(is_foreign) {
            let text = "a job is not of the tenant and lane of its queue".to_owned();
            return self.bury(&unparsed(letter, "foreign_tenant", text)).await;
        }
        for job in jobs {
            self.close(job, letter, writer).await?;
        }
        Ok(())
    }

    async fn bury(&self, dead: &NewDead) -> Result<(), DrainError> {
        self.store.bury(dead, (self.clock)()).await?;
        Ok(())
    }

    /// Reads a job's record, and ends as dead whoever of it has no final state. While somebody else holds the job, a copy
    /// of it is alive: its end is waited for.
    async fn close(&self, job: Job, letter: &DeadLetter, writer: Writer) -> Result<(), DrainError> {
        let request = ClaimRequest {
            key: JobKey {
                tenant: job.notification.tenant.clone(),
                notification: job.notification.id,
                job: job.id,
            },
            digest: job.digest(),
        };
        loop {
            let requests = std::slice::from_ref(&request);
            let mut answers = self.store.claim(writer, requests, (self.clock)()).await?;
            match answers.pop() {
                Some(ClaimAnswer::Granted {
                    next_seq, settled, ..
                }) => {
                    let (tenant, users) = (&job.notification.tenant, users_of(&job));
                    let devices = match users.is_empty() {
                        true => Vec::new(),
                        false => {
                            self.store
                                .resolve(tenant, &users, JOB_RECIPIENTS_MAX)
                                .await?
                        }
                    };
                    let standing = Standing {
                        next_seq,
                        settled,
                        devices,
                    };
                    let (reason, now) = (reason_of(letter), (self.clock)());
                    let closed = close_given_up(job.clone(), standing, reason, self.events, now);
                    let answers = self.store.commit(writer, &[closed], now).await?;
                    if answers.first() != Some(&CommitAnswer::Fenced) {
                        return Ok(());
                    }
                }
                Some(ClaimAnswer::Held) => {}
                Some(ClaimAnswer::Ended) | None => return Ok(()),
                Some(ClaimAnswer::IdReused) => {
                    let text = format!("job {} came with other recipients than before", job.id);
                    return self.bury(&unparsed(letter, "job_id_reused", text)).await;
                }
            }
            tokio::time::sleep(HELD_RECHECK).await;
        }
    }
}

fn reason_of(letter: &DeadLetter) -> &'static str {
    match letter.reason.as_str() {
        DELIVERY_LIMIT => DELIVERY_LIMIT,
        _ => GIVEN_UP,
    }
}

/// A message of the internal queue that no engine can have published.
fn unparsed(letter: &DeadLetter, reason: &str, detail: String) -> NewDead {
    let tenant = letter.queue.as_ref().map(|queue| queue.tenant.clone());
    let tenant = tenant.unwrap_or_else(intake::nobody);
    NewDead::unparsed(tenant, reason, detail, &letter.body)
}
