//! A store, a queue and a door in a test.
//! It must not know what is published.

use std::sync::Arc;

use clarion_auth::{MacKey, OrgId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{Broker, Delivery};
use crate::datadir::DataDir;
use crate::intake::{Incoming, Intake, Trust, Verdict};
use crate::limits::BACKLOG_MAX_DEFAULT;
use crate::model::{Envelope, Job, Millis};
use crate::store::sqlite::{OpenOptions, SqliteStore};
use crate::store::{NewDead, Store, Tenant, TenantLimits};

/// 2026-01-15T10:30:00Z
pub(super) const NOW: Millis = 1_768_473_000_000;
pub(super) const DAY: Millis = 24 * 3_600_000;

/// A door, and what is behind it.
pub(super) struct House {
    pub(super) intake: Intake,
    pub(super) store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    _folder: tempfile::TempDir,
}

impl House {
    /// With the tenant `acme`.
    pub(super) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::lock(folder.path()).unwrap());
        let options = OpenOptions {
            process: uuid::Uuid::from_u128(1),
            data_dir: Arc::clone(&data_dir),
        };
        let store = SqliteStore::open(&folder.path().join("store.db"), options).await;
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let broker = EmbeddedBroker::open(&folder.path().join("queue.db"), data_dir).await;
        let broker: Arc<dyn Broker> = Arc::new(broker.unwrap());
        let house = Self {
            intake: intake(&store, &broker),
            store,
            broker,
            _folder: folder,
        };
        house.tenant("acme").await;
        house
    }

    /// Another process's door to the same.
    pub(super) fn second_intake(&self) -> Intake {
        intake(&self.store, &self.broker)
    }

    /// Creates a tenant.
    pub(super) async fn tenant(&self, id: &str) {
        let tenant = Tenant {
            id: id.parse().unwrap(),
            org: "org".parse::<OrgId>().unwrap(),
            bundle_id: Some("com.example.app".into()),
            use_sandbox: false,
            limits: TenantLimits::default(),
            suspended: false,
            created_by: "ada@example.com".into(),
            created_at: NOW,
            updated_at: NOW,
            deleted_at: None,
        };
        self.store.create_tenant(&tenant, &[]).await.unwrap();
    }

    pub(super) async fn take(&self, routing_key: &str, body: &[u8]) -> Verdict {
        let incoming = incoming(routing_key, body);
        self.intake.take(&incoming, Trust::Broker, NOW).await
    }

    /// The dead row of a message that cannot be taken.
    pub(super) async fn dead(&self, routing_key: &str, body: &[u8]) -> NewDead {
        match self.take(routing_key, body).await {
            Verdict::Dead(dead) => *dead,
            other => panic!("{other:?}"),
        }
    }

    /// The first `count` queued jobs.
    pub(super) async fn jobs(&self, count: usize) -> Vec<Job> {
        let mut subscription = self.broker.subscribe(100).await.unwrap();
        let mut jobs = Vec::new();
        while jobs.len() < count {
            match subscription.deliveries.recv().await.unwrap() {
                Delivery::Leased(lease) => {
                    jobs.extend(Envelope::decode(&lease.body).unwrap().jobs);
                    self.broker.ack(vec![lease]).await.unwrap();
                }
                Delivery::LeasesLost => panic!("the embedded queue loses no leases"),
            }
        }
        jobs
    }

    /// Messages queued.
    pub(super) async fn queued(&self) -> u64 {
        let depths = self.broker.depths().await.unwrap();
        depths.iter().map(|(_, depth)| depth).sum()
    }
}

fn intake(store: &Arc<dyn Store>, broker: &Arc<dyn Broker>) -> Intake {
    let (store, broker) = (Arc::clone(store), Arc::clone(broker));
    let mac = MacKey::new(&[7; 32]);
    Intake::new(
        store,
        broker,
        mac,
        BACKLOG_MAX_DEFAULT,
        Arc::new(Notify::new()),
    )
}

/// A message without headers that was never seen before.
pub(super) fn incoming<'a>(routing_key: &'a str, body: &'a [u8]) -> Incoming<'a> {
    Incoming {
        routing_key,
        body,
        api_key: None,
        may_have_been_seen: false,
    }
}

/// The body of a request that says hello to Ada, changed by `more`; null takes a member out.
pub(super) fn request(more: Value) -> Vec<u8> {
    let mut body = json!({"v": 1, "message_id": "m", "alert": {"title": "Hello"}});
    let names = ["user_id", "user_ids", "device_tokens"];
    if !names.iter().any(|name| more.get(name).is_some()) {
        body["user_id"] = Value::from("ada");
    }
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body.to_string().into_bytes()
}
