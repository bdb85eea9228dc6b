//! Tables of notifications and what is said about them.
//! It must not know by which face they came.

use serde_json::json;

use super::*;
use crate::model::{Content, Lane, NotificationId};

const BOTH: [Platform; 2] = [Platform::Ios, Platform::Android];

fn check_for(platforms: &[Platform], content: Value, options: Value) -> Result<(), Refusal> {
    let notification = Notification {
        id: NotificationId(uuid::Uuid::nil()),
        tenant: "acme".parse().unwrap(),
        lane: Lane::Bulk,
        created_at: 0,
        expires_at: 1,
        content: serde_json::from_value::<Content>(content).unwrap(),
        options: serde_json::from_value::<Options>(options).unwrap(),
    };
    check_content(&notification, platforms)
}

fn check(content: Value, options: Value) -> Result<(), Refusal> {
    check_for(&BOTH, content, options)
}

#[test]
fn a_payload_over_a_providers_limit_names_it() {
    let limit_of = |platforms: &[Platform], bytes: usize, options: Value| {
        let content = json!({"data": {"k": "x".repeat(bytes)}});
        match check_for(platforms, content, options) {
            Ok(()) => None,
            Err(Refusal::TooLarge { what, limit, .. }) => Some((what, limit)),
            Err(other) => panic!("{other}"),
        }
    };
    let voip = json!({"push_type": "voip"});
    assert_eq!(limit_of(&BOTH, 3_900, json!({})), None);
    assert_eq!(
        limit_of(&BOTH, 4_200, json!({})),
        Some(("APNs payload", 4_096))
    );
    assert_eq!(
        limit_of(&BOTH[1..], 4_200, json!({})),
        Some(("FCM message", 4_096))
    );
    assert_eq!(limit_of(&BOTH, 4_200, voip), None);
    let whole = limit_of(&[], 70_000, json!({}));
    assert_eq!(whole, Some(("notification", NOTIFICATION_BYTES_MAX)));
}

#[test]
fn a_key_that_google_reserves_is_refused_only_where_google_may_see_it() {
    let content = json!({"data": {"from": "ada"}});
    assert!(check_for(&BOTH[..1], content.clone(), json!({})).is_ok());
    let refusal = check_for(&BOTH, content, json!({}))
        .unwrap_err()
        .to_string();
    assert!(refusal.starts_with("data.from: "), "{refusal}");
}

#[test]
fn what_the_providers_take_is_accepted() {
    let options = [
        json!({}),
        json!({"collapse_id": "c".repeat(64), "topic": "com.example.app.voip", "relevance_score": 1.0}),
        json!({"apns": {"headers": {"apns-priority": "5", "apns-expiration": "0"},
                        "payload": {"aps": {"badge": 1}, "x": [1]}}}),
        json!({"fcm": {"android": {"ttl": "60s"}}}),
        json!({"live_activity": {"event": "update"}, "push_type": "liveactivity"}),
    ];
    for options in options {
        check(
            json!({"title": "a\u{0}b", "data": {"k": 1}}),
            options.clone(),
        )
        .unwrap_or_else(|refusal| panic!("{options}: {refusal}"));
    }
}

#[track_caller]
fn each_names_its_field<const N: usize>(table: [(Value, Value, &str); N]) {
    for (content, options, path) in table {
        let refusal = check(content, options.clone()).unwrap_err().to_string();
        assert!(
            refusal.starts_with(&format!("{path}: ")),
            "{options}: {refusal}"
        );
    }
}

#[test]
fn each_rule_names_its_field() {
    each_names_its_field([
        (json!({"data": {"aps": {}}}), json!({}), "data.aps"),
        (
            json!({}),
            json!({"collapse_id": "c".repeat(65)}),
            "options.collapse_id",
        ),
        (json!({}), json!({"collapse_id": ""}), "options.collapse_id"),
        (
            json!({}),
            json!({"collapse_id": "ä"}),
            "options.collapse_id",
        ),
        (
            json!({}),
            json!({"topic": "com.example\r\nx"}),
            "options.topic",
        ),
        (json!({}), json!({"topic": "com example"}), "options.topic"),
        (
            json!({}),
            json!({"thread_id": "a\u{7}"}),
            "options.thread_id",
        ),
        (
            json!({}),
            json!({"category": "c".repeat(257)}),
            "options.category",
        ),
        (
            json!({}),
            json!({"relevance_score": 1.01}),
            "options.relevance_score",
        ),
        (
            json!({}),
            json!({"relevance_score": -0.1}),
            "options.relevance_score",
        ),
        (
            json!({}),
            json!({"live_activity": {"event": "end"}, "push_type": "alert"}),
            "options.live_activity",
        ),
    ]);
}

#[test]
fn each_raw_override_names_its_field() {
    each_names_its_field([
        (
            json!({}),
            json!({"apns": {"headers": {"apns-id": "x"}}}),
            "options.apns.headers.apns-id",
        ),
        (
            json!({}),
            json!({"apns": {"headers": {"authorization": "x"}}}),
            "options.apns.headers.authorization",
        ),
        (
            json!({}),
            json!({"apns": {"headers": {"apns-priority": "7"}}}),
            "options.apns.headers.apns-priority",
        ),
        (
            json!({}),
            json!({"apns": {"headers": {"apns-push-type": "loud"}}}),
            "options.apns.headers.apns-push-type",
        ),
        (
            json!({}),
            json!({"apns": {"payload": {"aps": 1}}}),
            "options.apns.payload.aps",
        ),
        (
            json!({}),
            json!({"fcm": {"token": "x"}}),
            "options.fcm.message.token",
        ),
    ]);
}

#[test]
fn a_user_id_is_any_text_without_controls() {
    for good in [
        "user-123",
        "ada@example.com",
        "ключ",
        "a b",
        &"u".repeat(256),
    ] {
        assert_eq!(check_user_id(good), Ok(()));
    }
    for bad in ["", "a\nb", "a\0", "\u{85}", &"u".repeat(257)] {
        assert!(check_user_id(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_refusal_can_be_told_at_once() {
    let notification = Notification {
        id: NotificationId(uuid::Uuid::nil()),
        tenant: "acme".parse().unwrap(),
        lane: Lane::Bulk,
        created_at: 0,
        expires_at: 1,
        content: serde_json::from_value(json!({"data": {"aps": 1}})).unwrap(),
        options: serde_json::from_value(json!({
            "collapse_id": "ä", "topic": "a b", "relevance_score": 7.0,
            "apns": {"headers": {"apns-id": "x", "apns-priority": "7"}, "payload": {"aps": 1}},
            "fcm": {"token": "x", "topic": "y"},
        }))
        .unwrap(),
    };
    let told = refusals(&notification, &BOTH);
    let places: Vec<String> = told.iter().map(Refusal::to_string).collect();
    let places: Vec<&str> = places
        .iter()
        .filter_map(|told| told.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "data.aps",
            "options.collapse_id",
            "options.topic",
            "options.relevance_score",
            "options.apns.headers.apns-id",
            "options.apns.headers.apns-priority",
            "options.apns.payload.aps",
            "options.fcm.message.token",
            "options.fcm.message.topic",
        ]
    );
}
