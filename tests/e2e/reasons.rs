//! Every reason of Apple's and every error of Google's, from the wire to the state that the API shows.
//! It must not know how reasons are classified; the expectation is written down here once more.

use clarion_simulator::{ApnsReason, Options};

use crate::harness::{Setup, World, apple, google, seed};

/// Apple's reasons after which the push is taken at another try.
const APPLE_AGAIN: [ApnsReason; 13] = [
    ApnsReason::IdleTimeout,
    ApnsReason::BadCertificate,
    ApnsReason::BadCertificateEnvironment,
    ApnsReason::ExpiredProviderToken,
    ApnsReason::InvalidProviderToken,
    ApnsReason::UnrelatedKeyIdInToken,
    ApnsReason::BadEnvironmentKeyIdInToken,
    ApnsReason::BadEnvironmentKeyInToken,
    ApnsReason::TooManyProviderTokenUpdates,
    ApnsReason::TooManyRequests,
    ApnsReason::InternalServerError,
    ApnsReason::ServiceUnavailable,
    ApnsReason::Shutdown,
];
/// Apple's reasons that declare the device token dead.
const APPLE_DEAD: [ApnsReason; 2] = [ApnsReason::ExpiredToken, ApnsReason::Unregistered];
/// Reasons of Apple's broadcasts, which are not sent here.
const APPLE_BROADCAST: [&str; 10] = [
    "FeatureNotEnabled",
    "MissingChannelId",
    "BadChannelId",
    "ChannelNotRegistered",
    "BadRequestParams",
    "BadRequestPayload",
    "MissingPushType",
    "CannotCreateChannelConfig",
    "TopicMismatch",
    "Service",
];

/// Google's errors, as the simulator names them: what becomes of the push.
const GOOGLE: [(&str, &str); 9] = [
    ("INVALID_ARGUMENT", "rejected"),
    ("SENDER_ID_MISMATCH", "rejected"),
    ("UNREGISTERED", "unregistered"),
    ("THIRD_PARTY_AUTH_ERROR", "accepted"),
    ("UNAUTHENTICATED", "accepted"),
    ("PERMISSION_DENIED", "accepted"),
    ("QUOTA_EXCEEDED", "accepted"),
    ("INTERNAL", "accepted"),
    ("UNAVAILABLE", "accepted"),
];

/// Waits a thousand times shorter: the longest here is the twenty minutes of a provider token.
async fn world() -> World {
    World::start_with(
        Options::default(),
        Setup::quick().with("retry.scale", 0.001),
    )
    .await
}

async fn one(world: &World, token: String, reason: &str, state: &str) {
    // A tenant each, so that a resting credential is nobody else's.
    let calls = world.calls(&world.tenant().await);
    let rules = format!(
        "[[rule]]\nmatch = {{ device_token = '{token}', first = 1 }}\naction.reason = '{reason}'\n"
    );
    world.simulator.set_rules_toml(&rules).unwrap();
    let id = calls.alert_to(std::slice::from_ref(&token)).await;
    let status = calls.finished(&id).await;
    assert_eq!(status[state], 1, "{reason}: {status}");
    let failures = calls.failures(&id, 10).await;
    let receipts = world.received(&token);
    if state == "accepted" {
        assert!(failures.is_empty());
        assert_eq!(receipts.len(), 2, "{reason}: {receipts:?}");
    } else {
        assert_eq!(
            (&failures[0]["state"], &failures[0]["reason"]),
            (&state.into(), &reason.into())
        );
        assert_eq!(receipts.len(), 1, "{reason}: {receipts:?}");
    }
    assert_eq!(receipts[0].reason, reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_of_apple_has_its_effect() {
    let world = world().await;
    for (number, reason) in ApnsReason::ALL.iter().enumerate() {
        if APPLE_BROADCAST.contains(&reason.name()) {
            continue;
        }
        let state = match reason {
            again if APPLE_AGAIN.contains(again) => "accepted",
            dead if APPLE_DEAD.contains(dead) => "unregistered",
            _ => "rejected",
        };
        one(&world, apple(seed(), number as u64), reason.name(), state).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_google_has_its_effect() {
    let world = world().await;
    for (number, (reason, state)) in GOOGLE.into_iter().enumerate() {
        one(&world, google(seed(), number as u64), reason, state).await;
    }
}
