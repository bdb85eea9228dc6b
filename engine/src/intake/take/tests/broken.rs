//! Broken messages: each becomes a dead row with its reason, its place and its bytes, and blocks nobody. What a schema can
//! know of them, the committed schema refuses too. It must not know how they are judged.

use serde_json::{Value, json};

use super::house::{House, NOW, request};
use crate::contract::publish_schema;
use crate::intake::Reason;
use crate::intake::request::read_request;
use crate::limits::PUBLISH_BYTES_MAX;
use crate::store::{DeadFilter, DeadOrigin, TenantPatch};

/// Whether a schema can know that a message is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Schema {
    Refuses,
    CannotKnow,
}
use Schema::{CannotKnow, Refuses};

struct Broken {
    body: Vec<u8>,
    reason: Reason,
    path: &'static str,
    schema: Schema,
}

fn broken(body: impl Into<Vec<u8>>, reason: Reason, path: &'static str, schema: Schema) -> Broken {
    Broken {
        body: body.into(),
        reason,
        path,
        schema,
    }
}

/// A request that is well but for these members.
fn with(more: Value, path: &'static str, schema: Schema) -> Broken {
    broken(request(more), Reason::Invalid, path, schema)
}

fn no_requests() -> Vec<Broken> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let twice = r#"{"v": 1, "message_id": "m", "user_id": "u", "data": {"a": [{"b": 1, "b": 2}]}}"#;
    vec![
        broken("", Reason::MalformedJson, "", CannotKnow),
        broken("{", Reason::MalformedJson, "", CannotKnow),
        broken(*b"{\"v\": \"\xff\"}", Reason::MalformedJson, "", CannotKnow),
        broken("{} {}", Reason::MalformedJson, "", CannotKnow),
        broken("\u{feff}{}", Reason::MalformedJson, "", CannotKnow),
        broken(
            r#"{"v": 1, "message_id": "\ud800"}"#,
            Reason::MalformedJson,
            "",
            CannotKnow,
        ),
        broken(deep, Reason::MalformedJson, "", CannotKnow),
        broken("[]", Reason::Invalid, "", Refuses),
        broken("\"text\"", Reason::Invalid, "", Refuses),
        broken(twice, Reason::Invalid, "/data/a/0/b", CannotKnow),
        with(json!({"v": null}), "/v", Refuses),
        with(json!({"v": "1"}), "/v", Refuses),
        broken(
            request(json!({"v": 2})),
            Reason::UnsupportedVersion,
            "/v",
            Refuses,
        ),
        broken(
            r#"{"v": 7, "of": "another time"}"#,
            Reason::UnsupportedVersion,
            "/v",
            Refuses,
        ),
        with(json!({"message_id": null}), "/message_id", Refuses),
        with(json!({"message_id": ""}), "/message_id", Refuses),
        with(json!({"message_id": "two words"}), "/message_id", Refuses),
        with(
            json!({"message_id": "m".repeat(129)}),
            "/message_id",
            Refuses,
        ),
        with(json!({"message_id": 7}), "/message_id", Refuses),
        with(
            json!({"created_at": "yesterday"}),
            "/created_at",
            CannotKnow,
        ),
        with(
            json!({"created_at": "2030-01-15T10:30:00Z"}),
            "/created_at",
            CannotKnow,
        ),
    ]
}

fn for_nobody() -> Vec<Broken> {
    let many = vec!["u"; 10_001];
    let apple = json!({"platform": "ios", "token": "ab".repeat(32)});
    let text = |text: &str| json!({"platform": "ios", "token": text});
    let nobody = json!({"v": 1, "message_id": "m", "alert": {"title": "Hello"}});
    vec![
        broken(nobody.to_string(), Reason::Invalid, "/user_id", Refuses),
        with(
            json!({"user_id": "a", "user_ids": ["b"]}),
            "/user_ids",
            Refuses,
        ),
        with(
            json!({"user_id": "a", "device_tokens": [apple]}),
            "/device_tokens",
            Refuses,
        ),
        with(json!({"user_id": ""}), "/user_id", Refuses),
        with(json!({"user_id": ["a"]}), "/user_id", Refuses),
        with(json!({"user_ids": []}), "/user_ids", Refuses),
        with(json!({"user_ids": "a"}), "/user_ids", Refuses),
        with(json!({"user_ids": ["a", 5]}), "/user_ids/1", Refuses),
        with(
            json!({"user_ids": ["a", "b\u{0}"]}),
            "/user_ids/1",
            CannotKnow,
        ),
        with(
            json!({"user_ids": ["a", "u".repeat(257)]}),
            "/user_ids/1",
            Refuses,
        ),
        broken(
            request(json!({ "user_ids": many })),
            Reason::TooLarge,
            "/user_ids",
            Refuses,
        ),
        with(json!({"device_tokens": []}), "/device_tokens", Refuses),
        with(
            json!({"device_tokens": [{"token": "ab".repeat(32)}]}),
            "/device_tokens/0/platform",
            Refuses,
        ),
        with(
            json!({"device_tokens": [{"platform": "windows", "token": "x"}]}),
            "/device_tokens/0/platform",
            Refuses,
        ),
        with(
            json!({"device_tokens": [apple, text("short")]}),
            "/device_tokens/1/token",
            CannotKnow,
        ),
        with(
            json!({"device_tokens": [text("a\nb")]}),
            "/device_tokens/0/token",
            CannotKnow,
        ),
    ]
}

fn not_to_be_said() -> Vec<Broken> {
    let large = json!({"data": {"k": "x".repeat(5_000)}});
    let larger = json!({"data": {"k": "x".repeat(70_000)}});
    vec![
        with(json!({"alert": "Hello"}), "/alert", Refuses),
        with(json!({"alert": {"title": 5}}), "/alert/title", Refuses),
        with(json!({"badge": -1}), "/badge", Refuses),
        with(json!({"badge": 5_000_000_000_u64}), "/badge", Refuses),
        with(
            json!({"content_available": 1}),
            "/content_available",
            Refuses,
        ),
        with(json!({"data": [1]}), "/data", Refuses),
        with(json!({"data": {"aps": {}}}), "/data/aps", CannotKnow),
        broken(request(large), Reason::TooLarge, "", CannotKnow),
        broken(request(larger), Reason::TooLarge, "/data", CannotKnow),
    ]
}

fn not_to_be_said_so() -> Vec<Broken> {
    let headers = json!({"apns": {"headers": {"apns-id": "x"}}});
    vec![
        with(json!({"options": {"ttl": 0}}), "/options/ttl", Refuses),
        with(
            json!({"options": {"ttl": 2_419_201}}),
            "/options/ttl",
            Refuses,
        ),
        with(
            json!({"options": {"ttl": 5, "expires_at": "2030-01-15T10:30:00Z"}}),
            "/options/expires_at",
            CannotKnow,
        ),
        with(
            json!({"options": {"expires_at": "soon"}}),
            "/options/expires_at",
            CannotKnow,
        ),
        with(
            json!({"options": {"priority": "urgent"}}),
            "/options/priority",
            Refuses,
        ),
        with(
            json!({"options": {"push_type": "loud"}}),
            "/options/push_type",
            Refuses,
        ),
        with(
            json!({"options": {"collapse_id": "c".repeat(65)}}),
            "/options/collapse_id",
            Refuses,
        ),
        with(
            json!({"options": {"relevance_score": 2}}),
            "/options/relevance_score",
            Refuses,
        ),
        with(
            json!({"options": {"topic": "a b"}}),
            "/options/topic",
            CannotKnow,
        ),
        with(
            json!({"options": {"lane": "transactional"}}),
            "/options/lane",
            CannotKnow,
        ),
        with(
            json!({ "options": headers }),
            "/options/apns/headers/apns-id",
            CannotKnow,
        ),
        with(
            json!({"options": {"fcm": {"message": {"token": "x"}}}}),
            "/options/fcm/message/token",
            CannotKnow,
        ),
        with(
            json!({"options": {"live_activity": {"timestamp": 1}}}),
            "/options/live_activity/event",
            Refuses,
        ),
    ]
}

fn too_late_or_not_ours() -> Vec<Broken> {
    let past = "2026-01-15T10:29:00Z";
    let expires = json!({"options": {"expires_at": past}});
    let ttl = json!({"created_at": past, "options": {"ttl": 30}});
    let huge = json!({"unknown": "x".repeat(PUBLISH_BYTES_MAX)});
    let other = json!({"tenant": "other"});
    let long_ago = json!({"created_at": "2026-01-13T10:30:00Z"});
    vec![
        broken(
            request(expires),
            Reason::Expired,
            "/options/expires_at",
            CannotKnow,
        ),
        broken(request(ttl), Reason::Expired, "/options/ttl", CannotKnow),
        broken(
            request(long_ago),
            Reason::Expired,
            "/created_at",
            CannotKnow,
        ),
        broken(request(huge), Reason::TooLarge, "", CannotKnow),
        broken(
            request(other),
            Reason::TenantMismatch,
            "/tenant",
            CannotKnow,
        ),
    ]
}

fn all() -> Vec<Broken> {
    [
        no_requests(),
        for_nobody(),
        not_to_be_said(),
        not_to_be_said_so(),
        too_late_or_not_ours(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}

#[tokio::test]
async fn each_becomes_a_dead_row_with_its_reason_its_place_and_its_bytes() {
    let house = House::open().await;
    for one in all() {
        let name = shown(&one.body);
        let dead = house.dead("acme.bulk", &one.body).await;
        assert_eq!(dead.reason, one.reason.as_str(), "{name}: {}", dead.detail);
        let DeadOrigin::External(origin) = &dead.origin else {
            panic!("{:?}", dead.origin)
        };
        let found = (&*origin.path, &*origin.routing_key);
        assert_eq!(found, (one.path, "acme.bulk"), "{name}: {}", dead.detail);
        assert!(dead.body == one.body && !dead.detail.is_empty(), "{name}");
        let id = house.store.bury(&dead, NOW).await.unwrap();
        let these = DeadFilter {
            ids: Some(vec![id]),
            ..DeadFilter::default()
        };
        let kept = house.store.dead(&these, 0, 1).await.unwrap();
        assert!(kept[0].dead == dead, "{name}");
    }
    assert_eq!(house.queued().await, 0);
    let good = house.take("acme.bulk", &request(json!({}))).await;
    assert_eq!(good.as_str(), "accepted");
}

#[tokio::test]
async fn whose_it_is_decides_the_routing_key() {
    let house = House::open().await;
    let body = request(json!({}));
    let long = format!("{}.bulk", "t".repeat(65));
    for (routing_key, reason) in [
        ("", Reason::InvalidRoutingKey),
        ("acme", Reason::InvalidRoutingKey),
        ("acme.loud", Reason::InvalidRoutingKey),
        ("acme.bulk.bulk", Reason::InvalidRoutingKey),
        (".bulk", Reason::InvalidRoutingKey),
        ("a\u{0}b.bulk", Reason::InvalidRoutingKey),
        (&long, Reason::InvalidRoutingKey),
        ("nobody.bulk", Reason::UnknownTenant),
    ] {
        let dead = house.dead(routing_key, &body).await;
        assert_eq!(dead.reason, reason.as_str(), "{routing_key:?}");
        assert_eq!(dead.body, body);
        house.store.bury(&dead, NOW).await.unwrap();
    }
    let patch = TenantPatch {
        suspended: Some(true),
        ..TenantPatch::default()
    };
    let acme = "acme".parse().unwrap();
    house.store.update_tenant(&acme, &patch, NOW).await.unwrap();
    let dead = house.dead("acme.bulk", &body).await;
    assert_eq!(dead.reason, Reason::TenantSuspended.as_str());
    let deleted = house.store.delete_tenant(&acme, NOW).await.unwrap();
    let gone = house.second_intake();
    let incoming = super::house::incoming("acme.bulk", &body);
    let verdict = gone
        .take(&incoming, crate::intake::Trust::Broker, NOW)
        .await;
    assert_eq!(
        (deleted, verdict.as_str()),
        (true, Reason::UnknownTenant.as_str())
    );
}

#[test]
fn the_schema_refuses_what_a_schema_can_know_and_nothing_that_is_taken() {
    let schema: Value = serde_json::from_str(&publish_schema()).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let at = "urn:clarion:publish-request:1";
    compiler.add_resource(at, schema.clone()).unwrap();
    let compiled = compiler.compile(at, &mut schemas).unwrap();
    let accepts = |body: &Value| schemas.validate(body, compiled).is_ok();
    let mut refused = 0;
    for one in all() {
        let Ok(body) = serde_json::from_slice::<Value>(&one.body) else {
            continue;
        };
        let name = shown(&one.body);
        assert_eq!(accepts(&body), one.schema == CannotKnow, "{name}");
        refused += usize::from(one.schema == Refuses);
    }
    assert!(refused >= 20, "{refused}");
    for example in schema["examples"].as_array().unwrap() {
        assert!(accepts(example), "{example}");
    }
    let nulls = json!({"v": 1, "message_id": "m", "user_ids": ["a"], "user_id": null, "device_tokens": null,
        "tenant": null, "created_at": null, "alert": null, "badge": null, "data": null, "options": null});
    assert!(accepts(&nulls) && read_request(nulls.to_string().as_bytes()).is_ok());
    for good in [
        json!({}),
        json!({"unknown": {"to": ["this", "version"]}, "v": 1.0}),
        json!({"options": {"lane": "bulk", "delivery": "at_most_once"}}),
        json!({"options": {"interruption_level": "time-sensitive"}}),
    ] {
        let body = request(good);
        assert!(read_request(&body).is_ok(), "{}", shown(&body));
        assert!(
            accepts(&serde_json::from_slice(&body).unwrap()),
            "{}",
            shown(&body)
        );
    }
}
