//! Two tenants with the same public names of a key: nothing of one is signed with, or travels with, the other's.
//! It must not know how connections are shared.

use std::collections::BTreeSet;

use clarion_simulator::{ApnsTestKey, Options, Receipt};
use serde_json::json;

use crate::harness::{Calls, ORG, Setup, Tenant, World, apple, seed};
use crate::send::assert_counts;

/// A tenant of B's: A's team and key ids, another private key, a bundle id of its own.
async fn impostor(world: &World, victim: &Tenant, bundle_id: &str) -> Calls {
    let key = ApnsTestKey::generate(&victim.team_id, &victim.apns_key_id).unwrap();
    let body = json!({"org_id": ORG, "bundle_id": bundle_id, "team_id": victim.team_id,
        "key_id": victim.apns_key_id, "private_key": key.p8_pem, "use_sandbox": false});
    let person = world.person();
    let made = person.post("/tenants", &body).await.ok();
    let id = made["tenant_id"].as_str().unwrap();
    let (_, key) = Tenant::new_key(&person, id).await;
    Calls::new(world.server.caller().api_key(&key), id)
}

fn connections(receipts: &[&Receipt]) -> BTreeSet<u64> {
    receipts.iter().map(|receipt| receipt.connection).collect()
}

fn tokens(from: u64, count: u64) -> Vec<String> {
    let numbers = from..from + count;
    numbers.map(|number| apple(seed(), number)).collect()
}

/// What the impostor's requests look like at the provider, which verifies with the victim's public key: a push that
/// was signed with the victim's own key would have got past it.
fn assert_refused(evil: &[&Receipt]) {
    assert!(!evil.is_empty());
    for receipt in evil {
        let verdict = (receipt.status, &*receipt.reason);
        assert_eq!(verdict, (403, "InvalidProviderToken"), "{receipt:?}");
        assert_eq!(receipt.topic, "com.evil.app");
    }
    let count = evil.len();
    assert!(count < 200, "{count} requests with a refused credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_id_with_another_key_is_another_sender() {
    let options = Options {
        latency_ms: 5,
        receipts_kept: 100_000,
        ..Options::default()
    };
    // Waits as delivered: what B is refused is not tried again during the test.
    let world = World::start_with(options, Setup::quick().with("retry.scale", 1.0)).await;
    let victim = world.tenant().await;
    let a = world.calls(&victim);
    let b = impostor(&world, &victim, "com.evil.app").await;
    let (of_a, of_b) = (tokens(0, 2_000), tokens(100_000, 500));
    let first = a.alert_to(&of_a[..500]).await;
    assert_counts(&a.finished(&first).await, &[("accepted", 500)]);
    let before = world.simulator.received();
    let open = connections(&before.iter().collect::<Vec<_>>());

    // Both at once.
    let evil = b.alert_to(&of_b).await;
    let rest = a.alert_to(&of_a[500..]).await;
    let refused = world
        .simulator
        .wait_until(|stats| stats.processed > stats.accepted());
    refused.await;
    assert_counts(&a.finished(&rest).await, &[("accepted", 1_500)]);

    let receipts = world.simulator.received();
    let is_evil = |receipt: &&Receipt| of_b.contains(&receipt.device_token);
    let (evil_ones, good): (Vec<&Receipt>, Vec<&Receipt>) = receipts.iter().partition(is_evil);
    assert_refused(&evil_ones);
    assert_eq!(good.len(), 2_000);
    for receipt in &good {
        let verdict = (receipt.status, receipt.topic.as_str());
        assert_eq!(verdict, (200, "com.example.app"));
    }
    let (evil_places, places) = (connections(&evil_ones), connections(&good));
    let shared: Vec<&u64> = evil_places.intersection(&places).collect();
    assert!(shared.is_empty(), "connections {shared:?} carried both");
    // A's connections outlived B's refusals, and carry what A sends next.
    assert!(places.is_superset(&open));
    let again = a.alert_to(&of_a[..100]).await;
    assert_counts(&a.finished(&again).await, &[("accepted", 100)]);
    let last = world.simulator.received();
    let last: Vec<&Receipt> = last.iter().rev().take(100).collect();
    assert!(
        connections(&last).is_subset(&places),
        "A opened another connection"
    );
    // B's are kept for the time when its credential is put right.
    let status = b.status(&evil).await;
    assert_eq!(status["accepted"], 0);
    assert_ne!(status["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_nothing_of_another() {
    let world = World::start().await;
    let (a, b) = (world.tenant().await, world.tenant().await);
    let (a, b) = (world.calls(&a), world.calls(&b));
    let token = apple(seed(), 1);
    a.register("ada", &token, "ios").await;
    let id = a.alert_to(std::slice::from_ref(&token)).await;
    a.finished(&id).await;
    assert!(b.devices("ada").await.is_empty());
    assert_eq!(b.look(&id).await.status, 404);
    let path = b.path(&format!("devices/{token}?user_id=ada"));
    assert_eq!(b.caller.delete(&path).await.status, 404);
    let answer = b
        .caller
        .post(
            &b.path("notify"),
            &json!({"user_id": "ada", "alert": {"title": "x"}}),
        )
        .await;
    assert_eq!(answer.ok()["success"], false);
    assert_eq!(a.devices("ada").await, [token]);
    let outsider = world
        .server
        .caller()
        .bearer(&world.server.access_token("elsewhere", "owner"));
    for path in ["devices", "credentials", "api-keys", ""] {
        let answer = outsider.get(a.path(path).trim_end_matches('/')).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text);
    }
    assert_eq!(outsider.get("/tenants").await.ok()["tenants"], json!([]));
}
