//! A tenant's rate on three engines: whoever of them is there, stalled or has work, ten seconds hold ten times the rate.
//! It must not know how shares are agreed on.

use clarion_simulator::Options;
use serde_json::json;

use super::cluster::Cluster;
use super::work::patience;
use crate::harness::{alone, apple, now_ms, seed, size};

/// The window over which a rate is held, ms.
const WINDOW_MS: i64 = 10_000;
/// After a change shares have settled within this, ms.
const SETTLED_MS: i64 = 5_000;

/// Three engines, and a tenant with `backlog` recipients queued that may have `rate` of them a second.
async fn limited(rate: u64, backlog: u64) -> Cluster {
    let cluster = Cluster::start(3, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let limits = json!({"limits": {"rate": rate, "burst": (rate / 10).max(1)}});
    let path = format!("/tenants/{}", tenant.id);
    cluster.world.person().patch(&path, &limits).await.ok();
    let calls = cluster.world.calls(&tenant);
    let tokens: Vec<String> = (0..backlog).map(|number| apple(seed(), number)).collect();
    for bulk in tokens.chunks(50_000) {
        calls.alert_to(bulk).await;
    }
    cluster
}

/// Every window of ten seconds in these spans, but for the time in which shares settle, holds ten times the rate, give or take a
/// tenth.
fn holds(cluster: &Cluster, rate: u64, spans: &[(i64, i64)]) {
    let mut at: Vec<i64> = cluster.attempts().into_values().flatten().collect();
    at.sort_unstable();
    let mut counted = Vec::new();
    for (from, to) in spans {
        let begin = from.max(&at[0]) + SETTLED_MS;
        for from in (begin..to - WINDOW_MS).step_by(500) {
            let sent = at.partition_point(|at| *at < from + WINDOW_MS)
                - at.partition_point(|at| *at < from);
            counted.push(sent as u64);
        }
    }
    let windows = counted.len();
    println!("scale: {windows} windows of ten seconds at {rate}/s: {counted:?}");
    assert!(windows >= 4, "{counted:?}");
    for count in counted {
        assert!(
            count.abs_diff(rate * 10) <= rate,
            "{count} where {} were allowed",
            rate * 10
        );
    }
}

fn rate() -> u64 {
    size("SCALE_RATE", 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_share_a_tenants_rate_also_when_one_leaves() {
    let _alone = alone().await;
    let rate = rate();
    let mut cluster = limited(rate, rate * 60).await;
    cluster.reached(rate * 18, patience()).await;
    let left = now_ms();
    cluster.engines[0].kill9();
    cluster.reached(rate * 36, patience()).await;
    holds(&cluster, rate, &[(0, left), (left, now_ms())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_engine_does_not_hold_its_share() {
    let _alone = alone().await;
    let rate = rate();
    let cluster = limited(rate, rate * 60).await;
    cluster.reached(rate * 5, patience()).await;
    let stalled = now_ms();
    cluster.engines[0].signal("STOP");
    cluster.reached(rate * 24, patience()).await;
    let end = now_ms();
    cluster.engines[0].signal("CONT");
    holds(&cluster, rate, &[(stalled, end)]);
}

/// One engine has the only job: it gets the whole rate, not a third.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_job_is_sent_at_the_whole_rate() {
    let _alone = alone().await;
    // 500 recipients are one job; they last 25 seconds.
    let (rate, backlog) = (20, 500);
    let cluster = limited(rate, backlog).await;
    cluster.reached(backlog, patience()).await;
    holds(&cluster, rate, &[(0, now_ms())]);
}
