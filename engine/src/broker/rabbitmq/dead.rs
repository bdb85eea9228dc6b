//! Dead letters: what the broker itself gave up on. The engine takes them in batches, and acks a batch once it has written
//! it down. It must not know where they are written.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::AMQPValue;

use super::consumer::parse_key;
use super::inbox::{tenant_of, time_of};
use super::link::{Link, LinkError, answer};
use super::names::Names;
use crate::broker::QueueName;
use crate::model::{Lane, Millis};

/// A message that the broker gave up on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The queue it was in; `None` when it does not say.
    pub queue: Option<QueueName>,
    /// A backend published it; it holds no envelope.
    pub is_request: bool,
    /// What it was published with.
    pub routing_key: String,
    /// The broker's word: `delivery_limit`, `rejected`, `expired`, `maxlen`.
    pub reason: String,
    /// When it was published, where it says.
    pub published_at: Option<Millis>,
    /// The encoded envelope.
    pub body: Bytes,
}

/// Dead letters in hand. Dropping it leaves them with the broker.
pub struct DeadBatch {
    /// The oldest first.
    pub letters: Vec<DeadLetter>,
    channel: Channel,
    last: u64,
    /// The channel lives only as long as its connection.
    _link: Arc<Link>,
}

impl fmt::Debug for DeadBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadBatch")
            .field("letters", &self.letters.len())
            .finish_non_exhaustive()
    }
}

impl DeadBatch {
    pub(super) async fn take(
        link: Arc<Link>,
        names: &Names,
        most: usize,
    ) -> Result<Self, LinkError> {
        let queue = names.dead.as_str();
        let mut batch = Self {
            letters: Vec::new(),
            channel: link.channel().await?,
            last: 0,
            _link: link,
        };
        while batch.letters.len() < most {
            let options = BasicGetOptions::default();
            let Some(message) = answer(batch.channel.basic_get(queue.into(), options)).await?
            else {
                break;
            };
            batch.last = message.delivery_tag;
            batch.letters.push(read(message.delivery, names));
        }
        Ok(batch)
    }

    /// Removes them from the broker: they are written down.
    ///
    /// # Errors
    /// When the broker did not take the acks; they come again.
    pub async fn done(self) -> Result<(), crate::broker::Error> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let options = BasicAckOptions { multiple: true };
        let acked = async {
            answer(self.channel.basic_ack(self.last, options)).await?;
            // An orderly close is answered after the acks were taken.
            answer(self.channel.close(200, "OK".into())).await
        };
        acked
            .await
            .map_err(|error| crate::broker::Error::Connection(Box::new(error)))
    }
}

fn read(delivery: lapin::message::Delivery, names: &Names) -> DeadLetter {
    let key = delivery.routing_key.as_str();
    let shard_lane = || Lane::parse(key.rsplit_once('.')?.1);
    let in_shard = || {
        Some(QueueName {
            tenant: tenant_of(&delivery)?,
            lane: shard_lane()?,
        })
    };
    let was_in = first_death(&delivery, "queue");
    DeadLetter {
        queue: parse_key(key.as_bytes()).or_else(in_shard),
        is_request: was_in.is_some_and(|queue| names.is_publish_queue(&queue)),
        routing_key: key.to_owned(),
        reason: first_death(&delivery, "reason").unwrap_or_else(|| "unknown".to_owned()),
        published_at: time_of(&delivery),
        body: Bytes::from(delivery.data),
    }
}

/// What the broker says of where and why a message died first.
fn first_death(delivery: &lapin::message::Delivery, what: &str) -> Option<String> {
    let headers = delivery.properties.headers().as_ref()?;
    let name = format!("x-first-death-{what}");
    let AMQPValue::LongString(said) = headers.inner().get(name.as_str())? else {
        return None;
    };
    Some(said.to_string())
}
