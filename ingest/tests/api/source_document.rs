//! The source document on API keys, request by request, in its own words.
//! It must not know anything that the document does not say.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::house::{Caller, House, apns_token};

/// "POST /tenants/{tenant_id}/api-keys", as printed.
const CREATE: &str = r#"{
"name": "backend-server"
}"#;

/// "POST /tenants/{tenant_id}/notify", as printed.
const NOTIFY: &str = r#"{
"user_id": "user-123",
"alert": {
"title": "Hello",
"body": "From your server"
}
}"#;

fn bearer(house: &House) -> String {
    let Caller::Person(access_token) = house.admin() else {
        unreachable!()
    };
    format!("Bearer {access_token}")
}

/// "Authorization: Bearer YOUR_TOKEN", "Content-Type: application/json"
async fn create(house: &House, tenant: &str) -> Value {
    let request = Request::post(format!("/tenants/{tenant}/api-keys"))
        .header("Authorization", bearer(house))
        .header("Content-Type", "application/json")
        .body(Body::from(CREATE));
    house.send(request.unwrap()).await.ok()
}

/// "Include the key in the X-API-Key header"
async fn notify(house: &House, tenant: &str, key: &str) -> super::house::Reply {
    let request = Request::post(format!("/tenants/{tenant}/notify"))
        .header("X-API-Key", key)
        .header("Content-Type", "application/json")
        .body(Body::from(NOTIFY));
    house.send(request.unwrap()).await
}

#[tokio::test]
async fn creating_a_key_answers_its_id_the_key_its_name_and_when() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let made = create(&house, &tenant).await;
    assert_eq!(made["name"], "backend-server");
    assert!(made["key_id"].as_str().unwrap().starts_with("key_"));
    assert!(made["key"].as_str().unwrap().starts_with("msk_live_"));
    // "created_at": "2024-01-15T10:30:00Z"
    assert_eq!(made["created_at"], "2026-01-15T10:30:00Z");
    assert_eq!(made.as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn the_full_key_is_only_shown_once() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let made = create(&house, &tenant).await;
    let path = format!("/tenants/{tenant}/api-keys");
    let listed = house.get(&path, &house.admin()).await.ok();
    // A bare list, without the secret.
    let keys = listed.as_array().unwrap();
    assert!(keys.iter().any(|key| key["key_id"] == made["key_id"]));
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap()));
    assert!(keys.iter().all(|key| key.get("key").is_none()));
}

#[tokio::test]
async fn a_notification_sent_with_the_key_is_queued_before_the_answer() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house
        .device(&tenant, &key, "user-123", &apns_token(1))
        .await;
    let made = create(&house, &tenant).await;
    let sent = notify(&house, &tenant, made["key"].as_str().unwrap())
        .await
        .ok();
    assert_eq!(
        (&sent["success"], &sent["error"]),
        (&json!(true), &json!(null))
    );
    let job = house.jobs(1).await.remove(0);
    assert_eq!(sent["message_id"], job.notification.id.to_string());
    assert_eq!(job.notification.content.title.as_deref(), Some("Hello"));
    assert_eq!(
        job.notification.content.body.as_deref(),
        Some("From your server")
    );
    assert_eq!(job.notification.tenant.as_str(), tenant);
}

#[tokio::test]
async fn after_deletion_any_request_using_the_key_fails() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house
        .device(&tenant, &key, "user-123", &apns_token(1))
        .await;
    let made = create(&house, &tenant).await;
    let (key_id, key) = (
        made["key_id"].as_str().unwrap(),
        made["key"].as_str().unwrap(),
    );
    // Used before, so that it is known in memory.
    assert_eq!(notify(&house, &tenant, key).await.status, 200);
    let request = Request::delete(format!("/tenants/{tenant}/api-keys/{key_id}"))
        .header("Authorization", bearer(&house))
        .body(Body::empty());
    house.send(request.unwrap()).await.ok();
    assert_eq!(notify(&house, &tenant, key).await.status, 401);
    let again = house.delete(
        &format!("/tenants/{tenant}/api-keys/{key_id}"),
        &house.admin(),
    );
    assert_eq!(again.await.status, 404);
}

#[tokio::test]
async fn api_keys_can_register_and_unregister_list_and_send() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let at = |path: &str| format!("/tenants/{tenant}/{path}");
    let device = json!({"user_id": "user-123", "token": apns_token(7), "platform": "ios"});
    house.post(&at("devices"), &key, device).await.ok();
    let listed = house.get(&at("devices?user_id=user-123"), &key).await.ok();
    assert_eq!(listed["devices"][0]["token"], apns_token(7));
    let sent = json!({"user_id": "user-123", "alert": {"title": "Hello"}});
    assert_eq!(
        house.post(&at("notify"), &key, sent).await.ok()["success"],
        true
    );
    let bulk = json!({"user_ids": ["user-123", "b"], "alert": {"title": "Hello"}});
    let bulk = house.post(&at("notify/bulk"), &key, bulk).await.ok();
    assert_eq!(
        (&bulk["total"], &bulk["success"], &bulk["failed"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(bulk["results"].as_array().unwrap().len(), 2);
    let path = at(&format!("devices/{}?user_id=user-123", apns_token(7)));
    house.delete(&path, &key).await.ok();
    let listed = house.get(&at("devices?user_id=user-123"), &key).await.ok();
    assert_eq!(listed["devices"], json!([]));
}

#[tokio::test]
async fn api_keys_cannot_touch_tenants_other_keys_or_other_tenants() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let (other, _) = house.tenant().await;
    let before = house.counts(&other).await;
    let at = |path: &str| format!("/tenants/{tenant}{path}");
    let foreign = |path: &str| format!("/tenants/{other}{path}");
    let sent = json!({"user_id": "user-123"});
    let refused: Vec<(Method, String, Value)> = vec![
        // "Create, modify, or delete the tenant"
        (
            Method::POST,
            "/tenants".to_owned(),
            json!({"org_id": super::house::ORG}),
        ),
        (Method::PATCH, at(""), json!({"use_sandbox": false})),
        (Method::DELETE, at(""), json!({})),
        (Method::DELETE, format!("/apps/{tenant}/notify"), json!({})),
        // "Create or delete other API keys"
        (Method::POST, at("/api-keys"), json!({"name": "x"})),
        (Method::DELETE, at("/api-keys/key_Ab3dEf9z"), json!({})),
        (Method::GET, at("/api-keys"), json!({})),
        (Method::GET, at(""), json!({})),
        (Method::GET, "/tenants".to_owned(), json!({})),
        (Method::PUT, at("/credentials/apns"), json!({})),
        (Method::GET, at("/credentials"), json!({})),
        // "Access other tenants", known or not
        (Method::POST, foreign("/notify"), sent.clone()),
        (Method::POST, foreign("/notify/bulk"), sent.clone()),
        (Method::POST, foreign("/devices"), sent.clone()),
        (Method::GET, foreign("/devices"), json!({})),
        (Method::DELETE, foreign("/devices/abc?user_id=u"), json!({})),
        (
            Method::POST,
            "/tenants/nobody/notify".to_owned(),
            sent.clone(),
        ),
        (Method::POST, "/tenants/no%00body/notify".to_owned(), sent),
    ];
    for (method, path, body) in refused {
        let reply = house.send_json(method.clone(), &path, &key, body).await;
        assert_eq!(reply.status, 403, "{method} {path}: {}", reply.body);
        assert!(reply.body["detail"].is_string(), "{method} {path}");
    }
    assert_eq!(house.counts(&other).await, before);
}
