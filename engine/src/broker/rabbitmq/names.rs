//! What everything is called on the broker, and with which arguments it is declared. Every argument is explicit and means
//! the same on RabbitMQ 3.10, 3.13 and 4. It must not know connections.

use std::num::NonZeroU16;
use std::sync::Arc;

use lapin::types::{AMQPValue, FieldTable};

use super::options::{QueueType, RabbitOptions};
use crate::broker::QueueName;
use crate::limits::{PUBLISH_QUEUE_BYTES_MAX, PUBLISH_SHARDS};
use crate::model::{Lane, TenantId};

/// Returns of a message after which a quorum queue dead-letters it. The engine's own limit on claims comes first.
const DELIVERY_LIMIT: i32 = 20;
/// The dead-letter queue keeps what it holds: from 4.0 on no limit would mean 20.
const DEAD_DELIVERY_LIMIT: i32 = i32::MAX;
/// The header that names the tenant of a message in a shard queue.
pub(super) const TENANT_HEADER: &str = "clarion-tenant";

/// A queue as the broker knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadyQueue {
    /// Its name.
    pub(super) name: Arc<str>,
    /// What it is bound with.
    pub(super) key: Arc<str>,
    /// Priority class of all its messages.
    pub(super) lane: Lane,
    /// Whose messages it holds; `None` for a shard.
    pub(super) tenant: Option<TenantId>,
}

/// A queue of what backends publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublishQueue {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its number; `None` for the one that takes what no binding names.
    pub(super) shard: Option<u16>,
}

/// The names of one installation.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    queue_type: QueueType,
    shards: Option<NonZeroU16>,
    /// The direct exchange that jobs are published to.
    pub(super) jobs: String,
    /// Exchange and queue of what the first cannot route.
    pub(super) unroutable: String,
    /// Exchange and queue of dead letters.
    pub(super) dead: String,
    /// The topic exchange of outcome events.
    pub(super) events: String,
    /// The topic exchange that backends publish to.
    pub(super) publish: String,
    /// Exchange and queue of what is published with a routing key that no binding names.
    pub(super) unbound: String,
    /// The fanout exchange on which a queue's first publisher announces it.
    pub(super) announce: String,
    /// Who announces: this process hears its own announcements, too.
    pub(super) origin: String,
}

impl Names {
    pub(super) fn new(options: &RabbitOptions) -> Self {
        let prefix = options.prefix.clone();
        Self {
            queue_type: options.queue_type,
            shards: options.shards,
            jobs: format!("{prefix}.jobs"),
            unroutable: format!("{prefix}.unroutable"),
            dead: format!("{prefix}.dead"),
            events: format!("{prefix}.events"),
            publish: format!("{prefix}.publish"),
            unbound: format!("{prefix}.publish.unbound"),
            announce: format!("{prefix}.announce"),
            origin: uuid::Uuid::new_v4().to_string(),
            prefix,
        }
    }

    /// Where the messages of a tenant's lane lie.
    pub(super) fn ready_queue(&self, queue: &QueueName) -> ReadyQueue {
        let lane = queue.lane.as_str();
        let Some(shards) = self.shards else {
            let key = format!("{}.{lane}", queue.tenant);
            return ReadyQueue {
                name: format!("{}.jobs.{key}", self.prefix).into(),
                key: key.into(),
                lane: queue.lane,
                tenant: Some(queue.tenant.clone()),
            };
        };
        self.shard(shard_of(&queue.tenant, shards), queue.lane)
    }

    /// All shard queues; none where each tenant has its own.
    pub(super) fn shards(&self) -> Vec<ReadyQueue> {
        let count = self.shards.map_or(0, NonZeroU16::get);
        (0..count)
            .flat_map(|n| [Lane::Transactional, Lane::Bulk].map(|lane| self.shard(n, lane)))
            .collect()
    }

    fn shard(&self, n: u16, lane: Lane) -> ReadyQueue {
        // Three parts: no tenant's key has as many, because a tenant's id holds no dot.
        let key = format!("shard.{n}.{}", lane.as_str());
        ReadyQueue {
            name: format!("{}.jobs.{key}", self.prefix).into(),
            key: key.into(),
            lane,
            tenant: None,
        }
    }

    /// The queues of what backends publish.
    pub(super) fn publish_queues(&self) -> Vec<PublishQueue> {
        let shards = (0..PUBLISH_SHARDS).map(|n| self.publish_shard(n));
        shards.chain([self.publish_unbound()]).collect()
    }

    /// The one that takes what no binding names.
    pub(super) fn publish_unbound(&self) -> PublishQueue {
        PublishQueue {
            name: self.unbound.as_str().into(),
            shard: None,
        }
    }

    /// One of those that tenants are bound to.
    pub(super) fn publish_shard(&self, n: u16) -> PublishQueue {
        PublishQueue {
            name: format!("{}.{n}", self.publish).into(),
            shard: Some(n),
        }
    }

    /// Whether a queue of this name holds what backends publish.
    pub(super) fn is_publish_queue(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.publish);
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    /// The shard of a tenant, and what it is bound with: a tenant's id holds neither dots nor wildcards.
    pub(super) fn publish_binding(tenant: &TenantId) -> (u16, String) {
        let shards = const { NonZeroU16::MIN.saturating_add(PUBLISH_SHARDS - 1) };
        (shard_of(tenant, shards), format!("{tenant}.*"))
    }

    /// The arguments of a queue of what backends publish: beyond its length it refuses.
    pub(super) fn publish_arguments(&self) -> FieldTable {
        let mut arguments = self.ready_arguments();
        let more = [
            (
                "x-max-length-bytes",
                AMQPValue::LongInt(PUBLISH_QUEUE_BYTES_MAX),
            ),
            ("x-overflow", text("reject-publish")),
        ];
        for (name, value) in more {
            arguments.insert(name.into(), value);
        }
        arguments
    }

    /// The arguments of the exchange that backends publish to.
    pub(super) fn publish_exchange_arguments(&self) -> FieldTable {
        table([("alternate-exchange", text(&self.unbound))])
    }

    /// The arguments of a ready-queue.
    pub(super) fn ready_arguments(&self) -> FieldTable {
        let mut arguments = table([("x-dead-letter-exchange", text(&self.dead))]);
        let more = match self.queue_type {
            QueueType::Classic => vec![("x-queue-type", text("classic"))],
            QueueType::Quorum => vec![
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
                ("x-dead-letter-strategy", text("at-least-once")),
                // Without a length limit it rejects nothing; the strategy demands it.
                ("x-overflow", text("reject-publish")),
            ],
        };
        for (name, value) in more {
            arguments.insert(name.into(), value);
        }
        arguments
    }

    /// The arguments of the jobs exchange.
    pub(super) fn jobs_arguments(&self) -> FieldTable {
        table([("alternate-exchange", text(&self.unroutable))])
    }
}

/// The arguments of the queue behind the alternate exchange. It takes nothing: what an alternate exchange routes counts as
/// routed, and would be confirmed and not returned; a queue that rejects has the broker answer with a nack.
pub(super) fn unroutable_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("classic")),
        ("x-max-length", AMQPValue::LongInt(0)),
        ("x-overflow", text("reject-publish")),
    ])
}

/// The arguments of the dead-letter queue.
pub(super) fn dead_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongInt(DEAD_DELIVERY_LIMIT)),
    ])
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The same for every process and every build (FNV-1a): it decides where a tenant's messages lie.
fn shard_of(tenant: &TenantId, shards: NonZeroU16) -> u16 {
    let hash = tenant
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder of sixteen bits"
    )]
    let shard = (hash % u64::from(shards.get())) as u16;
    shard
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(shards: u16) -> Names {
        let mut options = RabbitOptions::new("amqp://localhost", "engine");
        options.shards = NonZeroU16::new(shards);
        Names::new(&options)
    }

    fn queue(tenant: &str) -> QueueName {
        QueueName {
            tenant: tenant.parse().unwrap(),
            lane: Lane::Bulk,
        }
    }

    #[test]
    fn a_tenant_has_a_queue_per_lane() {
        let found = names(0).ready_queue(&queue("acme"));
        assert_eq!(&*found.name, "clarion.jobs.acme.bulk");
        assert_eq!(&*found.key, "acme.bulk");
        assert_eq!(found.tenant, Some("acme".parse().unwrap()));
        assert!(names(0).shards().is_empty());
    }

    #[test]
    fn tenants_lie_in_all_shards_and_always_in_the_same() {
        let names = names(8);
        let all: BTreeSet<ReadyQueue> = names.shards().into_iter().collect();
        assert_eq!(all.len(), 16);
        let used: BTreeSet<ReadyQueue> = (0..200)
            .map(|n| names.ready_queue(&queue(&format!("t{n}"))))
            .collect();
        assert_eq!(used.len(), 8);
        assert!(used.is_subset(&all));
        // A change of this number would strand what lies in the queues.
        assert_eq!(&*names.ready_queue(&queue("acme")).key, "shard.7.bulk");
    }

    #[test]
    fn no_tenant_is_taken_for_a_shard() {
        let tenant = names(0).ready_queue(&queue("shard"));
        let shards = names(8).shards();
        assert!(shards.iter().all(|shard| shard.name != tenant.name));
    }

    #[test]
    fn with_the_usual_prefix_the_exchange_is_the_contracts() {
        assert_eq!(names(0).publish, crate::contract::PUBLISH_EXCHANGE);
    }

    #[test]
    fn what_is_published_is_spread_over_queues_of_bounded_length() {
        let names = names(0);
        let queues = names.publish_queues();
        assert_eq!(queues.len(), usize::from(PUBLISH_SHARDS) + 1);
        assert!(queues.iter().all(|one| names.is_publish_queue(&one.name)));
        assert!(!names.is_publish_queue(&names.ready_queue(&queue("publish")).name));
        let tenants = (0..200).map(|n| format!("t{n}").parse().unwrap());
        let used: BTreeSet<u16> = tenants
            .map(|tenant| Names::publish_binding(&tenant).0)
            .collect();
        assert_eq!(used.len(), usize::from(PUBLISH_SHARDS));
        for queue_type in [QueueType::Quorum, QueueType::Classic] {
            let mut options = RabbitOptions::new("amqp://localhost", "engine");
            options.queue_type = queue_type;
            let arguments = Names::new(&options).publish_arguments();
            let has = |name: &str| arguments.inner().get(name).cloned();
            assert_eq!(has("x-overflow"), Some(text("reject-publish")));
            let bytes = AMQPValue::LongInt(PUBLISH_QUEUE_BYTES_MAX);
            assert_eq!(has("x-max-length-bytes"), Some(bytes));
        }
    }

    #[test]
    fn a_classic_queue_has_no_delivery_limit() {
        let mut options = RabbitOptions::new("amqp://localhost", "engine");
        options.queue_type = QueueType::Classic;
        let arguments = Names::new(&options).ready_arguments();
        assert!(!arguments.contains_key("x-delivery-limit"));
        assert!(arguments.contains_key("x-queue-type"));
    }
}
