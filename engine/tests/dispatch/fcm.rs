//! FCM: access tokens, shared connections, Google's errors.

use std::sync::atomic::Ordering;

use clarion_engine::model::{Outcome, Processed, ThrottleScope};
use clarion_engine::provider::CredentialAlert;
use clarion_simulator::Options;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_projects_share_connections_and_each_asks_for_one_access_token() {
    let mut rig = Rig::start(Options::default()).await;
    let one = rig.fcm_route("tenant-a", "project-a");
    let two = rig.fcm_route("tenant-b", "project-b");
    for _ in 0..3 {
        rig.send(&one, 200);
        rig.send(&two, 200);
    }
    let outcomes = rig.outcomes().await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Accepted),
        "{outcomes:?}"
    );
    let stats = rig.simulator.stats();
    assert_eq!((stats.fcm_accepted, stats.token_requests), (1_200, 2));
    let received = rig.simulator.received();
    let shared: std::collections::HashSet<_> = received
        .iter()
        .filter(|one| one.topic == "project-a")
        .map(|one| one.connection)
        .collect();
    assert!(
        received
            .iter()
            .any(|one| one.topic == "project-b" && shared.contains(&one.connection)),
        "a connection carries both"
    );
    assert!(
        received.iter().all(|one| one.collapse_id == one.id),
        "tags are the recipients' own"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_threads_ask_for_one_access_token() {
    let mut rig = Rig::start_with(Options::default(), |options| options.threads = 2).await;
    let route = rig.fcm_route("tenant-a", "project-a");
    rig.send(&route, 3_200);
    let outcomes = rig.outcomes().await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted));
    assert_eq!(rig.simulator.stats().token_requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_access_token_is_replaced_once() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.fcm_route("tenant-a", "project-a");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    rig.simulator.revoke_access_tokens();
    rig.send(&route, 32);
    let first = rig.outcomes().await;
    let soon = |outcome: &Outcome| {
        *outcome == Outcome::Accepted
            || matches!(
                outcome,
                Outcome::Unavailable {
                    processed: Processed::Answered,
                    retry_after: Some(1_000),
                    ..
                }
            )
    };
    assert!(first.iter().all(soon), "{first:?}");
    assert_eq!(rig.one(&route).await, Outcome::Accepted);
    assert_eq!(rig.simulator.stats().token_requests, 2);

    // Refused again with the fresh one: the account rests.
    rig.rules(
        "[[rule]]\nmatch = { provider = \"fcm\" }\naction = { reason = \"UNAUTHENTICATED\" }",
    );
    let again = rig.one(&route).await;
    assert!(matches!(again, Outcome::Unauthorized { .. }), "{again:?}");
    assert!(matches!(&rig.alerts[..], [CredentialAlert::Refused { .. }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_account_rests_and_an_unwell_endpoint_is_asked_again() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.fcm_route("tenant-a", "project-a");
    rig.rules("[[rule]]\nmatch = { provider = \"oauth\", first = 2 }\naction = { status = 503 }");
    rig.send(&route, 40);
    let outcomes = rig.outcomes().await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Accepted),
        "{outcomes:?}"
    );
    assert_eq!(
        rig.dispatcher.counters().refreshes.load(Ordering::Relaxed),
        3
    );

    let other = rig.fcm_route("tenant-b", "project-b");
    rig.rules(
        "[[rule]]\nmatch = { provider = \"oauth\" }\naction = { reason = \"invalid_grant\" }",
    );
    rig.send(&other, 40);
    let outcomes = rig.outcomes().await;
    let refused = |outcome: &Outcome| {
        matches!(outcome, Outcome::Unauthorized { reason, pause }
            if reason == "invalid_grant" && *pause > 0)
    };
    assert!(outcomes.iter().all(refused), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_errors_keep_their_meaning() {
    let mut rig = Rig::start(Options::default()).await;
    let route = rig.fcm_route("tenant-a", "project-a");
    rig.rules("[[rule]]\nmatch = { provider = \"fcm\" }\naction = { reason = \"UNREGISTERED\" }");
    let dead = rig.one(&route).await;
    assert!(
        matches!(dead, Outcome::Unregistered { since: None, .. }),
        "{dead:?}"
    );

    rig.rules(
        "[[rule]]\nmatch = { provider = \"fcm\" }\n\
         action = { reason = \"QUOTA_EXCEEDED\", retry_after = \"90\" }",
    );
    let quota = rig.one(&route).await;
    let project = ThrottleScope::Credential;
    assert!(
        matches!(&quota, Outcome::Throttled { scope, retry_after: Some(90_000), .. } if *scope == project),
        "{quota:?}"
    );

    rig.rules(
        "[[rule]]\nmatch = { provider = \"fcm\" }\n\
         action = { status = 502, body = \"<html>Bad Gateway</html>\" }",
    );
    let gateway = rig.one(&route).await;
    assert!(
        matches!(
            gateway,
            Outcome::Unavailable {
                processed: Processed::Answered,
                retry_after: Some(10_000),
                ..
            }
        ),
        "{gateway:?}"
    );
}
