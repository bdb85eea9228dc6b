//! Work that engines share: an exact ledger while an engine and the broker die, a new tenant, a killed broker under retries.
//! It must not know who holds which job.

use std::time::Duration;

use clarion_simulator::Options;
use serde_json::json;

use super::cluster::{Cluster, Ledger, UNRECORDED_MAX};
use crate::harness::{PATIENCE, alone, apple, google, now_ms, raw, seed, size, until};

/// How soon a new tenant is served.
const FIRST_PUSH_MAX: Duration = Duration::from_secs(3);
/// How long the provider fails, ms.
const FAILING_MS: i64 = 3_000;
/// What the provider asks to be waited for.
const RETRY_AFTER_S: i64 = 8;

/// Longest a whole run may take.
pub(super) fn patience() -> Duration {
    Duration::from_secs(size("SCALE_PATIENCE_S", 180))
}

/// Ten bulks; one engine is killed and started again, the broker is killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn two_engines_lose_nothing_when_one_and_the_broker_are_killed() {
    let _alone = alone().await;
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
async fn waits_for_a_retry(while_waiting: impl AsyncFnOnce(&Cluster)) {
    let total = size("SCALE_WAITING", 500);
    let cluster = Cluster::start(2, Options::default(), |setup| setup).await;
    let rule = format!(
        "[[rule]]\nmatch = {{ provider = 'fcm', until_ms = {FAILING_MS} }}\n\
         action = {{ reason = 'UNAVAILABLE', retry_after = '{RETRY_AFTER_S}' }}\n"
    );
    cluster.world.simulator.set_rules_toml(&rule).unwrap();
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let tokens: Vec<String> = (0..total).map(|number| google(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    cluster.reached(1, PATIENCE).await;
    while_waiting(&cluster).await;
    let status = calls.finished_within(&id, patience()).await;
    assert_eq!(status["accepted"], total, "{status}");
    let ledger = Ledger::of(&cluster, tokens.into_iter());
    let attempts = cluster.attempts();
    let again = attempts
        .values()
        .filter(|attempts| attempts.len() > 1)
        .count();
    println!("scale: {total} recipients, {again} of them had to wait, {ledger:?}");
    assert!(again > 0, "nothing had to wait");
    assert_eq!((ledger.missing, ledger.unexpected), (0, 0));
    for (token, attempts) in attempts {
        let early = attempts
            .windows(2)
            .any(|pair| pair[1] - pair[0] < RETRY_AFTER_S * 1_000);
        assert!(!early, "{token} was tried too early: {attempts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_survives_the_death_of_the_broker() {
    let _alone = alone().await;
    waits_for_a_retry(async |cluster| {
        cluster.settle();
        cluster.rabbit.kill9();
        cluster.rabbit.start_again();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_falls_due_while_the_broker_is_stopped_is_sent_when_it_is_back() {
    let _alone = alone().await;
    waits_for_a_retry(async |cluster| {
        // By then what the provider refused at first has been answered, and waits.
        let due = now_ms() + FAILING_MS + RETRY_AFTER_S * 1_000;
        cluster.settle();
        cluster.rabbit.stop();
        until("all to be due", PATIENCE, || async {
            (now_ms() > due).then_some(())
        })
        .await;
        cluster.rabbit.start_again();
    })
    .await;
}

/// A tenant that did not exist when the engines started.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenants_first_push_goes_within_seconds() {
    let _alone = alone().await;
    let cluster = Cluster::start(2, Options::default(), |setup| setup).await;
    for number in 0..3 {
        let tenant = cluster.world.tenant().await;
        let to = raw(&[apple(seed(), number)]);
        let body = json!({"device_tokens": to, "alert": {"title": "Hi"}});
        let calls = cluster.world.calls(&tenant);
        calls.notify(&body).await;
        cluster.reached(number + 1, FIRST_PUSH_MAX).await;
    }
}
