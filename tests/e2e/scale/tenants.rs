//! Many tenants, each with its two queues: how long an engine takes to start on them, and what memory it needs.
//! It must not know how queues are consumed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use clarion_simulator::Options;
use serde_json::json;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::work::patience;
use crate::harness::{Calls, ORG, PATIENCE, Setup, alone, apple, raw, seed, size, until};

/// An engine is at work on all queues after this.
const START_MAX: Duration = Duration::from_secs(120);
/// What an engine may have needed of memory at most, KiB.
const MEMORY_MAX: u64 = 250 * 1_024;
/// How soon a new tenant is served.
const FIRST_PUSH_MAX: Duration = Duration::from_secs(3);
/// Recipients of a job.
fn job() -> u64 {
    size("SCALE_JOB", 500)
}

/// Tenants of one APNs key, each with an API key.
async fn tenants(cluster: &Cluster, count: u64) -> Vec<Calls> {
    let world = &cluster.world;
    let key = world.simulator.apns_test_key("TEAM009999", "APNS009999");
    let body = json!({
        "org_id": ORG, "bundle_id": "com.example.app", "team_id": "TEAM009999",
        "key_id": "APNS009999", "private_key": key.unwrap().p8_pem, "use_sandbox": false,
    });
    let person = world.person();
    let mut tenants = Vec::new();
    for _ in 0..count {
        let tenant = person.post("/tenants", &body).await.ok();
        let id = tenant["tenant_id"].as_str().unwrap();
        let (_, key) = crate::harness::Tenant::new_key(&person, id).await;
        tenants.push(Calls::new(world.server.caller().api_key(&key), id));
    }
    tenants
}

/// A job for each of a tenant's queues; returns the two notifications.
async fn fill(calls: &Calls, number: u64) -> [String; 2] {
    let mut ids = Vec::new();
    for (lane, name) in [(0, "transactional"), (1, "bulk")] {
        let from = (2 * number + lane) * job();
        let tokens: Vec<String> = (from..from + job()).map(|n| apple(seed(), n)).collect();
        let body = json!({
            "device_tokens": raw(&tokens), "alert": {"title": "Hi"}, "options": {"lane": name},
        });
        ids.push(calls.bulk(&body).await);
    }
    ids.try_into().unwrap()
}

/// The ready-queues that have been served: consumed now, or what lay in them was taken.
fn served(cluster: &Cluster) -> BTreeSet<String> {
    let queues = ["list_queues", "name", "messages_ready", "consumers"];
    let queues = cluster.rabbit.ctl(&queues);
    let served = queues.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_served = words[1] == "0" || words[2] != "0";
        (words[0].contains(".jobs.") && is_served).then(|| words[0].to_owned())
    });
    served.collect()
}

/// The ready-queues that are consumed now.
fn consumed(cluster: &Cluster) -> usize {
    let queues = cluster.rabbit.ctl(&["list_queues", "name", "consumers"]);
    let consumed = queues.lines().filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[0].contains(".jobs.") && words[1] != "0"
    });
    consumed.count()
}

/// An engine starts on queues that hold a job each: more than it may have in hand, so that a queue need not have a consumer at any
/// one time, but none is left out. Another one starts when all is done, and consumes all of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_starts_on_the_queues_of_many_tenants() {
    let _alone = alone().await;
    let count = size("SCALE_TENANTS", 40);
    let options = Options {
        latency_ms: 50,
        ..Options::default()
    };
    let usual = |setup: Setup| setup.with("engine.unrecorded_max", 4_096);
    let mut cluster = Cluster::start(0, options, usual).await;
    let tenants = tenants(&cluster, count).await;
    let mut ids = Vec::new();
    for (calls, number) in tenants.iter().zip(0..) {
        ids.push(fill(calls, number).await);
    }
    let all = 2 * count as usize;
    let began = Instant::now();
    cluster.add_engine().await;
    let seen = Mutex::new(BTreeSet::new());
    until("all queues to be served", START_MAX, || async {
        let mut seen = seen.lock().unwrap();
        seen.extend(served(&cluster));
        (seen.len() >= all).then_some(())
    })
    .await;
    let started = began.elapsed();
    for (calls, ids) in tenants.iter().zip(&ids) {
        for id in ids {
            let status = calls.finished_within(id, patience()).await;
            assert_eq!(status["accepted"], job(), "{status}");
        }
    }
    let done = began.elapsed();
    let peak = cluster.engines[0].memory_kib("VmHWM");
    let late = cluster.world.tenant().await;
    let asked = Instant::now();
    let body = json!({"device_tokens": raw(&[apple(seed() + 1, 0)]), "alert": {"title": "Hi"}});
    cluster.world.calls(&late).notify(&body).await;
    let token = apple(seed() + 1, 0);
    until("the first push of a new tenant", PATIENCE, || async {
        cluster.accepted().contains_key(&token).then_some(())
    })
    .await;
    let first = asked.elapsed();
    cluster.engines.pop();
    let began = Instant::now();
    cluster.add_engine().await;
    until("all queues to be consumed", START_MAX, || async {
        (consumed(&cluster) >= all).then_some(())
    })
    .await;
    let again = began.elapsed();
    let idle = cluster.engines[0].memory_kib("VmHWM");
    println!(
        "scale: {count} tenants: all queues served after {started:.1?}, all sent after {done:.1?}, \
         peak {} MiB, first push of a new one {first:.1?}; without work all queues consumed after \
         {again:.1?}, {} MiB",
        peak / 1_024,
        idle / 1_024
    );
    assert!(peak < MEMORY_MAX, "{peak} KiB");
    assert!(first < FIRST_PUSH_MAX, "{first:?}");
}
