//! What backends publish straight to the queue: all of it is brought, by queues that do not wait for each other.
//! It must not know what becomes of a message.

use std::collections::BTreeSet;

use clarion_engine::broker::rabbitmq::{QueueType, RabbitBroker, RabbitOptions};
use clarion_engine::broker::{Broker, Published};
use clarion_engine::limits::PUBLISH_QUEUE_BYTES_MAX;
use clarion_services::rabbitmq::shared;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use tokio::sync::mpsc;

use crate::place::{PATIENCE, connect, options, queue, until};
use crate::rabbitmq::Operator;

type Received = mpsc::Receiver<Published>;

/// A backend, past the engine.
struct Backend {
    operator: Operator,
    exchange: String,
}

impl Backend {
    async fn of(options: &RabbitOptions) -> Self {
        let operator = Operator::of(options).await;
        let confirms = ConfirmSelectOptions::default();
        operator.channel.confirm_select(confirms).await.unwrap();
        Self {
            operator,
            exchange: format!("{}.publish", options.prefix),
        }
    }

    async fn try_publish(&self, key: &str, body: &[u8], api_key: Option<&str>) -> Confirmation {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(api_key) = api_key {
            let mut headers = FieldTable::default();
            headers.insert("x-api-key".into(), AMQPValue::LongString(api_key.into()));
            properties = properties.with_headers(headers);
        }
        let exchange = self.exchange.as_str().into();
        self.operator
            .channel
            .basic_publish(exchange, key.into(), mandatory, body, properties)
            .await
            .unwrap()
            .await
            .unwrap()
    }

    async fn publish(&self, key: &str, body: &str) {
        let confirmed = self.try_publish(key, body.as_bytes(), None).await;
        assert!(matches!(confirmed, Confirmation::Ack(None)), "{key}");
    }

    /// Waits until the engine has made its exchange, and before it the queue behind it.
    async fn when_served(&self) {
        self.operator.has_exchange(&self.exchange).await;
    }
}

async fn next(received: &mut Received) -> Published {
    let next = tokio::time::timeout(PATIENCE, received.recv());
    next.await.expect("a message should have come").unwrap()
}

fn text(message: &Published) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

async fn served(options: &RabbitOptions) -> (RabbitBroker, Received, Backend) {
    let broker = connect(options).await;
    let received = broker.published().unwrap();
    let backend = Backend::of(options).await;
    backend.when_served().await;
    (broker, received, backend)
}

#[tokio::test]
async fn whatever_the_routing_key_a_message_is_brought_and_once_done_gone() {
    for queue_type in [QueueType::Quorum, QueueType::Classic] {
        let options = RabbitOptions {
            queue_type,
            ..options(shared().url())
        };
        let (broker, mut received, backend) = served(&options).await;
        broker.watch_queues(&[queue("acme"), queue("beta")]);
        let keys = [
            "acme.bulk",
            "beta.transactional",
            "nobody.bulk",
            "acme",
            "",
            "a.b.c",
        ];
        for key in keys {
            backend.publish(key, key).await;
        }
        let mut seen = BTreeSet::new();
        for _ in keys {
            let message = next(&mut received).await;
            assert_eq!(message.routing_key, text(&message));
            assert!(!message.redelivered && message.api_key.is_none());
            seen.insert(text(&message));
            message.done().await;
        }
        assert_eq!(seen, keys.map(ToOwned::to_owned).into());
        // An orderly end; whoever comes next finds nothing but what comes next.
        broker.close().await;
        let (_broker, mut received, _) = served(&options).await;
        backend.publish("acme.bulk", "last").await;
        assert_eq!(text(&next(&mut received).await), "last");
    }
}

#[tokio::test]
async fn a_key_comes_beside_the_body_and_is_not_shown() {
    let options = options(shared().url());
    let (_broker, mut received, backend) = served(&options).await;
    let confirmed = backend.try_publish("acme.bulk", b"{}", Some("msk_live_secret"));
    assert!(matches!(confirmed.await, Confirmation::Ack(None)));
    let message = next(&mut received).await;
    assert_eq!(
        message.api_key.as_ref().unwrap().as_str(),
        "msk_live_secret"
    );
    assert!(!format!("{message:?}").contains("secret"));
    message.done().await;
}

#[tokio::test]
async fn a_message_that_is_not_taken_holds_up_its_own_queue_only_and_comes_again() {
    let options = options(shared().url());
    let (broker, mut received, backend) = served(&options).await;
    // Two tenants of different shards, and one that is not bound.
    broker.watch_queues(&[queue("t0"), queue("t1")]);
    let bound = async |tenant: &str, shard: &str| {
        let name = format!("{}.{shard}", backend.exchange);
        until("the binding is there", async || {
            let bindings = tokio::task::spawn_blocking(list_bindings).await.unwrap();
            bindings.contains(&format!("{name}\t{tenant}.*"))
        })
        .await;
    };
    let [first, second] = ["t0", "t1"].map(shard_of);
    assert_ne!(first, second);
    bound("t0", &first).await;
    bound("t1", &second).await;
    backend.publish("t0.bulk", "held").await;
    let held = next(&mut received).await;
    backend.publish("t0.bulk", "behind").await;
    for n in 0..5 {
        for key in ["t1.bulk", "nobody.bulk"] {
            backend.publish(key, &n.to_string()).await;
            let message = next(&mut received).await;
            assert_eq!(
                (message.routing_key.as_str(), text(&message)),
                (key, n.to_string())
            );
            message.done().await;
        }
    }
    drop(held);
    let again = next(&mut received).await;
    assert_eq!((text(&again).as_str(), again.redelivered), ("held", true));
    again.done().await;
    assert_eq!(text(&next(&mut received).await), "behind");
}

/// As `names` has it: FNV-1a of the tenant's id.
fn shard_of(tenant: &str) -> String {
    let hash = tenant
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash % 16).to_string()
}

fn list_bindings() -> String {
    let rabbit = shared().rabbit().expect("a private RabbitMQ");
    rabbit.ctl(&[
        "-q",
        "list_bindings",
        "-p",
        "/",
        "destination_name",
        "routing_key",
    ])
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let options = options(shared().url());
    let (broker, received, backend) = served(&options).await;
    drop(received);
    let body = vec![b'x'; 1024 * 1024];
    let room = usize::try_from(PUBLISH_QUEUE_BYTES_MAX).unwrap() / body.len();
    let mut taken = 0;
    loop {
        match backend.try_publish("nobody.bulk", &body, None).await {
            Confirmation::Ack(None) => taken += 1,
            Confirmation::Nack(_) => break,
            _ => panic!("returned"),
        }
        assert!(taken < 2 * room);
    }
    assert!(taken >= room, "{taken}");
    broker.close().await;
    backend
        .operator
        .delete(&format!("{}.unbound", backend.exchange))
        .await;
}

#[tokio::test]
async fn a_deleted_queue_is_made_and_bound_again() {
    let options = RabbitOptions {
        queue_type: QueueType::Classic,
        ..options(shared().url())
    };
    let (broker, mut received, backend) = served(&options).await;
    broker.watch_queues(&[queue("t0")]);
    let name = format!("{}.{}", backend.exchange, shard_of("t0"));
    let is_bound = async || {
        until("it is bound", async || {
            let bindings = tokio::task::spawn_blocking(list_bindings).await.unwrap();
            bindings.contains(&format!("{name}\tt0.*"))
        })
        .await;
    };
    is_bound().await;
    backend.operator.delete(&name).await;
    is_bound().await;
    backend.publish("t0.bulk", "after").await;
    assert_eq!(text(&next(&mut received).await), "after");
}

/// RabbitMQ 3.10 keeps processes of a deleted quorum queue, and refuses one of the same name with an error that ends the
/// connection.
#[tokio::test]
async fn while_a_deleted_queue_cannot_be_made_its_messages_come_by_another() {
    let options = options(shared().url());
    let (broker, mut received, backend) = served(&options).await;
    broker.watch_queues(&[queue("t0"), queue("t1")]);
    let name = format!("{}.{}", backend.exchange, shard_of("t0"));
    until("it is bound", async || {
        let bindings = tokio::task::spawn_blocking(list_bindings).await.unwrap();
        bindings.contains(&format!("{name}\tt0.*"))
    })
    .await;
    backend.operator.delete(&name).await;
    for n in 0..20 {
        for key in ["t0.bulk", "t1.bulk"] {
            backend.publish(key, &n.to_string()).await;
        }
        let mut keys = BTreeSet::new();
        while keys.len() < 2 {
            let message = next(&mut received).await;
            // A connection that ends between a message and its ack has it come twice.
            assert!(message.redelivered || text(&message) == n.to_string());
            if text(&message) == n.to_string() {
                keys.insert(message.routing_key.clone());
            }
            message.done().await;
        }
    }
}

#[tokio::test]
async fn only_one_takes_and_a_closed_broker_gives_nothing() {
    let options = options(shared().url());
    let (broker, mut received, _backend) = served(&options).await;
    assert!(broker.published().is_err());
    broker.close().await;
    assert!(received.recv().await.is_none());
    assert!(broker.published().is_err());
}

#[tokio::test]
async fn where_it_may_not_configure_it_takes_from_what_is_there() {
    let options = options(shared().url());
    let (broker, received, backend) = served(&options).await;
    drop(received);
    broker.close().await;
    let passive = RabbitOptions {
        passive: true,
        ..options
    };
    let broker = connect(&passive).await;
    let mut received = broker.published().unwrap();
    backend.publish("acme.bulk", "hello").await;
    assert_eq!(text(&next(&mut received).await), "hello");
}

#[tokio::test]
async fn what_nobody_takes_again_and_again_becomes_a_dead_letter() {
    let options = options(shared().url());
    let (broker, received, backend) = served(&options).await;
    drop(received);
    let unbound = format!("{}.unbound", backend.exchange);
    backend.publish("nobody.bulk", "poison").await;
    let mut given_back = 0;
    until("the broker gives it up", async || {
        let got = BasicGetOptions::default();
        let channel = &backend.operator.channel;
        let Some(message) = channel
            .basic_get(unbound.as_str().into(), got)
            .await
            .unwrap()
        else {
            return given_back >= 20;
        };
        let requeue = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        message.delivery.acker.nack(requeue).await.unwrap();
        given_back += 1;
        false
    })
    .await;
    let _subscription = broker.subscribe(1).await.unwrap();
    let mut letter = None;
    until("it is a dead letter", async || {
        if let Ok(mut batch) = broker.dead_letters(1).await {
            letter = batch.letters.pop();
        }
        letter.is_some()
    })
    .await;
    let letter = letter.unwrap();
    assert!(letter.is_request);
    assert_eq!(letter.routing_key, "nobody.bulk");
    assert_eq!(
        (&letter.reason[..], &letter.body[..]),
        ("delivery_limit", &b"poison"[..])
    );
}
