//! APNs: what is delivered, what answers come to, and whose key travels where.

use std::sync::atomic::Ordering;

use clarion_engine::model::{Outcome, Processed, ThrottleScope};
use clarion_engine::provider::CredentialAlert;
use clarion_simulator::{ApnsTestKey, Options};
use tokio::time::Instant;

use crate::rig::{KEY, PATIENCE, Rig, TEAM, TOPIC, apns_route};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_push_arrives_once_with_an_id_of_its_own() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.apns_route("shop");
    rig.send(&route, 1_000);
    let outcomes = rig.outcomes().await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted));
    assert_eq!(outcomes.len(), 1_000);

    let received = rig.simulator.received();
    assert_eq!(received.len(), 1_000);
    let ids: std::collections::HashSet<_> = received.iter().map(|receipt| &receipt.id).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(received.iter().all(|receipt| receipt.topic == TOPIC));
    let collapses = |receipt: &clarion_simulator::Receipt| receipt.collapse_id == receipt.id;
    assert!(
        received.iter().all(collapses),
        "a duplicate would replace its twin"
    );
    assert_eq!(
        rig.dispatcher.counters().accepted.load(Ordering::Relaxed),
        1_000
    );
    assert_eq!(rig.simulator.stats().provider_tokens, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_until_the_first_success_then_the_peers_limit() {
    let options = Options {
        apns_max_streams: 40,
        latency_ms: 20,
        ..Options::default()
    };
    let mut rig = Rig::start(options).await;
    rig.rules("[[rule]]\nmatch = { first = 3 }\naction = { reason = \"BadDeviceToken\" }");
    let route = rig.apns_route("shop");
    rig.send(&route, 500);
    let outcomes = rig.outcomes().await;
    let suspect = |outcome: &&Outcome| matches!(outcome, Outcome::Rejected { suspect: true, .. });
    assert_eq!(outcomes.iter().filter(suspect).count(), 3);
    assert_eq!(rig.windows.first(), Some(&1));
    assert!(rig.windows.contains(&40), "{:?}", rig.windows);
    let stats = rig.simulator.stats();
    assert_eq!(
        (stats.streams_refused, stats.stream_limit_violations),
        (0, 0)
    );
}

/// Bulk leaves some streams free on purpose: that must keep neither the pool from growing nor a new connection from its first
/// request, without which it offers a single stream for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_grows_while_most_streams_are_busy_and_new_connections_join_in() {
    let options = Options {
        apns_max_streams: 40,
        latency_ms: 50,
        ..Options::default()
    };
    let mut rig = Rig::start(options).await;
    let route = rig.apns_route("shop");
    let deadline = Instant::now() + PATIENCE;
    while !rig.windows.contains(&120) {
        assert!(Instant::now() < deadline, "windows {:?}", rig.windows);
        let most = rig
            .windows
            .last()
            .map_or(32, |streams| streams - streams / 8);
        rig.send(&route, u32::try_from(most).unwrap());
        let outcomes = rig.outcomes().await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted));
    }
    assert_eq!(rig.simulator.stats().stream_limit_violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peers_limit_is_followed_down_and_up() {
    let options = Options {
        latency_ms: 5,
        ..Options::default()
    };
    let mut rig = Rig::start(options).await;
    let route = rig.apns_route("shop");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    for limit in [7, 300, 1, 1_000] {
        let command = clarion_simulator::Command::StreamLimit(limit);
        rig.simulator.command(command).unwrap();
        rig.send(&route, 200);
        let outcomes = rig.outcomes().await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted));
    }
    assert_eq!(rig.simulator.stats().stream_limit_violations, 0);
    for limit in [7, 300, 1_000] {
        assert!(rig.windows.contains(&limit), "{limit} in {:?}", rig.windows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_b_with_as_ids_and_another_key_gets_nothing_of_as() {
    let mut rig = Rig::start(Options::default()).await;
    let a = rig.apns_route("tenant-a");
    let foreign = ApnsTestKey::generate(TEAM, KEY).unwrap();
    let b = apns_route("tenant-b", &foreign.p8_pem);
    assert_ne!(a.key(), b.key());
    assert_eq!(rig.one(&a).await, Outcome::Accepted);
    let of_a = rig.simulator.received()[0].connection;

    // Apple knows A's key under these ids: B's signature is not accepted.
    let refused = rig.one(&b).await;
    let Outcome::Unauthorized { reason, pause } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((reason.as_ref(), pause > 0), ("InvalidProviderToken", true));
    assert!(matches!(&rig.alerts[..], [CredentialAlert::Refused { .. }]));

    // A goes on as before, on its own connection.
    rig.send(&a, 100);
    let outcomes = rig.outcomes().await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted));
    for receipt in rig.simulator.received() {
        assert_eq!(
            receipt.accepted(),
            receipt.connection == of_a,
            "{receipt:?}"
        );
    }
    assert_eq!(rig.simulator.stats().apns_connections, 2);
    assert_eq!(
        rig.simulator.stats().provider_tokens,
        1,
        "only A's was ever accepted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_ends_what_waits_behind_it() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.apns_route("shop");
    rig.simulator.revoke_apns_key(TEAM, KEY);
    rig.send(&route, 500);
    let outcomes = rig.outcomes().await;
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Unauthorized { .. });
    assert!(outcomes.iter().all(refused));
    assert!(
        rig.simulator.received().len() <= 2,
        "not every push has to find out"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_too_many_provider_tokens_the_last_one_stays_in_use() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.apns_route("shop");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    rig.rules(
        "[[rule]]\nmatch = { first = 1 }\naction = { reason = \"TooManyProviderTokenUpdates\" }",
    );
    let outcome = rig.one(&route).await;
    let Outcome::Throttled {
        scope, retry_after, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(scope, ThrottleScope::Credential);
    assert!(retry_after >= Some(20 * 60_000), "{retry_after:?}");
    // The last accepted token stays good, on another connection.
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    let connections: Vec<u64> = rig
        .simulator
        .received()
        .iter()
        .map(|one| one.connection)
        .collect();
    assert_eq!(connections[0], connections[1]);
    assert_ne!(connections[1], connections[2]);
    assert_eq!(rig.simulator.stats().provider_tokens, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_is_left() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.apns_route("shop");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    rig.rules("[[rule]]\nmatch = { first = 1 }\naction = { reason = \"Shutdown\" }");
    let outcome = rig.one(&route).await;
    assert!(
        matches!(
            &outcome,
            Outcome::Unavailable {
                processed: Processed::Answered,
                retry_after: Some(1_000),
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    assert_eq!(rig.simulator.stats().apns_connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_authenticates_without_a_provider_token() {
    let mut rig = Rig::start(Options::default()).await;
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    rig.simulator
        .register_apns_certificate(&certificate, &[TOPIC])
        .unwrap();
    let pem = format!("{}{certificate}", made.signing_key.serialize_pem());
    let credential = clarion_engine::provider::apns::Credential::from_pem(pem.as_bytes()).unwrap();
    let mut route = clarion_engine::provider::Route::clone(&rig.apns_route("shop"));
    route.credential = clarion_engine::provider::Credential::Apns(credential.into());
    let route = std::sync::Arc::new(route);
    rig.send(&route, 100);
    let outcomes = rig.outcomes().await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Accepted),
        "{outcomes:?}"
    );
    assert_eq!(rig.simulator.stats().provider_tokens, 0);
}
