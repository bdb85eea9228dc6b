//! Work that engines share: an exact ledger while an engine and the broker die, a new tenant, a killed broker under retries.
//! It must not know who holds which job.

use std::time::Duration;

use clarion_simulator::Options;
use serde_json::json;

use super::cluster::{Cluster, Ledger, UNRECORDED_MAX};
use crate::harness::{PATIENCE, alone, apple, google, now_ms, raw, seed, size};

/// How soon a new tenant is served.
const FIRST_PUSH_MAX: Duration = Duration::from_secs(3);
/// How long the provider fails, ms.
const FAILING_MS: i64 = 3_000;
/// What the provider asks to be waited for.
const RETRY_AFTER_S: i64 = 8;

/// The window over which a rate is held, ms.
const WINDOW_MS: i64 = 10_000;
/// After a change shares have settled within this, ms.
const SETTLED_MS: i64 = 5_000;

/// Longest a whole run may take.
fn patience() -> Duration {
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
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_survives_the_death_of_the_broker() {
    let _alone = alone().await;
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

/// A tenant's rate holds for all engines together: from five seconds after the work began, and after an engine has left.
#[tokio::test(flavor = "multi_thread")]
async fn engines_share_a_tenants_rate() {
    let _alone = alone().await;
    let rate = size("SCALE_RATE", 200);
    let mut cluster = Cluster::start(3, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let limits = json!({"limits": {"rate": rate, "burst": rate / 10}});
    let path = format!("/tenants/{}", tenant.id);
    cluster.world.person().patch(&path, &limits).await.ok();
    let tokens: Vec<String> = (0..rate * 60).map(|number| apple(seed(), number)).collect();
    cluster.world.calls(&tenant).alert_to(&tokens).await;
    cluster.reached(rate * 18, PATIENCE).await;
    let left = now_ms();
    cluster.engines[0].kill9();
    cluster.reached(rate * 36, PATIENCE).await;
    let end = now_ms();
    let mut at: Vec<i64> = cluster.attempts().into_values().flatten().collect();
    at.sort_unstable();
    let first = at[0] + SETTLED_MS;
    let windows = (first..left - WINDOW_MS)
        .step_by(500)
        .chain((left + SETTLED_MS..end - WINDOW_MS).step_by(500));
    let mut counted = Vec::new();
    for from in windows {
        let sent = at
            .iter()
            .filter(|at| (from..from + WINDOW_MS).contains(*at));
        counted.push(sent.count());
    }
    let fair = usize::try_from(rate).unwrap() * 10;
    println!(
        "scale: {} windows of ten seconds at {rate}/s: {counted:?}",
        counted.len()
    );
    assert!(counted.len() >= 4, "{counted:?}");
    for count in counted {
        assert!(
            count.abs_diff(fair) * 10 <= fair,
            "{count} where {fair} were allowed"
        );
    }
}
