//! What a database can do to its clients: stop, stall, refuse to write; and processes that end under load, as ordered or not.
//! It must not know how anybody reconnects.

use std::time::Duration;

use clarion_services::postgres::Postgres;
use clarion_simulator::Options;
use reqwest::Method;
use serde_json::json;

use super::cluster::{Cluster, Ledger, Parts, UNRECORDED_MAX};
use crate::harness::{Answer, Calls, PATIENCE, alone, apple, raw, seed, size, until};

/// How soon a request is refused while the database is away.
const REFUSED_WITHIN: Duration = Duration::from_secs(12);
/// How soon everybody is back at work after the fault is gone.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// Room for the data of a database that is to be filled, MiB.
const DISK_MIB: u32 = 256;
/// Bulks that are more than what fits into a full database's last blocks.
const BULKS_MAX: usize = 1_000;
/// Numbers of device tokens that nothing reaches before the fault is gone.
const AFTER: u64 = 1_000_000_000;

fn slow() -> Options {
    Options {
        latency_ms: 50,
        ..Options::default()
    }
}

async fn cluster() -> Cluster {
    let parts = Parts::start().await.with_database().await;
    Cluster::on(parts, 2, slow(), |setup| setup).await
}

/// A bulk of `tokens`, which the store must take.
async fn bulk(calls: &Calls, tokens: &[String]) -> Answer {
    let body = json!({"device_tokens": raw(tokens), "alert": {"title": "Hi"}});
    calls.caller.post(&calls.path("notify/bulk"), &body).await
}

fn message_id(answer: &Answer) -> String {
    let id = &answer.json()["results"][0]["message_id"];
    id.as_str().unwrap().to_owned()
}

fn tokens(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| apple(seed(), number)).collect()
}

/// While the database is away requests are refused in time, and never for the wrong reason; once it is back everything
/// that was accepted arrives.
async fn survives(cluster: &Cluster, breaks: impl FnOnce(), mends: impl FnOnce()) {
    let total = size("SCALE_DATABASE", 20_000);
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let first = calls.alert_to(&tokens(0..total)).await;
    cluster.reached(total / 4, PATIENCE).await;
    breaks();
    // A database may still have room for a few.
    let mut before = Vec::new();
    let refused_at = |taken: usize| total + 600 * taken as u64;
    let refused = loop {
        assert!(before.len() < BULKS_MAX, "nothing is refused");
        let from = refused_at(before.len());
        let more = tokens(from..from + 600);
        let answer = tokio::time::timeout(REFUSED_WITHIN, bulk(&calls, &more)).await;
        let answer = answer.expect("an answer in time");
        if answer.status != 200 {
            break answer;
        }
        before.push(message_id(&answer));
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_ne!(refused.header("retry-after"), "");
    let stranger = calls.caller.clone().api_key("msk_unknown_to_everybody");
    let unknown = stranger.post(&calls.path("notify"), &json!({})).await;
    assert!(matches!(unknown.status, 401 | 503), "{}", unknown.status);
    mends();
    let taken = until("a bulk to be taken", BACK_WITHIN, || async {
        let answer = bulk(&calls, &tokens(AFTER..AFTER + 600)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let status = calls.finished_within(&first, PATIENCE * 2).await;
    assert_eq!(status["accepted"], total, "{status}");
    let from = refused_at(before.len());
    before.push(message_id(&taken));
    for id in &before {
        let status = calls.finished_within(id, PATIENCE).await;
        assert_eq!(status["accepted"], 600, "{status}");
    }
    // The refused one may have been stored before its answer was lost: then it is sent as well, which the caller's next try
    // with an idempotency key would have told it.
    let accepted = cluster.accepted();
    let refused_ones = tokens(from..from + 600);
    let sent = refused_ones
        .iter()
        .filter(|token| accepted.contains_key(*token));
    assert!(matches!(sent.count(), 0 | 600), "half a bulk was sent");
    let copies: u64 = tokens(0..total).iter().map(|token| accepted[token]).sum();
    println!("scale: {} duplicates", copies - total);
    assert!(copies - total <= 2 * UNRECORDED_MAX, "{copies}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_and_started_loses_nothing() {
    let _alone = alone().await;
    let cluster = cluster().await;
    let postgres = cluster.postgres();
    survives(
        &cluster,
        || postgres.stop_immediate(),
        || postgres.start_again(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stalls_is_not_waited_for_for_ever() {
    let _alone = alone().await;
    let cluster = cluster().await;
    let postgres = cluster.postgres();
    survives(&cluster, || postgres.stall(), || postgres.resume()).await;
}

/// Nothing more can be written beneath the database: it refuses, or ends. What it had committed it has when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_full_disk_accepts_nothing_that_it_cannot_keep() {
    let _alone = alone().await;
    let started = tokio::task::spawn_blocking(|| Postgres::start_on_small_disk(DISK_MIB));
    let parts = Parts::start().await.on_database(started.await.unwrap());
    let cluster = Cluster::on(parts, 2, slow(), |setup| setup).await;
    let postgres = cluster.postgres();
    let mends = || {
        postgres.disk().empty();
        postgres.revive();
    };
    survives(&cluster, || postgres.disk().fill(), mends).await;
}

/// A standby by mistake writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_only_reads_accepts_nothing() {
    let _alone = alone().await;
    let cluster = cluster().await;
    let set = |value: &str| {
        let statement = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        cluster.postgres().sql("postgres", &statement);
        cluster
            .postgres()
            .sql("postgres", "SELECT pg_reload_conf()");
    };
    survives(&cluster, || set("on"), || set("off")).await;
}

/// An engine that is told to end finishes what is out: nothing is lost, and nothing is sent twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_told_to_end_repeats_nothing() {
    let _alone = alone().await;
    let total = size("SCALE_ORDERLY", 20_000);
    let options = Options {
        latency_ms: 50,
        ..Options::default()
    };
    let mut cluster = Cluster::start(2, options, |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    let id = calls.alert_to(&tokens(0..total)).await;
    cluster.reached(total / 4, PATIENCE).await;
    cluster.engines[0].signal("TERM");
    let ended = cluster.engines[0].ended().await;
    assert!(ended.success(), "{ended}");
    let status = calls.finished_within(&id, PATIENCE * 2).await;
    assert_eq!(status["accepted"], total, "{status}");
    let ledger = Ledger::of(&cluster, tokens(0..total).into_iter());
    assert_eq!(ledger, Ledger::default());
}

/// An ingest process is killed while it answers: who repeats a request with its idempotency key gets one notification.
#[tokio::test(flavor = "multi_thread")]
async fn requests_repeated_after_the_death_of_ingest_are_one() {
    let _alone = alone().await;
    let mut cluster = Cluster::start(1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let count = size("SCALE_KEYS", 40);
    let flood: Vec<_> = (0..count)
        .map(|number| {
            let calls = cluster.world.calls(&tenant);
            tokio::spawn(async move { keyed(&calls, number).await })
        })
        .collect();
    cluster.reached(1, PATIENCE).await;
    cluster.world.server.kill9();
    let mut before = Vec::new();
    for request in flood {
        before.push(request.await.unwrap());
    }
    cluster.world.server.restart().await;
    let calls = cluster.world.calls(&tenant);
    for (number, before) in (0..count).zip(before) {
        let id = until("an answer to the repeated request", PATIENCE, || async {
            keyed(&calls, number).await
        })
        .await;
        assert!(
            before.is_none_or(|before| before == id),
            "two notifications for one key"
        );
        calls.finished(&id).await;
    }
    let ledger = Ledger::of(&cluster, tokens(0..count).into_iter());
    assert_eq!(ledger, Ledger::default());
}

/// The notification of a push under a key of its own, if there was an answer.
async fn keyed(calls: &Calls, number: u64) -> Option<String> {
    let body = json!({"device_tokens": raw(&tokens(number..number + 1)), "alert": {"title": "Hi"}});
    let request = calls.caller.request(Method::POST, &calls.path("notify"));
    let request = request
        .header("idempotency-key", format!("key-{number}"))
        .json(&body);
    let answer = crate::harness::Caller::try_send(request).await.ok()?;
    (answer.status == 200).then(|| answer.json()["message_id"].as_str().unwrap().to_owned())
}
