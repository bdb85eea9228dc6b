//! What only RabbitMQ must keep while it works: new queues are found, what is not routed is not accepted, dead letters,
//! shards, what may not be configured. It must not know how leases are kept.

use std::num::NonZeroU16;
use std::time::Duration;

use clarion_engine::broker::rabbitmq::{QueueType, RabbitBroker, RabbitOptions};
use clarion_engine::broker::{Broker, Error, QueueName};
use clarion_services::rabbitmq::shared;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use crate::place::{PATIENCE, body, connect, drain, message, next, options, publish, queue, until};

/// A connection of an operator, past the engine.
pub(crate) struct Operator {
    connection: lapin::Connection,
    pub(crate) channel: lapin::Channel,
    prefix: String,
}

impl Operator {
    pub(crate) async fn of(options: &RabbitOptions) -> Self {
        let properties = lapin::ConnectionProperties::default();
        let connection = lapin::Connection::connect(&options.url, properties)
            .await
            .unwrap();
        Self {
            channel: connection.create_channel().await.unwrap(),
            connection,
            prefix: options.prefix.clone(),
        }
    }

    fn name(&self, queue: &QueueName) -> String {
        format!("{}.jobs.{}", self.prefix, Self::key(queue))
    }

    fn key(queue: &QueueName) -> String {
        format!("{}.{}", queue.tenant, queue.lane.as_str())
    }

    pub(crate) async fn delete(&self, name: &str) {
        let options = QueueDeleteOptions::default();
        let deleted = self.channel.queue_delete(name.into(), options);
        deleted.await.unwrap();
    }

    async fn unbind(&self, queue: &QueueName) {
        let exchange = format!("{}.jobs", self.prefix);
        let (name, key) = (self.name(queue), Self::key(queue));
        let none = FieldTable::default();
        self.channel
            .queue_unbind(name.into(), exchange.into(), key.into(), none)
            .await
            .unwrap();
    }

    /// Waits until there is an exchange of this name.
    pub(crate) async fn has_exchange(&self, name: &str) {
        until("an exchange is there", async || {
            // A refusal closes the channel.
            let channel = self.connection.create_channel().await.unwrap();
            let options = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
            let found = channel.exchange_declare(name.into(), kind, options, none);
            found.await.is_ok()
        })
        .await;
    }

    async fn count(&self, name: &str) -> u32 {
        let options = QueueDeclareOptions::durable().passive();
        let none = FieldTable::default();
        let queue = self.channel.queue_declare(name.into(), options, none);
        queue.await.unwrap().message_count()
    }
}

fn test_options() -> RabbitOptions {
    options(shared().url())
}

/// Tries until it works; every attempt waits for the broker.
pub(crate) async fn publish_until_taken(broker: &RabbitBroker, queue: &QueueName, body: &str) {
    let publish = async || broker.publish(vec![message(queue, body)]).await.is_ok();
    until("a publish is taken", publish).await;
}

#[tokio::test]
async fn an_engine_finds_a_new_tenant_by_its_first_message() {
    let options = test_options();
    let (engine, ingest) = (connect(&options).await, connect(&options).await);
    let mut subscription = engine.subscribe(1).await.unwrap();
    // The engine listens once something of its own has come through.
    publish(&engine, &queue("old"), &["first"]).await;
    drain(&engine, &mut subscription, 1).await;
    publish(&ingest, &queue("new"), &["hello"]).await;
    let lease = tokio::time::timeout(Duration::from_secs(3), next(&mut subscription));
    let lease = lease.await.expect("within three seconds");
    assert_eq!(
        (&lease.queue, body(&lease).as_str()),
        (&queue("new"), "hello")
    );
}

#[tokio::test]
async fn what_no_queue_takes_is_published_again_once_the_queue_is_declared_again() {
    let options = test_options();
    let broker = connect(&options).await;
    let (q, other) = (queue("acme"), queue("other"));
    publish(&broker, &q, &["a"]).await;
    let operator = Operator::of(&options).await;
    operator.unbind(&q).await;
    // Only what was refused: no message is taken twice.
    let both = vec![message(&other, "once"), message(&q, "b")];
    broker.publish(both).await.unwrap();
    assert_eq!(operator.count(&operator.name(&other)).await, 1);
    let mut subscription = broker.subscribe(1).await.unwrap();
    let mut taken = drain(&broker, &mut subscription, 3).await;
    taken.sort();
    assert_eq!(taken, ["a", "b", "once"]);
}

#[tokio::test]
async fn what_no_queue_takes_in_the_end_is_not_accepted() {
    let options = test_options();
    let q = queue("acme");
    publish(&connect(&options).await, &q, &["a"]).await;
    // It may not declare the queue again.
    let passive = RabbitOptions {
        passive: true,
        ..options.clone()
    };
    let broker = connect(&passive).await;
    let operator = Operator::of(&options).await;
    operator.unbind(&q).await;
    let refused = broker.publish(vec![message(&q, "lost")]).await;
    assert!(
        matches!(refused, Err(Error::NotConfirmed(_))),
        "{refused:?}"
    );
    assert_eq!(operator.count(&operator.name(&q)).await, 1);
}

/// The first messages of a new tenant may come through several processes at once.
#[tokio::test]
async fn a_queue_that_is_made_by_many_at_once_takes_what_all_of_them_publish() {
    let options = test_options();
    let mut brokers = Vec::new();
    for _ in 0..4 {
        brokers.push(std::sync::Arc::new(connect(&options).await));
    }
    for round in 0..10 {
        let calls = brokers.iter().map(|broker| {
            let broker = std::sync::Arc::clone(broker);
            let q = queue(&format!("new-{round}"));
            tokio::spawn(async move { broker.publish(vec![message(&q, "first")]).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
    }
}

/// Without the queue behind the alternate exchange messages are returned, and the library hands a returned message to
/// whichever confirm comes first.
#[tokio::test]
async fn a_returned_message_is_told_from_its_neighbours() {
    let options = test_options();
    let broker = std::sync::Arc::new(connect(&options).await);
    let (good, bad) = (queue("good"), queue("bad"));
    publish(&*broker, &good, &["0"]).await;
    let operator = Operator::of(&options).await;
    operator
        .delete(&format!("{}.unroutable", options.prefix))
        .await;
    for round in 0..10 {
        publish(&*broker, &bad, &["there"]).await;
        operator.unbind(&bad).await;
        let calls = (0..50).map(|n| {
            let q = if n == 25 { bad.clone() } else { good.clone() };
            let broker = std::sync::Arc::clone(&broker);
            tokio::spawn(async move { broker.publish(vec![message(&q, "x")]).await })
        });
        for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
            let answer = call.await.unwrap();
            assert_eq!(answer.is_err(), n == 25, "round {round}, {n}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_deleted_queue_is_consumed_again() {
    let options = test_options();
    let broker = connect(&options).await;
    let q = queue("acme");
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&broker, &q, &["a"]).await;
    drain(&broker, &mut subscription, 1).await;
    let operator = Operator::of(&options).await;
    operator.delete(&operator.name(&q)).await;
    publish_until_taken(&broker, &q, "b").await;
    let lease = tokio::time::timeout(Duration::from_secs(5), next(&mut subscription));
    assert_eq!(body(&lease.await.expect("within five seconds")), "b");
}

#[tokio::test]
async fn what_is_given_back_too_often_becomes_a_dead_letter() {
    let options = test_options();
    let broker = connect(&options).await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&broker, &queue("acme"), &["poison"]).await;
    let mut handed_out = 0;
    let dead = format!("{}.dead", options.prefix);
    let operator = Operator::of(&options).await;
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let waiting = tokio::time::timeout(PATIENCE, async {
        while operator.count(&dead).await == 0 {
            tokio::select! {
                lease = next(&mut subscription) => {
                    handed_out += 1;
                    drop(lease);
                }
                _ = looks.tick() => {}
            }
        }
    });
    waiting.await.expect("it should be dead");
    assert!((20..=21).contains(&handed_out), "{handed_out}");
    let batch = broker.dead_letters(10).await.unwrap();
    let letter = &batch.letters[0];
    assert_eq!((batch.letters.len(), &letter.body[..]), (1, &b"poison"[..]));
    assert_eq!(letter.queue, Some(queue("acme")));
    assert!(!letter.is_request);
    assert_eq!(letter.reason, "delivery_limit");
    assert!(letter.published_at.is_some());
    // Not written down: it stays.
    drop(batch);
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            let batch = broker.dead_letters(10).await.unwrap();
            if !batch.letters.is_empty() {
                return batch;
            }
        }
    });
    again.await.expect("it comes back").done().await.unwrap();
    assert!(broker.dead_letters(10).await.unwrap().letters.is_empty());
}

#[tokio::test]
async fn tenants_share_shards_and_keep_their_names() {
    let options = RabbitOptions {
        shards: NonZeroU16::new(2),
        ..test_options()
    };
    let (engine, ingest) = (connect(&options).await, connect(&options).await);
    let mut subscription = engine.subscribe(4).await.unwrap();
    let names: Vec<QueueName> = (0..20).map(|n| queue(&format!("t{n}"))).collect();
    for name in &names {
        // RabbitMQ refuses while it still makes a queue that the engine has declared at the same time.
        publish_until_taken(&ingest, name, name.tenant.as_str()).await;
    }
    let mut seen = Vec::new();
    for _ in &names {
        let lease = next(&mut subscription).await;
        assert_eq!(body(&lease), lease.queue.tenant.as_str());
        seen.push(lease.queue.clone());
        assert_eq!(engine.ack(vec![lease]).await.unwrap(), [true]);
    }
    seen.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn classic_queues_work_too() {
    let options = RabbitOptions {
        queue_type: QueueType::Classic,
        ..test_options()
    };
    let broker = connect(&options).await;
    let mut subscription = broker.subscribe(2).await.unwrap();
    publish(&broker, &queue("acme"), &["a", "b", "c"]).await;
    drop(next(&mut subscription).await);
    let mut got = drain(&broker, &mut subscription, 3).await;
    got.sort();
    assert_eq!(got, ["a", "b", "c"]);
}

#[tokio::test]
async fn where_it_may_not_configure_it_only_looks() {
    let passive = RabbitOptions {
        passive: true,
        ..test_options()
    };
    let nothing_there = RabbitBroker::connect(passive.clone()).await;
    assert!(matches!(nothing_there, Err(Error::Connection(_))));
    let active = RabbitOptions {
        passive: false,
        ..passive.clone()
    };
    publish(&connect(&active).await, &queue("acme"), &["a"]).await;
    let broker = connect(&passive).await;
    publish(&broker, &queue("acme"), &["b"]).await;
    let missing = broker.publish(vec![message(&queue("nobody"), "c")]).await;
    assert!(matches!(missing, Err(Error::Unavailable(_))), "{missing:?}");
    let mut subscription = broker.subscribe(1).await.unwrap();
    assert_eq!(drain(&broker, &mut subscription, 2).await, ["a", "b"]);
}

#[tokio::test]
async fn it_says_when_the_broker_was_heard_from() {
    let broker = connect(&test_options()).await;
    assert_eq!(broker.heard_from(0), 0, "nothing is consumed yet");
    let _subscription = broker.subscribe(1).await.unwrap();
    until("it was heard from", async || broker.heard_from(0) > 0).await;
    let first = broker.heard_from(0);
    until("it was heard from again", async || {
        broker.heard_from(0) > first
    })
    .await;
}

/// As a broker without free file handles does.
#[tokio::test]
async fn a_broker_that_never_answers_is_given_up_and_its_socket_closed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    let mute = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Ends only when the other side closes.
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    let refused = RabbitBroker::connect(RabbitOptions::new(url, "test")).await;
    assert!(matches!(refused, Err(Error::Connection(_))), "{refused:?}");
    assert!(mute.join().unwrap().is_ok());
}

#[tokio::test]
async fn nothing_it_prints_holds_the_password() {
    let options = RabbitOptions::new("amqp://me:hunter2@127.0.0.1:1/%2f", "test");
    assert!(!format!("{options:?}").contains("hunter2"));
    let refused = RabbitBroker::connect(options).await.unwrap_err();
    assert!(!format!("{refused:?} {refused}").contains("hunter2"));
}
