//! The connection that brings what backends publish straight to the queue: one task owns it and rebuilds it after any error.
//! It must not know what is in a message, nor what becomes of it: it acks when it is told that the message was taken.
//!
//! Every queue has a channel of its own with a prefetch of one: a message that cannot be taken yet holds up its own queue
//! only, and one that goes wrong costs its own channel only.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Event, ExchangeKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep, sleep_until};
use zeroize::Zeroizing;

use super::bindings::Bindings;
use super::declare::{bind, declare_queue, exchange_options};
use super::link::{Backoff, Link, LinkError, answer};
use super::names::PublishQueue;
use super::publisher::Tools;
use super::task::{Background, Ended, stopped};
use crate::broker::{Error, Published, QueueName};
use crate::contract::API_KEY_HEADER;

/// How often a queue that brings nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// First and last rest of a queue that the broker refused to declare.
const RESTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Messages that may wait to be taken; the queues bring one each.
const WAITING_MAX: usize = 32;

/// The side that takes from backends; begins when somebody asks for their messages.
pub(super) struct Requests {
    tools: Tools,
    bindings: Arc<Bindings>,
    stop: watch::Receiver<bool>,
    task: Background,
}

impl Requests {
    pub(super) fn new(tools: Tools, stop: watch::Receiver<bool>) -> Self {
        Self {
            tools,
            bindings: Arc::default(),
            stop,
            task: Background::default(),
        }
    }

    /// Consumes from now on.
    pub(super) fn start(&self) -> Result<mpsc::Receiver<Published>, Error> {
        let (out, published) = mpsc::channel(WAITING_MAX);
        let supervisor = Supervisor {
            tools: self.tools.clone(),
            bindings: Arc::clone(&self.bindings),
            out,
            refused: Mutex::default(),
        };
        let is_closing = *self.stop.borrow();
        if is_closing || !self.task.start(|| supervisor.run(self.stop.clone())) {
            return Err(Error::Unavailable(
                "it is closing, or somebody takes published requests already",
            ));
        }
        Ok(published)
    }

    /// The tenants of these queues exist.
    pub(super) fn know(&self, queues: &[QueueName]) {
        self.bindings.know(queues);
    }

    /// Waits for the end, which a stop has begun.
    pub(super) async fn ended(&self) {
        let broke = "taking published requests broke; what was not acked comes again";
        self.task.ended(broke).await;
    }
}

struct Supervisor {
    tools: Tools,
    bindings: Arc<Bindings>,
    out: mpsc::Sender<Published>,
    /// Queues that the broker refused to declare.
    refused: Mutex<HashMap<Arc<str>, Refused>>,
}

/// A queue that is left alone for a while, because a refusal may cost the whole connection.
struct Refused {
    until: Instant,
    rest: Duration,
}

impl Supervisor {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let link = Mutex::new(None);
        tokio::select! {
            () = self.supervise(&link) => {}
            () = stopped(&mut stop) => {}
            () = self.out.closed() => {}
        }
        let last = link.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(last) = last {
            Link::close(&last).await;
        }
    }

    async fn supervise(&self, current: &Mutex<Option<Arc<Link>>>) {
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            let ended = match self.tools.connector.connect("requests").await {
                Ok(link) => {
                    let link = Arc::new(link);
                    let slot = Some(Arc::clone(&link));
                    *current.lock().unwrap_or_else(PoisonError::into_inner) = slot;
                    Box::pin(self.session(&link)).await
                }
                Err(error) => Err(error),
            };
            *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let Err(error) = ended;
            tracing::warn!(%error, "taking published requests from RabbitMQ is interrupted");
            self.tools.metrics.requests_lost();
            backoff.ended(began.elapsed());
            sleep(backoff.pause()).await;
        }
    }

    async fn session(&self, link: &Link) -> Ended {
        self.bindings.begin();
        self.declare_exchanges(link).await?;
        let queues = self.tools.names.publish_queues();
        let served = try_join_all(queues.iter().map(|queue| self.serve(link, queue)));
        let all = async {
            tokio::try_join!(
                async { served.await.map(drop) },
                async { self.bindings.keep(link, &self.tools).await.map(drop) },
                async { watch_events(link).await.map(drop) },
            )
        };
        match all.await {
            Err(error) => Err(error),
            Ok(_) => Err(LinkError::GivenUp("nothing is left to do")),
        }
    }

    async fn declare_exchanges(&self, link: &Link) -> Result<(), LinkError> {
        let names = &*self.tools.names;
        let channel = link.channel().await?;
        let durable = exchange_options(self.tools.is_passive);
        let exchange = |name: &str, kind, arguments| {
            answer(channel.exchange_declare(name.into(), kind, durable, arguments))
        };
        exchange(&names.dead, ExchangeKind::Fanout, FieldTable::default()).await?;
        exchange(&names.unbound, ExchangeKind::Fanout, FieldTable::default()).await?;
        // Before the exchange that it stands behind, or what is published first would be returned.
        if let Err(error) = self.declare_unbound(link).await {
            if !link.is_connected() {
                return Err(error);
            }
            tracing::warn!(queue = names.unbound, %error, "a queue cannot be declared; it is tried again");
        }
        let arguments = names.publish_exchange_arguments();
        exchange(&names.publish, ExchangeKind::Topic, arguments).await
    }

    async fn declare_unbound(&self, link: &Link) -> Result<(), LinkError> {
        let queue = self.tools.names.publish_unbound();
        if self.is_refused_until(&queue).is_some() {
            return Ok(());
        }
        let channel = link.channel().await?;
        self.declare(&channel, &queue).await?;
        self.declared(&channel, &queue).await
    }

    /// Serves one queue over as many channels as it takes.
    async fn serve(&self, link: &Link, queue: &PublishQueue) -> Ended {
        let mut backoff = Backoff::new();
        loop {
            if let Some(until) = self.is_refused_until(queue) {
                sleep_until(until).await;
            }
            let began = Instant::now();
            let Err(error) = self.bring(link, queue).await;
            if !link.is_connected() {
                return Err(error);
            }
            tracing::warn!(queue = &*queue.name, %error,
                "published requests of a queue are not taken; it is tried again");
            backoff.ended(began.elapsed());
            sleep(backoff.pause()).await;
        }
    }

    async fn bring(&self, link: &Link, queue: &PublishQueue) -> Ended {
        let channel = link.channel().await?;
        self.declare(&channel, queue).await?;
        self.declared(&channel, queue).await?;
        answer(channel.basic_qos(1, BasicQosOptions::default())).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let name = (&*queue.name).into();
        let mut consumer =
            answer(channel.basic_consume(name, "requests".into(), options, none)).await?;
        let mut looks = interval(LOOK_EVERY);
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => received(delivery)?,
                _ = looks.tick() => {
                    // Not every deletion of a queue is told to those who consume it.
                    if self.declare(&channel, queue).await? == 0 {
                        self.declared(&channel, queue).await?;
                        return Err(LinkError::GivenUp("nobody consumes the queue any more"));
                    }
                    continue;
                }
            };
            let acker = delivery.acker.clone();
            let (published, taken) = read(delivery);
            if self.out.send(published).await.is_err() {
                return Err(LinkError::GivenUp("nobody takes published requests"));
            }
            let acked = tokio::select! {
                taken = taken => taken.map_err(|_| LinkError::GivenUp("a message was not taken"))?,
                // The broker has ended the channel, and has the message back.
                more = consumer.next() => {
                    received(more)?;
                    return Err(LinkError::GivenUp("the broker brought more than was asked for"));
                }
            };
            if !answer(acker.ack(BasicAckOptions::default())).await? {
                return Err(LinkError::GivenUp("an ack did not count"));
            }
            // Whoever does not wait for it need not know.
            let _told = acked.send(());
        }
    }

    /// Returns how many consume it.
    async fn declare(&self, channel: &Channel, queue: &PublishQueue) -> Result<u32, LinkError> {
        let (names, is_passive) = (&*self.tools.names, self.tools.is_passive);
        let arguments = names.publish_arguments();
        let declared = declare_queue(channel, &queue.name, arguments, is_passive).await;
        let mut refused = self.refused();
        match &declared {
            Ok(_) => {
                refused.remove(&queue.name);
            }
            // Others may have lost their connection to the same refusal, and are not meant.
            Err(error) if error.to_string().contains(&format!("'{}'", queue.name)) => {
                let before = refused.get(&queue.name).map(|refused| refused.rest);
                let rest = before.map_or(RESTS.0, |rest| (rest * 2).min(RESTS.1));
                let until = Instant::now() + rest;
                refused.insert(Arc::clone(&queue.name), Refused { until, rest });
            }
            Err(_) => {}
        }
        declared
    }

    fn is_refused_until(&self, queue: &PublishQueue) -> Option<Instant> {
        self.refused().get(&queue.name).map(|refused| refused.until)
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<Arc<str>, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds a queue that may be new.
    async fn declared(&self, channel: &Channel, queue: &PublishQueue) -> Result<(), LinkError> {
        match queue.shard {
            Some(shard) => self.bindings.declared(shard),
            None if self.tools.is_passive => {}
            None => bind(channel, &queue.name, &self.tools.names.unbound, "").await?,
        }
        Ok(())
    }
}

/// What a consumer brought; nothing more means that the broker ended it, because its queue was deleted or moved.
fn received(brought: Option<lapin::Result<Delivery>>) -> Result<Delivery, LinkError> {
    match brought {
        Some(delivery) => Ok(delivery?),
        None => Err(LinkError::GivenUp("the broker ended the consumer")),
    }
}

fn read(delivery: Delivery) -> (Published, oneshot::Receiver<oneshot::Sender<()>>) {
    let (taken, is_taken) = oneshot::channel();
    let published = Published {
        routing_key: delivery.routing_key.to_string(),
        api_key: api_key(&delivery),
        redelivered: delivery.redelivered,
        body: Bytes::from(delivery.data),
        taken,
    };
    (published, is_taken)
}

fn api_key(delivery: &Delivery) -> Option<Zeroizing<String>> {
    let headers = delivery.properties.headers().as_ref()?;
    let AMQPValue::LongString(key) = headers.inner().get(API_KEY_HEADER)? else {
        return None;
    };
    let key = std::str::from_utf8(key.as_bytes()).ok()?;
    Some(Zeroizing::new(key.to_owned()))
}

async fn watch_events(link: &Link) -> Ended {
    let mut events = pin!(link.events());
    loop {
        match events.next().await {
            None => return Err(LinkError::GivenUp("it ended")),
            // A refused declaration closes its own channel only.
            Some(Event::Error(error)) if !link.is_connected() => return Err(error.into()),
            Some(_) => {}
        }
    }
}
