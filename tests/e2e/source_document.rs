//! The requests of the source document on API keys, word for word, and what it promises about keys.
//! It must not know more than the document: what Clarion adds is shown elsewhere.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Caller, PATIENCE, Server, Tenant, World, apple, google, seed, until};

/// The document, "Creating an API Key".
const CREATE_KEY: &str = r#"POST /tenants/{tenant_id}/api-keys
Authorization: Bearer YOUR_TOKEN
Content-Type: application/json
{
"name": "backend-server"
}"#;

/// The document, "Using API Keys".
const NOTIFY: &str = r#"POST /tenants/{tenant_id}/notify
X-API-Key: msk_live_xxxxxxxxxxxxxxxxxxxx
Content-Type: application/json
{
"user_id": "user-123",
"alert": {
"title": "Hello",
"body": "From your server"
}
}"#;

/// The document, "Deleting API Keys".
const DELETE_KEY: &str = r"DELETE /tenants/{tenant_id}/api-keys/{key_id}
Authorization: Bearer YOUR_TOKEN";

/// Sends a request of the document with its placeholders filled in.
async fn say(caller: &Caller, text: &str, filled: &[(&str, &str)]) -> Answer {
    let text = filled.iter().fold(text.to_owned(), |text, (hole, value)| {
        assert!(text.contains(hole), "the document has no {hole}");
        text.replace(hole, value)
    });
    let (head, body) = match text.find("\n{") {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (&text[..], ""),
    };
    let mut lines = head.lines();
    let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let mut request = caller.request(method, path);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    Caller::send(request.body(body.to_owned())).await
}

/// A key as the document makes one.
async fn create_key(world: &World, tenant: &str) -> Value {
    let filled = [("{tenant_id}", tenant), ("YOUR_TOKEN", &world.access_token)];
    say(&world.server.caller(), CREATE_KEY, &filled).await.ok()
}

async fn notify(world: &World, tenant: &str, key: &str) -> Answer {
    let filled = [
        ("{tenant_id}", tenant),
        ("msk_live_xxxxxxxxxxxxxxxxxxxx", key),
    ];
    say(&world.server.caller(), NOTIFY, &filled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_requests_are_answered_as_documented() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let token = apple(seed(), 1);
    world
        .calls(&tenant)
        .register("user-123", &token, "ios")
        .await;

    let made = create_key(&world, &tenant.id).await;
    let mut names: Vec<&String> = made.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["created_at", "key", "key_id", "name"]);
    let text = |name: &str| made[name].as_str().unwrap();
    assert!(text("key_id").starts_with("key_"));
    assert!(text("key").starts_with("msk_live_"));
    assert!(text("key").len() >= "msk_live_xxxxxxxxxxxxxxxxxxxx".len());
    assert_eq!(text("name"), "backend-server");
    assert!(text("created_at").ends_with('Z') && text("created_at").as_bytes()[10] == b'T');

    let sent = notify(&world, &tenant.id, text("key")).await;
    assert_eq!(sent.header("content-type"), "application/json");
    let sent = sent.ok();
    assert_eq!(sent["success"], true);
    let status = world
        .calls(&tenant)
        .finished(sent["message_id"].as_str().unwrap())
        .await;
    assert_eq!(status["accepted"], 1);
    assert_eq!(world.received(&token).len(), 1);

    let filled = [
        ("{tenant_id}", tenant.id.as_str()),
        ("{key_id}", text("key_id")),
        ("YOUR_TOKEN", &world.access_token),
    ];
    let deleted = say(&world.server.caller(), DELETE_KEY, &filled).await;
    assert!(deleted.ok().is_object());
    // "Any requests using that key will fail afterward."
    let refused = notify(&world, &tenant.id, text("key")).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
    assert!(refused.json()["detail"].is_string());
    let again = say(&world.server.caller(), DELETE_KEY, &filled).await;
    assert_eq!(again.status, 404, "{}", again.text);
    assert_eq!(world.received(&token).len(), 1);
}

/// "API keys can perform these operations on their tenant".
#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_the_document_lists() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let token = apple(seed(), 2);
    // "Register and unregister devices", "List devices for a user".
    let device = calls.register("user-123", &token, "ios").await;
    assert_eq!(
        (&device["token"], &device["user_id"], &device["platform"]),
        (&json!(token), &json!("user-123"), &json!("ios"))
    );
    assert_eq!(
        calls.devices("user-123").await,
        std::slice::from_ref(&token)
    );
    // "Send notifications (single and bulk)".
    let hello = json!({"title": "Hello", "body": "From your server"});
    let one = json!({"user_id": "user-123", "alert": hello});
    calls.finished(&calls.notify(&one).await).await;
    let many = json!({"user_ids": ["user-123"], "alert": hello});
    calls.finished(&calls.bulk(&many).await).await;
    assert_eq!(world.received(&token).len(), 2);
    let path = calls.path(&format!("devices/{token}?user_id=user-123"));
    calls.caller.delete(&path).await.ok();
    assert_eq!(calls.devices("user-123").await, Vec::<String>::new());
}

/// "API keys cannot".
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_refused_what_the_document_forbids() {
    let world = World::start().await;
    let (own, other) = (world.tenant().await, world.tenant().await);
    let key = world.server.caller().api_key(&own.key);
    let hello = json!({"user_id": "user-123", "alert": {"title": "Hello"}});
    let tenant = json!({"org_id": "acme", "bundle_id": "com.example.app"});
    let own_path = |rest: &str| format!("/tenants/{}{rest}", own.id);
    let mut answers = vec![
        // "Create, modify, or delete the tenant".
        key.post("/tenants", &tenant).await,
        key.patch(&own_path(""), &json!({"use_sandbox": true}))
            .await,
        key.delete(&own_path("")).await,
        key.get("/tenants").await,
        key.put(&own_path("/credentials/fcm"), &json!({})).await,
        // "Create or delete other API keys".
        key.post(&own_path("/api-keys"), &json!({"name": "more"}))
            .await,
        key.get(&own_path("/api-keys")).await,
        key.delete(&own_path(&format!("/api-keys/{}", own.key_id)))
            .await,
    ];
    // "Access other tenants", known or not.
    for foreign in [other.id.as_str(), "no-such-tenant"] {
        let path = |rest: &str| format!("/tenants/{foreign}{rest}");
        answers.push(key.post(&path("/notify"), &hello).await);
        answers.push(key.post(&path("/notify/bulk"), &json!({})).await);
        answers.push(key.get(&path("/devices?user_id=user-123")).await);
        answers.push(key.post(&path("/devices"), &json!({})).await);
        answers.push(key.delete(&path("/devices/x?user_id=u")).await);
        answers.push(key.get(&path("/api-keys")).await);
        answers.push(key.delete(&path("")).await);
    }
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 403, "request {at}: {}", answer.text);
        assert!(answer.json()["detail"].is_string(), "{}", answer.text);
    }
    // Nothing of it happened.
    let person = world.person();
    let read = person.get(&own_path("")).await.ok();
    assert_eq!(read["use_sandbox"], false);
    let keys = person.get(&own_path("/api-keys")).await.ok();
    assert_eq!(keys.as_array().unwrap().len(), 1);
}

/// "You won't be able to retrieve it later"; and the provider's secrets are kept sealed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_no_secret_is_on_disk() {
    let mut world = World::start().await;
    let tenant = world.tenant().await;
    let made = create_key(&world, &tenant.id).await;
    let key = made["key"].as_str().unwrap().to_owned();
    let path = format!("/tenants/{}/api-keys", tenant.id);
    let listed = world.person().get(&path).await;
    assert!(!listed.text.contains(&key));
    let keys = listed.ok();
    let ours = keys.as_array().unwrap().iter();
    let ours = ours
        .filter(|one| one["key_id"] == made["key_id"])
        .collect::<Vec<_>>();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0]["name"], "backend-server");
    assert_eq!(ours[0].get("key").unwrap_or(&Value::Null), &Value::Null);

    // What a thief of the disk would look for: the secret parts of everything that was handed over.
    let apns = world
        .simulator
        .apns_test_key("TEAMTEAM00", "KEYKEYKEY0")
        .unwrap();
    let account = world.simulator.fcm_test_account("secret-project").unwrap();
    let account: Value = serde_json::from_str(&account.service_account_json).unwrap();
    let path = format!("/tenants/{}/credentials", tenant.id);
    let upload =
        json!({"team_id": "TEAMTEAM00", "key_id": "KEYKEYKEY0", "private_key": apns.p8_pem});
    world
        .person()
        .put(&format!("{path}/apns"), &upload)
        .await
        .ok();
    let upload = json!({"service_account": account});
    world
        .person()
        .put(&format!("{path}/fcm"), &upload)
        .await
        .ok();
    let shown = world.person().get(&path).await;
    let private_key = account["private_key"].as_str().unwrap();
    let mut secrets: Vec<&str> = vec![
        &key["msk_live_".len() + 8..],
        &tenant.key["msk_live_".len() + 8..],
    ];
    // Bodies of PEM texts, line by line, without their first line, which is the same for all keys.
    for pem in [apns.p8_pem.as_str(), private_key] {
        secrets.extend(
            pem.lines()
                .skip(2)
                .filter(|line| line.len() > 20 && !line.starts_with('-')),
        );
    }
    for secret in &secrets {
        assert!(!shown.text.contains(secret));
    }
    notify(&world, &tenant.id, &key).await.ok();
    world.server.stop().await;
    holds_none(&world.server, &secrets, &tenant.id);
    let log = world.server.log();
    for secret in secrets {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

/// No secret is in what a stopped server has kept, which `known` is.
fn holds_none(server: &Server, secrets: &[&str], known: &str) {
    let Some(dump) = server.dump() else {
        let mut searched = 0;
        search(&server.home().join("data"), secrets, &mut searched);
        assert!(searched >= 2, "only {searched} files were searched");
        return;
    };
    assert!(dump.contains(known), "nothing was dumped");
    let dump = dump.to_lowercase();
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let found = dump.contains(&secret.to_lowercase()) || dump.contains(&hex);
        assert!(!found, "the database holds a secret");
    }
}

/// Looks for texts in every file below a directory.
fn search(directory: &Path, secrets: &[&str], searched: &mut usize) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, secrets, searched);
            continue;
        }
        *searched += 1;
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_known() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let made = create_key(&world, &tenant.id).await;
    let path = format!("/tenants/{}/api-keys", tenant.id);
    let person = world.person();
    let last_used = || async {
        let keys = person.get(&path).await.ok();
        let ours = keys.as_array().unwrap().iter();
        let ours = ours.clone().find(|one| one["key_id"] == made["key_id"]);
        ours.unwrap()["last_used_at"].clone()
    };
    assert_eq!(last_used().await, Value::Null);
    notify(&world, &tenant.id, made["key"].as_str().unwrap())
        .await
        .ok();
    let used = until("the key's last use to be known", PATIENCE, || async {
        Some(last_used().await).filter(|used| !used.is_null())
    });
    assert!(used.await.as_str().unwrap().ends_with('Z'));
}

/// "The iOS app needs to register device tokens": a device of either platform, by either path generation.
#[tokio::test(flavor = "multi_thread")]
async fn both_path_generations_lead_to_the_same_tenant() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let key = world.server.caller().api_key(&tenant.key);
    let prefixes = ["/tenants", "/apps", "/v1/tenants", "/v1/apps"];
    for (number, prefix) in prefixes.iter().enumerate() {
        let token = google(seed(), number as u64);
        let path = format!("{prefix}/{}/devices", tenant.id);
        let body =
            json!({"user_id": "u", "token": token, "platform": "android", "app_version": null});
        key.post(&path, &body).await.ok();
    }
    for prefix in prefixes {
        let path = format!("{prefix}/{}/devices?user_id=u", tenant.id);
        let list = key.get(&path).await.ok();
        assert_eq!(list["devices"].as_array().unwrap().len(), prefixes.len());
        let path = format!("{prefix}/{}/notify", tenant.id);
        let sent = key
            .post(&path, &json!({"user_id": "u", "alert": {"body": "x"}}))
            .await;
        assert_eq!(sent.ok()["success"], true);
    }
    let (_, another) = Tenant::new_key(&world.person(), &tenant.id).await;
    assert_ne!(another, tenant.key);
    let made = world
        .person()
        .post(
            &format!("/apps/{}/notify/api-keys", tenant.id),
            &json!({"name": "x"}),
        )
        .await;
    assert!(made.ok()["key"].as_str().unwrap().starts_with("msk_live_"));
}
