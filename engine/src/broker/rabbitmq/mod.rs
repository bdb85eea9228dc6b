//! The queue of many machines: RabbitMQ 3.10 or later. It must not know what is in a message.
//!
//! Two connections, one that publishes and one that consumes, because a broker short of memory or disk stops reading from
//! the first and everything on it; and a third for what backends publish. Each belongs to one task, which drops it after any error and builds everything anew.

mod bindings;
mod consumer;
mod dead;
mod declare;
mod desk;
mod events;
mod flight;
mod inbox;
mod leases;
mod line;
mod link;
mod names;
mod options;
mod outside;
mod plan;
mod publisher;
mod requests;
mod spare;
mod steps;
mod task;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

pub use self::dead::{DeadBatch, DeadLetter};
pub use self::options::{QueueType, RabbitOptions};
pub use self::outside::{OutsideRequest, RequestPublisher, Verdict};

use self::consumer::{Consuming, hand_out};
use self::desk::Desk;
use self::flight::Refusal;
use self::leases::Taken;
use self::link::{Connector, LinkError, jittered};
use self::names::Names;
use self::publisher::{Publisher, Tools};
use self::requests::Requests;
use super::{
    Broker, Error, Event, EventExchange, Lease, Publish, Published, QueueName, Subscription,
};
use crate::metrics::BrokerMetrics;
use crate::model::Millis;

/// Hand-outs that may wait for the subscriber.
const DELIVERIES_MAX: usize = 256;
/// Acks are written within this time, or the connection is given up.
const ACK_WITHIN: Duration = Duration::from_secs(5);
/// How often what the broker refused with a nack is published again: it is in no queue.
const NACKS_MAX: u32 = 2;
/// Pause before that, growing by as much each time and shortened at random.
const NACK_PAUSE: Duration = Duration::from_millis(150);
/// A call that has taken as long is not tried again.
const NACKED_WITHIN: Duration = Duration::from_secs(2);
/// Queues whose depth one call asks for.
const DEPTHS_MAX: usize = 10_000;

const CLOSING: Error = Error::Unavailable("it is closing");
const NOT_CONSUMING: Error = Error::Unavailable("there is no connection that consumes");

/// A durable queue per tenant and lane on a RabbitMQ.
///
/// What only this implementation does: it consumes the queues that were named with [`Broker::watch_queues`] and those
/// that any publisher has announced. [`Broker::depths`] counts the messages that are ready and those in this process's
/// hands, not those in the hands of others. Dead letters are taken with [`RabbitBroker::dead_letters`], what backends
/// publish with [`RabbitBroker::published`].
pub struct RabbitBroker {
    names: Arc<Names>,
    publisher: Publisher,
    consuming: Consuming,
    requests: Requests,
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
}

impl RabbitBroker {
    /// Connects, and declares or checks the exchanges. Connections that are lost later are rebuilt in the background.
    ///
    /// # Errors
    /// [`Error::Connection`] with the reason: a wrong URL or password, no broker, no permission.
    pub async fn connect(options: RabbitOptions) -> Result<Self, Error> {
        let connector = Connector::new(&options).await.map_err(failed)?;
        let names = Arc::new(Names::new(&options));
        let metrics = Arc::new(BrokerMetrics::new());
        let tools = Tools {
            connector: Arc::new(connector),
            names: Arc::clone(&names),
            is_passive: options.passive,
            has_events: options.events,
            metrics: Arc::clone(&metrics),
        };
        let (stop, stopped) = watch::channel(false);
        let publisher = Box::pin(Publisher::start(tools.clone(), stopped.clone()));
        let publisher = publisher.await.map_err(failed)?;
        let desk = Arc::new(Desk::new(metrics));
        desk.watch(names.shards().into_iter());
        Ok(Self {
            names,
            publisher,
            requests: Requests::new(tools.clone(), stopped.clone()),
            consuming: Consuming::new(tools, Arc::clone(&desk), stopped),
            desk,
            stop,
        })
    }

    /// What backends publish straight to the queue, from now on: at most one message of each of its queues at a time. Dropping
    /// the receiver ends it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it was asked for before, or when this is closing.
    pub fn published(&self) -> Result<mpsc::Receiver<Published>, Error> {
        self.requests.start()
    }

    /// Takes at most `most` messages that the broker itself gave up on. They stay with the broker until
    /// [`DeadBatch::done`], and are given to nobody else meanwhile. Needs a subscription.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without a connection that consumes, [`Error::Connection`] when it failed.
    pub async fn dead_letters(&self, most: usize) -> Result<DeadBatch, Error> {
        let link = self.consuming.link().ok_or(NOT_CONSUMING)?;
        DeadBatch::take(link, &self.names, most)
            .await
            .map_err(failed)
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, mut messages: Vec<Publish>) -> Result<(), Error> {
        let (began, mut nacks) = (Instant::now(), 0);
        while !messages.is_empty() {
            // What this process publishes it also consumes, if it consumes at all.
            for idle in self.publisher.prepare(&messages).await? {
                self.desk.announced(idle);
            }
            messages = self.publisher.publish(messages).await?;
            if messages.is_empty() {
                break;
            }
            // Two processes that make a queue at once may have its first messages refused; a queue that is gone is made again.
            nacks += 1;
            if nacks > NACKS_MAX || began.elapsed() > NACKED_WITHIN {
                return Err(Error::NotConfirmed(Box::new(Refusal::Nacked)));
            }
            sleep(jittered(NACK_PAUSE * nacks)).await;
        }
        Ok(())
    }

    async fn subscribe(&self, rest: u32) -> Result<Subscription, Error> {
        let (out, deliveries) = mpsc::channel(DELIVERIES_MAX);
        if !self.desk.open(out.clone(), rest) {
            return Err(Error::Unavailable(
                "it is closing, or this process has a subscription already",
            ));
        }
        self.consuming.start();
        tokio::spawn(hand_out(Arc::clone(&self.desk), out));
        Ok(Subscription { deliveries })
    }

    fn watch_queues(&self, queues: &[QueueName]) {
        let names = queues.iter().map(|queue| self.names.ready_queue(queue));
        self.desk.watch(names);
        self.requests.know(queues);
    }

    fn set_credit(&self, queue: &QueueName, unacked: u32) {
        let ready = self.names.ready_queue(queue);
        self.desk
            .set_credit(ready, &queue.tenant, unacked, Instant::now());
    }

    async fn ack(&self, mut leases: Vec<Lease>) -> Result<Vec<bool>, Error> {
        if self.desk.is_closed() {
            return Err(CLOSING);
        }
        let taken = self.desk.take(&leases);
        for lease in &mut leases {
            lease.give_back = None;
        }
        match timeout(ACK_WITHIN, join_all(taken.into_iter().map(ack))).await {
            Ok(counts) => {
                if counts.contains(&None) {
                    self.desk.failed.notify_one();
                }
                Ok(counts
                    .into_iter()
                    .map(|count| count == Some(true))
                    .collect())
            }
            Err(late) => {
                self.desk.failed.notify_one();
                Err(Error::Connection(Box::new(late)))
            }
        }
    }

    async fn depths(&self) -> Result<Vec<(QueueName, u64)>, Error> {
        let mut depths = Vec::new();
        for (ready, here) in self.desk.watched().into_iter().take(DEPTHS_MAX) {
            let Some(tenant) = ready.tenant.clone() else {
                return Err(Error::Unavailable(
                    "shard queues hold many tenants; what is whose is not known",
                ));
            };
            let depth = u64::from(self.publisher.depth(&ready).await?) + here;
            if depth > 0 {
                let lane = ready.lane;
                depths.push((QueueName { tenant, lane }, depth));
            }
        }
        Ok(depths)
    }

    async fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    fn heard_from(&self, _now: Millis) -> Millis {
        self.desk.last_heard()
    }

    async fn close(&self) {
        self.desk.close();
        self.stop.send_replace(true);
        self.consuming.ended().await;
        self.requests.ended().await;
        self.publisher.ended().await;
    }
}

#[async_trait]
impl EventExchange for RabbitBroker {
    fn takes_events(&self) -> bool {
        self.publisher.is_ready()
    }

    async fn publish_events(&self, events: Vec<Event>) -> Result<Vec<bool>, Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.publisher.publish_events(events).await
    }
}

impl Drop for RabbitBroker {
    fn drop(&mut self) {
        self.desk.close();
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for RabbitBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitBroker").finish_non_exhaustive()
    }
}

/// Acks one message; `None` when its channel failed.
async fn ack(taken: Option<Taken>) -> Option<bool> {
    let Some(taken) = taken else {
        return Some(false);
    };
    let acker = taken.acker()?;
    match acker.ack(BasicAckOptions::default()).await {
        Ok(true) => {
            taken.acked();
            Some(true)
        }
        Ok(false) | Err(_) => None,
    }
}

fn failed(error: LinkError) -> Error {
    Error::Connection(Box::new(error))
}

/// The time, ms since 1970.
fn now() -> Millis {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: when a message is published, when the broker was heard from"
    )]
    let now = jiff::Timestamp::now().as_millisecond();
    now
}
