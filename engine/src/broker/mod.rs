//! The queue for what is ready: confirmed publishes, leases, acks. What waits is the store's.
//! It must not know what is in a message beyond the queue it belongs to.

pub mod embedded;
mod published;
pub mod rabbitmq;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use clarion_auth::TenantId;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::model::{Lane, Millis};

pub use published::Published;

/// A ready-queue: one tenant's one lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    /// Whose it is; every job in it must be this tenant's.
    pub tenant: TenantId,
    /// Priority class.
    pub lane: Lane,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where it goes.
    pub queue: QueueName,
    /// An encoded envelope.
    pub body: Bytes,
}

/// The number a broker gives a handed-out message; unique within the process and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// The hand-out of one message: it must be acked or given back. Dropping it gives it back.
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The queue it came by.
    pub queue: QueueName,
    /// The encoded envelope.
    pub body: Bytes,
    /// The broker says, or cannot exclude, that it was handed out before. Only a hint.
    pub redelivered: bool,
    /// When the broker took it; `None` where it does not say.
    pub published_at: Option<Millis>,
    /// Runs when the lease is dropped without an ack.
    pub(crate) give_back: Option<Arc<dyn GiveBack>>,
}

/// The broker's side of a dropped lease.
pub(crate) trait GiveBack: Send + Sync {
    /// Makes the message ready again. Must not block.
    fn give_back(&self, lease: LeaseId, queue: &QueueName);
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(broker) = self.give_back.take() {
            broker.give_back(self.id, &self.queue);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// What a subscription reports.
#[derive(Debug)]
pub enum Delivery {
    /// A message was handed out.
    Leased(Lease),
    /// Every lease handed out so far is void: the connection is gone, and others may hold those messages.
    LeasesLost,
}

/// Hand-outs of all queues, as they come; bounded by the credit given to each queue.
#[derive(Debug)]
pub struct Subscription {
    /// Messages, oldest first within a queue.
    pub deliveries: mpsc::Receiver<Delivery>,
}

/// What is told to whoever has bound a queue of their own for a tenant.
#[derive(Clone)]
pub struct Event {
    /// Whose it is; also the routing key.
    pub tenant: TenantId,
    /// The same whenever it is published again.
    pub id: String,
    /// The payload, JSON.
    pub body: Bytes,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Where outcome events go, on a broker that others can bind queues on.
#[async_trait]
pub trait EventExchange: Send + Sync + fmt::Debug {
    /// Whether events would be taken now.
    fn takes_events(&self) -> bool;

    /// Publishes all, in their order, and says of each whether the broker confirmed it. One that no queue is bound for is
    /// confirmed and gone.
    ///
    /// # Errors
    /// On any error each event may or may not have been published.
    async fn publish_events(&self, events: Vec<Event>) -> Result<Vec<bool>, Error>;
}

/// Why the queue could not do something.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be reached or is closing.
    #[error("the queue is unavailable: {0}")]
    Unavailable(&'static str),
    /// It did not confirm; the message may or may not be queued.
    #[error("the queue did not confirm the publish")]
    NotConfirmed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection to it failed.
    #[error("the connection to the queue failed: {0}")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its storage failed.
    #[error("the queue's storage failed: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process owns the data directory.
    #[error("another process uses the data directory {0}; stop it, or configure another directory")]
    Locked(String),
    /// The queue was written by a newer Clarion.
    #[error("the queue has schema {found}, this build knows up to {known}: run a newer clarion")]
    NewerSchema {
        /// Version found.
        found: i64,
        /// Newest version this build knows.
        known: i64,
    },
}

/// A durable queue per tenant and lane.
///
/// Contract, checked by one suite on every implementation: a confirmed message survives a crash of any
/// process; it is handed out until acked; messages of one queue are handed out in the order of their
/// publishing unless given back; an unacked message is handed out again after its holder's connection or
/// process ends.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Publishes all messages and returns when all are confirmed on durable storage.
    ///
    /// # Errors
    /// On any error each message may or may not be queued; the caller's ids make a second publish harmless.
    async fn publish(&self, messages: Vec<Publish>) -> Result<(), Error>;

    /// Starts handing out messages of all queues, at most `rest` unacked per queue until
    /// [`Broker::set_credit`] says otherwise. One subscription per process.
    ///
    /// # Errors
    /// [`Error::Unavailable`], or when there is a subscription already.
    async fn subscribe(&self, rest: u32) -> Result<Subscription, Error>;

    /// Names queues that are to be handed out. A queue that anybody publishes to for the first time while there is a
    /// subscription needs no naming; an implementation that knows all its queues needs none at all.
    fn watch_queues(&self, _queues: &[QueueName]) {}

    /// When the holder of the messages was last heard from: a lease is good only for a while after that. An
    /// implementation within this process always answers `now`.
    fn heard_from(&self, now: Millis) -> Millis {
        now
    }

    /// How many messages of `queue` may be unacked at a time; 0 stops handing out. Takes effect for later
    /// hand-outs.
    fn set_credit(&self, queue: &QueueName, unacked: u32);

    /// Removes the messages for good. Returns for each whether the ack counted; `false` means that the lease
    /// was void and the message may be handed out again.
    ///
    /// # Errors
    /// When nothing is known of the acks; the messages may be handed out again.
    async fn ack(&self, leases: Vec<Lease>) -> Result<Vec<bool>, Error>;

    /// Messages ready or handed out, per queue, for operators and backlog limits.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Storage`].
    async fn depths(&self) -> Result<Vec<(QueueName, u64)>, Error>;

    /// Whether publishes would be confirmed now.
    async fn is_ready(&self) -> bool;

    /// Stops handing out, waits for what is being written, and closes.
    async fn close(&self);
}
