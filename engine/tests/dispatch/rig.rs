//! A dispatcher pointed at a simulator, and slices to send.
//! It must not know what a single test expects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clarion_engine::delivery::dispatch::{DispatchEvent, DispatchOptions, Dispatcher, Slice};
use clarion_engine::http2::TlsOptions;
use clarion_engine::limits::SLICE_RECIPIENTS_MAX;
use clarion_engine::model::{
    Address, Content, Environment, Lane, Millis, Notification, NotificationId, Options, Outcome,
    Platform, Recipient,
};
use clarion_engine::provider::{self, Credential, CredentialAlert, Route, apns, fcm};
use clarion_simulator::{Simulator, apns_test_device_token, fcm_test_device_token};
use tokio::sync::mpsc;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TOPIC: &str = "com.example.app";
pub(crate) const TEAM: &str = "TEAM123456";
pub(crate) const KEY: &str = "KEY1234567";

pub(crate) struct Rig {
    pub(crate) simulator: Simulator,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) events: mpsc::Receiver<DispatchEvent>,
    pub(crate) windows: Vec<usize>,
    pub(crate) alerts: Vec<CredentialAlert>,
    next_id: u64,
    waiting: HashMap<u64, usize>,
    _ca: tempfile::TempDir,
}

pub(crate) fn now() -> Millis {
    #[expect(clippy::disallowed_methods, reason = "the edge of a test")]
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Millis::try_from(since.as_millis()).unwrap()
}

impl Rig {
    pub(crate) async fn start(options: clarion_simulator::Options) -> Self {
        Self::start_with(options, |_| {}).await
    }

    pub(crate) async fn start_with(
        options: clarion_simulator::Options,
        adjust: impl FnOnce(&mut DispatchOptions),
    ) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let ca = tempfile::tempdir().unwrap();
        let ca_file = ca.path().join("ca.pem");
        std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
        let tls = TlsOptions {
            ca_file: Some(ca_file),
        };
        let origin = || simulator.apns_origin().parse().unwrap();
        let fcm = simulator.fcm_origin().parse().unwrap();
        let endpoint = simulator.fcm_token_url().parse().unwrap();
        let mut options = DispatchOptions::new(1, (origin(), origin()), fcm, endpoint, tls);
        adjust(&mut options);
        let (dispatcher, events) = Dispatcher::start(options).unwrap();
        Self {
            simulator,
            dispatcher,
            events,
            windows: Vec::new(),
            alerts: Vec::new(),
            next_id: 0,
            waiting: HashMap::new(),
            _ca: ca,
        }
    }

    /// A tenant's way to APNs with a fresh, registered key.
    pub(crate) fn apns_route(&self, tenant: &str) -> Arc<Route> {
        let key = self.simulator.apns_test_key(TEAM, KEY).unwrap();
        apns_route(tenant, &key.p8_pem)
    }

    /// A tenant's way to FCM with a fresh, registered account.
    pub(crate) fn fcm_route(&self, tenant: &str, project: &str) -> Arc<Route> {
        let account = self.simulator.fcm_test_account(project).unwrap();
        fcm_route(tenant, &account.service_account_json)
    }

    /// Sends to `count` devices, in slices.
    pub(crate) fn send(&mut self, route: &Arc<Route>, count: u32) -> Vec<u64> {
        self.send_lane(route, count, Lane::Bulk)
    }

    pub(crate) fn send_lane(&mut self, route: &Arc<Route>, count: u32, lane: Lane) -> Vec<u64> {
        let notification = notification(route, lane, self.next_id);
        let prepared = Arc::new(provider::encode(&notification, route, now()).unwrap());
        let recipients = Arc::new(recipients(route, count));
        let mut ids = Vec::new();
        for start in (0..recipients.len()).step_by(SLICE_RECIPIENTS_MAX) {
            let end = recipients.len().min(start + SLICE_RECIPIENTS_MAX);
            let slice = Slice {
                id: self.next_id,
                lane,
                route: Arc::clone(route),
                prepared: Arc::clone(&prepared),
                notification: notification.id,
                recipients: Arc::clone(&recipients),
                range: start..end,
            };
            self.waiting.insert(self.next_id, end - start);
            ids.push(self.next_id);
            self.next_id += 1;
            self.dispatcher.send(slice).expect("room for a slice");
        }
        ids
    }

    /// Waits for the outcomes of all slices sent so far, in the order they were sent.
    pub(crate) async fn outcomes(&mut self) -> Vec<Outcome> {
        self.outcomes_by_slice()
            .await
            .into_iter()
            .flat_map(|(_, outcomes)| outcomes)
            .collect()
    }

    /// The same, slice by slice, in the order of their ids, with the place in which each was done.
    pub(crate) async fn outcomes_by_slice(&mut self) -> Vec<(usize, Vec<Outcome>)> {
        let mut found = Vec::new();
        while !self.waiting.is_empty() {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("outcomes in time").expect("threads are alive") {
                DispatchEvent::Done(done) => {
                    for slice in done {
                        let expected = self.waiting.remove(&slice.id);
                        assert_eq!(expected, Some(slice.outcomes.len()), "one outcome each");
                        found.push((slice.id, (found.len(), slice.outcomes)));
                    }
                }
                DispatchEvent::Window { streams, .. } => self.windows.push(streams),
                DispatchEvent::Credential { alert, .. } => self.alerts.push(alert),
            }
        }
        found.sort_by_key(|(id, _)| *id);
        found.into_iter().map(|(_, slice)| slice).collect()
    }

    /// Sends to one device and waits for the outcome.
    pub(crate) async fn one(&mut self, route: &Arc<Route>) -> Outcome {
        self.send(route, 1);
        self.outcomes().await.remove(0)
    }

    pub(crate) fn rules(&self, toml: &str) {
        self.simulator.set_rules_toml(toml).unwrap();
    }
}

pub(crate) fn apns_route(tenant: &str, p8_pem: &str) -> Arc<Route> {
    let credential = apns::Credential::from_p8(p8_pem, TEAM, KEY).unwrap();
    Arc::new(Route {
        tenant: tenant.parse().unwrap(),
        credential: Credential::Apns(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: Some(Arc::from(TOPIC)),
    })
}

pub(crate) fn fcm_route(tenant: &str, service_account: &str) -> Arc<Route> {
    let credential = fcm::Credential::from_json(service_account).unwrap();
    Arc::new(Route {
        tenant: tenant.parse().unwrap(),
        credential: Credential::Fcm(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: None,
    })
}

fn notification(route: &Route, lane: Lane, serial: u64) -> Notification {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&serial.to_le_bytes());
    let at = now();
    let key = clarion_auth::MacKey::new(&[7; 32]);
    Notification {
        id: NotificationId::mint(&key, &route.tenant, at, random),
        tenant: route.tenant.clone(),
        lane,
        created_at: at,
        expires_at: at + 3_600_000,
        content: Content {
            title: Some("Hello".to_owned()),
            body: Some("World".to_owned()),
            ..Content::default()
        },
        options: Options::default(),
    }
}

fn recipients(route: &Route, count: u32) -> Vec<Recipient> {
    let (platform, token): (_, fn(u64, u64) -> String) = match route.credential {
        Credential::Apns(_) => (Platform::Ios, apns_test_device_token),
        Credential::Fcm(_) => (Platform::Android, fcm_test_device_token),
    };
    let recipient = |ordinal: u32| Recipient {
        ordinal,
        address: Address {
            device: i64::from(ordinal) + 1,
            platform,
            environment: Environment::Production,
            device_token: token(1, u64::from(ordinal)).into(),
        },
    };
    (0..count).map(recipient).collect()
}
