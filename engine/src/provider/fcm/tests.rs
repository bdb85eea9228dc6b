//! What an FCM request looks like, from notification to body.
//! It must not know how requests travel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use crate::model::{Content, Environment, Lane, NotificationId, Options, Priority, TenantId};
use crate::provider::test_keys::service_account;
use crate::provider::{Credential as AnyCredential, DeviceTokenRef};

const NOW: Millis = 1_800_000_000_000;
const ID: Uuid = Uuid::from_u128(0xABCD);
const TAG: &str = "00000000-0000-0000-0000-00000000abcd";

fn notification(content: Content, options: Options) -> Notification {
    let key = clarion_auth::MacKey::new(&[7; 32]);
    let tenant: TenantId = "shop".parse().unwrap();
    Notification {
        id: NotificationId::mint(&key, &tenant, NOW, [1; 10]),
        tenant,
        lane: Lane::Transactional,
        created_at: NOW,
        expires_at: NOW + 60_500,
        content,
        options,
    }
}

fn alert() -> Content {
    Content {
        title: Some("Title".to_owned()),
        body: Some("Body".to_owned()),
        ..Content::default()
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn body_at(content: Content, options: Options, now: Millis) -> Result<Value, EncodeError> {
    let collapse_id = options.collapse_id.clone();
    let (message, _) = message::encode(&notification(content, options), now)?;
    let pieces = message::Pieces::new(message, collapse_id.as_deref())?;
    Ok(serde_json::from_slice(&pieces.fill("device", ID)).expect("valid JSON"))
}

fn body(content: Content, options: Options) -> Value {
    body_at(content, options, NOW).unwrap()
}

#[test]
fn an_alert_becomes_a_whole_request() {
    let file = service_account("shop-1").to_string();
    let credential = Credential::from_json(&file).unwrap();
    let route = Route {
        tenant: "shop".parse().unwrap(),
        credential: AnyCredential::Fcm(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: None,
    };
    let content = Content {
        badge: Some(3),
        sound: Some("ping".to_owned()),
        ..alert()
    };
    let prepared = Fcm
        .encode(&notification(content, Options::default()), &route, NOW)
        .unwrap();
    let authorization = HeaderValue::from_static("Bearer abc");
    let request = prepared
        .stamp(&Stamp {
            authority: &"fcm.googleapis.com".parse().unwrap(),
            recipient_id: ID,
            device_token: DeviceTokenRef("dev:ice"),
            authorization: Some(&authorization),
        })
        .unwrap();
    let uri = request.head.uri().to_string();
    assert_eq!(
        uri,
        "https://fcm.googleapis.com/v1/projects/shop-1/messages:send"
    );
    let headers = request.head.headers();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer abc");
    assert!(headers["x-request-id"] == TAG && headers["x-request-id"].is_sensitive());
    let expected = json!({"message": {
        "token": "dev:ice",
        "notification": {"title": "Title", "body": "Body"},
        "android": {
            "priority": "HIGH", "ttl": "60s",
            "notification": {"notification_count": 3, "sound": "ping", "tag": TAG},
        },
    }});
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        expected
    );
}

#[test]
fn a_silent_push_is_data_alone_and_normal() {
    let content = Content {
        content_available: true,
        badge: Some(1),
        data: Some(object(
            json!({"s": "text", "n": 1.5, "b": true, "o": {"x": [1, null]}}),
        )),
        ..Content::default()
    };
    let expected = json!({"message": {
        "token": "device",
        "android": {"priority": "NORMAL", "ttl": "60s"},
        "data": {"s": "text", "n": "1.5", "b": "true", "o": r#"{"x":[1,null]}"#},
    }});
    assert_eq!(body(content, Options::default()), expected);
}

#[test]
fn the_time_to_live_counts_from_now() {
    let ttl = |now| {
        body_at(alert(), Options::default(), now).unwrap()["message"]["android"]["ttl"].clone()
    };
    assert_eq!(ttl(NOW), "60s");
    assert_eq!(ttl(NOW + 50_000), "10s");
    assert_eq!(ttl(NOW + 600_000), "0s");
    assert_eq!(ttl(NOW - 40 * 24 * 3_600_000), "2419200s");
}

#[test]
fn the_callers_collapse_id_is_key_and_tag() {
    let options = Options {
        collapse_id: Some("sc\"ore".to_owned()),
        priority: Some(Priority::Low),
        ..Options::default()
    };
    let android = &body(alert(), options)["message"]["android"];
    let expected = json!({
        "collapse_key": "sc\"ore", "priority": "NORMAL", "ttl": "60s",
        "notification": {"tag": "sc\"ore"},
    });
    assert_eq!(*android, expected);
}

#[test]
fn raw_fields_are_merged_last() {
    let raw = json!({
        "notification": {"image": "https://a.example/i.png"},
        "android": {"ttl": "5s", "notification": {"tag": "mine", "color": "#ff0000"}},
        "data": {"k": "v"},
        "fcm_options": {"analytics_label": "l"},
    });
    let options = Options {
        fcm: Some(object(raw)),
        ..Options::default()
    };
    let expected = json!({"message": {
        "token": "device",
        "notification": {"title": "Title", "body": "Body", "image": "https://a.example/i.png"},
        "android": {
            "priority": "HIGH", "ttl": "5s", "notification": {"tag": "mine", "color": "#ff0000"},
        },
        "data": {"k": "v"},
        "fcm_options": {"analytics_label": "l"},
    }});
    assert_eq!(body(alert(), options), expected);
}

#[test]
fn what_google_would_refuse_for_everybody_is_refused_at_the_door() {
    let raw = |value: Value| {
        let options = Options {
            fcm: Some(object(value)),
            ..Options::default()
        };
        validate(&notification(alert(), options)).unwrap_err()
    };
    for target in ["token", "fid", "topic", "condition", "name"] {
        let refused = raw(json!({target: "x"}));
        assert!(
            matches!(refused, EncodeError::ReservedKey { .. }),
            "{target}"
        );
    }
    for odd in [
        json!({"data": {"n": 1}}),
        json!({"data": []}),
        json!({"android": "x"}),
        json!({"android": {"data": {"n": null}}}),
        json!({"android": {"data": 1}}),
        json!({"android": {"notification": []}}),
        json!({"notification": null}),
    ] {
        let refused = raw(odd.clone());
        assert!(
            matches!(refused, EncodeError::Field { .. }),
            "{odd}: {refused}"
        );
    }
    for key in ["from", "message_type", "google.x", "gcm.y"] {
        let content = Content {
            data: Some(object(json!({key: "x"}))),
            ..alert()
        };
        let refused = validate(&notification(content, Options::default())).unwrap_err();
        assert!(
            matches!(refused, EncodeError::ReservedKey { place: "data", .. }),
            "{key}"
        );
    }
}

#[test]
fn the_limit_counts_keys_and_values() {
    let with_value = |bytes: usize| {
        let content = Content {
            data: Some(object(json!({"key": "x".repeat(bytes)}))),
            ..Content::default()
        };
        validate(&notification(content, Options::default()))
    };
    assert_eq!(with_value(4_093), Ok(4_096));
    let expected = EncodeError::PayloadTooLarge {
        provider: "FCM",
        bytes: 4_097,
        limit: 4_096,
    };
    assert_eq!(with_value(4_094), Err(expected));
    let long_title = Content {
        title: Some("x".repeat(4_097)),
        ..Content::default()
    };
    let refused = validate(&notification(long_title, Options::default())).unwrap_err();
    assert!(matches!(
        refused,
        EncodeError::PayloadTooLarge { bytes: 4_097, .. }
    ));
}

proptest! {
    /// Whatever the content and whatever stands in place of a device token: what is stamped is the message, with
    /// exactly that token and that tag.
    #[test]
    fn stamping_never_breaks_the_json(
        device_token in ".{0,60}",
        (title, body) in (proptest::option::of(".{0,200}"), proptest::option::of(".{0,200}")),
        data in proptest::collection::btree_map(".{1,20}", ".{0,60}", 0..4),
        raw_key in "[a-z_]{1,12}",
        id: u128,
    ) {
        let content = Content {
            title: title.clone(),
            body,
            data: Some(data.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect()),
            ..Content::default()
        };
        let android = json!({"notification": {"color": title}, raw_key.clone(): {"a\"}": "b\\"}});
        let options = Options { fcm: Some(object(json!({"android": android}))), ..Options::default() };
        let Ok((message, size)) = message::encode(&notification(content, options), NOW) else {
            return Ok(());
        };
        prop_assert!(size <= 4_096);
        let mut expected = message.clone();
        expected.insert("token".to_owned(), Value::from(device_token.clone()));
        let id = Uuid::from_u128(id);
        let details = expected["android"]["notification"].as_object_mut().unwrap();
        details.insert("tag".to_owned(), Value::from(id.to_string()));
        let pieces = message::Pieces::new(message, None).unwrap();
        let found: Value = serde_json::from_slice(&pieces.fill(&device_token, id)).unwrap();
        prop_assert_eq!(found, json!({"message": expected}));
    }
}
