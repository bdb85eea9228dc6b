//! `Idempotency-Key`: repetitions, races, other bodies, refusals, take-overs.
//! It must not know what is sent.

use std::time::Duration;

use axum::body::Body;
use clarion_engine::store::{Begun, Idempotency};
use futures_util::future::join_all;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use super::house::{Caller, House, START, apns_token, pass, request};

fn keyed(path: &str, caller: &Caller, key: &str, body: &str) -> Request<Body> {
    let mut request = request(Method::POST, path, caller, Body::from(body.to_owned()));
    let value = HeaderValue::from_str(key).unwrap();
    request.headers_mut().insert("idempotency-key", value);
    request
}

async fn house() -> (House, String, Caller) {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house.device(&tenant, &key, "ada", &apns_token(1)).await;
    (house, format!("/tenants/{tenant}/notify"), key)
}

const ADA: &str = r#"{"user_id": "ada"}"#;

#[tokio::test]
async fn a_repetition_gets_the_same_answer_and_sends_nothing() {
    let (house, path, key) = house().await;
    let first = house.send(keyed(&path, &key, "k1", ADA)).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    for spelling in ["k1", "\"k1\""] {
        let again = house.send(keyed(&path, &key, spelling, ADA)).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.body, first.body);
    }
    // The same route under its other name is the same request.
    let other = path.replace("/tenants/", "/v1/apps/");
    assert_eq!(
        house.send(keyed(&other, &key, "k1", ADA)).await.body,
        first.body
    );
    assert_eq!(house.queued().await, 1);
    let second = house.send(keyed(&path, &key, "k2", ADA)).await.ok();
    assert_ne!(second["message_id"], first.body["message_id"]);
}

#[tokio::test]
async fn a_bulk_is_repeated_byte_for_byte() {
    let (house, path, key) = house().await;
    let path = format!("{path}/bulk");
    let users: Vec<String> = (0..1_500).map(|n| format!("u{n}")).collect();
    let body = json!({"user_ids": users}).to_string();
    let first = house.send(keyed(&path, &key, "k", &body)).await.ok();
    assert_eq!(first["results"].as_array().unwrap().len(), 1_500);
    assert_eq!(house.send(keyed(&path, &key, "k", &body)).await.ok(), first);
}

#[tokio::test]
async fn of_many_at_once_one_sends_and_the_others_wait_or_repeat() {
    let (house, path, key) = house().await;
    let sends = (0..20).map(|_| house.send(keyed(&path, &key, "race", ADA)));
    let replies = join_all(sends).await;
    let mut ids: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert!(
        replies
            .iter()
            .all(|reply| matches!(reply.status, 200 | 409))
    );
    assert!(!ids.is_empty());
    for reply in replies.iter().filter(|reply| reply.status == 409) {
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    ids.dedup_by_key(|reply| reply.body["message_id"].clone());
    assert_eq!(ids.len(), 1);
    assert_eq!(house.queued().await, 1);
}

#[tokio::test]
async fn the_same_key_with_another_request_is_422_with_a_list() {
    let (house, path, key) = house().await;
    house.send(keyed(&path, &key, "k", ADA)).await.ok();
    let other = house
        .send(keyed(&path, &key, "k", r#"{"user_id":"ada"}"#))
        .await;
    assert_eq!(other.status, 422);
    assert_eq!(other.body["detail"][0]["type"], "idempotency_key_reused");
    let bulk = format!("{path}/bulk");
    let other = house
        .send(keyed(&bulk, &key, "k", r#"{"user_ids": ["ada"]}"#))
        .await;
    assert_eq!((other.status, house.queued().await), (422, 1));
}

#[tokio::test]
async fn tenants_do_not_meet_in_their_keys() {
    let (house, path, key) = house().await;
    let first = house.send(keyed(&path, &key, "k", ADA)).await.ok();
    let (tenant, other) = house.tenant().await;
    house.device(&tenant, &other, "ada", &apns_token(2)).await;
    let path = format!("/tenants/{tenant}/notify");
    let second = house.send(keyed(&path, &other, "k", ADA)).await.ok();
    assert_ne!(first["message_id"], second["message_id"]);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let (house, path, key) = house().await;
    let bad = r#"{"user_id": "ada", "options": {"topic": "a b"}}"#;
    assert_eq!(house.send(keyed(&path, &key, "k", bad)).await.status, 422);
    let large = json!({"user_id": "ada", "data": {"k": "x".repeat(5_000)}}).to_string();
    assert_eq!(
        house.send(keyed(&path, &key, "k", &large)).await.status,
        413
    );
    assert_eq!(house.send(keyed(&path, &key, "k", ADA)).await.status, 200);
    for bad in ["\"open", "a b"] {
        let reply = house.send(keyed(&path, &key, bad, ADA)).await;
        assert_eq!(
            reply.body["detail"][0]["loc"],
            json!(["header", "Idempotency-Key"])
        );
    }
}

#[tokio::test]
async fn a_request_that_died_is_taken_over_with_its_own_id() {
    let (house, path, key) = house().await;
    // What a process leaves that dies between the row and the answer.
    let tenant = path.split('/').nth(2).unwrap().parse().unwrap();
    let died = house.send(keyed(&path, &key, "k", ADA)).await.ok();
    let id = died["message_id"].as_str().unwrap().to_owned();
    let uuid = clarion_engine::model::NotificationId(id.parse().unwrap());
    let fingerprint = fingerprint(ADA);
    let begun = house
        .store
        .begin(&tenant, "dead", &fingerprint, uuid, START)
        .await
        .unwrap();
    assert!(matches!(begun, Begun::Started { recheck: false, .. }));
    pass(Duration::from_secs(29));
    assert_eq!(
        house.send(keyed(&path, &key, "dead", ADA)).await.status,
        409
    );
    pass(Duration::from_secs(2));
    let taken = house.send(keyed(&path, &key, "dead", ADA)).await.ok();
    assert_eq!(taken["message_id"], id);
    let jobs = house.jobs(2).await;
    assert_eq!(jobs[0].id, jobs[1].id);
    assert_eq!((jobs[0].recheck, jobs[1].recheck), (false, true));
    assert_eq!(jobs[0].notification, jobs[1].notification);
}

/// SHA-256 over method, route and body, each with its length: the format is part of what is stored.
fn fingerprint(body: &str) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in ["POST", "/tenants/{tenant}/notify", body] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().try_into().unwrap()
}
