//! The stage: simulators, a Clarion, a tenant with credentials, a key, and registered devices.
//! It must not send anything.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clarion_auth::token::{AccessTokenIssuer, Issuer};
use clarion_auth::{OrgId, PrincipalId, Role};
use clarion_engine::model::Lane;
use clarion_simulator::{
    Options, Simulator, apns_test_device_token, fcm_test_device_token, share_matches,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::DemoCommand;
use crate::command::client::{Call, Client, Credential};
use crate::config::{Config, Sources};
use crate::keys::Keys;
use crate::serve::{self, App, Hooks, now};
use crate::telemetry;
use crate::terminal::Terminal;

/// Share of device tokens that their provider calls dead.
pub(super) const DEAD_SHARE: f64 = 0.03;

/// Factor on every wait of the retry schedule: a minute becomes a tenth of a second.
const RETRY_SCALE: f64 = 0.002;

/// Devices registered in one request.
const REGISTRATIONS: usize = 10_000;

const ORG: &str = "demo";
const BUNDLE_ID: &str = "com.example.demo";
const TEAM_ID: &str = "DEMOTEAM00";
const KEY_ID: &str = "DEMOKEY000";
const PROJECT: &str = "demo-project";

/// One device of the demo: its user has no other.
pub(super) struct DemoDevice {
    pub(super) user_id: String,
    pub(super) device_token: String,
    pub(super) is_dead: bool,
}

/// Latencies from acceptance to the provider's answer, milliseconds, by lane.
pub(super) type Latencies = Arc<Mutex<[Vec<u32>; 2]>>;

/// Everything that is up.
pub(super) struct Stage {
    pub(super) seed: u64,
    pub(super) simulator: Simulator,
    pub(super) tenant: String,
    pub(super) producer: Client,
    pub(super) devices: Vec<DemoDevice>,
    pub(super) latencies: Latencies,
    pub(super) log: std::path::PathBuf,
    url: String,
    api_key: String,
    metrics: PrometheusHandle,
    app: App,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(super) async fn build(
        command: &DemoCommand,
        seed: u64,
        terminal: &mut Terminal,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("clarion-demo-").tempdir()?;
        let log = directory.path().join("received.log");
        let simulator = start_simulator(command, &log).await?;
        let config = config(directory.path(), &simulator)?;
        terminal.note(format!(
            "demo: seed {seed}; retry schedule scaled by {RETRY_SCALE}; data in {}",
            directory.path().display()
        ))?;
        let latencies = Latencies::default();
        let metrics = telemetry::install_metrics(&config.metrics)?;
        telemetry::install_logs(&config.log)?;
        let app = App::start(
            &config,
            serve::Role::All,
            metrics.clone(),
            Hooks {
                on_answered: Some(observer(&latencies)),
            },
        )
        .await?;
        let public = app.public().context("the demo serves the public API")?;
        let url = format!("http://{public}");
        let operator = Client::new(
            &url,
            "--url",
            Some(&Credential::AccessToken(access_token(&config)?)),
        )?;
        let tenant = create_tenant(&operator, &simulator).await?;
        let api_key = create_key(&operator, &tenant).await?;
        let producer = Client::new(&url, "--url", Some(&Credential::ApiKey(api_key.clone())))?;
        let devices = devices(command, seed);
        register(&producer, &tenant, &devices, terminal).await?;
        if !command.calm {
            simulator.set_rules_toml(&rules(seed))?;
        } else {
            simulator.set_rules_toml(&dead_rules(seed))?;
        }
        Ok(Self {
            seed,
            simulator,
            tenant,
            producer,
            devices,
            latencies,
            log,
            url,
            api_key,
            metrics,
            app,
            _directory: directory,
        })
    }

    /// A counter of this process; 0 if it was never raised.
    pub(super) fn counter(&self, name: &str) -> u64 {
        let page = self.metrics.render();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// Prints how to try it by hand.
    pub(super) fn invite(&self, terminal: &mut Terminal) -> anyhow::Result<()> {
        let (url, tenant, key) = (&self.url, &self.tenant, &self.api_key);
        let user = self
            .devices
            .iter()
            .find(|device| !device.is_dead)
            .map_or("user-0", |device| &device.user_id);
        terminal.line(format!(
            "\nThe demo stays up; stop it with Ctrl-C. Try:\n\n\
             curl -s {url}/tenants/{tenant}/notify \\\n  \
             -H 'X-API-Key: {key}' -H 'Content-Type: application/json' \\\n  \
             -d '{{\"user_id\": \"{user}\", \"alert\": {{\"title\": \"Hello\"}}}}'\n\n\
             curl -s {url}/tenants/{tenant}/notifications/MESSAGE_ID -H 'X-API-Key: {key}'\n\n\
             curl -s http://{}/metrics\n\n\
             curl -s {}/stats",
            self.app.admin(),
            self.simulator.control_url(),
        ))?;
        Ok(())
    }

    /// Stops everything; the temporary directory goes with it.
    pub(super) async fn strike(self) {
        self.app.stop().await;
        self.simulator.shutdown().await;
    }
}

async fn start_simulator(command: &DemoCommand, log: &Path) -> anyhow::Result<Simulator> {
    let options = Options {
        latency_ms: command.latency_ms,
        log_path: Some(log.to_path_buf()),
        receipts_kept: 0,
        ..Options::default()
    };
    let simulator = Simulator::start(options)
        .await
        .context("starting the simulated providers")?;
    std::fs::write(log.with_extension("pem"), simulator.ca_pem())?;
    Ok(simulator)
}

fn config(directory: &Path, simulator: &Simulator) -> anyhow::Result<Config> {
    let data_dir = directory.join("data").to_string_lossy().into_owned();
    let ca_file = directory
        .join("received.pem")
        .to_string_lossy()
        .into_owned();
    let sources = Sources::bare()
        .with_flag("data_dir", data_dir, "demo")
        .with_flag("server.listen", "127.0.0.1:0", "demo")
        .with_flag("server.admin_listen", "127.0.0.1:0", "demo")
        .with_flag("apns.endpoint_production", simulator.apns_origin(), "demo")
        .with_flag("apns.endpoint_sandbox", simulator.apns_origin(), "demo")
        .with_flag("fcm.endpoint", simulator.fcm_origin(), "demo")
        .with_flag("fcm.token_endpoint", simulator.fcm_token_url(), "demo")
        .with_flag("tls.ca_file", ca_file, "demo")
        .with_flag("retry.scale", RETRY_SCALE, "demo")
        .with_flag("limits.rate", 1_000_000_i64, "demo")
        .with_flag("limits.burst", 1_000_000_i64, "demo")
        .with_flag("log.level", "error", "demo");
    Ok(Config::load(&sources)?)
}

fn observer(latencies: &Latencies) -> clarion_engine::delivery::engine::AnswerHook {
    let latencies = Arc::clone(latencies);
    Arc::new(move |lane: Lane, after, requests| {
        let after = u32::try_from(after).unwrap_or_default();
        let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies[lane as usize].extend(std::iter::repeat_n(after, requests));
    })
}

fn access_token(config: &Config) -> anyhow::Result<String> {
    let key = Keys::signing(config)?;
    let issuer = Issuer {
        iss: config.auth.issuer.clone(),
        aud: config.auth.audience.clone(),
    };
    let orgs = [(ORG.parse::<OrgId>()?, Role::Owner)].into();
    let issuer = AccessTokenIssuer::new(issuer, &key);
    let token = issuer.mint(
        &"demo".parse::<PrincipalId>()?,
        &orgs,
        Duration::from_secs(3_600),
        now(),
    )?;
    Ok(token.reveal().to_owned())
}

async fn create_tenant(operator: &Client, simulator: &Simulator) -> anyhow::Result<String> {
    let key = simulator.apns_test_key(TEAM_ID, KEY_ID)?;
    let account = simulator.fcm_test_account(PROJECT)?;
    let body = json!({
        "org_id": ORG,
        "bundle_id": BUNDLE_ID,
        "team_id": TEAM_ID,
        "key_id": KEY_ID,
        "private_key": key.p8_pem,
        "use_sandbox": false,
    });
    let tenant = operator.call(Call::post(&["tenants"], &body)).await?;
    let tenant = tenant["tenant_id"]
        .as_str()
        .context("tenant_id")?
        .to_owned();
    let account: Value = serde_json::from_str(&account.service_account_json)?;
    let call = Call::new(
        reqwest::Method::PUT,
        &["tenants", &tenant, "credentials", "fcm"],
    )
    .json(&json!({"service_account": account}));
    operator.call(call).await?;
    Ok(tenant)
}

async fn create_key(operator: &Client, tenant: &str) -> anyhow::Result<String> {
    let call = Call::post(
        &["tenants", tenant, "api-keys"],
        &json!({"name": "demo-backend"}),
    );
    let key = operator.call(call).await?;
    Ok(key["key"].as_str().context("key")?.to_owned())
}

fn devices(command: &DemoCommand, seed: u64) -> Vec<DemoDevice> {
    (0..command.devices())
        .map(|number| {
            let is_apple = number % 2 == 0;
            let device_token = if is_apple {
                apns_test_device_token(seed, number)
            } else {
                fcm_test_device_token(seed, number)
            };
            let is_dead = share_matches(seed, &device_token, DEAD_SHARE);
            DemoDevice {
                user_id: format!("user-{number}"),
                device_token,
                is_dead,
            }
        })
        .collect()
}

async fn register(
    producer: &Client,
    tenant: &str,
    devices: &[DemoDevice],
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let began = Instant::now();
    for (chunk, part) in devices.chunks(REGISTRATIONS).enumerate() {
        let devices: Vec<Value> = part
            .iter()
            .enumerate()
            .map(|(index, device)| {
                let number = chunk * REGISTRATIONS + index;
                let platform = if number.is_multiple_of(2) { "ios" } else { "android" };
                json!({"user_id": device.user_id, "token": device.device_token, "platform": platform})
            })
            .collect();
        producer
            .call(Call::post(
                &["tenants", tenant, "devices", "bulk"],
                &json!({"devices": devices}),
            ))
            .await?;
    }
    let dead = devices.iter().filter(|device| device.is_dead).count();
    terminal.note(format!(
        "registered {} devices in {:.1} s, half iOS, half Android; {dead} of them are dead",
        devices.len(),
        began.elapsed().as_secs_f64()
    ))?;
    Ok(())
}

/// Dead devices only.
fn dead_rules(seed: u64) -> String {
    format!(
        r#"
seed = {seed}

[[rule]]
name = "dead iPhones"
match = {{ provider = "apns", share = {DEAD_SHARE} }}
action = {{ reason = "Unregistered" }}

[[rule]]
name = "dead Androids"
match = {{ provider = "fcm", share = {DEAD_SHARE} }}
action = {{ reason = "UNREGISTERED" }}
"#
    )
}

/// What the providers do wrong, for a few seconds.
fn rules(seed: u64) -> String {
    dead_rules(seed)
        + r#"
[[rule]]
name = "a server goes away"
match = { provider = "apns", every = 2500, until_ms = 6000 }
action = { goaway = { reason = "Shutdown" } }

[[rule]]
name = "a connection is cut"
match = { every = 6000, until_ms = 6000 }
action = { cut = true }

[[rule]]
name = "streams are refused"
match = { chance = 0.01, until_ms = 6000 }
action = { rst = "REFUSED_STREAM" }

[[rule]]
name = "APNs is overloaded"
match = { provider = "apns", chance = 0.01, until_ms = 6000 }
action = { reason = "ServiceUnavailable" }

[[rule]]
name = "one device gets too much"
match = { provider = "apns", chance = 0.01, until_ms = 6000 }
action = { reason = "TooManyRequests" }

[[rule]]
name = "FCM fails"
match = { provider = "fcm", chance = 0.01, until_ms = 6000 }
action = { reason = "INTERNAL" }

[[rule]]
name = "FCM throttles"
match = { provider = "fcm", every = 4000, until_ms = 6000 }
action = { reason = "QUOTA_EXCEEDED" }

[[rule]]
name = "an answer is lost"
match = { every = 5000, until_ms = 6000 }
action = { rst = "INTERNAL_ERROR", accept = true }
"#
}
