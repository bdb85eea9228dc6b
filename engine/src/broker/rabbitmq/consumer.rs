//! The connection that consumes: one task owns it and rebuilds connection, channels, qos, queues and consumers after any
//! error. It must not know what is published, nor who is handed a message.

use std::collections::HashMap;
use std::future::{Future, pending, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::DeliveryResult;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ConsumerDelegate, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::declare::Declarer;
use super::desk::{CHANNELS, Desk};
use super::link::{Backoff, Link, LinkError, answer};
use super::names::ReadyQueue;
use super::now;
use super::plan::{Plan, Step};
use super::publisher::Tools;
use super::steps::Task;
use super::task::{Background, Ended, stopped};
use crate::broker::{Delivery, QueueName};
use crate::model::Lane;

/// How often the broker is asked for a sign of life: often enough that an idle engine may trust its leases.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A connection without a sign of life for this long is given up; the broker gives up after 20 s.
const SILENT_AFTER: Duration = Duration::from_secs(20);
/// A queue that cannot be declared is tried again after this.
const DECLARE_AGAIN: Duration = Duration::from_secs(10);
/// Queues that do not answer are tried this often.
const TRY_MUTES_EVERY: Duration = Duration::from_secs(5);
/// Announcements of new queues taken at a time.
const ANNOUNCED_AHEAD: u16 = 100;

/// The consuming side; begins with the first subscription.
pub(super) struct Consuming {
    tools: Tools,
    desk: Arc<Desk>,
    stop: watch::Receiver<bool>,
    link: watch::Sender<Option<Arc<Link>>>,
    task: Background,
}

impl Consuming {
    pub(super) fn new(tools: Tools, desk: Arc<Desk>, stop: watch::Receiver<bool>) -> Self {
        Self {
            tools,
            desk,
            stop,
            link: watch::channel(None).0,
            task: Background::default(),
        }
    }

    /// Consumes from now on.
    pub(super) fn start(&self) {
        self.task.start(|| {
            let supervisor = Supervisor {
                tools: self.tools.clone(),
                desk: Arc::clone(&self.desk),
                stop: self.stop.clone(),
                link: self.link.clone(),
            };
            supervisor.run()
        });
    }

    /// The connection, while there is one.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.borrow().clone()
    }

    /// Waits for the end, which a stop has begun.
    pub(super) async fn ended(&self) {
        let broke = "the consuming side broke; what was not acked comes again";
        self.task.ended(broke).await;
    }
}

/// Hands out to one subscriber until it has gone or the desk has closed.
pub(super) async fn hand_out(desk: Arc<Desk>, out: mpsc::Sender<Delivery>) {
    while let Ok(place) = out.reserve().await {
        let delivery = loop {
            let work = desk.work.notified();
            if desk.is_closed() {
                return;
            }
            if let Some(delivery) = desk.next() {
                break delivery;
            }
            tokio::select! {
                () = work => {}
                () = out.closed() => return desk.unsubscribed(),
            }
        };
        place.send(delivery);
    }
    desk.unsubscribed();
}

struct Supervisor {
    tools: Tools,
    desk: Arc<Desk>,
    stop: watch::Receiver<bool>,
    link: watch::Sender<Option<Arc<Link>>>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.supervise() => {}
            () = stopped(&mut stop) => {}
        }
        let link = self.link.send_replace(None);
        self.desk.end();
        if let Some(link) = link {
            link.close().await;
        }
    }

    async fn supervise(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            let ended = match self.tools.connector.connect("consume").await {
                Ok(link) => Box::pin(self.session(Arc::new(link))).await,
                Err(error) => Err(error),
            };
            self.link.send_replace(None);
            self.desk.end();
            let Err(error) = ended;
            tracing::warn!(%error, "consuming from RabbitMQ is interrupted");
            self.tools.metrics.consuming_lost();
            backoff.ended(began.elapsed());
            sleep(backoff.pause()).await;
        }
    }

    async fn session(&self, link: Arc<Link>) -> Ended {
        let declarer = self.declarer(&link);
        declarer.base().await?;
        let mut channels = Vec::with_capacity(CHANNELS);
        for _ in 0..CHANNELS {
            channels.push(link.channel().await?);
        }
        let probe = link.channel().await?;
        let announced = self.listen(&link).await?;
        let id = self.desk.begin();
        // Of the connection before.
        let _earlier = self.desk.failed.notified().now_or_never();
        self.link.send_replace(Some(Arc::clone(&link)));
        tracing::info!("consuming from RabbitMQ");
        let feeds = channels.into_iter().enumerate().map(|(n, channel)| Feed {
            desk: &self.desk,
            link: &link,
            declarer: self.declarer(&link),
            session: id,
            n,
            channel,
            consumers: HashMap::new(),
            prefetch: None,
        });
        let feeds = try_join_all(feeds.map(Feed::run));
        let all = async {
            tokio::try_join!(
                async { feeds.await.map(drop) },
                async { self.give_back().await.map(drop) },
                async { self.probe(probe).await.map(drop) },
                async { self.watch_events(&link).await.map(drop) },
                async { self.hear_announcements(announced).await.map(drop) },
                async { self.try_mutes(&link).await.map(drop) },
            )
        };
        match all.await {
            Err(error) => Err(error),
            Ok(_) => Err(LinkError::GivenUp("nothing is left to do")),
        }
    }

    fn declarer(&self, link: &Arc<Link>) -> Declarer {
        let names = Arc::clone(&self.tools.names);
        Declarer::new(Arc::clone(link), names, self.tools.is_passive)
    }

    /// Subscribes to announcements of new queues. Where Clarion may not configure, queues are there from the beginning.
    async fn listen(&self, link: &Link) -> Result<Option<Consumer>, LinkError> {
        if self.tools.is_passive || !self.tools.names.shards().is_empty() {
            return Ok(None);
        }
        let channel = link.channel().await?;
        let options = QueueDeclareOptions::exclusive().auto_delete();
        let none = FieldTable::default;
        let queue = answer(channel.queue_declare("".into(), options, none())).await?;
        let (name, exchange) = (queue.name().clone(), &self.tools.names.announce);
        let bind = QueueBindOptions::default();
        answer(channel.queue_bind(
            name.clone(),
            exchange.as_str().into(),
            "".into(),
            bind,
            none(),
        ))
        .await?;
        let qos = BasicQosOptions::default();
        answer(channel.basic_qos(ANNOUNCED_AHEAD, qos)).await?;
        let options = BasicConsumeOptions {
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel.basic_consume(name, "announced".into(), options, none());
        Ok(Some(answer(consumer).await?))
    }

    async fn hear_announcements(&self, announced: Option<Consumer>) -> Ended {
        let Some(mut announced) = announced else {
            return pending().await;
        };
        while let Some(delivery) = announced.next().await {
            let delivery = delivery?;
            let by = delivery.properties.app_id().as_ref();
            let is_own = by.is_some_and(|by| by.as_str() == self.tools.names.origin);
            if !is_own && let Some(queue) = parse_key(&delivery.data) {
                let queue = self.tools.names.ready_queue(&queue);
                self.desk.announced(queue);
            }
            answer(delivery.ack(lapin::options::BasicAckOptions::default())).await?;
        }
        Err(LinkError::GivenUp("announcements ended"))
    }

    /// Gives messages back as they come.
    async fn give_back(&self) -> Ended {
        loop {
            let more = self.desk.give_backs.notified();
            while let Some((acker, requeue)) = self.desk.next_return() {
                let options = BasicNackOptions {
                    requeue,
                    ..BasicNackOptions::default()
                };
                answer(acker.nack(options)).await?;
            }
            more.await;
        }
    }

    /// Asks for a sign of life. What counts is when it was asked for: then the broker has heard of us since, too.
    async fn probe(&self, channel: Channel) -> Ended {
        let mut every = interval(PROBE_EVERY);
        loop {
            every.tick().await;
            let asked_at = now();
            let call = channel.basic_qos(1, BasicQosOptions::default());
            match timeout(SILENT_AFTER, call).await {
                Ok(answered) => answered?,
                Err(_) => return Err(LinkError::Silent(SILENT_AFTER)),
            }
            self.desk.heard(asked_at);
        }
    }

    /// Tries queues that did not answer, each on a channel of its own.
    async fn try_mutes(&self, link: &Link) -> Ended {
        let mut every = interval(TRY_MUTES_EVERY);
        loop {
            every.tick().await;
            for name in self.desk.mutes() {
                let channel = link.channel().await?;
                answer(channel.basic_qos(1, BasicQosOptions::default())).await?;
                let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
                let tried = channel.basic_consume((&*name).into(), "try".into(), options, none);
                match answer(tried).await {
                    Ok(_) => {
                        tracing::info!(queue = &*name, "a queue answers again");
                        self.desk.speaks(&name);
                    }
                    // No such queue: it is declared before it is consumed.
                    Err(LinkError::Broker(_)) if link.is_connected() => self.desk.speaks(&name),
                    Err(LinkError::Silent(_)) => {}
                    Err(error) => return Err(error),
                }
                // What it brought goes back with its channel.
            }
        }
    }

    async fn watch_events(&self, link: &Link) -> Ended {
        let mut events = pin!(link.events());
        loop {
            tokio::select! {
                event = events.next() => match event {
                    None => return Err(LinkError::GivenUp("it ended")),
                    // A refused declaration closes its own channel only.
                    Some(Event::Error(error)) if !link.is_connected() => return Err(error.into()),
                    Some(_) => {}
                },
                () = self.desk.failed.notified() => {
                    return Err(LinkError::GivenUp("a channel or an ack failed"));
                }
            }
        }
    }
}

/// A tenant and lane as an announcement or a routing key has them.
pub(super) fn parse_key(key: &[u8]) -> Option<QueueName> {
    let (tenant, lane) = std::str::from_utf8(key).ok()?.split_once('.')?;
    Some(QueueName {
        tenant: tenant.parse().ok()?,
        lane: Lane::parse(lane)?,
    })
}

/// One channel that consumes, and the consumers on it.
struct Feed<'a> {
    desk: &'a Arc<Desk>,
    link: &'a Arc<Link>,
    declarer: Declarer,
    session: u64,
    n: usize,
    channel: Channel,
    consumers: HashMap<u64, Consumer>,
    /// The prefetch that the next consumer gets.
    prefetch: Option<u32>,
}

impl Feed<'_> {
    async fn run(mut self) -> Ended {
        loop {
            let more = self.desk.channels[self.n].notified();
            match self.desk.next_step(self.n, Instant::now()) {
                Ok(task) => self.take_step(task).await?,
                Err(None) => more.await,
                Err(Some(at)) => tokio::select! {
                    () = more => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    async fn take_step(&mut self, task: Task) -> Result<(), LinkError> {
        let name = Arc::clone(&task.queue.name);
        match task.step {
            Step::Rest | Step::Wait(_) => {}
            Step::Declare => return self.declare(&task.queue).await,
            Step::Consume(prefetch) => {
                self.consume(&task.queue, task.consumer, prefetch).await?;
                self.desk.stepped(&name, None, |_| {});
            }
            Step::Cancel(id) => {
                let options = BasicCancelOptions::default();
                answer(self.channel.basic_cancel(tag(id).into(), options)).await?;
                self.consumers.remove(&id);
                self.desk.stepped(&name, None, |plan| plan.ended(id));
            }
            Step::LetGo(id) => {
                self.consumers.remove(&id);
                self.desk.stepped(&name, None, |plan| plan.ended(id));
            }
        }
        Ok(())
    }

    async fn declare(&self, queue: &ReadyQueue) -> Result<(), LinkError> {
        match self.declarer.ready(queue).await {
            Ok(consumers) => {
                let declared = |plan: &mut Plan| plan.declared(consumers);
                self.desk.stepped(&queue.name, None, declared);
            }
            Err(error) if self.link.is_connected() => {
                tracing::warn!(queue = &*queue.name, %error, "a queue cannot be declared");
                let again = Instant::now() + DECLARE_AGAIN;
                self.desk.stepped(&queue.name, Some(again), |_| {});
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn consume(
        &mut self,
        queue: &ReadyQueue,
        id: u64,
        prefetch: u32,
    ) -> Result<(), LinkError> {
        if self.prefetch != Some(prefetch) {
            let count = u16::try_from(prefetch).unwrap_or(u16::MAX);
            // Per consumer, and for those that start from now on.
            let options = BasicQosOptions { global: false };
            answer(self.channel.basic_qos(count, options)).await?;
            self.prefetch = Some(prefetch);
        }
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let name = (&*queue.name).into();
        let started = self
            .channel
            .basic_consume(name, tag(id).into(), options, none);
        let consumer = match answer(started).await {
            Ok(consumer) => consumer,
            Err(error) => {
                if let LinkError::Silent(_) = &error {
                    // The channel waits for the queue, and everything on the channel waits with it.
                    tracing::error!(
                        queue = &*queue.name,
                        "a queue does not answer: has it a leader?"
                    );
                    self.desk.is_mute(&queue.name);
                }
                return Err(error);
            }
        };
        consumer.set_delegate(Sink {
            desk: Arc::clone(self.desk),
            session: self.session,
            queue: Arc::clone(&queue.name),
            consumer: id,
        });
        // Dropping it would cancel it.
        self.consumers.insert(id, consumer);
        Ok(())
    }
}

fn tag(consumer: u64) -> String {
    format!("clarion-{consumer}")
}

/// Takes what a consumer brings, in the order in which it comes over the connection.
struct Sink {
    desk: Arc<Desk>,
    session: u64,
    queue: Arc<str>,
    consumer: u64,
}

impl ConsumerDelegate for Sink {
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.desk
            .brought((self.session, &self.queue, self.consumer), delivery);
        Box::pin(ready(()))
    }
}
