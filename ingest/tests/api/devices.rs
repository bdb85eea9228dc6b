//! Devices: registration, reassignment, lists with cursors, percent-encoded tokens, bulk registration.
//! It must not know sends.

use serde_json::{Value, json};

use super::house::{House, apns_token, fcm_token};

#[tokio::test]
async fn a_device_has_the_documented_fields_and_moves_to_its_new_user() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/apps/{tenant}/devices");
    let body =
        json!({"user_id": "ada", "token": apns_token(1), "platform": "ios", "app_version": null});
    let device = house.post(&path, &key, body).await.ok();
    assert_eq!(
        device,
        json!({
            "token": apns_token(1), "user_id": "ada", "platform": "ios", "environment": "sandbox",
            "app_version": null, "created_at": "2026-01-15T10:30:00Z",
            "updated_at": "2026-01-15T10:30:00Z",
        })
    );
    super::house::pass(std::time::Duration::from_secs(60));
    let body = json!({
        "user_id": "bob", "token": apns_token(1).to_uppercase(), "platform": "ios",
        "app_version": "1.2", "environment": "production",
    });
    let moved = house.post(&path, &key, body).await.ok();
    assert_eq!(
        (&moved["user_id"], &moved["app_version"]),
        (&json!("bob"), &json!("1.2"))
    );
    assert_eq!(moved["token"], apns_token(1));
    assert_eq!(moved["environment"], "production");
    assert_eq!(moved["updated_at"], "2026-01-15T10:31:00Z");
    let of = |user: &str| house.get(&format!("{path}?user_id={user}"), &key);
    assert_eq!(of("ada").await.ok()["devices"], json!([]));
    assert_eq!(of("bob").await.ok()["devices"][0]["token"], apns_token(1));
}

#[tokio::test]
async fn a_percent_encoded_token_is_decoded_and_apples_are_found_in_any_case() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/tenants/{tenant}/devices");
    let fcm = fcm_token(1);
    let body = json!({"user_id": "ada lovelace", "token": fcm, "platform": "android"});
    assert_eq!(
        house.post(&path, &key, body).await.ok()["environment"],
        "production"
    );
    let encoded = fcm.replace(':', "%3A");
    let at = |device_token: &str, user: &str| format!("{path}/{device_token}?user_id={user}");
    assert_eq!(
        house.delete(&at(&encoded, "somebody"), &key).await.status,
        404
    );
    assert_eq!(
        house
            .delete(&at(&encoded, "ada%20lovelace"), &key)
            .await
            .status,
        200
    );
    assert_eq!(
        house
            .delete(&at(&encoded, "ada+lovelace"), &key)
            .await
            .status,
        404
    );
    house.device(&tenant, &key, "ada", &apns_token(0xab)).await;
    let upper = apns_token(0xab).to_uppercase();
    assert_eq!(house.delete(&at(&upper, "ada"), &key).await.status, 200);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/tenants/{tenant}/devices");
    let devices: Vec<Value> = (0..25)
        .map(|n| json!({"user_id": format!("u{}", n % 2), "token": apns_token(n), "platform": "ios"}))
        .collect();
    let made = house
        .post(&format!("{path}/bulk"), &key, json!({"devices": devices}))
        .await
        .ok();
    assert_eq!(made["registered"], 25);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = house
            .get(&format!("{path}?limit=10&cursor={cursor}"), &key)
            .await
            .ok();
        let devices = page["devices"].as_array().unwrap();
        seen.extend(
            devices
                .iter()
                .map(|device| device["token"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).map(apns_token).collect::<Vec<_>>());
    let of = house.get(&format!("{path}?user_id=u1"), &key).await.ok();
    assert_eq!(of["devices"].as_array().unwrap().len(), 12);
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=x",
        "cursor=-1",
        "user_id=%00",
    ] {
        let reply = house.get(&format!("{path}?{query}"), &key).await;
        assert_eq!(
            (reply.status, &reply.body["detail"][0]["loc"][0]),
            (422, &json!("query"))
        );
    }
}

#[tokio::test]
async fn bulk_registration_is_all_or_nothing_and_names_the_entry() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let before = house.counts(&tenant).await;
    let path = format!("/tenants/{tenant}/devices/bulk");
    let device = |n: u64| json!({"user_id": "u", "token": apns_token(n), "platform": "ios"});
    let bad_token = json!({"user_id": "u", "token": "nope", "platform": "ios"});
    let reply = house
        .post(&path, &key, json!({"devices": [device(1), bad_token]}))
        .await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.body["detail"].as_str().unwrap().contains("devices.1"),
        "{}",
        reply.body
    );
    let bad_user = json!({"user_id": "u\n", "token": apns_token(2), "platform": "ios"});
    let reply = house
        .post(&path, &key, json!({"devices": [device(1), bad_user]}))
        .await;
    assert_eq!(
        reply.body["detail"][0]["loc"],
        json!(["body", "devices", 1, "user_id"])
    );
    let reply = house
        .post(
            &path,
            &key,
            json!({"devices": [device(1), {"user_id": "u"}]}),
        )
        .await;
    assert_eq!(
        reply.body["detail"][0]["loc"],
        json!(["body", "devices", 1, "token"])
    );
    let many: Vec<Value> = (0..10_001).map(device).collect();
    let reply = house.post(&path, &key, json!({"devices": many})).await;
    assert_eq!(reply.status, 413);
    assert!(reply.body["detail"].as_str().unwrap().contains("10000"));
    assert_eq!(
        house.post(&path, &key, json!({"devices": []})).await.status,
        422
    );
    assert_eq!(house.counts(&tenant).await, before);
}
