//! Work that engines share: an exact ledger while an engine and the broker die, a new tenant, a killed broker under retries.
//! It must not know who holds which job.

use std::time::Duration;

use clarion_simulator::Options;
use serde_json::json;

use super::cluster::{Cluster, Ledger, UNRECORDED_MAX};
use crate::harness::{PATIENCE, apple, google, raw, seed, size};

/// What the provider asks to be waited for.
const RETRY_AFTER_S: i64 = 8;

/// Longest a whole run may take.
fn patience() -> Duration {
    Duration::from_secs(size("SCALE_PATIENCE_S", 180))
}

/// Ten bulks; one engine is killed and started again, the broker is killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn two_engines_lose_nothing_when_one_and_the_broker_are_killed() {
    let total = size("SCALE_RECIPIENTS", 20_000);
    let options = Options {
        latency_ms: 20,
        ..Options::default()
    };
    let mut cluster = Cluster::start(2, options, |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let mut ids = Vec::new();
    for bulk in 0..10 {
        let tokens: Vec<String> = (bulk * total / 10..(bulk + 1) * total / 10)
            .map(|number| apple(seed(), number))
            .collect();
        ids.push(calls.alert_to(&tokens).await);
    }
    cluster.reached(total / 4, patience()).await;
    cluster.engines[0].kill9();
    cluster.engines[0].restart().await;
    cluster.reached(total / 2, patience()).await;
    cluster.settle();
    cluster.rabbit.kill9();
    cluster.rabbit.start_again();
    for id in &ids {
        let status = calls.finished_within(id, patience()).await;
        assert_eq!(status["accepted"], total / 10, "{status}");
    }
    let ledger = Ledger::of(&cluster, (0..total).map(|number| apple(seed(), number)));
    println!("scale: {total} recipients, {ledger:?}");
    assert_eq!((ledger.missing, ledger.unexpected), (0, 0));
    // One engine died; the other and the restarted one were cut off from the broker, and record what they sent.
    assert!(ledger.duplicates <= 2 * UNRECORDED_MAX, "{ledger:?}");
}

/// Nothing waits in the broker: what is due while it is down is sent once it is back, and not before its time.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_survives_the_death_of_the_broker() {
    let total = size("SCALE_WAITING", 500);
    let cluster = Cluster::start(2, Options::default(), |setup| setup).await;
    let rule = format!(
        "[[rule]]\nmatch = {{ provider = 'fcm', first = {total} }}\n\
         action = {{ reason = 'UNAVAILABLE', retry_after = '{RETRY_AFTER_S}' }}\n"
    );
    cluster.world.simulator.set_rules_toml(&rule).unwrap();
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let tokens: Vec<String> = (0..total).map(|number| google(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    cluster.reached(1, PATIENCE).await;
    cluster.settle();
    cluster.rabbit.kill9();
    cluster.rabbit.start_again();
    let status = calls.finished_within(&id, patience()).await;
    assert_eq!(status["accepted"], total, "{status}");
    let ledger = Ledger::of(&cluster, tokens.into_iter());
    assert_eq!((ledger.missing, ledger.unexpected), (0, 0));
    for (token, attempts) in cluster.attempts() {
        let early = attempts
            .windows(2)
            .any(|pair| pair[1] - pair[0] < RETRY_AFTER_S * 1_000);
        assert!(!early, "{token} was tried too early: {attempts:?}");
    }
}

/// A tenant that did not exist when the engines started.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenants_first_push_goes_within_seconds() {
    let cluster = Cluster::start(2, Options::default(), |setup| setup).await;
    for number in 0..3 {
        let tenant = cluster.world.tenant().await;
        let token = apple(seed(), number);
        let body =
            json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Hi"}});
        cluster.world.calls(&tenant).notify(&body).await;
        cluster.reached(number + 1, Duration::from_secs(3)).await;
    }
}
