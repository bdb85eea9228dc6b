//! A tenant with credentials that the providers know, and what its API key is used for.
//! It must not know which faults the providers are told to show.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Caller, ORG, PATIENCE, World, until};

/// A tenant, its API key and the public names of its APNs key.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) key_id: String,
    pub(crate) bundle_id: String,
    pub(crate) team_id: String,
    pub(crate) apns_key_id: String,
    pub(crate) project: String,
}

impl Tenant {
    pub(super) async fn create(world: &World) -> Self {
        let number = world.tenants.fetch_add(1, Ordering::Relaxed);
        let team_id = format!("TEAM{number:06}");
        let apns_key_id = format!("APNS{number:06}");
        let project = format!("project-{number}");
        let key = world.simulator.apns_test_key(&team_id, &apns_key_id);
        let key = key.unwrap();
        let account = world.simulator.fcm_test_account(&project).unwrap();
        let account: Value = serde_json::from_str(&account.service_account_json).unwrap();
        let bundle_id = "com.example.app".to_owned();
        let body = json!({
            "org_id": ORG, "bundle_id": bundle_id, "team_id": team_id, "key_id": apns_key_id,
            "private_key": key.p8_pem, "use_sandbox": false, "fcm": account,
        });
        let person = world.person();
        let tenant = person.post("/tenants", &body).await.ok();
        let id = tenant["tenant_id"].as_str().unwrap().to_owned();
        let (key_id, key) = Self::new_key(&person, &id).await;
        Self {
            id,
            key,
            key_id,
            bundle_id,
            team_id,
            apns_key_id,
            project,
        }
    }

    /// Another API key of a tenant: its public id, and the key.
    pub(crate) async fn new_key(person: &Caller, tenant: &str) -> (String, String) {
        let path = format!("/tenants/{tenant}/api-keys");
        let made = person.post(&path, &json!({"name": "e2e"})).await.ok();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("key_id"), text("key"))
    }
}

/// The nth Apple device token of a seed.
pub(crate) fn apple(seed: u64, number: u64) -> String {
    clarion_simulator::apns_test_device_token(seed, number)
}

/// The nth Google device token of a seed.
pub(crate) fn google(seed: u64, number: u64) -> String {
    clarion_simulator::fcm_test_device_token(seed, number)
}

/// Calls in the name of one tenant.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) caller: Caller,
    tenant: String,
}

impl Calls {
    pub(crate) fn new(caller: Caller, tenant: &str) -> Self {
        Self {
            caller,
            tenant: tenant.to_owned(),
        }
    }

    /// A path of the tenant.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/tenants/{}/{rest}", self.tenant)
    }

    pub(crate) async fn register(&self, user: &str, device_token: &str, platform: &str) -> Value {
        let body = json!({"user_id": user, "token": device_token, "platform": platform});
        self.caller.post(&self.path("devices"), &body).await.ok()
    }

    /// Registers (user, device token, platform) all at once.
    pub(crate) async fn register_all(&self, devices: &[(String, String, &str)]) {
        for part in devices.chunks(10_000) {
            let list: Vec<Value> = part
                .iter()
                .map(|(user, token, platform)| {
                    json!({"user_id": user, "token": token, "platform": platform})
                })
                .collect();
            let body = json!({"devices": list});
            let answer = self.caller.post(&self.path("devices/bulk"), &body).await;
            assert_eq!(answer.ok()["registered"], part.len());
        }
    }

    /// The device tokens registered for a user.
    pub(crate) async fn devices(&self, user: &str) -> Vec<String> {
        let path = self.path(&format!("devices?user_id={user}"));
        let list = self.caller.get(&path).await.ok();
        let devices = list["devices"].as_array().unwrap().iter();
        devices
            .map(|device| device["token"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sends to one user; returns the notification's id.
    pub(crate) async fn notify(&self, body: &Value) -> String {
        let answer = self.caller.post(&self.path("notify"), body).await.ok();
        assert_eq!(answer["success"], true, "{answer}");
        answer["message_id"].as_str().unwrap().to_owned()
    }

    /// Sends to many; returns the notification's id.
    pub(crate) async fn bulk(&self, body: &Value) -> String {
        let answer = self.caller.post(&self.path("notify/bulk"), body).await;
        let answer = answer.ok();
        assert_eq!(answer["failed"], 0);
        assert_eq!(answer["total"], answer["success"]);
        let id = &answer["results"][0]["message_id"];
        id.as_str().unwrap().to_owned()
    }

    /// An alert to device tokens that need not be registered.
    pub(crate) async fn alert_to(&self, device_tokens: &[String]) -> String {
        self.bulk(&json!({
            "device_tokens": raw(device_tokens), "alert": {"title": "Hello", "body": "From a test"},
        }))
        .await
    }

    pub(crate) async fn status(&self, id: &str) -> Value {
        self.look(id).await.ok()
    }

    /// Asks where a notification stands.
    pub(crate) async fn look(&self, id: &str) -> Answer {
        let path = self.path(&format!("notifications/{id}"));
        self.caller.get(&path).await
    }

    /// Waits until a notification is finished, and returns its status.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        self.finished_within(id, PATIENCE).await
    }

    pub(crate) async fn finished_within(&self, id: &str, limit: Duration) -> Value {
        until(&format!("notification {id} to finish"), limit, || async {
            let status = self.status(id).await;
            (status["state"] == "finished").then_some(status)
        })
        .await
    }

    /// All failures of a notification, page by page.
    pub(crate) async fn failures(&self, id: &str, page: usize) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("notifications/{id}/failures?limit={page}{cursor}");
            let list = self.caller.get(&self.path(&path)).await.ok();
            let rows = list["failures"].as_array().unwrap();
            assert!(rows.len() <= page);
            all.extend(rows.iter().cloned());
            match list["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

/// Device tokens as a request names them; Google's hold a colon, Apple's do not.
pub(crate) fn raw(device_tokens: &[String]) -> Value {
    let entry = |token: &String| {
        let platform = if token.contains(':') {
            "android"
        } else {
            "ios"
        };
        json!({"platform": platform, "token": token})
    };
    device_tokens.iter().map(entry).collect()
}
