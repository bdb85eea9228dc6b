//! Outcome events: a backend hears of its tenant what came of a push, through crashes of the engine and the broker.
//! It must not know how events are kept or published.

use std::collections::BTreeMap;

use clarion_simulator::Options;
use serde_json::{Value, json};

use super::backend::Backend;
use super::cluster::Cluster;
use crate::harness::{PATIENCE, Tenant, alone, apple, raw, seed, size, until};

/// A third of the device tokens is refused for good.
const REFUSALS: &str = "[[rule]]\nmatch = { share = 0.33, seed = 7 }\n\
                        action = { reason = 'DeviceTokenNotForTopic' }\n";

async fn cluster(engines: usize, mode: &'static str) -> Cluster {
    let options = Options {
        latency_ms: 20,
        ..Options::default()
    };
    let cluster = Cluster::start(engines, options, |setup| setup.with("queue.events", mode)).await;
    cluster.world.simulator.set_rules_toml(REFUSALS).unwrap();
    cluster
}

/// Sends in five parts, and waits until all of it has ended.
async fn send(cluster: &Cluster, tenant: &Tenant, total: u64) -> Vec<String> {
    let calls = cluster.world.calls(tenant);
    let mut ids = Vec::new();
    for bulk in 0..5 {
        let part = bulk * total / 5..(bulk + 1) * total / 5;
        let tokens: Vec<String> = part.map(|number| apple(seed(), number)).collect();
        ids.push(calls.alert_to(&tokens).await);
    }
    ids
}

/// What the API says of everybody who failed, as an event says it.
async fn failed(cluster: &Cluster, tenant: &Tenant, id: &str) -> BTreeMap<u64, Value> {
    let failures = cluster.world.calls(tenant).failures(id, 500).await;
    let told = failures.iter().map(|row| {
        let said = json!({
            "ordinal": row["entry"], "state": row["state"], "platform": row["platform"],
            "device_token": row["token"], "reason": row["reason"],
        });
        (row["entry"].as_u64().unwrap(), said)
    });
    told.collect()
}

/// Waits until the backend has heard of so many of each notification.
async fn heard(backend: &mut Backend, expected: &[(String, usize)]) {
    let backend = tokio::sync::Mutex::new(backend);
    until("all events to be heard", PATIENCE * 2, || async {
        let mut backend = backend.lock().await;
        backend.hear().await;
        let complete = |(id, count): &(String, usize)| backend.told(id).len() >= *count;
        expected.iter().all(complete).then_some(())
    })
    .await;
}

/// One of two engines is killed and the broker restarts: every failure is told of, under one id however often.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_hears_of_exactly_the_failures_through_crashes() {
    let _alone = alone().await;
    let total = size("SCALE_EVENTS", 5_000);
    let mut cluster = cluster(2, "failures").await;
    let (tenant, other) = (cluster.world.tenant().await, cluster.world.tenant().await);
    let mut backend = Backend::bind(&cluster, &tenant.id).await;
    let token = apple(seed() + 1, 0);
    let foreign =
        json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Hi"}});
    cluster.world.calls(&other).notify(&foreign).await;
    let ids = send(&cluster, &tenant, total).await;
    cluster.reached(total / 4, PATIENCE).await;
    cluster.engines[0].kill9();
    cluster.engines[0].restart().await;
    cluster.reached(total / 2, PATIENCE).await;
    cluster.settle();
    cluster.rabbit.kill9();
    cluster.rabbit.start_again();
    let mut expected = Vec::new();
    let mut said = Vec::new();
    for id in ids {
        cluster
            .world
            .calls(&tenant)
            .finished_within(&id, PATIENCE * 2)
            .await;
        let failed = failed(&cluster, &tenant, &id).await;
        expected.push((id, failed.len()));
        said.push(failed);
    }
    heard(&mut backend, &expected).await;
    let failures: usize = expected.iter().map(|(_, count)| count).sum();
    println!(
        "scale: {} events of {failures} failures, {} copies",
        backend.events.len(),
        backend.copies
    );
    assert!(failures > 0);
    for ((id, _), said) in expected.iter().zip(said) {
        assert_eq!(backend.told(id), said);
    }
}

/// With `all` everybody is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_hears_of_everybody_where_it_is_so_configured() {
    let _alone = alone().await;
    let total = size("SCALE_EVENTS", 5_000) / 5;
    let cluster = cluster(1, "all").await;
    let tenant = cluster.world.tenant().await;
    let mut backend = Backend::bind(&cluster, &tenant.id).await;
    let ids = send(&cluster, &tenant, total).await;
    for id in &ids {
        cluster.world.calls(&tenant).finished(id).await;
    }
    let each = usize::try_from(total / 5).unwrap();
    let expected: Vec<(String, usize)> = ids.into_iter().map(|id| (id, each)).collect();
    heard(&mut backend, &expected).await;
    for (id, _) in &expected {
        let failed = failed(&cluster, &tenant, id).await;
        for (ordinal, recipient) in backend.told(id) {
            match failed.get(&ordinal) {
                Some(said) => assert_eq!(recipient, *said),
                None => assert_eq!(recipient, json!({"ordinal": ordinal, "state": "accepted"})),
            }
        }
    }
}
