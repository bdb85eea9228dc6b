//! Declaring: exchanges once per connection, a ready-queue before its first use. It must not know what is done with them.

use std::collections::HashSet;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};

use super::link::{Link, LinkError, answer};
use super::names::{self, Names, ReadyQueue};
use super::spare::SpareChannel;

/// Queues whose declaration is remembered; beyond, all are declared again.
const DECLARED_MAX: usize = 100_000;

/// Declares over one connection, on a channel that may be lost without harm: a refusal closes it.
pub(super) struct Declarer {
    channel: SpareChannel,
    names: Arc<Names>,
    is_passive: bool,
    ensuring: tokio::sync::Mutex<()>,
    declared: Mutex<HashSet<Arc<str>>>,
}

impl Declarer {
    pub(super) fn new(link: Arc<Link>, names: Arc<Names>, is_passive: bool) -> Self {
        Self {
            channel: SpareChannel::new(link),
            names,
            is_passive,
            ensuring: tokio::sync::Mutex::new(()),
            declared: Mutex::new(HashSet::new()),
        }
    }

    /// Declares everything but the ready-queues; where this may not configure, checks that it is there.
    pub(super) async fn base(&self) -> Result<(), LinkError> {
        let names = &*self.names;
        let channel = self.channel.link.channel().await?;
        let durable = exchange_options(self.is_passive);
        let exchange = |name: &str, kind, arguments| {
            answer(channel.exchange_declare(name.into(), kind, durable, arguments))
        };
        let none = FieldTable::default;
        for fanout in [&names.unroutable, &names.dead, &names.announce] {
            exchange(fanout, ExchangeKind::Fanout, none()).await?;
        }
        exchange(&names.jobs, ExchangeKind::Direct, names.jobs_arguments()).await?;
        let queues = [
            (&names.unroutable, names::unroutable_arguments()),
            (&names.dead, names::dead_arguments()),
        ];
        for (name, arguments) in queues {
            self.declare(&channel, name, arguments).await?;
            if !self.is_passive {
                bind(&channel, name, name, "").await?;
            }
        }
        Ok(())
    }

    /// Makes sure that a ready-queue is there before the first publish to it. `true` when nobody consumes it: then all
    /// subscribers are told, because it is new, or was deleted and is here again.
    pub(super) async fn ensure(&self, queue: &ReadyQueue) -> Result<bool, LinkError> {
        if self.remembered().contains(&queue.name) {
            return Ok(false);
        }
        // One at a time: who waited finds it done.
        let _turn = self.ensuring.lock().await;
        if self.remembered().contains(&queue.name) {
            return Ok(false);
        }
        let is_idle = self.ready(queue).await? == 0;
        if is_idle && !self.is_passive && queue.tenant.is_some() {
            self.announce(queue).await?;
        }
        let mut declared = self.remembered();
        if declared.len() >= DECLARED_MAX {
            declared.clear();
        }
        declared.insert(Arc::clone(&queue.name));
        Ok(is_idle)
    }

    /// The queue may be gone: it is declared again before the next publish.
    pub(super) fn forget(&self, queue: &str) {
        self.remembered().remove(queue);
    }

    /// Declares a ready-queue; returns how many consume it.
    pub(super) async fn ready(&self, queue: &ReadyQueue) -> Result<u32, LinkError> {
        let arguments = self.names.ready_arguments();
        let exchange = &self.names.jobs;
        self.on_channel(|channel| async move {
            let consumers = self.declare(&channel, &queue.name, arguments).await?;
            if !self.is_passive {
                bind(&channel, &queue.name, exchange, &queue.key).await?;
            }
            Ok(consumers)
        })
        .await
    }

    /// Messages that are ready in a queue; `None` when there is no such queue.
    pub(super) async fn depth(&self, queue: &str) -> Result<Option<u32>, LinkError> {
        let found = self
            .on_channel(|channel| async move {
                let options = QueueDeclareOptions::durable().passive();
                let none = FieldTable::default();
                answer(channel.queue_declare(queue.into(), options, none)).await
            })
            .await;
        match found {
            Ok(queue) => Ok(Some(queue.message_count())),
            // The broker closed the channel and not the connection: no such queue.
            Err(LinkError::Broker(_)) if self.channel.link.is_connected() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn announce(&self, queue: &ReadyQueue) -> Result<(), LinkError> {
        let exchange = self.names.announce.as_str().into();
        self.on_channel(|channel| async move {
            let (options, body) = (BasicPublishOptions::default(), queue.key.as_bytes());
            let by = BasicProperties::default().with_app_id(self.names.origin.as_str().into());
            let published = channel.basic_publish(exchange, "".into(), options, body, by);
            answer(published).await.map(drop)
        })
        .await
    }

    async fn declare(
        &self,
        channel: &Channel,
        name: &str,
        arguments: FieldTable,
    ) -> Result<u32, LinkError> {
        declare_queue(channel, name, arguments, self.is_passive).await
    }

    /// One at a time, on a channel that is opened again after a refusal.
    async fn on_channel<T, C>(&self, call: impl FnOnce(Channel) -> C) -> Result<T, LinkError>
    where
        C: Future<Output = Result<T, LinkError>>,
    {
        self.channel.call(|_new| ready(Ok(())), call).await
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<str>>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange that outlives the broker's restart; where this may not configure, only looked for.
pub(super) fn exchange_options(is_passive: bool) -> ExchangeDeclareOptions {
    ExchangeDeclareOptions {
        durable: true,
        passive: is_passive,
        ..ExchangeDeclareOptions::default()
    }
}

/// Declares a queue, or looks whether it is there; returns how many consume it.
pub(super) async fn declare_queue(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
    is_passive: bool,
) -> Result<u32, LinkError> {
    let mut options = QueueDeclareOptions::durable();
    options.passive = is_passive;
    let queue = answer(channel.queue_declare(name.into(), options, arguments)).await?;
    Ok(queue.consumer_count())
}

pub(super) async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), LinkError> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    answer(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none)).await
}
