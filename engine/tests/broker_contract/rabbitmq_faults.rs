//! RabbitMQ killed, short of memory, and tired of waiting for an ack: on a server of its own, one fault at a time.
//! It must not know how leases are kept.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clarion_engine::broker::rabbitmq::RabbitBroker;
use clarion_engine::broker::{Broker, Delivery, Error, Subscription};
use clarion_services::rabbitmq::Rabbit;
use tokio::sync::{Mutex, MutexGuard};

use crate::place::{PATIENCE, body, connect, drain, message, next, options, publish, queue};
use crate::rabbitmq::publish_until_taken;

/// Confirmed messages after which the server is killed.
const CONFIRMED: usize = 200;
/// How soon a publish is answered while the server takes none.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The server of these tests, for one of them at a time.
async fn server() -> (&'static Rabbit, MutexGuard<'static, ()>) {
    static SERVER: OnceLock<(Rabbit, Mutex<()>)> = OnceLock::new();
    let (rabbit, turn) = SERVER.get_or_init(|| (Rabbit::start(), Mutex::new(())));
    (rabbit, turn.lock().await)
}

async fn leases_lost(subscription: &mut Subscription) {
    let lost = tokio::time::timeout(PATIENCE, async {
        loop {
            match subscription.deliveries.recv().await {
                Some(Delivery::LeasesLost) => return,
                Some(Delivery::Leased(lease)) => drop(lease),
                None => panic!("the subscription ended"),
            }
        }
    });
    lost.await.expect("the leases should have been lost");
}

async fn publish_until_refused(broker: &RabbitBroker) {
    while publish_one(broker).await.is_ok() {}
}

async fn publish_one(broker: &RabbitBroker) -> Result<(), Error> {
    broker.publish(vec![message(&queue("acme"), "x")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_kill_9_of_the_server() {
    let (rabbit, _turn) = server().await;
    let broker = Arc::new(connect(&options(&rabbit.url("/"))).await);
    let mut subscription = broker.subscribe(4).await.unwrap();
    publish(&*broker, &queue("acme"), &["first"]).await;
    drain(&*broker, &mut subscription, 1).await;
    // RabbitMQ keeps the names of its quorum queues in a file that it writes with some seconds' delay: one that is killed
    // right after a queue was made loses the queue. An orderly stop writes it.
    tokio::task::spawn_blocking(|| rabbit.restart())
        .await
        .unwrap();
    leases_lost(&mut subscription).await;
    publish_until_taken(&broker, &queue("acme"), "held").await;
    let held = next(&mut subscription).await;
    let (count, counted) = tokio::sync::watch::channel(0);
    let publisher = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            let mut confirmed = Vec::new();
            for n in 0.. {
                let name = format!("m{n}");
                if broker
                    .publish(vec![message(&queue("acme"), &name)])
                    .await
                    .is_err()
                {
                    break;
                }
                confirmed.push(name);
                count.send_replace(confirmed.len());
            }
            confirmed
        })
    };
    let mut counted = counted;
    counted.wait_for(|count| *count >= CONFIRMED).await.unwrap();
    tokio::task::spawn_blocking(|| rabbit.kill9())
        .await
        .unwrap();
    let confirmed = publisher.await.unwrap();
    let refused = publish_one(&broker);
    let refused = tokio::time::timeout(AT_ONCE, refused)
        .await
        .expect("at once");
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(!broker.is_ready().await);
    leases_lost(&mut subscription).await;
    assert_eq!(broker.ack(vec![held]).await.unwrap(), [false]);
    tokio::task::spawn_blocking(|| rabbit.start_again())
        .await
        .unwrap();
    let mut missing: BTreeSet<String> = confirmed.into_iter().collect();
    missing.insert("held".to_owned());
    while !missing.is_empty() {
        let lease = next(&mut subscription).await;
        missing.remove(&body(&lease));
        broker.ack(vec![lease]).await.unwrap();
    }
    publish_until_taken(&broker, &queue("acme"), "after").await;
}

/// Killed right after a quorum queue was made, RabbitMQ forgets who its members are: the queue has no leader any more, and
/// a channel that asks it for anything waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_lost_its_leader_stops_no_other() {
    let (rabbit, _turn) = server().await;
    let broker = connect(&options(&rabbit.url("/"))).await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&broker, &queue("old"), &["before"]).await;
    drain(&broker, &mut subscription, 1).await;
    tokio::task::spawn_blocking(|| rabbit.restart())
        .await
        .unwrap();
    leases_lost(&mut subscription).await;
    publish_until_taken(&broker, &queue("old"), "confirmed").await;
    publish_until_taken(&broker, &queue("new"), "perhaps lost").await;
    tokio::task::spawn_blocking(|| {
        rabbit.kill9();
        rabbit.start_again();
    })
    .await
    .unwrap();
    let has_come = async |subscription: &mut Subscription, expected: &str| {
        let coming = tokio::time::timeout(2 * PATIENCE, async {
            loop {
                if let Some(Delivery::Leased(lease)) = subscription.deliveries.recv().await {
                    let is_it = body(&lease) == expected;
                    broker.ack(vec![lease]).await.unwrap();
                    if is_it {
                        return;
                    }
                }
            }
        });
        coming.await.expect("it should have come");
    };
    has_come(&mut subscription, "confirmed").await;
    publish_until_taken(&broker, &queue("old"), "after").await;
    has_come(&mut subscription, "after").await;
}

#[tokio::test]
async fn short_of_memory_it_refuses_at_once_and_acks_go_on() {
    let (rabbit, _turn) = server().await;
    let broker = connect(&options(&rabbit.url("/"))).await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&broker, &queue("acme"), &["a", "b", "c", "d"]).await;
    let first = next(&mut subscription).await;
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let refused = publish_until_refused(&broker);
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("refused");
    assert!(!broker.is_ready().await);
    let refused = publish_one(&broker);
    let refused = tokio::time::timeout(AT_ONCE, refused)
        .await
        .expect("at once");
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    // Each ack brings the next message: the server has taken it.
    assert_eq!(broker.ack(vec![first]).await.unwrap(), [true]);
    assert_eq!(drain(&broker, &mut subscription, 3).await, ["b", "c", "d"]);
    rabbit.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    publish_until_taken(&broker, &queue("acme"), "after").await;
    assert!(broker.is_ready().await);
}

#[tokio::test]
async fn a_channel_that_waited_too_long_for_an_ack_is_rebuilt() {
    let (rabbit, _turn) = server().await;
    let impatient = "application:set_env(rabbit, consumer_timeout, 500), \
         application:set_env(rabbit, channel_tick_interval, 500).";
    rabbit.eval(impatient);
    let options = options(&rabbit.url("/"));
    let broker = connect(&options).await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&broker, &queue("acme"), &["slow"]).await;
    let held = next(&mut subscription).await;
    assert!(!held.redelivered);
    leases_lost(&mut subscription).await;
    assert_eq!(broker.ack(vec![held]).await.unwrap(), [false]);
    let again = next(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("slow", true));
    assert_eq!(broker.ack(vec![again]).await.unwrap(), [true]);
    let patient = "application:set_env(rabbit, consumer_timeout, 1800000), \
         application:set_env(rabbit, channel_tick_interval, 60000).";
    rabbit.eval(patient);
    let connections = rabbit.ctl(&["list_connections", "client_properties"]);
    for purpose in ["publish", "consume"] {
        let name = format!("clarion-test-{}-{purpose}", options.instance);
        assert!(connections.contains(&name), "{name} in {connections}");
    }
}
