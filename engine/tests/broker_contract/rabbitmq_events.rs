//! Outcome events on RabbitMQ: who hears them, what is confirmed, and what becomes of them while the broker is in trouble.
//! It must not know what an event says.

use clarion_engine::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use clarion_engine::broker::{Broker, Event, EventExchange};
use clarion_services::rabbitmq::shared;
use lapin::ExchangeKind;
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use crate::place::{connect, options, publish, queue, until};
use crate::rabbitmq::Operator;

fn test_options() -> RabbitOptions {
    RabbitOptions {
        events: true,
        ..options(shared().url())
    }
}

fn event(tenant: &str, id: &str) -> Event {
    Event {
        tenant: tenant.parse().unwrap(),
        id: id.to_owned(),
        body: format!("{{\"of\": \"{tenant}\"}}").into(),
    }
}

/// A backend with a queue of its own.
struct Backend {
    operator: Operator,
    queue: String,
}

impl Backend {
    async fn bound(options: &RabbitOptions, tenant: &str, arguments: FieldTable) -> Self {
        let operator = Operator::of(options).await;
        let queue = format!("{}.{tenant}.heard", options.prefix);
        let declare = QueueDeclareOptions::durable();
        let declared = operator
            .channel
            .queue_declare(queue.as_str().into(), declare, arguments);
        declared.await.unwrap();
        let exchange = format!("{}.events", options.prefix);
        let bind = QueueBindOptions::default();
        let none = FieldTable::default();
        let bound = operator.channel.queue_bind(
            queue.as_str().into(),
            exchange.into(),
            tenant.into(),
            bind,
            none,
        );
        bound.await.unwrap();
        Self { operator, queue }
    }

    /// Ids of all that lies in its queue.
    async fn heard(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let get = || {
            let acked = BasicGetOptions { no_ack: true };
            self.operator
                .channel
                .basic_get(self.queue.as_str().into(), acked)
        };
        while let Some(message) = get().await.unwrap() {
            let properties = &message.delivery.properties;
            assert_eq!(*properties.delivery_mode(), Some(2));
            let kind = properties.content_type().as_ref().unwrap();
            assert_eq!(kind.as_str(), "application/json");
            ids.push(properties.message_id().as_ref().unwrap().to_string());
        }
        ids
    }
}

async fn confirmed(broker: &RabbitBroker, events: Vec<Event>) -> Vec<bool> {
    broker.publish_events(events).await.unwrap()
}

#[tokio::test]
async fn a_bound_queue_hears_its_tenant_in_order_and_what_nobody_hears_is_gone() {
    let options = test_options();
    let broker = connect(&options).await;
    // Nobody is bound: confirmed all the same.
    assert_eq!(
        confirmed(&broker, vec![event("acme", "lost")]).await,
        [true]
    );
    assert!(confirmed(&broker, Vec::new()).await.is_empty());
    let acme = Backend::bound(&options, "acme", FieldTable::default()).await;
    let told = (0..100).map(|n| event(if n % 2 == 0 { "acme" } else { "globex" }, &n.to_string()));
    assert_eq!(confirmed(&broker, told.collect()).await, [true; 100]);
    let mine: Vec<String> = (0..100).step_by(2).map(|n: i32| n.to_string()).collect();
    assert_eq!(acme.heard().await, mine);
}

/// A backend's queue that is full and rejects keeps nobody else's events.
#[tokio::test]
async fn what_a_full_queue_refuses_is_not_confirmed_and_the_others_are() {
    let options = test_options();
    let broker = connect(&options).await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let acme = Backend::bound(&options, "acme", full).await;
    let globex = Backend::bound(&options, "globex", FieldTable::default()).await;
    let told = vec![event("acme", "1"), event("acme", "2"), event("globex", "3")];
    assert_eq!(confirmed(&broker, told).await, [true, false, true]);
    assert_eq!(acme.heard().await, ["1"]);
    assert_eq!(globex.heard().await, ["3"]);
}

/// Without its exchange events fail and jobs do not; the exchange is declared again.
#[tokio::test]
async fn a_deleted_exchange_comes_back_and_jobs_do_not_notice() {
    let options = test_options();
    let broker = connect(&options).await;
    assert_eq!(confirmed(&broker, vec![event("acme", "1")]).await, [true]);
    let operator = Operator::of(&options).await;
    let name = format!("{}.events", options.prefix);
    let deleted = operator
        .channel
        .exchange_delete(name.into(), ExchangeDeleteOptions::default());
    deleted.await.unwrap();
    assert!(
        broker
            .publish_events(vec![event("acme", "2")])
            .await
            .is_err()
    );
    publish(&broker, &queue("acme"), &["a job"]).await;
    assert!(broker.is_ready().await);
    let again = async || {
        broker
            .publish_events(vec![event("acme", "3")])
            .await
            .is_ok()
    };
    until("events are taken again", again).await;
}

/// Where nothing may be configured, the exchange must be there.
#[tokio::test]
async fn a_passive_broker_needs_the_exchange_and_does_not_make_it() {
    let options = test_options();
    let without = RabbitOptions {
        events: false,
        ..options.clone()
    };
    connect(&without).await.close().await;
    let passive = RabbitOptions {
        passive: true,
        ..options.clone()
    };
    let refused = RabbitBroker::connect(passive.clone()).await;
    assert!(refused.is_err());
    let operator = Operator::of(&options).await;
    let name = format!("{}.events", options.prefix);
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default();
    let declared =
        operator
            .channel
            .exchange_declare(name.into(), ExchangeKind::Topic, durable, none);
    declared.await.unwrap();
    let broker = connect(&passive).await;
    assert_eq!(confirmed(&broker, vec![event("acme", "1")]).await, [true]);
}
