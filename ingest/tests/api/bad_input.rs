//! Hostile bodies: nesting, floods, places of fields. Row counts stay, and every answer is a decided one.
//! It must not know the status table, which has a test of its own.

use serde_json::{Value, json};

use super::house::{House, apns_token};

/// Each body is refused for the field at its place.
async fn assert_places(table: &[(Value, Value)]) {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house.device(&tenant, &key, "a", &apns_token(1)).await;
    let path = format!("/tenants/{tenant}/notify");
    for (body, loc) in table {
        let reply = house.post(&path, &key, body.clone()).await;
        let found = (reply.status, &reply.body["detail"][0]["loc"]);
        assert_eq!(found, (422, loc), "{body}");
    }
    assert_eq!(house.queued().await, 0);
}

#[tokio::test]
async fn fields_of_the_wrong_type_are_named_by_their_place() {
    assert_places(&[
        (
            json!({"user_id": "a", "alert": {"title": 5}}),
            json!(["body", "alert", "title"]),
        ),
        (
            json!({"user_id": "a", "alert": "hi"}),
            json!(["body", "alert"]),
        ),
        (
            json!({"user_id": "a", "alert": ["hi"]}),
            json!(["body", "alert"]),
        ),
        (
            json!({"user_id": "a", "badge": "1"}),
            json!(["body", "badge"]),
        ),
        (
            json!({"user_id": "a", "badge": -1}),
            json!(["body", "badge"]),
        ),
        (
            json!({"user_id": "a", "content_available": 1}),
            json!(["body", "content_available"]),
        ),
        (json!({"user_id": "a", "data": []}), json!(["body", "data"])),
        (
            json!({"user_id": "a", "options": {"push_type": "x"}}),
            json!(["body", "options", "push_type"]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn fields_that_break_a_rule_are_named_by_their_place() {
    assert_places(&[
        (
            json!({"user_id": "a", "options": {"apns": {"headers": {"apns-id": "x"}}}}),
            json!(["body", "options", "apns", "headers", "apns-id"]),
        ),
        (
            json!({"user_id": "a", "options": {"fcm": {"message": {"token": "x"}}}}),
            json!(["body", "options", "fcm", "message", "token"]),
        ),
        (
            json!({"user_id": "a", "options": {"ttl": 5, "expires_at": "2030-01-01T00:00:00Z"}}),
            json!(["body", "options", "expires_at"]),
        ),
        (
            json!({"user_id": "a", "options": {"expires_at": "2020-01-01T00:00:00Z"}}),
            json!(["body", "options", "expires_at"]),
        ),
        (
            json!({"user_id": "a", "device_tokens": []}),
            json!(["body", "device_tokens"]),
        ),
        (
            json!({"device_tokens": []}),
            json!(["body", "device_tokens"]),
        ),
        (
            json!({"device_tokens": [{"platform": "ios", "token": "a\u{7}"}]}),
            json!(["body", "device_tokens", 0, "token"]),
        ),
        (
            json!({"device_tokens": [{"platform": "symbian", "token": "a"}]}),
            json!(["body", "device_tokens", 0, "platform"]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn every_bad_user_of_a_bulk_is_named() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/tenants/{tenant}/notify/bulk");
    let body = json!({"user_ids": ["a", "b\n", "c", ""]});
    let reply = house.post(&path, &key, body).await;
    let errors = reply.body["detail"].as_array().unwrap();
    let places: Vec<&Value> = errors.iter().map(|entry| &entry["loc"]).collect();
    let expected = [
        &json!(["body", "user_ids", 1]),
        &json!(["body", "user_ids", 3]),
    ];
    assert_eq!(places, expected);
}

#[tokio::test]
async fn floods_inside_a_body_are_refused() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let before = house.counts(&tenant).await;
    let bulk = format!("/tenants/{tenant}/notify/bulk");
    let zeros = vec![0; 1_000_000];
    let empty = vec![""; 3_000_000];
    for (body, status) in [
        (json!({"user_ids": ["a"], "data": {"k": zeros}}), 413),
        (json!({"user_ids": empty}), 413),
        (json!({"user_ids": vec!["\n"; 90_000]}), 422),
        (
            json!({"user_ids": ["a"], "alert": {"title": "x".repeat(1_000_000)}}),
            413,
        ),
        (
            json!({"user_ids": ["a"], "options": {"apns": {"payload": {"k": "x".repeat(100_000)}}}}),
            413,
        ),
    ] {
        let reply = house.post(&bulk, &key, body).await;
        assert_eq!(reply.status, status, "{}", reply.body);
        assert!(reply.body.to_string().len() < 4_096);
    }
    assert_eq!(house.counts(&tenant).await, before);
}

#[tokio::test]
async fn key_names_are_checked() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/tenants/{tenant}/api-keys");
    for name in ["", "  ", "a\nb", &"n".repeat(201)] {
        let reply = house
            .post(&path, &house.admin(), json!({"name": name}))
            .await;
        assert_eq!(
            (reply.status, &reply.body["detail"][0]["loc"]),
            (422, &json!(["body", "name"]))
        );
    }
    let reply = house
        .post(&path, &house.admin(), json!({"name": null}))
        .await;
    assert_eq!(reply.status, 422);
    // Names may repeat.
    for _ in 0..2 {
        house
            .post(&path, &house.admin(), json!({"name": "same"}))
            .await
            .ok();
    }
}
