//! APNs as its clients see it: every documented refusal, over TLS and HTTP/2.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use clarion_simulator::{ApnsReason, ApnsTestKey, Options, Provider, Simulator};
use support::{Apns, Client, DEVICE, KEY, Push, TEAM, in_time, now_s};

async fn start() -> Apns {
    Apns::start(Options::default()).await
}

#[tokio::test]
async fn a_good_push_is_accepted_and_its_id_echoed() {
    let apns = start().await;
    let id = "123e4567-e89b-12d3-a456-42661417400a";
    let answer = apns
        .push(&apns.good.clone().set("apns-id", id))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.headers["apns-id"], id);

    let answer = apns.push(&apns.good).await.unwrap();
    let invented = answer.headers["apns-id"].to_str().unwrap();
    assert_eq!(invented.len(), 36);
    assert_ne!(invented, id);
    let stats = apns.simulator.stats();
    assert_eq!(
        (stats.apns_accepted, stats.processed, stats.provider_tokens),
        (2, 2, 1)
    );
}

type Case = (Push, u16, &'static str);

/// Faults in path, method, device token, credentials and payload.
fn faulty_requests(apns: &Apns) -> Vec<Case> {
    let good = || apns.good.clone();
    let method = |method| Push { method, ..good() };
    let path = |path: &str| Push {
        path: path.to_owned(),
        ..good()
    };
    let big = |octets: usize| format!(r#"{{"aps":"{}"}}"#, "x".repeat(octets - 10));
    vec![
        (path("/"), 404, "BadPath"),
        (path("/3/devices/abc"), 404, "BadPath"),
        (path("/3/device/ab/cd"), 404, "BadPath"),
        (path("/2/device/abc"), 404, "BadPath"),
        (path("/3/device/"), 400, "MissingDeviceToken"),
        (path("/3/device"), 400, "MissingDeviceToken"),
        (method("GET"), 405, "MethodNotAllowed"),
        (method("PUT"), 405, "MethodNotAllowed"),
        (good().to("xyz"), 400, "BadDeviceToken"),
        (good().to(&DEVICE[..63]), 400, "BadDeviceToken"),
        (good().to(&DEVICE[..62]), 400, "BadDeviceToken"),
        (good().to(&DEVICE.replace('0', "g")), 400, "BadDeviceToken"),
        (good().to(&DEVICE.repeat(4)), 400, "BadDeviceToken"),
        (good().without("authorization"), 403, "MissingProviderToken"),
        (
            good().set("authorization", "bearer "),
            403,
            "InvalidProviderToken",
        ),
        (
            good().set("authorization", "basic abc"),
            403,
            "InvalidProviderToken",
        ),
        (
            good().set("authorization", "bearer a.b.c"),
            403,
            "InvalidProviderToken",
        ),
        (good().body(""), 400, "PayloadEmpty"),
        (good().body("{}x"), 400, "PayloadEmpty"),
        (good().body("[]"), 400, "PayloadEmpty"),
        (good().body(big(4097)), 413, "PayloadTooLarge"),
        (good().body(big(70_000)), 413, "PayloadTooLarge"),
    ]
}

/// Faults in the other headers.
fn faulty_headers(apns: &Apns) -> Vec<Case> {
    let with = |name, value: &str| apns.good.clone().set(name, value);
    let upper = "123E4567-E89B-12D3-A456-42661417400A";
    vec![
        (apns.good.clone().without("apns-topic"), 400, "MissingTopic"),
        (with("apns-topic", "com.example app"), 400, "BadTopic"),
        (with("apns-topic", ""), 400, "BadTopic"),
        (with("apns-push-type", "noise"), 400, "InvalidPushType"),
        (with("apns-push-type", "voip"), 400, "BadTopic"),
        (with("apns-priority", "7"), 400, "BadPriority"),
        (with("apns-priority", "high"), 400, "BadPriority"),
        (
            with("apns-push-type", "background").set("apns-priority", "10"),
            400,
            "BadPriority",
        ),
        (with("apns-id", upper), 400, "BadMessageId"),
        (
            with("apns-id", &upper.replace('-', "")),
            400,
            "BadMessageId",
        ),
        (
            with("apns-expiration", "tomorrow"),
            400,
            "BadExpirationDate",
        ),
        (with("apns-expiration", "-1"), 400, "BadExpirationDate"),
        (
            with("apns-collapse-id", &"c".repeat(65)),
            400,
            "BadCollapseId",
        ),
        (
            apns.good.clone().add("apns-topic", "com.example.app"),
            400,
            "DuplicateHeaders",
        ),
    ]
}

#[tokio::test]
async fn every_faulty_request_gets_its_documented_reason() {
    let apns = start().await;
    for (push, status, reason) in faulty_requests(&apns)
        .into_iter()
        .chain(faulty_headers(&apns))
    {
        let asked = format!("{:?} {} {:?}", push.method, push.path, &push.headers[1..]);
        assert_eq!(
            apns.verdict(push).await,
            (status, reason.to_owned()),
            "{asked}"
        );
    }
    assert_eq!(apns.simulator.stats().apns_accepted, 0);
    assert_eq!(
        apns.verdict(apns.good.clone()).await.0,
        200,
        "the connection is still good"
    );
}

#[tokio::test]
async fn every_push_type_has_its_topic_and_limits() {
    let apns = start().await;
    let big = |octets: usize| format!(r#"{{"aps":"{}"}}"#, "x".repeat(octets - 10));
    for (push_type, suffix) in [
        ("alert", ""),
        ("background", ""),
        ("voip", ".voip"),
        ("complication", ".complication"),
        ("fileprovider", ".pushkit.fileprovider"),
        ("mdm", ""),
        ("location", ".location-query"),
        ("liveactivity", ".push-type.liveactivity"),
        ("pushtotalk", ".voip-ptt"),
        ("widgets", ".push-type.widgets"),
        ("controls", ".push-type.controls"),
    ] {
        let limit = if push_type == "voip" { 5120 } else { 4096 };
        let push = apns
            .good
            .clone()
            .set("apns-push-type", push_type)
            .set("apns-topic", &format!("com.example.app{suffix}"))
            .set("apns-priority", "5")
            .set("apns-expiration", "0")
            .set("apns-collapse-id", &"c".repeat(64))
            .body(big(limit));
        assert_eq!(
            apns.verdict(push.clone()).await,
            (200, String::new()),
            "{push_type}"
        );
        let refused = apns.verdict(push.body(big(limit + 1))).await;
        assert_eq!(refused, (413, "PayloadTooLarge".to_owned()), "{push_type}");
    }
    let untyped = apns.good.clone().without("apns-push-type");
    assert_eq!(
        apns.verdict(untyped).await.0,
        200,
        "the push type is recommended, not required"
    );
    let live = apns.good.clone().to(&DEVICE.repeat(3)[..160]);
    assert_eq!(
        apns.verdict(live).await.0,
        200,
        "device tokens have no fixed length"
    );
}

#[tokio::test]
async fn provider_tokens_are_verified() {
    let mut apns = start().await;
    let stranger = ApnsTestKey::generate(TEAM, KEY).unwrap();
    let unknown = ApnsTestKey::generate(TEAM, "KEY0000009").unwrap();
    let padded = format!("{}=", apns.key.provider_token(now_s()).unwrap());
    for (token, reason) in [
        (
            stranger.provider_token(now_s()).unwrap(),
            "InvalidProviderToken",
        ),
        (
            unknown.provider_token(now_s()).unwrap(),
            "InvalidProviderToken",
        ),
        (padded, "InvalidProviderToken"),
        (
            apns.key.provider_token(now_s() - 3700).unwrap(),
            "ExpiredProviderToken",
        ),
        (
            apns.key.provider_token(now_s() + 3700).unwrap(),
            "ExpiredProviderToken",
        ),
    ] {
        assert_eq!(
            apns.verdict(Push::new(&token)).await,
            (403, reason.to_owned())
        );
    }
    assert_eq!(apns.verdict(apns.good.clone()).await.0, 200);

    apns.simulator.set_clock_offset_ms(2 * 3600 * 1000);
    let aged = apns.verdict(apns.good.clone()).await;
    assert_eq!(
        aged,
        (403, "ExpiredProviderToken".to_owned()),
        "also when it was good before"
    );
    apns.simulator.set_clock_offset_ms(0);

    assert!(apns.simulator.revoke_apns_key(TEAM, KEY));
    let revoked = (403, "InvalidProviderToken".to_owned());
    assert_eq!(
        apns.verdict(apns.good.clone()).await,
        revoked,
        "on the open connection"
    );
    apns.reconnect().await;
    assert_eq!(apns.verdict(apns.good.clone()).await, revoked);
}

#[tokio::test]
async fn a_connection_is_welded_to_its_first_key() {
    let mut apns = start().await;
    let sibling = apns.simulator.apns_test_key(TEAM, "KEY0000002").unwrap();
    let foreign = apns
        .simulator
        .apns_test_key("TEAM000002", "KEY0000003")
        .unwrap();
    let sibling = Push::new(&sibling.provider_token(now_s()).unwrap());
    let foreign = Push::new(&foreign.provider_token(now_s()).unwrap());
    assert_eq!(apns.verdict(apns.good.clone()).await.0, 200);
    assert_eq!(
        apns.verdict(sibling.clone()).await,
        (403, "UnrelatedKeyIdInToken".to_owned())
    );
    assert_eq!(
        apns.verdict(foreign).await,
        (403, "InvalidProviderToken".to_owned())
    );
    apns.reconnect().await;
    assert_eq!(apns.verdict(sibling).await.0, 200);
}

#[tokio::test]
async fn new_provider_tokens_are_rationed() {
    let mut apns = start().await;
    let token = |age| Push::new(&apns.key.provider_token(now_s() - age).unwrap());
    let (old, middle, young) = (token(2400), token(1500), token(1100));
    assert_eq!(apns.verdict(old.clone()).await.0, 200);
    let soon = (429, "TooManyProviderTokenUpdates".to_owned());
    assert_eq!(
        apns.verdict(middle).await,
        soon,
        "15 minutes after the last one"
    );
    apns.reconnect().await;
    assert_eq!(
        apns.verdict(young).await.0,
        200,
        "more than 20 minutes after the last one"
    );
    assert_eq!(
        apns.verdict(old).await.0,
        200,
        "one already known may be used again"
    );
    assert_eq!(apns.simulator.stats().provider_tokens, 2);
}

#[tokio::test]
async fn keys_can_be_limited_to_topics() {
    let apns = start().await;
    assert!(
        apns.simulator
            .limit_apns_topics(TEAM, KEY, &["com.example.other"])
    );
    let refused = apns.verdict(apns.good.clone()).await;
    assert_eq!(refused, (400, "TopicDisallowed".to_owned()));
    let allowed = apns.good.clone().set("apns-topic", "com.example.other");
    assert_eq!(apns.verdict(allowed).await.0, 200);
}

#[tokio::test]
async fn any_credential_can_be_accepted() {
    let options = Options {
        accept_any_credential: true,
        ..Options::default()
    };
    let apns = Apns::start(options).await;
    let stranger = ApnsTestKey::generate("ANYTEAM001", "ANYKEY0001").unwrap();
    let push = |issued| Push::new(&stranger.provider_token(issued).unwrap());
    assert_eq!(apns.verdict(push(now_s())).await.0, 200);
    let expired = apns.verdict(push(now_s() - 4000)).await;
    assert_eq!(
        expired,
        (403, "ExpiredProviderToken".to_owned()),
        "the form still counts"
    );
}

fn client_certificate(uid: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    let oid = vec![0, 9, 2342, 19200300, 100, 1, 1];
    params
        .distinguished_name
        .push(rcgen::DnType::CustomDnType(oid), uid);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn client_certificates_name_the_topic() {
    for accept_any_credential in [false, true] {
        let options = Options {
            accept_any_credential,
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let (certificate, key) = client_certificate("com.example.app");
        let config = support::tls(simulator.ca_pem(), Some((&certificate, &key)));
        let client = Client::connect_as(&simulator.apns_origin(), config, 1).await;
        let push = Push::new("ignored").without("apns-topic");
        let answer = client.send(push.clone().request()).await.unwrap();
        if !accept_any_credential {
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (403, "BadCertificate")
            );
            simulator
                .register_apns_certificate(&certificate, &["com.example.app"])
                .unwrap();
            let answer = client.send(push.clone().request()).await.unwrap();
            assert_eq!(answer.status, 200);
        } else {
            assert_eq!(answer.status, 200);
        }
        let elsewhere = push.set("apns-topic", "com.example.elsewhere").request();
        let answer = client.send(elsewhere).await.unwrap();
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (400, "TopicDisallowed")
        );
        let topics: Vec<_> = simulator
            .received()
            .into_iter()
            .map(|one| one.topic)
            .collect();
        assert!(topics.contains(&"com.example.app".to_owned()), "{topics:?}");
    }
}

#[tokio::test]
async fn every_documented_reason_can_be_scripted() {
    let apns = start().await;
    for (nth, reason) in ApnsReason::ALL.iter().enumerate() {
        let name = reason.name();
        let rule = format!(
            "[[rule]]\nmatch = {{ provider = 'apns' }}\naction = {{ reason = '{name}', timestamp_ms = 17 }}"
        );
        apns.simulator.set_rules_toml(&rule).unwrap();
        let answer = apns.push(&apns.good).await.unwrap();
        assert_eq!(
            (answer.status, answer.reason()),
            (reason.status(), name.to_owned())
        );
        let timestamp = answer.json()["timestamp"].as_i64();
        assert_eq!(timestamp, (answer.status == 410).then_some(17), "{name}");
        let stats = in_time(apns.simulator.wait_received(nth as u64 + 1)).await;
        assert_eq!(stats.answered(Provider::Apns, reason.status(), name), 1);
    }
}
