//! The clauses that every queue must keep. They must not know how messages are kept.

use std::collections::{BTreeMap, BTreeSet};

use clarion_engine::broker::{Error, QueueName};
use clarion_engine::model::Lane;

use crate::contract;
use crate::place::{
    Place, body, depths_become, drain, message, next, nothing_more, publish, queue,
};

contract!(
    messages_of_a_queue_come_in_the_order_of_their_publishing,
    a_message_published_before_the_subscription_comes_too,
    a_dropped_lease_is_handed_out_again,
    an_acked_message_is_never_handed_out_again,
    no_more_than_the_credit_is_unacked,
    credit_can_be_raised_lowered_and_taken_away,
    an_idle_queue_does_not_wait_for_a_busy_one,
    the_lanes_of_a_tenant_are_queues_of_their_own,
    bodies_are_bytes,
    what_was_confirmed_is_there_after_a_crash,
    depths_count_what_is_not_acked,
    one_subscription_at_a_time,
    a_subscriber_that_goes_gives_everything_back,
    after_closing_nothing_is_taken,
    many_queues_are_served_side_by_side,
    concurrent_publishers_and_ackers_lose_nothing,
);

async fn messages_of_a_queue_come_in_the_order_of_their_publishing(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(3).await.unwrap();
    let q = queue("acme");
    let expected: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    for some in expected.chunks(7) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        publish(&*broker, &q, &some).await;
    }
    let got = drain(&*broker, &mut subscription, expected.len()).await;
    assert_eq!(got, expected);
}

async fn a_message_published_before_the_subscription_comes_too(place: Place) {
    let broker = place.open().await;
    publish(&*broker, &queue("acme"), &["a", "b"]).await;
    let mut subscription = broker.subscribe(10).await.unwrap();
    let lease = next(&mut subscription).await;
    assert_eq!((body(&lease).as_str(), lease.redelivered), ("a", false));
    assert!(lease.published_at.is_some());
    assert_eq!(body(&next(&mut subscription).await), "b");
}

async fn a_dropped_lease_is_handed_out_again(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    publish(&*broker, &queue("acme"), &["a", "b"]).await;
    let first = next(&mut subscription).await;
    let id = first.id;
    drop(first);
    let again = next(&mut subscription).await;
    assert_eq!(body(&again), "a");
    assert!(again.redelivered);
    assert_ne!(again.id, id);
    assert_eq!(broker.ack(vec![again]).await.unwrap(), [true]);
    let other = next(&mut subscription).await;
    assert_eq!((body(&other).as_str(), other.redelivered), ("b", false));
}

async fn an_acked_message_is_never_handed_out_again(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(5).await.unwrap();
    publish(&*broker, &queue("acme"), &["a", "b", "c"]).await;
    let leases = [
        next(&mut subscription).await,
        next(&mut subscription).await,
        next(&mut subscription).await,
    ];
    let [a, b, c] = leases;
    assert_eq!(broker.ack(vec![a, c]).await.unwrap(), [true, true]);
    drop((b, subscription, broker));
    let broker = place.open().await;
    broker.watch_queues(&[queue("acme")]);
    let mut subscription = broker.subscribe(5).await.unwrap();
    let lease = next(&mut subscription).await;
    assert_eq!((body(&lease).as_str(), lease.redelivered), ("b", true));
    nothing_more(&*broker, &mut subscription).await;
}

async fn no_more_than_the_credit_is_unacked(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(2).await.unwrap();
    publish(&*broker, &queue("acme"), &["a", "b", "c", "d"]).await;
    let a = next(&mut subscription).await;
    let _b = next(&mut subscription).await;
    nothing_more(&*broker, &mut subscription).await;
    broker.ack(vec![a]).await.unwrap();
    let _c = next(&mut subscription).await;
    nothing_more(&*broker, &mut subscription).await;
}

async fn credit_can_be_raised_lowered_and_taken_away(place: Place) {
    let broker = place.open().await;
    let q = queue("acme");
    let mut subscription = broker.subscribe(0).await.unwrap();
    broker.set_credit(&queue("the-probe"), 1);
    publish(&*broker, &q, &["a", "b", "c", "d"]).await;
    nothing_more(&*broker, &mut subscription).await;
    broker.set_credit(&q, 2);
    let held = [next(&mut subscription).await, next(&mut subscription).await];
    nothing_more(&*broker, &mut subscription).await;
    broker.set_credit(&q, 1);
    let [a, b] = held;
    broker.ack(vec![a]).await.unwrap();
    nothing_more(&*broker, &mut subscription).await;
    broker.ack(vec![b]).await.unwrap();
    let c = next(&mut subscription).await;
    broker.set_credit(&q, 0);
    drop(c);
    nothing_more(&*broker, &mut subscription).await;
    broker.set_credit(&q, 9);
    let back = [next(&mut subscription).await, next(&mut subscription).await];
    let back: BTreeSet<String> = back.iter().map(body).collect();
    assert_eq!(back, BTreeSet::from(["c".to_owned(), "d".to_owned()]));
}

async fn an_idle_queue_does_not_wait_for_a_busy_one(place: Place) {
    let broker = place.open().await;
    let flood: Vec<String> = (0..1_000).map(|n| format!("m{n}")).collect();
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    publish(&*broker, &queue("flood"), &flood).await;
    let mut subscription = broker.subscribe(4).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut subscription).await);
    }
    let quiet = queue("quiet");
    publish(&*broker, &quiet, &["now"]).await;
    assert_eq!(next(&mut subscription).await.queue, quiet);
}

async fn the_lanes_of_a_tenant_are_queues_of_their_own(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    let bulk = queue("acme");
    let transactional = QueueName {
        lane: Lane::Transactional,
        ..bulk.clone()
    };
    publish(&*broker, &bulk, &["a", "b"]).await;
    let _held = next(&mut subscription).await;
    publish(&*broker, &transactional, &["t"]).await;
    let lease = next(&mut subscription).await;
    assert_eq!((body(&lease).as_str(), &lease.queue), ("t", &transactional));
}

async fn bodies_are_bytes(place: Place) {
    let broker = place.open().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut publish = message(&queue("acme"), "");
    publish.body = every_byte.clone().into();
    broker.publish(vec![publish]).await.unwrap();
    let mut subscription = broker.subscribe(1).await.unwrap();
    assert_eq!(next(&mut subscription).await.body, every_byte);
}

async fn what_was_confirmed_is_there_after_a_crash(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(2).await.unwrap();
    publish(&*broker, &queue("acme"), &["a", "b", "c"]).await;
    let held = next(&mut subscription).await;
    let reopened = place.open_after_crash((broker, subscription)).await;
    let mut again = reopened.subscribe(3).await.unwrap();
    let mut got = Vec::new();
    for expected in ["a", "b", "c"] {
        let lease = next(&mut again).await;
        assert_eq!(body(&lease), expected);
        got.push(lease);
    }
    // Two of them had been handed out, or were about to be.
    assert!(got[0].redelivered && got[1].redelivered);
    drop(held);
}

async fn depths_count_what_is_not_acked(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    assert_eq!(broker.depths().await.unwrap(), []);
    publish(&*broker, &queue("acme"), &["a", "b"]).await;
    publish(&*broker, &queue("other"), &["c"]).await;
    depths_become(&*broker, &[(queue("acme"), 2), (queue("other"), 1)]).await;
    drain(&*broker, &mut subscription, 3).await;
    depths_become(&*broker, &[]).await;
}

async fn one_subscription_at_a_time(place: Place) {
    let broker = place.open().await;
    let subscription = broker.subscribe(1).await.unwrap();
    let second = broker.subscribe(1).await;
    assert!(matches!(second, Err(Error::Unavailable(_))));
    drop(subscription);
    broker.subscribe(1).await.unwrap();
}

async fn a_subscriber_that_goes_gives_everything_back(place: Place) {
    let broker = place.open().await;
    publish(&*broker, &queue("acme"), &["a", "b", "c"]).await;
    let mut subscription = broker.subscribe(3).await.unwrap();
    let held = next(&mut subscription).await;
    drop(subscription);
    drop(held);
    let mut subscription = broker.subscribe(3).await.unwrap();
    let mut got = drain(&*broker, &mut subscription, 3).await;
    got.sort();
    assert_eq!(got, ["a", "b", "c"]);
}

async fn after_closing_nothing_is_taken(place: Place) {
    let broker = place.open().await;
    let mut subscription = broker.subscribe(1).await.unwrap();
    assert!(broker.is_ready().await);
    publish(&*broker, &queue("acme"), &["a"]).await;
    let held = next(&mut subscription).await;
    broker.close().await;
    assert!(!broker.is_ready().await);
    assert!(subscription.deliveries.recv().await.is_none());
    let refused = broker.publish(vec![message(&queue("acme"), "b")]).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    assert!(broker.ack(vec![held]).await.is_err());
    broker.close().await;
    let reopened = place.open().await;
    reopened.watch_queues(&[queue("acme")]);
    depths_become(&*reopened, &[(queue("acme"), 1)]).await;
}

async fn many_queues_are_served_side_by_side(place: Place) {
    const QUEUES: usize = 200;
    let broker = place.open().await;
    let names: Vec<QueueName> = (0..QUEUES).map(|n| queue(&format!("t{n}"))).collect();
    let all: Vec<_> = (0..3)
        .flat_map(|n| names.iter().map(move |name| message(name, &n.to_string())))
        .collect();
    broker.publish(all).await.unwrap();
    let mut subscription = broker.subscribe(1).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..QUEUES {
        held.push(next(&mut subscription).await);
    }
    let first: BTreeSet<QueueName> = held.iter().map(|lease| lease.queue.clone()).collect();
    assert_eq!(first.len(), QUEUES, "one of each");
    assert!(held.iter().all(|lease| body(lease) == "0"));
    broker.ack(held).await.unwrap();
    let mut seen: BTreeMap<QueueName, Vec<String>> = BTreeMap::new();
    for _ in 0..2 * QUEUES {
        let lease = next(&mut subscription).await;
        seen.entry(lease.queue.clone())
            .or_default()
            .push(body(&lease));
        broker.ack(vec![lease]).await.unwrap();
    }
    assert!(seen.values().all(|bodies| *bodies == ["1", "2"]));
}

async fn concurrent_publishers_and_ackers_lose_nothing(place: Place) {
    const PUBLISHERS: usize = 20;
    const EACH: usize = 30;
    let broker = place.open().await;
    let mut subscription = broker.subscribe(8).await.unwrap();
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let broker = broker.clone();
        tokio::spawn(async move {
            let name = queue(&format!("t{}", publisher % 3));
            for n in 0..EACH {
                publish(&*broker, &name, &[&format!("{publisher}-{n}")]).await;
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut given_back = 0;
    while seen.len() < PUBLISHERS * EACH || given_back > 0 {
        let lease = next(&mut subscription).await;
        given_back -= usize::from(lease.redelivered);
        // Some are given back, once.
        if !lease.redelivered && seen.len() % 5 == 4 {
            given_back += 1;
            seen.entry(body(&lease)).or_default();
            continue;
        }
        *seen.entry(body(&lease)).or_default() += 1;
        broker.ack(vec![lease]).await.unwrap();
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert!(seen.values().all(|times| *times == 1), "each is acked once");
    nothing_more(&*broker, &mut subscription).await;
}
