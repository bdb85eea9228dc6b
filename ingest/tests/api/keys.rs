//! API keys: scopes, kinds, rates, use, rotation, and what is refused without asking the store.
//! It must not know devices or sends beyond who may do them.

use std::time::Duration;

use clarion_auth::api_key::{ApiKey, ApiKeyKind};
use clarion_engine::store::Control;
use http::Method;
use serde_json::{Value, json};

use super::house::{Caller, House, pass};

/// Makes a key; its id and itself.
async fn make(house: &House, tenant: &str, body: Value) -> (String, Caller) {
    let path = format!("/tenants/{tenant}/api-keys");
    let made = house.post(&path, &house.admin(), body).await.ok();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("key_id"), Caller::Key(text("key")))
}

async fn listed(house: &House, tenant: &str, id: &str) -> Value {
    let path = format!("/tenants/{tenant}/api-keys");
    let all = house.get(&path, &house.admin()).await.ok();
    let mut keys = all.as_array().unwrap().iter();
    keys.find(|key| key["key_id"] == id).unwrap().clone()
}

/// The statuses of sending, listing devices, and reading a notification that does not exist.
async fn powers(house: &House, tenant: &str, key: &Caller) -> [u16; 3] {
    let at = |path: &str| format!("/tenants/{tenant}{path}");
    let send = house.post(&at("/notify"), key, json!({"user_id": "u"}));
    [
        send.await.status,
        house.get(&at("/devices?user_id=u"), key).await.status,
        house.get(&at("/notifications/x"), key).await.status,
    ]
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_until_they_change() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    for (scopes, expected) in [
        (json!(["send"]), [200, 403, 403]),
        (json!(["devices"]), [403, 200, 403]),
        (json!(["read"]), [403, 403, 404]),
        (json!(null), [200, 200, 404]),
    ] {
        let (_, key) = make(&house, &tenant, json!({"name": "k", "scopes": scopes})).await;
        assert_eq!(powers(&house, &tenant, &key).await, expected, "{scopes}");
    }
    let (id, key) = make(&house, &tenant, json!({"name": "k", "scopes": ["read"]})).await;
    let path = format!("/tenants/{tenant}/api-keys/{id}");
    let patch = json!({"name": "cron", "scopes": ["devices", "send"]});
    let patched = house.send_json(Method::PATCH, &path, &house.admin(), patch);
    let patched = patched.await.ok();
    assert_eq!(patched["scopes"], json!(["send", "devices"]));
    assert_eq!(powers(&house, &tenant, &key).await, [200, 200, 403]);
    assert_eq!(listed(&house, &tenant, &id).await["name"], "cron");
    for bad in [
        json!({"scopes": []}),
        json!({"scopes": ["root"]}),
        json!({"name": " "}),
    ] {
        let reply = house.send_json(Method::PATCH, &path, &house.admin(), bad.clone());
        assert_eq!(reply.await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_key_with_a_rate_is_told_to_wait_and_others_are_not() {
    let house = House::open().await;
    let (tenant, free) = house.tenant().await;
    let body = json!({"name": "k", "rate_per_second": 2});
    let (id, key) = make(&house, &tenant, body).await;
    let path = format!("/tenants/{tenant}/devices?user_id=u");
    for _ in 0..2 {
        house.get(&path, &key).await.ok();
    }
    let refused = house.get(&path, &key).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    assert!(
        refused.body["detail"]
            .as_str()
            .unwrap()
            .contains("2 requests a second")
    );
    house.get(&path, &free).await.ok();
    pass(Duration::from_millis(500));
    house.get(&path, &key).await.ok();
    assert_eq!(house.get(&path, &key).await.status, 429);
    let own = format!("/tenants/{tenant}/api-keys/{id}");
    let patch = json!({"rate_per_second": null});
    let patched = house.send_json(Method::PATCH, &own, &house.admin(), patch);
    assert_eq!(patched.await.ok()["rate_per_second"], json!(null));
    for _ in 0..9 {
        house.get(&path, &key).await.ok();
    }
    for bad in [0, 1_000_001] {
        let patch = json!({"rate_per_second": bad});
        let reply = house.send_json(Method::PATCH, &own, &house.admin(), patch);
        assert_eq!(reply.await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_rotated_key_works_beside_its_successor_until_its_end() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let body = json!({"name": "k", "scopes": ["devices"], "rate_per_second": 1000});
    let (id, old) = make(&house, &tenant, body).await;
    let path = format!("/tenants/{tenant}/api-keys/{id}/rotate");
    let body = json!({"overlap_seconds": 60});
    let rotated = house.post(&path, &house.admin(), body).await.ok();
    assert_eq!(rotated["replaces"], json!(id));
    let new_id = rotated["key_id"].as_str().unwrap();
    let seen = listed(&house, &tenant, new_id).await;
    assert_eq!(
        (&seen["name"], &seen["scopes"]),
        (&json!("k"), &json!(["devices"]))
    );
    assert_eq!(seen["rate_per_second"], 1000);
    let new = Caller::Key(rotated["key"].as_str().unwrap().to_owned());
    assert_eq!(powers(&house, &tenant, &old).await, [403, 200, 403]);
    assert_eq!(powers(&house, &tenant, &new).await, [403, 200, 403]);
    assert_eq!(
        listed(&house, &tenant, &id).await["expires_at"],
        rotated["replaced_until"]
    );
    pass(Duration::from_millis(59_999));
    assert_eq!(powers(&house, &tenant, &old).await, [403, 200, 403]);
    pass(Duration::from_millis(1));
    assert_eq!(powers(&house, &tenant, &old).await, [401, 401, 401]);
    assert_eq!(powers(&house, &tenant, &new).await, [403, 200, 403]);

    let id = rotated["key_id"].as_str().unwrap();
    let path = format!("/tenants/{tenant}/api-keys/{id}/rotate");
    let at_once = json!({"overlap_seconds": 0});
    house.post(&path, &house.admin(), at_once).await.ok();
    assert_eq!(powers(&house, &tenant, &new).await, [401, 401, 401]);
    let too_long = json!({"overlap_seconds": 7_776_001});
    assert_eq!(
        house.post(&path, &house.admin(), too_long).await.status,
        422
    );
    let unknown = format!("/tenants/{tenant}/api-keys/key_AAAAAAAA/rotate");
    assert_eq!(
        house.post(&unknown, &house.admin(), json!({})).await.status,
        404
    );
}

#[tokio::test]
async fn the_list_tells_what_a_key_was_used_for() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let (id, key) = make(&house, &tenant, json!({"name": "k", "test": true})).await;
    for _ in 0..3 {
        powers(&house, &tenant, &key).await;
    }
    house.app.keys().flush().await;
    let seen = listed(&house, &tenant, &id).await;
    let operations = json!({"send": 3, "list_devices": 3, "read_notification": 3});
    let usage = json!({"calls": 9, "calls_today": 9, "operations": operations});
    assert_eq!((&seen["usage"], &seen["test"]), (&usage, &json!(true)));
    assert_eq!(seen["created_by"], "ada@example.com");
    assert!(seen["last_used_at"].is_string() && seen["key"].is_null());
}

#[tokio::test]
async fn junk_is_refused_without_asking_the_store() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    house.store.close().await;
    let path = format!("/tenants/{tenant}/devices?user_id=u");
    let good = ApiKey::generate(ApiKeyKind::Live).unwrap();
    let good = good.reveal();
    let last = if good.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{last}", &good[..good.len() - 1]);
    // A store that cannot be asked is a 503: where there is a 401, it was not asked.
    for (key, status) in [("junk", 401), (mistyped.as_str(), 401), (good, 503)] {
        let reply = house.get(&path, &Caller::Key(key.to_owned())).await;
        assert_eq!(reply.status, status, "{key}");
    }
}
