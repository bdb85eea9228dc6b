//! Messages between their publishing and their confirm: bounded, in order, each answered once. It must not know why the
//! connection ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::names::{Names, TENANT_HEADER};
use crate::broker::{self, Publish};
use crate::model::Millis;

/// Messages published and not yet confirmed.
const IN_FLIGHT_MAX: usize = 1_000;
/// A queue of which nothing is confirmed for this long gets nothing more.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// The delivery mode that has a message written to disk.
const PERSISTENT: u8 = 2;

/// What a call's messages came to: those that the broker refused with a nack, which are in no queue.
pub(super) type Answered = Result<Vec<Publish>, broker::Error>;

/// Messages of one call.
pub(super) struct Request {
    pub(super) messages: Vec<Publish>,
    /// Its share of the bytes that may wait.
    pub(super) share: OwnedSemaphorePermit,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// Why a message was not confirmed.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// No queue takes it.
    #[error("the broker returned the message: no queue is bound for it")]
    Returned,
    /// A nack: no queue takes it, or its queue rejects or failed.
    #[error("the broker refused the message: its queue is missing, full or failed")]
    Nacked,
    /// What was published to the queue before is not confirmed.
    #[error("the broker confirms nothing that is published to this queue: has it a leader?")]
    Stalled,
    /// The connection was lost, or the broker stopped reading from it.
    #[error("the connection to the broker was lost before the confirm")]
    Lost,
    /// The connection was lost, and this is why.
    #[error("the channel ended before the confirm")]
    Broken(#[source] lapin::Error),
}

/// What came of one message.
struct Settled {
    batch: u64,
    /// Its number, which the broker carries as message id.
    number: u64,
    queue: Arc<str>,
    message: Publish,
    confirmation: lapin::Result<Confirmation>,
}

/// What of a queue is in flight.
struct InFlight {
    messages: usize,
    last_landing: Instant,
}

struct Batch {
    left: usize,
    answer: Option<oneshot::Sender<Answered>>,
    nacked: Vec<Publish>,
    _share: OwnedSemaphorePermit,
}

/// What became of some messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Landed {
    /// Queues that may be gone.
    pub(super) suspects: Vec<Arc<str>>,
    pub(super) returned: usize,
    pub(super) nacked: usize,
}

/// Messages in flight on one channel. Only one task publishes on it: the broker counts messages in the order of their
/// frames, the library in the order of its calls.
pub(super) struct Flight {
    channel: Channel,
    names: Arc<Names>,
    confirms: FuturesUnordered<BoxFuture<'static, Settled>>,
    batches: HashMap<u64, Batch>,
    /// Queues with messages in flight.
    queues: HashMap<Arc<str>, InFlight>,
    /// The call whose messages are being published.
    current: Option<(u64, IntoIter<Publish>)>,
    batches_taken: u64,
    messages_begun: u64,
    /// When a confirm came last, or the first message took off.
    last_landing: Instant,
}

impl Flight {
    pub(super) fn new(channel: Channel, names: Arc<Names>) -> Self {
        Self {
            channel,
            names,
            confirms: FuturesUnordered::new(),
            batches: HashMap::new(),
            queues: HashMap::new(),
            current: None,
            batches_taken: 0,
            messages_begun: 0,
            last_landing: Instant::now(),
        }
    }

    /// Whether another call may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.current.is_none() && self.confirms.len() < IN_FLIGHT_MAX
    }

    pub(super) fn is_idle(&self) -> bool {
        self.confirms.is_empty()
    }

    /// When the broker last confirmed anything; `None` when nothing is in flight.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        (!self.is_idle()).then_some(self.last_landing)
    }

    /// Takes over a call.
    pub(super) fn take(&mut self, request: Request) {
        self.batches_taken += 1;
        let batch = Batch {
            left: request.messages.len(),
            answer: Some(request.answer),
            nacked: Vec::new(),
            _share: request.share,
        };
        self.batches.insert(self.batches_taken, batch);
        self.current = Some((self.batches_taken, request.messages.into_iter()));
    }

    /// Publishes while there is room.
    pub(super) fn fill(&mut self, now: Millis) {
        if self.is_idle() {
            self.last_landing = Instant::now();
        }
        while self.confirms.len() < IN_FLIGHT_MAX {
            let Some((id, messages)) = &mut self.current else {
                return;
            };
            let id = *id;
            let is_given_up = self.batches.get(&id).is_none_or(Batch::is_answered);
            match messages.next() {
                Some(_) if is_given_up => self.count_down(id),
                Some(message) => self.begin(id, message, now),
                None => self.current = None,
            }
        }
    }

    fn begin(&mut self, batch: u64, message: Publish, now: Millis) {
        let ready = self.names.ready_queue(&message.queue);
        let queue = self.queues.entry(Arc::clone(&ready.name));
        let queue = queue.or_insert_with(InFlight::new);
        if queue.is_stalled() {
            self.refuse(batch, Refusal::Stalled);
            return self.count_down(batch);
        }
        queue.messages += 1;
        self.messages_begun += 1;
        let number = self.messages_begun;
        let tenant = AMQPValue::LongString(message.queue.tenant.as_str().into());
        let mut headers = FieldTable::default();
        headers.insert(TENANT_HEADER.into(), tenant);
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(number.to_string().into())
            // AMQP has whole seconds.
            .with_timestamp(u64::try_from(now / 1_000).unwrap_or_default())
            .with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (channel, exchange) = (self.channel.clone(), self.names.jobs.as_str().into());
        self.confirms.push(Box::pin(async move {
            let key = (&*ready.key).into();
            let body = &message.body;
            let confirmation = async {
                let written = channel.basic_publish(exchange, key, options, body, properties);
                written.await?.await
            };
            let confirmation = confirmation.await;
            Settled {
                batch,
                number,
                queue: ready.name,
                message,
                confirmation,
            }
        }));
    }

    /// Waits for confirms and answers the calls that are complete.
    pub(super) async fn land(&mut self) -> Landed {
        let Some(first) = self.confirms.next().await else {
            return Landed::default();
        };
        self.last_landing = Instant::now();
        // All that is settled, because the library hands a returned message to whichever confirm comes first after it.
        let mut settled = vec![first];
        while settled.len() < IN_FLIGHT_MAX
            && let Some(Some(next)) = self.confirms.next().now_or_never()
        {
            settled.push(next);
        }
        let returned: HashSet<u64> = settled.iter().filter_map(returned_number).collect();
        let mut landed = Landed::default();
        for message in settled {
            self.landed(&message.queue);
            let refusal = match message.confirmation {
                _ if returned.contains(&message.number) => Some(Refusal::Returned),
                Ok(Confirmation::Ack(_)) => None,
                Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Some(Refusal::Nacked),
                Err(error) => Some(Refusal::Broken(error)),
            };
            if refusal.is_some() {
                landed.suspects.push(message.queue);
            }
            match refusal {
                None => {}
                // The caller may try it again, once all others of the call are settled.
                Some(Refusal::Nacked) => {
                    landed.nacked += 1;
                    if let Some(batch) = self.batches.get_mut(&message.batch) {
                        batch.nacked.push(message.message);
                    }
                }
                Some(refusal) => {
                    landed.returned += usize::from(matches!(refusal, Refusal::Returned));
                    self.refuse(message.batch, refusal);
                }
            }
            self.count_down(message.batch);
        }
        landed
    }

    fn landed(&mut self, queue: &Arc<str>) {
        if let Some(left) = self.queues.get_mut(queue) {
            left.messages -= 1;
            left.last_landing = Instant::now();
            if left.messages == 0 {
                self.queues.remove(queue);
            }
        }
    }

    /// Answers every call that waits: nobody knows what becomes of its messages.
    pub(super) fn lose_all(&mut self) {
        let batches: Vec<u64> = self.batches.keys().copied().collect();
        for batch in batches {
            self.refuse(batch, Refusal::Lost);
        }
        // What is in flight may still be confirmed; what is not begun never will.
        if let Some((batch, messages)) = self.current.take() {
            for _ in messages {
                self.count_down(batch);
            }
        }
    }

    fn refuse(&mut self, batch: u64, refusal: Refusal) {
        let batch = self.batches.get_mut(&batch);
        if let Some(answer) = batch.and_then(|batch| batch.answer.take()) {
            let error = broker::Error::NotConfirmed(Box::new(refusal));
            // A caller that has gone knows that nothing was promised.
            drop(answer.send(Err(error)));
        }
    }

    fn count_down(&mut self, id: u64) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        batch.left = batch.left.saturating_sub(1);
        if batch.left == 0
            && let Some(Batch {
                answer: Some(answer),
                nacked,
                ..
            }) = self.batches.remove(&id)
        {
            drop(answer.send(Ok(nacked)));
        }
    }
}

impl InFlight {
    fn new() -> Self {
        Self {
            messages: 0,
            last_landing: Instant::now(),
        }
    }

    /// The more of the places it holds, the sooner.
    fn is_stalled(&self) -> bool {
        let patience = match self.messages {
            0 => return false,
            few if few < IN_FLIGHT_MAX / 4 => STALLED_AFTER,
            _ => STALLED_AFTER / 4,
        };
        self.last_landing.elapsed() > patience
    }
}

impl Batch {
    /// Refused, or its caller has gone.
    fn is_answered(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// The number of the message that came back with a confirm, which need not be the confirm's own.
fn returned_number(settled: &Settled) -> Option<u64> {
    let Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) =
        &settled.confirmation
    else {
        return None;
    };
    let id = returned.properties.message_id().as_ref()?;
    id.as_str().parse().ok()
}
