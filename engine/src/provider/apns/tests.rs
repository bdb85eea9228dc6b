//! What an APNs request looks like, from notification to headers and payload.
//! It must not know how requests travel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use crate::model::{
    Content, Environment, InterruptionLevel, Lane, LiveActivity, LiveActivityEvent, NotificationId,
    Options, Priority, PushType,
};
use crate::provider::test_keys::p8;
use crate::provider::{Credential as AnyCredential, DeviceTokenRef};

const NOW: Millis = 1_800_000_000_000;

fn route(bundle_id: Option<&str>) -> Route {
    let credential = Credential::from_p8(&p8(), "TEAM123456", "KEY1234567").unwrap();
    Route {
        tenant: "shop".parse().unwrap(),
        credential: AnyCredential::Apns(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: bundle_id.map(Arc::from),
    }
}

fn notification(content: Content, options: Options) -> Notification {
    let key = clarion_auth::MacKey::new(&[7; 32]);
    let tenant: crate::model::TenantId = "shop".parse().unwrap();
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

fn encoded(content: Content, options: Options) -> Result<Prepared, EncodeError> {
    let route = route(Some("com.example.app"));
    match Apns.encode(&notification(content, options), &route, NOW)? {
        AnyPrepared::Apns(prepared) => Ok(prepared),
        AnyPrepared::Fcm(_) => panic!("not FCM"),
    }
}

fn payload(content: Content, options: Options) -> Value {
    serde_json::from_slice(&encoded(content, options).unwrap().payload).unwrap()
}

fn header(prepared: &Prepared, name: &str) -> Option<String> {
    Some(prepared.headers.get(name)?.to_str().unwrap().to_owned())
}

fn stamped(prepared: &Prepared, device_token: &str) -> Result<Request, BadDeviceToken> {
    let authority = "api.push.apple.com".parse().unwrap();
    let authorization = HeaderValue::from_static("bearer abc");
    prepared.stamp(&Stamp {
        authority: &authority,
        recipient_id: Uuid::from_u128(0xABCD),
        device_token: DeviceTokenRef(device_token),
        authorization: Some(&authorization),
    })
}

#[test]
fn an_alert_becomes_a_whole_request() {
    let prepared = encoded(alert(), Options::default()).unwrap();
    let request = stamped(&prepared, "00fFaB").unwrap();
    let uri = request.head.uri().to_string();
    assert_eq!(uri, "https://api.push.apple.com/3/device/00fFaB");
    let mut headers: Vec<(&str, &str, bool)> = request
        .head
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap(), value.is_sensitive()))
        .collect();
    headers.sort_unstable();
    let id = "00000000-0000-0000-0000-00000000abcd";
    let expected = [
        ("apns-collapse-id", id, true),
        ("apns-expiration", "1800000060", true),
        ("apns-id", id, true),
        ("apns-priority", "10", false),
        ("apns-push-type", "alert", false),
        ("apns-topic", "com.example.app", false),
        ("authorization", "bearer abc", false),
    ];
    assert_eq!(headers, expected);
    let expected = json!({"aps": {"alert": {"title": "Title", "body": "Body"}}});
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        expected
    );
}

#[test]
fn only_hexadecimal_device_tokens_enter_a_path() {
    let prepared = encoded(alert(), Options::default()).unwrap();
    for bad in [
        "",
        "xyz",
        "00/../4/broadcasts",
        "00?a",
        "00 11",
        "00\r\n",
        "0é",
    ] {
        assert_eq!(
            stamped(&prepared, bad).unwrap_err(),
            BadDeviceToken,
            "{bad:?}"
        );
    }
    stamped(&prepared, &"a".repeat(200)).unwrap();
}

fn content_of(kind: &str) -> Content {
    let data = Map::from_iter([("k".to_owned(), json!(1))]);
    Content {
        content_available: kind == "silent",
        badge: (kind == "badge").then_some(3),
        data: (kind == "data").then_some(data),
        title: (kind == "alert").then(|| "Title".to_owned()),
        ..Content::default()
    }
}

#[test]
fn push_type_priority_and_topic_follow_the_content() {
    let cases = [
        ("alert", None, None, "alert 10 com.example.app"),
        (
            "alert",
            None,
            Some(Priority::Low),
            "alert 1 com.example.app",
        ),
        (
            "alert",
            None,
            Some(Priority::Normal),
            "alert 5 com.example.app",
        ),
        ("badge", None, None, "alert 10 com.example.app"),
        ("silent", None, None, "background 5 com.example.app"),
        (
            "silent",
            None,
            Some(Priority::Low),
            "background 1 com.example.app",
        ),
        ("data", None, None, "background 5 com.example.app"),
        (
            "alert",
            Some(PushType::Voip),
            None,
            "voip 10 com.example.app.voip",
        ),
        ("alert", Some(PushType::Mdm), None, "mdm 10 com.example.app"),
        (
            "alert",
            Some(PushType::Widgets),
            None,
            "widgets 10 com.example.app.push-type.widgets",
        ),
    ];
    for (name, push_type, priority, expected) in cases {
        let content = content_of(name);
        let options = Options {
            push_type,
            priority,
            ..Options::default()
        };
        let prepared = encoded(content, options).unwrap();
        let found = ["apns-push-type", "apns-priority", "apns-topic"];
        let found = found.map(|name| header(&prepared, name).unwrap());
        assert_eq!(found.join(" "), expected);
        assert_eq!(
            prepared.collapses_on_recipient,
            expected.starts_with("alert")
        );
    }
}

#[test]
fn a_background_push_says_so_in_its_payload_and_never_claims_priority_ten() {
    let content = || Content {
        content_available: true,
        ..Content::default()
    };
    assert_eq!(
        payload(content(), Options::default()),
        json!({"aps": {"content-available": 1}})
    );
    let options = Options {
        priority: Some(Priority::High),
        ..Options::default()
    };
    let prepared = encoded(content(), options).unwrap();
    assert_eq!(header(&prepared, "apns-priority").unwrap(), "5");
    let raw = crate::model::ApnsOverride {
        headers: [("apns-priority".to_owned(), "10".to_owned())].into(),
        ..Default::default()
    };
    let options = Options {
        apns: Some(raw),
        ..Options::default()
    };
    let refused = encoded(content(), options).unwrap_err();
    assert!(matches!(&refused, EncodeError::Header { name, .. } if name == "apns-priority"));
}

#[test]
fn the_callers_collapse_id_wins() {
    let options = Options {
        collapse_id: Some("score".to_owned()),
        ..Options::default()
    };
    let prepared = encoded(alert(), options).unwrap();
    let request = stamped(&prepared, "00").unwrap();
    assert_eq!(request.head.headers()["apns-collapse-id"], "score");
    assert!(request.head.headers()["apns-collapse-id"].is_sensitive());
}

#[test]
fn options_become_aps_fields() {
    let options = Options {
        thread_id: Some("t".to_owned()),
        interruption_level: Some(InterruptionLevel::TimeSensitive),
        relevance_score: Some(0.5),
        mutable_content: true,
        category: Some("c".to_owned()),
        target_content_id: Some("w".to_owned()),
        ..Options::default()
    };
    let expected = json!({"aps": {
        "alert": {"title": "Title", "body": "Body"}, "thread-id": "t", "mutable-content": 1,
        "interruption-level": "time-sensitive", "relevance-score": 0.5, "category": "c",
        "target-content-id": "w",
    }});
    assert_eq!(payload(alert(), options), expected);
}

#[test]
fn a_live_activity_has_its_fields_and_its_topic() {
    let state = Map::from_iter([("score".to_owned(), json!(2))]);
    let options = Options {
        live_activity: Some(LiveActivity {
            event: LiveActivityEvent::Update,
            timestamp: None,
            content_state: state,
            stale_date: Some(5),
            dismissal_date: None,
            attributes_type: None,
            attributes: None,
        }),
        ..Options::default()
    };
    let prepared = encoded(Content::default(), options).unwrap();
    let topic = "com.example.app.push-type.liveactivity";
    assert_eq!(header(&prepared, "apns-topic").unwrap(), topic);
    assert_eq!(header(&prepared, "apns-push-type").unwrap(), "liveactivity");
    let found: Value = serde_json::from_slice(&prepared.payload).unwrap();
    let expected = json!({"aps": {
        "event": "update", "timestamp": NOW / 1_000, "content-state": {"score": 2}, "stale-date": 5,
    }});
    assert_eq!(found, expected);
}

#[test]
fn data_lies_beside_aps_and_raw_fields_are_merged_last() {
    let content = Content {
        data: Some(
            json!({"order": {"id": 7}, "x": 1})
                .as_object()
                .unwrap()
                .clone(),
        ),
        ..alert()
    };
    let raw = crate::model::ApnsOverride {
        headers: [("APNS-Priority".to_owned(), "5".to_owned())].into(),
        payload: json!({"aps": {"alert": {"title": "T"}, "x-new": 1}, "x": 2})
            .as_object()
            .unwrap()
            .clone(),
    };
    let options = Options {
        apns: Some(raw),
        ..Options::default()
    };
    let prepared = encoded(content, options).unwrap();
    assert_eq!(header(&prepared, "apns-priority").unwrap(), "5");
    let found: Value = serde_json::from_slice(&prepared.payload).unwrap();
    let expected = json!({
        "aps": {"alert": {"title": "T", "body": "Body"}, "x-new": 1},
        "order": {"id": 7}, "x": 2,
    });
    assert_eq!(found, expected);
}

#[test]
fn an_mdm_push_is_only_what_the_caller_says() {
    let options = Options {
        push_type: Some(PushType::Mdm),
        topic: Some("com.apple.mgmt.External.1".to_owned()),
        apns: Some(crate::model::ApnsOverride {
            payload: json!({"mdm": "magic"}).as_object().unwrap().clone(),
            ..Default::default()
        }),
        ..Options::default()
    };
    assert_eq!(
        payload(Content::default(), options),
        json!({"mdm": "magic"})
    );
}

#[test]
fn what_apple_would_refuse_for_everybody_is_refused_at_the_door() {
    let raw = |name: &str, value: &str| Options {
        apns: Some(crate::model::ApnsOverride {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..Default::default()
        }),
        ..Options::default()
    };
    let collapse = |id: &str| Options {
        collapse_id: Some(id.to_owned()),
        ..Options::default()
    };
    let topic = |topic: &str| Options {
        topic: Some(topic.to_owned()),
        ..Options::default()
    };
    let cases = [
        raw("apns-id", "00000000-0000-0000-0000-000000000000"),
        raw("authorization", "bearer x"),
        raw("host", "x"),
        raw("apns-priority", "7"),
        raw("apns-push-type", "shout"),
        raw("apns-expiration", "tomorrow"),
        raw("apns-expiration", ""),
        collapse(&"x".repeat(65)),
        collapse(""),
        collapse("a\nb"),
        collapse("é"),
        topic(""),
        topic("com.example\r\nx: y"),
    ];
    for options in cases {
        let named = format!("{options:?}");
        let refused = encoded(alert(), options).unwrap_err();
        assert!(
            matches!(refused, EncodeError::Header { .. }),
            "{named}: {refused}"
        );
    }
    let reserved = Content {
        data: Some(Map::from_iter([("aps".to_owned(), json!({}))])),
        ..alert()
    };
    let refused = encoded(reserved, Options::default()).unwrap_err();
    assert!(matches!(refused, EncodeError::ReservedKey { .. }));
    let score = Options {
        relevance_score: Some(1.5),
        ..Options::default()
    };
    assert!(matches!(
        encoded(alert(), score),
        Err(EncodeError::Field { .. })
    ));
    let nameless = Apns.encode(
        &notification(alert(), Options::default()),
        &route(None),
        NOW,
    );
    assert_eq!(nameless.unwrap_err(), EncodeError::TopicMissing);
}

#[test]
fn the_limit_counts_the_final_bytes() {
    let with_body = |bytes: usize, push_type| {
        let content = Content {
            body: Some("x".repeat(bytes)),
            ..Content::default()
        };
        let options = Options {
            push_type,
            ..Options::default()
        };
        validate(&notification(content, options))
    };
    let frame = r#"{"aps":{"alert":{"body":""}}}"#.len();
    assert_eq!(with_body(4_096 - frame, None), Ok(4_096));
    let too_large = |bytes, limit| EncodeError::PayloadTooLarge {
        provider: "APNs",
        bytes,
        limit,
    };
    assert_eq!(with_body(4_097 - frame, None), Err(too_large(4_097, 4_096)));
    let voip = Some(PushType::Voip);
    assert_eq!(with_body(5_120 - frame, voip), Ok(5_120));
    assert_eq!(with_body(5_121 - frame, voip), Err(too_large(5_121, 5_120)));
}

mod properties;
