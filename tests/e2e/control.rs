//! What stops or slows sending: limits, expiry, deletion of the tenant, a stop signal, a full backlog.
//! It must not know how control reaches the engine.

use std::collections::BTreeMap;

use clarion_simulator::{Options, Receipt};
use serde_json::json;

use crate::harness::{PATIENCE, Setup, World, apple, now_ms, raw, seed, until};
use crate::send::assert_counts;

fn tokens(from: u64, count: u64) -> Vec<String> {
    (from..from + count)
        .map(|number| apple(seed(), number))
        .collect()
}

/// Of every span of time at most the burst and what flows in meanwhile; a tenth more for what a busy machine delays.
#[track_caller]
pub(crate) fn assert_rate(receipts: &[Receipt], rate: u64, burst: u64) {
    let at: Vec<i64> = receipts.iter().map(|receipt| receipt.at_ms()).collect();
    for (first, from) in at.iter().enumerate() {
        for (last, to) in at.iter().enumerate().skip(first) {
            let seen = (last - first + 1) as u64;
            let span_ms = u64::try_from(to - from).unwrap();
            let allowed = burst + rate * span_ms / 1_000 + rate / 10 + 1;
            assert!(seen <= allowed, "{seen} in {span_ms} ms, at most {allowed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limit_is_never_exceeded() {
    let world = World::start_with(Options::default(), Setup::quick()).await;
    let (slow, quick) = (world.tenant().await, world.tenant().await);
    let limits = json!({"limits": {"rate": 50, "burst": 50}});
    let path = format!("/tenants/{}", slow.id);
    let patched = world.person().patch(&path, &limits).await.ok();
    assert_eq!(patched["limits"]["rate"], 50);
    let (slow, quick) = (world.calls(&slow), world.calls(&quick));
    let few = tokens(0, 200);
    let began = now_ms();
    let held = slow.alert_to(&few).await;
    // Somebody else is not held up by it.
    let many = quick.alert_to(&tokens(1_000, 2_000)).await;
    assert_counts(&quick.finished(&many).await, &[("accepted", 2_000)]);
    assert!(slow.status(&held).await["state"] != "finished");
    assert_counts(&slow.finished(&held).await, &[("accepted", 200)]);
    let took = now_ms() - began;
    let ours: Vec<Receipt> = world
        .simulator
        .received()
        .into_iter()
        .filter(|receipt| few.contains(&receipt.device_token))
        .collect();
    assert_eq!(ours.len(), 200);
    assert_rate(&ours, 50, 50);
    // And it is used: 150 beyond the burst take three seconds, not ten.
    assert!((2_500..10_000).contains(&took), "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_after_its_expiry() {
    let world = World::start_with(Options::default(), Setup::quick()).await;
    let tenant = world.tenant().await;
    let limits = json!({"limits": {"rate": 5, "burst": 5}});
    let path = format!("/tenants/{}", tenant.id);
    world.person().patch(&path, &limits).await.ok();
    let calls = world.calls(&tenant);
    let mut body = json!({"device_tokens": raw(&tokens(0, 40)), "alert": {"title": "Soon"}});
    body["options"] = json!({"ttl": 2});
    let status = calls.finished(&calls.bulk(&body).await).await;
    let (accepted, expired) = (&status["accepted"], &status["expired"]);
    let (accepted, expired) = (accepted.as_u64().unwrap(), expired.as_u64().unwrap());
    assert_eq!(accepted + expired, 40, "{status}");
    assert!((5..=16).contains(&accepted), "{status}");
    let expires = status["expires_at"].as_str().unwrap();
    let expires: jiff::Timestamp = expires.parse().unwrap();
    let receipts = world.simulator.received();
    assert_eq!(receipts.len() as u64, accepted);
    for receipt in receipts {
        assert!(receipt.at_ms() <= expires.as_millisecond(), "{receipt:?}");
    }
    let failures = calls.failures(status["id"].as_str().unwrap(), 100).await;
    assert_eq!(failures.len() as u64, expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_sends_nothing_more() {
    let world = World::start_with(Options::default(), Setup::quick()).await;
    let (gone, clock) = (world.tenant().await, world.tenant().await);
    let person = world.person();
    for (tenant, rate) in [(&gone, 100), (&clock, 2)] {
        let limits = json!({"limits": {"rate": rate, "burst": rate}});
        person
            .patch(&format!("/tenants/{}", tenant.id), &limits)
            .await
            .ok();
    }
    let doomed = tokens(0, 5_000);
    let calls = world.calls(&gone);
    calls.alert_to(&doomed).await;
    world.simulator.wait_received(150).await;
    // Another tenant's slow push tells that time passes: nine seconds of it, of which the deletion may take two.
    let ticking = world.calls(&clock);
    let ticks = ticking.alert_to(&tokens(10_000, 20)).await;
    person.delete(&format!("/tenants/{}", gone.id)).await.ok();
    let deleted = now_ms();
    let refused = calls.caller.get(&calls.path("devices")).await;
    assert_eq!(refused.status, 401, "its keys are gone: {}", refused.text);
    let read = person.get(&format!("/tenants/{}", gone.id)).await;
    assert_eq!(read.status, 404, "{}", read.text);
    ticking.finished(&ticks).await;
    assert!(now_ms() - deleted > 6_000);
    let receipts = world.simulator.received();
    let late: Vec<&Receipt> = receipts
        .iter()
        .filter(|receipt| {
            doomed.contains(&receipt.device_token) && receipt.at_ms() > deleted + 5_000
        })
        .collect();
    assert!(
        late.is_empty(),
        "{} sent after the deletion: {:?}",
        late.len(),
        late[0]
    );
    let of_gone = receipts
        .iter()
        .filter(|receipt| doomed.contains(&receipt.device_token));
    assert!(of_gone.count() < 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_finishes_what_is_out_and_copies_nothing() {
    let options = Options {
        latency_ms: 100,
        receipts_kept: 100_000,
        ..Options::default()
    };
    let mut world = World::start_with(options, Setup::quick()).await;
    let tenant = world.tenant().await;
    let count = 12_000;
    let id = world.calls(&tenant).alert_to(&tokens(0, count)).await;
    for part in 1..=3 {
        world.simulator.wait_received(part * 1_500).await;
        let status = world.server.stop().await;
        assert!(status.success(), "{status}");
        world.server.restart().await;
    }
    let status = world.calls(&tenant).finished(&id).await;
    assert_counts(&status, &[("accepted", count)]);
    let mut copies = BTreeMap::new();
    for receipt in world.simulator.received() {
        *copies.entry(receipt.device_token).or_insert(0_u64) += 1;
    }
    assert_eq!(copies.len() as u64, count);
    let more = copies.values().filter(|copies| **copies > 1).count();
    assert_eq!(more, 0, "{more} were sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_is_refused_and_drains() {
    let world = World::start_with(Options::default(), Setup::quick()).await;
    let tenant = world.tenant().await;
    let person = world.person();
    let path = format!("/tenants/{}", tenant.id);
    let limits = json!({"limits": {"rate": 400, "burst": 1, "backlog": 2_000}});
    person.patch(&path, &limits).await.ok();
    let calls = world.calls(&tenant);
    let body = json!({"device_tokens": raw(&tokens(0, 1_900)), "alert": {"title": "Many"}});
    let first = calls.bulk(&body).await;
    let refused = calls.caller.post(&calls.path("notify/bulk"), &body).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!(wait >= 1);
    calls.finished(&first).await;
    let taken = until("room in the backlog", PATIENCE, || async {
        let answer = calls.caller.post(&calls.path("notify/bulk"), &body).await;
        (answer.status == 200).then_some(answer)
    });
    taken.await.ok();
}
