//! Faults of connections and streams: what is sent again, what is awaited, what stays unknown.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clarion_engine::limits::PONG_TIMEOUT;
use clarion_engine::model::{Lane, Outcome, Processed};
use clarion_simulator::{Certificate, Command, Options, Receipt};

use crate::rig::Rig;

fn accepted(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Accepted)
        .count()
}

/// Reasons of outcomes without an answer, counted.
fn unanswered(outcomes: &[Outcome], wanted: Processed) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for outcome in outcomes {
        if let Outcome::Unavailable {
            reason, processed, ..
        } = outcome
            && *processed == wanted
        {
            *counts.entry(reason.to_string()).or_default() += 1;
        }
    }
    counts
}

fn duplicates(received: &[Receipt]) -> usize {
    let ids: std::collections::HashSet<_> = received.iter().map(|receipt| &receipt.id).collect();
    received.len() - ids.len()
}

async fn warm(options: Options) -> (Rig, std::sync::Arc<clarion_engine::provider::Route>) {
    let mut rig = Rig::start_with(options, |options| {
        options.request_deadline = Duration::from_secs(2);
        options.connect_deadline = Duration::from_secs(4);
    })
    .await;
    let route = rig.apns_route("shop");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    (rig, route)
}

fn slow() -> Options {
    Options {
        latency_ms: 30,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goaway_resends_what_was_not_processed_and_awaits_the_rest() {
    let (mut rig, route) = warm(slow()).await;
    rig.rules("[[rule]]\nmatch = { nth = 100 }\naction = { goaway = { process = true } }");
    rig.send(&route, 300);
    let outcomes = rig.outcomes().await;
    assert_eq!(
        accepted(&outcomes),
        300,
        "{:?}",
        unanswered(&outcomes, Processed::Unknown)
    );
    let received = rig.simulator.received();
    assert_eq!(
        (received.len(), duplicates(&received)),
        (301, 0),
        "none twice"
    );
    let counters = rig.dispatcher.counters();
    assert!(counters.pools.resends.load(Ordering::Relaxed) > 0);
    assert_eq!(counters.pools.goaways.load(Ordering::Relaxed), 1);
    assert_eq!(rig.simulator.stats().apns_connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goaway_and_close_leaves_the_unanswered_unknown() {
    let (mut rig, route) = warm(slow()).await;
    rig.rules(
        "[[rule]]\nmatch = { nth = 100 }\n\
         action = { goaway = { process = true, reason = \"BadCertificate\", close = true } }",
    );
    rig.send(&route, 300);
    let outcomes = rig.outcomes().await;
    let unknown: usize = unanswered(&outcomes, Processed::Unknown).values().sum();
    assert!(unknown > 0, "answers were lost");
    assert_eq!(accepted(&outcomes) + unknown, 300);
    let received = rig.simulator.received();
    assert_eq!(
        duplicates(&received),
        0,
        "nothing that may have been processed is sent again"
    );
    assert_eq!(received.len(), 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_streams_are_sent_again_three_times_and_no_more() {
    let (mut rig, route) = warm(slow()).await;
    rig.rules("[[rule]]\nmatch = { every = 3 }\naction = { rst = \"REFUSED_STREAM\" }");
    rig.send(&route, 200);
    let outcomes = rig.outcomes().await;
    let refused = unanswered(&outcomes, Processed::No)
        .get("refused")
        .copied()
        .unwrap_or(0);
    assert_eq!(accepted(&outcomes) + refused, 200);
    assert!(refused < 20, "three more tries help nearly all: {refused}");

    rig.rules("[[rule]]\naction = { rst = \"REFUSED_STREAM\" }");
    let before = rig.simulator.stats().resets;
    let outcome = rig.one(&route).await;
    assert_eq!(
        unanswered(&[outcome], Processed::No).get("refused"),
        Some(&1)
    );
    assert_eq!(rig.simulator.stats().resets - before, 4);
    assert_eq!(duplicates(&rig.simulator.received()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_resets_and_cuts_stay_unknown_and_are_not_sent_again() {
    let (mut rig, route) = warm(slow()).await;
    for code in ["INTERNAL_ERROR", "CANCEL", "ENHANCE_YOUR_CALM"] {
        rig.rules(&format!(
            "[[rule]]\naction = {{ rst = \"{code}\", accept = true }}"
        ));
        let outcome = rig.one(&route).await;
        assert_eq!(
            unanswered(&[outcome], Processed::Unknown).get("reset"),
            Some(&1),
            "{code}"
        );
    }
    rig.rules("[[rule]]\nmatch = { nth = 50 }\naction = { cut = true, accept = true }");
    rig.send(&route, 100);
    let outcomes = rig.outcomes().await;
    let lost = unanswered(&outcomes, Processed::Unknown);
    assert!(
        lost.get("connection_lost").is_some_and(|lost| *lost > 0),
        "{lost:?}"
    );
    assert_eq!(duplicates(&rig.simulator.received()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_an_answer_ends_at_its_deadline() {
    let (mut rig, route) = warm(Options::default()).await;
    rig.rules("[[rule]]\nmatch = { first = 1 }\naction = { hang = true, accept = true }");
    let began = tokio::time::Instant::now();
    let outcome = rig.one(&route).await;
    assert_eq!(
        unanswered(&[outcome], Processed::Unknown).get("deadline"),
        Some(&1)
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert_eq!(
        rig.one(&route).await,
        Outcome::Accepted,
        "the connection goes on"
    );
    assert_eq!(rig.simulator.stats().apns_connections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_answers_nothing_is_given_up() {
    let (mut rig, route) = warm(Options::default()).await;
    rig.rules("[[rule]]\nmatch = { connection = 1 }\naction = { hang = true }");
    rig.send(&route, 20);
    let outcomes = rig.outcomes().await;
    assert_eq!(
        unanswered(&outcomes, Processed::Unknown).get("deadline"),
        Some(&20)
    );
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    assert_eq!(rig.simulator.stats().apns_connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_slices_end_as_never_handed_over() {
    let mut rig = Rig::start_with(Options::default(), |options| {
        options.connect_deadline = Duration::from_secs(2);
    })
    .await;
    let route = rig.apns_route("shop");
    rig.simulator
        .set_certificate(Certificate::WrongName)
        .unwrap();
    rig.send(&route, 100);
    let outcomes = rig.outcomes().await;
    assert_eq!(
        unanswered(&outcomes, Processed::No).get("no_connection"),
        Some(&100)
    );
    let failures = rig
        .dispatcher
        .counters()
        .pools
        .connect_failures
        .load(Ordering::Relaxed);
    assert!(
        (1..=3).contains(&failures),
        "attempts stay a second apart: {failures}"
    );
    assert!(rig.simulator.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactional_pushes_overtake_a_bulk() {
    let options = Options {
        apns_max_streams: 20,
        latency_ms: 20,
        ..Options::default()
    };
    let (mut rig, route) = warm(options).await;
    let bulk = rig.send(&route, 640).len();
    rig.send_lane(&route, 1, Lane::Transactional);
    let slices = rig.outcomes_by_slice().await;
    let (place, outcomes) = &slices[bulk];
    assert_eq!(accepted(outcomes), 1);
    assert!(*place < bulk / 2, "done as number {place} of {bulk}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_for_everything() {
    let (mut rig, route) = warm(Options {
        latency_ms: 300,
        apns_max_streams: 50,
        ..Options::default()
    })
    .await;
    rig.send(&route, 200);
    rig.simulator.wait_received(20).await;
    let dispatcher = std::mem::replace(&mut rig.dispatcher, spare());
    let stop = tokio::spawn(dispatcher.shutdown(Duration::from_secs(5)));
    let outcomes = rig.outcomes().await;
    stop.await.unwrap();
    let unsent = unanswered(&outcomes, Processed::No)
        .get("shutdown")
        .copied()
        .unwrap_or(0);
    assert!(unsent > 0 && accepted(&outcomes) > 0);
    assert_eq!(
        accepted(&outcomes) + unsent,
        200,
        "what was in flight was awaited"
    );
    assert_eq!(rig.simulator.received().len(), accepted(&outcomes) + 1);
}

fn spare() -> clarion_engine::delivery::dispatch::Dispatcher {
    let origin = || "https://127.0.0.1:1".parse().unwrap();
    let options = clarion_engine::delivery::dispatch::DispatchOptions::new(
        1,
        (origin(), origin()),
        origin(),
        "https://127.0.0.1:1/token".parse().unwrap(),
        clarion_engine::http2::TlsOptions::default(),
    );
    clarion_engine::delivery::dispatch::Dispatcher::start(options)
        .unwrap()
        .0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_connection_is_found_out_by_ping_and_replaced() {
    let (mut rig, route) = warm(Options::default()).await;
    rig.simulator.command(Command::Freeze).unwrap();
    let outcome = rig.one(&route).await;
    assert_eq!(
        unanswered(&[outcome], Processed::Unknown).get("deadline"),
        Some(&1)
    );
    // One silent request is not yet a wedged connection; the PING that follows it finds the connection dead.
    let losses = &rig.dispatcher.counters().pools.losses;
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let replaced = async {
        while losses.load(Ordering::Relaxed) == 0 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PONG_TIMEOUT * 2, replaced)
        .await
        .expect("given up");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    assert_eq!(rig.simulator.stats().apns_connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_tenant_gets_new_connections() {
    let (mut rig, route) = warm(Options::default()).await;
    let tenant = route.tenant.clone();
    rig.dispatcher.forget(&tenant).await;
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    let connections: Vec<u64> = rig
        .simulator
        .received()
        .iter()
        .map(|one| one.connection)
        .collect();
    assert_eq!(connections, [1, 2]);
}
