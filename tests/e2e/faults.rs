//! What providers do wrong, one fault at a time: what is tried again, what is not, and under which id.
//! It must not know how retries are kept.

use std::collections::BTreeSet;

use clarion_simulator::{Command, Options, Receipt};
use serde_json::json;

use crate::harness::{Calls, Setup, World, apple, google, raw, seed};
use crate::send::assert_counts;

/// A fault, and what must come of one push that meets it.
struct Case {
    name: &'static str,
    is_apple: bool,
    /// What the first matching request meets.
    action: &'static str,
    /// How often it acts.
    first: u64,
    /// The final state.
    state: &'static str,
    /// Statuses in the receive log, in order.
    statuses: &'static [u16],
}

const fn case(
    name: &'static str,
    is_apple: bool,
    action: &'static str,
    first: u64,
    (state, statuses): (&'static str, &'static [u16]),
) -> Case {
    Case {
        name,
        is_apple,
        action,
        first,
        state,
        statuses,
    }
}

const ACCEPTED: &str = "accepted";

/// Answered, and worth another try.
const REFUSED: &[Case] = &[
    case(
        "overload",
        true,
        "reason = 'ServiceUnavailable'",
        1,
        (ACCEPTED, &[503, 200]),
    ),
    case(
        "overload thrice",
        true,
        "reason = 'ServiceUnavailable'",
        3,
        (ACCEPTED, &[503, 503, 503, 200]),
    ),
    case(
        "error",
        true,
        "reason = 'InternalServerError'",
        1,
        (ACCEPTED, &[500, 200]),
    ),
    case(
        "one device's limit",
        true,
        "reason = 'TooManyRequests'",
        1,
        (ACCEPTED, &[429, 200]),
    ),
    case(
        "its limit for good",
        true,
        "reason = 'TooManyRequests'",
        9,
        ("exhausted", &[429, 429, 429, 429]),
    ),
    case(
        "expired provider token",
        true,
        "reason = 'ExpiredProviderToken'",
        1,
        (ACCEPTED, &[403, 200]),
    ),
    case(
        "FCM unavailable",
        false,
        "reason = 'UNAVAILABLE'",
        1,
        (ACCEPTED, &[503, 200]),
    ),
    case(
        "FCM error",
        false,
        "reason = 'INTERNAL'",
        1,
        (ACCEPTED, &[500, 200]),
    ),
    case(
        "FCM quota",
        false,
        "reason = 'QUOTA_EXCEEDED', retry_after = '20'",
        1,
        (ACCEPTED, &[429, 200]),
    ),
    case(
        "a front end's page",
        false,
        "status = 502, body = '<html>'",
        1,
        (ACCEPTED, &[502, 200]),
    ),
    case(
        "access token refused",
        false,
        "reason = 'UNAUTHENTICATED'",
        1,
        (ACCEPTED, &[401, 200]),
    ),
];

/// Proven unprocessed: sent again at once, without a copy.
const UNPROCESSED: &[Case] = &[
    case(
        "refused stream",
        true,
        "rst = 'REFUSED_STREAM'",
        1,
        (ACCEPTED, &[200]),
    ),
    case(
        "GOAWAY below",
        true,
        "goaway = { process = false }",
        1,
        (ACCEPTED, &[200]),
    ),
    case(
        "GOAWAY with it",
        true,
        "goaway = { process = true, reason = 'Shutdown' }",
        1,
        (ACCEPTED, &[200]),
    ),
    case(
        "FCM refused stream",
        false,
        "rst = 'REFUSED_STREAM'",
        1,
        (ACCEPTED, &[200]),
    ),
];

/// Handed over and never answered: one copy more, then the end.
const AMBIGUOUS: &[Case] = &[
    case(
        "reset, not taken",
        true,
        "rst = 'INTERNAL_ERROR'",
        1,
        (ACCEPTED, &[200]),
    ),
    case(
        "reset, taken",
        true,
        "rst = 'INTERNAL_ERROR', accept = true",
        1,
        (ACCEPTED, &[200, 200]),
    ),
    case("cut, not taken", true, "cut = true", 1, (ACCEPTED, &[200])),
    case(
        "cut, taken",
        true,
        "cut = true, accept = true",
        1,
        (ACCEPTED, &[200, 200]),
    ),
    case(
        "hang, taken",
        true,
        "hang = true, accept = true",
        1,
        (ACCEPTED, &[200, 200]),
    ),
    case("hang for ever", true, "hang = true", 9, ("exhausted", &[])),
    case(
        "FCM hang, taken",
        false,
        "hang = true, accept = true",
        1,
        (ACCEPTED, &[200, 200]),
    ),
    case(
        "FCM cut, taken",
        false,
        "cut = true, accept = true",
        1,
        (ACCEPTED, &[200, 200]),
    ),
];

fn world() -> impl Future<Output = World> {
    let setup = Setup::quick().with("connections.request_timeout", "400ms");
    World::start_with(Options::default(), setup)
}

async fn run(world: &World, cases: &[Case]) {
    for (number, case) in cases.iter().enumerate() {
        let calls = world.calls(&world.tenant().await);
        let number = number as u64;
        let token = match case.is_apple {
            true => apple(seed(), number),
            false => google(seed(), number),
        };
        // The first push of a connection would meet the fault together with the handshake: warm it up.
        let warm = if case.is_apple {
            apple(seed(), 1_000 + number)
        } else {
            google(seed(), 1_000 + number)
        };
        world.simulator.set_rules_toml("").unwrap();
        calls.finished(&calls.alert_to(&[warm]).await).await;
        let rules = format!(
            "[[rule]]\nmatch = {{ device_token = '{token}', first = {} }}\naction = {{ {} }}\n",
            case.first, case.action
        );
        world.simulator.set_rules_toml(&rules).unwrap();
        let id = calls.alert_to(std::slice::from_ref(&token)).await;
        let status = calls.finished(&id).await;
        let receipts = world.received(&token);
        println!("{}: {receipts:?}", case.name);
        assert_eq!(status[case.state], 1, "{}: {status}", case.name);
        let statuses: Vec<u16> = receipts.iter().map(|receipt| receipt.status).collect();
        assert_eq!(statuses, case.statuses, "{}", case.name);
        assert_same_id(&receipts);
        if case.state == "exhausted" && case.statuses.is_empty() {
            assert_eq!(calls.failures(&id, 10).await[0]["reason"], "unconfirmed");
        }
    }
}

/// Every copy carries the id of the first.
fn assert_same_id(receipts: &[Receipt]) {
    let ids: BTreeSet<(&str, &str)> = receipts
        .iter()
        .map(|receipt| (receipt.id.as_str(), receipt.collapse_id.as_str()))
        .collect();
    assert!(ids.len() <= 1, "{receipts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_tried_again_as_the_provider_says() {
    run(&world().await, REFUSED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unprocessed_requests_are_sent_again_without_a_copy() {
    run(&world().await, UNPROCESSED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_requests_are_sent_once_more_under_the_same_id() {
    run(&world().await, AMBIGUOUS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_is_never_sent_again() {
    let world = world().await;
    let calls = world.calls(&world.tenant().await);
    let token = apple(seed(), 1);
    let rules = "[[rule]]\naction = { rst = 'INTERNAL_ERROR', accept = true }\n";
    world.simulator.set_rules_toml(rules).unwrap();
    let body = json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Once"},
        "options": {"delivery": "at_most_once"}});
    let status = calls.finished(&calls.notify(&body).await).await;
    assert_counts(&status, &[("unknown", 1)]);
    assert_eq!(world.received(&token).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_token_endpoint_delays_and_loses_nothing() {
    let world = world().await;
    let calls = world.calls(&world.tenant().await);
    let rules = "[[rule]]\nmatch = { provider = 'oauth', first = 2 }\naction = { status = 503 }\n";
    world.simulator.set_rules_toml(rules).unwrap();
    let tokens: Vec<String> = (0..50).map(|number| google(seed(), number)).collect();
    let status = calls.finished(&calls.alert_to(&tokens).await).await;
    assert_counts(&status, &[("accepted", 50)]);
    let stats = world.simulator.stats();
    assert_eq!(stats.fcm_accepted, 50);
    // One flight for all that wait, not one for each push; every delivery thread has its own.
    let asked = stats.token_requests;
    assert!(asked < 25, "{asked} token requests for 50 pushes");
    // Revoked while in use: one refresh, and everything arrives.
    world.simulator.revoke_access_tokens();
    let status = calls.finished(&calls.alert_to(&tokens).await).await;
    assert_counts(&status, &[("accepted", 50)]);
    assert!(world.simulator.stats().token_requests < asked + 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end_under_load_lose_and_copy_nothing() {
    let options = Options {
        latency_ms: 20,
        receipts_kept: 100_000,
        ..Options::default()
    };
    let world = World::start_with(options, Setup::quick()).await;
    let calls = world.calls(&world.tenant().await);
    let tokens: Vec<String> = (0..6_000).map(|number| apple(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    // Graceful ends, with answers to everything that was received before.
    for part in 1..=4 {
        world.simulator.wait_received(part * 1_000).await;
        let command = Command::Goaway(clarion_simulator::Goaway::default());
        world.simulator.command(command).unwrap();
    }
    world.simulator.command(Command::StreamLimit(1)).unwrap();
    world.simulator.wait_received(4_050).await;
    world.simulator.command(Command::StreamLimit(500)).unwrap();
    let status = calls.finished(&id).await;
    assert_counts(&status, &[("accepted", 6_000)]);
    let stats = world.simulator.stats();
    assert_eq!((stats.processed, stats.stream_limit_violations), (6_000, 0));
    assert!(stats.goaways >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_under_load_copy_only_what_had_no_answer() {
    let options = Options {
        latency_ms: 20,
        receipts_kept: 100_000,
        ..Options::default()
    };
    let world = World::start_with(options, Setup::quick()).await;
    let calls = world.calls(&world.tenant().await);
    let tokens: Vec<String> = (0..4_000).map(|number| apple(seed(), number)).collect();
    let id = calls.alert_to(&tokens).await;
    world.simulator.wait_received(1_000).await;
    let connections = world.simulator.command(Command::Cut).unwrap();
    assert!(connections > 0);
    let status = calls.finished(&id).await;
    assert_counts(&status, &[("accepted", 4_000)]);
    let mut received = world.simulator.received();
    received.sort_by(|a, b| (&a.device_token, a.seq).cmp(&(&b.device_token, b.seq)));
    let mut copies = 0;
    for of_one in received.chunk_by(|a, b| a.device_token == b.device_token) {
        assert_same_id(of_one);
        assert!(of_one.len() <= 2, "{of_one:?}");
        copies += of_one.len() - 1;
    }
    // A connection carries at most 1,000 streams, and everything on it may have been taken.
    assert!(copies <= 1_000 * connections, "{copies} copies");
    assert_eq!(received.len() - copies, 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_for() {
    let world = world().await;
    let calls = world.calls(&world.tenant().await);
    let rules =
        "[[rule]]\nmatch = { until_ms = 1500 }\naction = { reason = 'ServiceUnavailable' }\n";
    world.simulator.set_rules_toml(rules).unwrap();
    let tokens: Vec<String> = (0..600).map(|number| apple(seed(), number)).collect();
    let status = calls.finished(&calls.alert_to(&tokens).await).await;
    assert_counts(&status, &[("accepted", 600)]);
    let single = check_single(&calls).await;
    assert_eq!(world.received(&single).len(), 1);
    assert_eq!(world.simulator.stats().accepted(), 601);
}

/// A push after everything is well again.
async fn check_single(calls: &Calls) -> String {
    let token = apple(seed(), 9_999);
    let status = calls
        .finished(&calls.alert_to(std::slice::from_ref(&token)).await)
        .await;
    assert_counts(&status, &[("accepted", 1)]);
    token
}
