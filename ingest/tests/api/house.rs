//! A whole ingest process in a test: store, queue, door, both routers, a clock that stands still until it is moved.
//! It must not know what is asked of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use clarion_auth::OrgId;
use clarion_auth::principal::Role;
use clarion_auth::seal::MasterKey;
use clarion_auth::token::{AccessTokenIssuer, AccessTokenVerifier, Issuer, SigningKey};
use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::broker::{Broker, Delivery};
use clarion_engine::datadir::DataDir;
use clarion_engine::intake::Intake;
use clarion_engine::model::{Envelope, Job, Millis};
use clarion_engine::store::Store;
use clarion_engine::store::sqlite::{OpenOptions, SqliteStore};
use clarion_ingest::{App, EngineHealth, IngestConfig, Parts, operator_router, router};
use http::{Method, Request};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// 2026-01-15T10:30:00Z
pub(crate) const START: Millis = 1_768_473_000_000;

thread_local! {
    // Each test runs on one thread with a runtime of its own, so each has its own clock.
    static CLOCK: Cell<Millis> = const { Cell::new(START) };
}

fn now() -> Millis {
    CLOCK.get()
}

/// Moves this test's clock.
pub(crate) fn pass(duration: Duration) {
    CLOCK.set(CLOCK.get() + i64::try_from(duration.as_millis()).unwrap());
}

/// Where all tenants of these tests live.
pub(crate) const ORG: &str = "acme";

pub(crate) struct House {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) broker: Arc<EmbeddedBroker>,
    pub(crate) app: App,
    /// Woken when pages were stored.
    pub(crate) feeder: Arc<Notify>,
    /// Brakes that were taken off.
    pub(crate) brakes: Arc<AtomicU64>,
    public: TowerToHyperService<axum::Router>,
    operator: TowerToHyperService<axum::Router>,
    issuer: AccessTokenIssuer,
    _folder: tempfile::TempDir,
}

/// An answer, with its body as JSON.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// The body of a 200.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// How a request proves who sends it.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Nobody,
    Key(String),
    Person(String),
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::with(IngestConfig::default()).await
    }

    pub(crate) async fn with(config: IngestConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::lock(folder.path()).unwrap());
        let options = OpenOptions {
            process: uuid::Uuid::from_u128(1),
            data_dir: Arc::clone(&data_dir),
        };
        let store = SqliteStore::open(&folder.path().join("store.db"), options).await;
        let store = Arc::new(store.unwrap());
        let broker = EmbeddedBroker::open(&folder.path().join("queue.db"), data_dir).await;
        let broker = Arc::new(broker.unwrap());
        let sealer = Arc::new(MasterKey::generate().unwrap());
        let feeder = Arc::new(Notify::new());
        let intake = Intake::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&broker) as Arc<dyn Broker>,
            sealer.mac_key("notification id").unwrap(),
            config.limits.backlog,
            Arc::clone(&feeder),
        );
        let signing = SigningKey::generate().unwrap();
        let issuer = Issuer {
            iss: "clarion".to_owned(),
            aud: "clarion".to_owned(),
        };
        let brakes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&brakes);
        let app = App::new(Parts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            intake: Arc::new(intake),
            access_tokens: AccessTokenVerifier::new(&issuer, [signing.public()]).unwrap(),
            issuer: AccessTokenIssuer::new(issuer.clone(), &signing),
            sealer,
            config,
            now: Arc::new(now),
            health: Arc::new(|| EngineHealth::Running),
            metrics: Arc::new(|| "clarion_up 1\n".to_owned()),
            release_brake: Arc::new(move |_, _| {
                counted.fetch_add(1, Ordering::SeqCst);
                Box::pin(async {})
            }),
            control_obeyed: Arc::new(|| Box::pin(async {})),
        });
        Self {
            public: TowerToHyperService::new(router(app.clone())),
            operator: TowerToHyperService::new(operator_router(app.clone())),
            issuer: AccessTokenIssuer::new(issuer, &signing),
            store,
            broker,
            app,
            feeder,
            brakes,
            _folder: folder,
        }
    }

    /// An access token of somebody with this role in an organisation.
    pub(crate) fn person_in(&self, org: &str, role: Role) -> Caller {
        let orgs = BTreeMap::from([(org.parse::<OrgId>().unwrap(), role)]);
        let subject = "ada@example.com".parse().unwrap();
        let life = Duration::from_secs(12 * 3600);
        let access_token = self.issuer.mint(&subject, &orgs, life, now()).unwrap();
        Caller::Person(access_token.reveal().to_owned())
    }

    /// An access token of somebody whom it makes a member of nothing.
    pub(crate) fn nobody(&self, subject: &str) -> Caller {
        let (subject, life) = (subject.parse().unwrap(), Duration::from_secs(12 * 3600));
        let access_token = self.issuer.mint(&subject, &BTreeMap::new(), life, now());
        Caller::Person(access_token.unwrap().reveal().to_owned())
    }

    /// An access token of an admin of [`ORG`].
    pub(crate) fn admin(&self) -> Caller {
        self.person_in(ORG, Role::Admin)
    }

    /// A tenant of [`ORG`], with an API key.
    pub(crate) async fn tenant(&self) -> (String, Caller) {
        let body = json!({"org_id": ORG, "bundle_id": "com.example.app"});
        let tenant = self.post("/tenants", &self.admin(), body).await.ok();
        let tenant = tenant["tenant_id"].as_str().unwrap().to_owned();
        let key = self.key(&tenant).await;
        (tenant, key)
    }

    /// A new API key of a tenant.
    pub(crate) async fn key(&self, tenant: &str) -> Caller {
        let path = format!("/tenants/{tenant}/api-keys");
        let made = self
            .post(&path, &self.admin(), json!({"name": "backend-server"}))
            .await
            .ok();
        Caller::Key(made["key"].as_str().unwrap().to_owned())
    }

    /// Registers an iPhone.
    pub(crate) async fn device(&self, tenant: &str, key: &Caller, user: &str, device_token: &str) {
        let body = json!({"user_id": user, "token": device_token, "platform": "ios"});
        self.post(&format!("/tenants/{tenant}/devices"), key, body)
            .await
            .ok();
    }

    pub(crate) fn get<'a>(
        &'a self,
        path: &str,
        caller: &Caller,
    ) -> impl Future<Output = Reply> + use<'a> {
        self.send(request(Method::GET, path, caller, Body::empty()))
    }

    pub(crate) fn delete<'a>(
        &'a self,
        path: &str,
        caller: &Caller,
    ) -> impl Future<Output = Reply> + use<'a> {
        self.send(request(Method::DELETE, path, caller, Body::empty()))
    }

    pub(crate) fn post<'a>(
        &'a self,
        path: &str,
        caller: &Caller,
        body: Value,
    ) -> impl Future<Output = Reply> + use<'a> {
        self.send_json(Method::POST, path, caller, body)
    }

    pub(crate) fn send_json<'a>(
        &'a self,
        method: Method,
        path: &str,
        caller: &Caller,
        body: Value,
    ) -> impl Future<Output = Reply> + use<'a> {
        self.send(request(method, path, caller, Body::from(body.to_string())))
    }

    /// Any request at all.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        reply(self.public.call(request).await.unwrap()).await
    }

    /// A request to the operator's listener.
    pub(crate) async fn operate(&self, request: Request<Body>) -> Reply {
        reply(self.operator.call(request).await.unwrap()).await
    }

    /// The first `count` queued jobs, in the order of their publishing.
    pub(crate) async fn jobs(&self, count: usize) -> Vec<Job> {
        let mut subscription = self.broker.subscribe(100).await.unwrap();
        let mut jobs = Vec::new();
        while jobs.len() < count {
            match subscription.deliveries.recv().await.unwrap() {
                Delivery::Leased(lease) => {
                    assert_eq!(Envelope::decode(&lease.body).unwrap().jobs.len(), 1);
                    jobs.extend(Envelope::decode(&lease.body).unwrap().jobs);
                    self.broker.ack(vec![lease]).await.unwrap();
                }
                Delivery::LeasesLost => panic!("the embedded queue loses no leases"),
            }
        }
        jobs
    }

    /// Messages queued.
    pub(crate) async fn queued(&self) -> u64 {
        self.broker
            .depths()
            .await
            .unwrap()
            .iter()
            .map(|(_, depth)| depth)
            .sum()
    }

    /// How much there is of everything that a request can make.
    pub(crate) async fn counts(&self, tenant: &str) -> BTreeMap<&'static str, u64> {
        let tenant = tenant.parse().unwrap();
        let store = &self.store;
        use clarion_engine::store::{Accounts, ApiKeys, Devices, Notifications};
        BTreeMap::from([
            ("tenants", store.tenants(None).await.unwrap().len() as u64),
            ("keys", store.api_keys(&tenant).await.unwrap().len() as u64),
            (
                "credentials",
                store.credentials(&tenant).await.unwrap().len() as u64,
            ),
            (
                "devices",
                store
                    .devices(&tenant, None, 0, 1_000_000)
                    .await
                    .unwrap()
                    .len() as u64,
            ),
            ("backlog", store.backlog(&tenant).await.unwrap()),
            ("queued", self.queued().await),
        ])
    }
}

/// A request with its credential.
pub(crate) fn request(method: Method, path: &str, caller: &Caller, body: Body) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    let builder = match body.size_hint().exact() {
        Some(len) => builder.header("content-length", len),
        None => builder,
    };
    let builder = match caller {
        Caller::Nobody => builder,
        Caller::Key(key) => builder.header("x-api-key", key),
        Caller::Person(token) => builder.header("authorization", format!("Bearer {token}")),
    };
    builder
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

async fn reply(response: http::Response<Body>) -> Reply {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()),
    }
}

/// A device token of an iPhone: 64 hexadecimal digits.
pub(crate) fn apns_token(number: u64) -> String {
    format!("{number:064x}")
}

/// A device token of an Android phone.
pub(crate) fn fcm_token(number: u64) -> String {
    format!("cX{number:020}:APA91b{}", "Zz0_-".repeat(24))
}
