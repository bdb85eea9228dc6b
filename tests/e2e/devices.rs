//! Devices that providers call dead: pruned on their explicit word only, later registrations respected, and a brake.
//! It must not know how prunes are stored.

use std::collections::BTreeSet;

use clarion_simulator::Options;
use serde_json::json;

use crate::harness::{Calls, PATIENCE, World, apple, google, seed, until};
use crate::send::assert_counts;

async fn push(calls: &Calls, user: &str) -> serde_json::Value {
    let body = json!({"user_ids": [user], "alert": {"title": "Hello"}});
    calls.finished(&calls.bulk(&body).await).await
}

/// A provider's word on a user's device, the state it ends in, and whether the device stays.
const WORDS: [(&str, &str, &str, bool); 7] = [
    ("ios-now", "reason = 'Unregistered'", "unregistered", false),
    (
        "ios-before",
        "reason = 'Unregistered', timestamp_ago_ms = 3600000",
        "unregistered",
        true,
    ),
    (
        "ios-expired",
        "reason = 'ExpiredToken'",
        "unregistered",
        false,
    ),
    ("fcm-gone", "reason = 'UNREGISTERED'", "unregistered", false),
    (
        "fcm-project",
        "reason = 'SENDER_ID_MISMATCH'",
        "rejected",
        true,
    ),
    ("ios-bad", "reason = 'BadDeviceToken'", "rejected", true),
    (
        "ios-topic",
        "reason = 'DeviceTokenNotForTopic'",
        "rejected",
        true,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_device_is_pruned_and_one_registered_later_is_kept() {
    let world = World::start().await;
    let calls = world.calls(&world.tenant().await);
    let token_of = |user: &str, number: usize| match user.starts_with("fcm") {
        true => google(seed(), number as u64),
        false => apple(seed(), number as u64),
    };
    let mut rules = String::new();
    for (number, (user, action, ..)) in WORDS.iter().enumerate() {
        let token = token_of(user, number);
        let platform = if user.starts_with("fcm") {
            "android"
        } else {
            "ios"
        };
        calls.register(user, &token, platform).await;
        let when = format!("match = {{ device_token = '{token}' }}");
        rules += &format!("[[rule]]\n{when}\naction = {{ {action} }}\n");
    }
    world.simulator.set_rules_toml(&rules).unwrap();
    for (number, (user, _, state, stays)) in WORDS.iter().enumerate() {
        assert_counts(&push(&calls, user).await, &[(state, 1)]);
        let expected = stays.then(|| token_of(user, number));
        let left = calls.devices(user).await;
        assert_eq!(left, expected.into_iter().collect::<Vec<_>>(), "{user}");
    }
    // What is pruned is sent nothing, and may come back.
    let (user, token) = (WORDS[0].0, token_of(WORDS[0].0, 0));
    let before = world.received(&token).len();
    assert_counts(&push(&calls, user).await, &[("no_device", 1)]);
    assert_eq!(world.received(&token).len(), before);
    world.simulator.set_rules_toml("").unwrap();
    calls.register(user, &token, "ios").await;
    assert_counts(&push(&calls, user).await, &[("accepted", 1)]);
}

async fn many(calls: &Calls, count: u64) -> Vec<String> {
    let devices: Vec<(String, String, &str)> = (0..count)
        .map(|number| (format!("user-{number}"), apple(seed(), number), "ios"))
        .collect();
    calls.register_all(&devices).await;
    devices.into_iter().map(|(user, ..)| user).collect()
}

async fn registered(calls: &Calls) -> BTreeSet<String> {
    let list = calls.caller.get(&calls.path("devices")).await.ok();
    let devices = list["devices"].as_array().unwrap().iter();
    devices
        .map(|device| device["token"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_environment_prunes_nobody() {
    let world = World::start().await;
    let calls = world.calls(&world.tenant().await);
    let users = many(&calls, 600).await;
    let rules = "[[rule]]\naction = { reason = 'BadDeviceToken' }\n";
    world.simulator.set_rules_toml(rules).unwrap();
    let body = json!({"user_ids": users, "alert": {"title": "Hello"}});
    let status = calls.finished(&calls.bulk(&body).await).await;
    assert_counts(&status, &[("rejected", 600)]);
    assert_eq!(registered(&calls).await.len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brake_freezes_pruning_until_somebody_decides() {
    let options = Options {
        receipts_kept: 10_000,
        ..Options::default()
    };
    let world = World::start_with(options, crate::harness::Setup::quick()).await;
    let operator = world.operator();
    for release in [true, false] {
        let tenant = world.tenant().await;
        let calls = world.calls(&tenant);
        let users = many(&calls, 900).await;
        let rules =
            "[[rule]]\nmatch = { share = 0.5, seed = 7 }\naction = { reason = 'Unregistered' }\n";
        world.simulator.set_rules_toml(rules).unwrap();
        let body = json!({"user_ids": users, "alert": {"title": "Hello"}});
        let status = calls.finished(&calls.bulk(&body).await).await;
        let dead = status["unregistered"].as_u64().unwrap();
        assert_eq!(dead + status["accepted"].as_u64().unwrap(), 900);
        let alive: BTreeSet<String> = (0..900)
            .map(|number| apple(seed(), number))
            .filter(|token| !clarion_simulator::share_matches(7, token, 0.5))
            .collect();
        assert_eq!(alive.len() as u64, 900 - dead);
        let path = format!("/operate/tenants/{}/prunes", tenant.id);
        let list = operator.get(&path).await.ok();
        let held = list["candidates"].as_array().unwrap().len() as u64;
        // Before the brake can judge, at most its window of outcomes is believed.
        assert!(
            held >= dead.saturating_sub(256),
            "{held} of {dead} are held"
        );
        let left = registered(&calls).await;
        assert_eq!(left.len() as u64, 900 - dead + held);
        let verb = if release { "release" } else { "discard" };
        let settled = operator
            .post(&format!("{path}/{verb}"), &json!({"platform": "ios"}))
            .await;
        assert_eq!(settled.ok()["settled"], held);
        let left = until("the candidates to be settled", PATIENCE, || async {
            let list = operator.get(&path).await.ok();
            let none = list["candidates"].as_array().unwrap().is_empty();
            if none {
                Some(registered(&calls).await)
            } else {
                None
            }
        })
        .await;
        if release {
            assert_eq!(left, alive, "exactly the dead are gone");
        } else {
            assert_eq!(left.len() as u64, 900 - dead + held, "nobody more is gone");
        }
    }
}
