//! Engines and servers that stall, vanish or refuse, one at a time.
//! It must not know how anybody reconnects.

use std::time::Duration;

use clarion_simulator::Options;
use serde_json::json;

use super::cluster::{Cluster, Ledger, UNRECORDED_MAX};
use crate::harness::{PATIENCE, alone, apple, postgres, raw, seed, size, until};

/// Long enough for everybody else to give a stalled process up.
const STALL: Duration = Duration::from_secs(25);
/// Pushes that wait for the provider's answer while the broker is blocked, and for how long, ms: less than a request may take.
const HELD: u64 = 20;
const HELD_MS: i64 = 10_000;

fn slow() -> Options {
    Options {
        latency_ms: 50,
        ..Options::default()
    }
}

/// A stalled engine loses its work to the others, and sends nothing of it when it wakes up beyond what it had in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_engine_repeats_no_more_than_it_had_in_flight() {
    let _alone = alone().await;
    let total = size("SCALE_STALLED", 20_000);
    let cluster = Cluster::start(2, slow(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let tokens: Vec<String> = (0..total).map(|number| apple(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    cluster.reached(total / 4, PATIENCE).await;
    cluster.engines[0].signal("STOP");
    tokio::time::timeout(STALL * 4, calls.finished_within(&id, STALL * 4))
        .await
        .unwrap();
    cluster.engines[0].signal("CONT");
    // It is back at work when a push of another tenant, which either may send, gets through ten times.
    let other = cluster.world.tenant().await;
    for number in 0..10 {
        let token = apple(seed() + 1, number);
        let body =
            json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Hi"}});
        cluster.world.calls(&other).notify(&body).await;
    }
    let all = tokens.len() as u64 + 10;
    until("all to be accepted", PATIENCE, || async {
        (cluster.accepted().len() as u64 == all).then_some(())
    })
    .await;
    let mine = tokens.into_iter();
    let others = (0..10).map(|number| apple(seed() + 1, number));
    let ledger = Ledger::of(&cluster, mine.chain(others));
    println!("scale: stalled engine: {ledger:?}");
    assert_eq!((ledger.missing, ledger.unexpected), (0, 0));
    assert!(ledger.duplicates <= UNRECORDED_MAX, "{ledger:?}");
}

/// Messages of jobs that the broker has, in somebody's hands or not.
fn queued(cluster: &Cluster) -> u64 {
    let queues = cluster.rabbit.ctl(&["list_queues", "name", "messages"]);
    let jobs = queues.lines().filter(|line| line.contains(".jobs."));
    let messages = jobs.map(|line| line.split_whitespace().last().unwrap());
    messages.map(|count| count.parse::<u64>().unwrap()).sum()
}

/// While the broker refuses publishes, requests are answered 503 at once, and what was queued before is delivered and acked
/// all the same.
async fn goes_on_while_blocked(block: &[&str], unblock: &[&str]) {
    let cluster = Cluster::start(1, slow(), |setup| setup).await;
    // What is sent meanwhile is answered when the broker has been blocked for long.
    let rule = format!("[[rule]]\nmatch = {{ }}\naction = {{ delay_ms = {HELD_MS} }}\n");
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let push = |number| {
        let token = apple(seed(), number);
        json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Hi"}})
    };
    calls.notify(&push(0)).await;
    cluster.reached(1, PATIENCE).await;
    cluster.world.simulator.set_rules_toml(&rule).unwrap();
    for number in 10..10 + HELD {
        calls.notify(&push(number)).await;
    }
    // The broker counts every five seconds.
    until("the broker to have counted them", PATIENCE, || async {
        (queued(&cluster) == HELD).then_some(())
    })
    .await;
    cluster.rabbit.ctl(block);
    let refused = until("a refusal", PATIENCE, || async {
        let answer = calls.caller.post(&calls.path("notify"), &push(1)).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_ne!(refused.header("retry-after"), "");
    let (path, body) = (calls.path("notify"), push(2));
    let quick = tokio::time::timeout(Duration::from_secs(2), calls.caller.post(&path, &body));
    assert_eq!(quick.await.unwrap().status, 503);
    until("all to be delivered and acked", PATIENCE, || async {
        (queued(&cluster) == 0).then_some(())
    })
    .await;
    let accepted = cluster.accepted();
    let is_there = |number| accepted.contains_key(&apple(seed(), number));
    assert!((10..10 + HELD).all(is_there));
    let still = calls.caller.post(&calls.path("notify"), &push(4)).await;
    assert_eq!(still.status, 503, "{}", still.text);
    cluster.rabbit.ctl(unblock);
    until("the broker to take publishes", PATIENCE, || async {
        let answer = calls.caller.post(&calls.path("notify"), &push(3)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_is_answered_with_503_and_engines_go_on() {
    let _alone = alone().await;
    let watermark = "set_vm_memory_high_watermark";
    goes_on_while_blocked(&[watermark, "0.0000001"], &[watermark, "0.6"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_disk_is_answered_with_503_and_engines_go_on() {
    let _alone = alone().await;
    let limit = "set_disk_free_limit";
    goes_on_while_blocked(&[limit, "999GB"], &[limit, "50MB"]).await;
}

/// The database restarts under load: no request is accepted that was not stored, and everything accepted arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_database_loses_nothing() {
    let _alone = alone().await;
    let total = size("SCALE_DATABASE", 10_000);
    let cluster = Cluster::start(2, slow(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let tokens: Vec<String> = (0..total).map(|number| apple(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    cluster.reached(total / 4, PATIENCE).await;
    let database = cluster.database();
    tokio::task::spawn_blocking(move || {
        let backends = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        );
        for _ in 0..3 {
            postgres().sql("postgres", &backends);
        }
    })
    .await
    .unwrap();
    let status = calls.finished_within(&id, PATIENCE * 2).await;
    assert_eq!(status["accepted"], total, "{status}");
    let ledger = Ledger::of(&cluster, tokens.into_iter());
    assert_eq!((ledger.missing, ledger.unexpected), (0, 0));
    assert!(ledger.duplicates <= UNRECORDED_MAX, "{ledger:?}");
}
