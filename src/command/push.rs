//! `clarion push …`: sends notifications over the API and reads what became of them.
//! It must not know queues or providers.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use clarion_auth::TenantId;
use clarion_engine::limits::BULK_ENTRIES_MAX;
use clarion_engine::model;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chunks::{Lines, Pieces};
use super::client::{Call, Client};
use super::content::Content;
use super::credentials::Environment;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::{render, status};
use crate::terminal::{Terminal, plain};

/// `clarion push`
#[derive(Args, Debug)]
pub(crate) struct PushCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Send to every device of one user, or to one device token
    Send(Send),
    /// Send to many users, or to all devices that fit
    Bulk(Bulk),
    /// Show what became of a notification so far
    Status(status::Status),
    /// List the recipients that failed, and why
    Failures(status::Failures),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("audience").args(["user", "device_token"]).required(true)))]
struct Send {
    /// The user
    #[arg(long, value_name = "USER_ID")]
    user: Option<String>,
    /// A device token, registered or not
    #[arg(long, value_name = "TOKEN", requires = "platform")]
    device_token: Option<String>,
    /// Platform of the device token
    #[arg(long)]
    platform: Option<Platform>,
    /// Apple's environment of the device token; without it the tenant's own
    #[arg(long)]
    environment: Option<Environment>,
    #[command(flatten)]
    content: Content,
    /// The same key again is the same request: it is not sent twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("audience").required(true).multiple(true)
    .args(["users", "file", "everyone", "tag", "platform", "min_version", "below_version"])))]
struct Bulk {
    /// The users, separated by commas
    #[arg(long, value_name = "USER_IDS", conflicts_with_all = ["everyone", "tag", "platform", "min_version",
        "below_version"])]
    users: Option<String>,
    /// A file with one user a line; "-" is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["users", "everyone", "tag", "platform",
        "min_version", "below_version"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    content: Content,
    /// Repeat an interrupted bulk with the key it printed: what was accepted is not sent twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Devices that fit, in place of users.
#[derive(Args, Debug, Default)]
struct Selection {
    /// All devices of the tenant
    #[arg(long, conflicts_with_all = ["tag", "platform", "min_version", "below_version"])]
    everyone: bool,
    /// Devices that subscribe to this tag; several: to any of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Devices of this platform; several: of any of them
    #[arg(long)]
    platform: Vec<Platform>,
    /// Devices whose app has this version or a later one
    #[arg(long, value_name = "VERSION")]
    min_version: Option<String>,
    /// Devices whose app has an earlier version than this
    #[arg(long, value_name = "VERSION")]
    below_version: Option<String>,
}

impl Selection {
    /// The request's `audience`, if one is described.
    fn body(&self) -> Option<Value> {
        let mut body = Map::new();
        if self.everyone {
            body.insert("everyone".into(), Value::from(true));
        }
        if !self.tag.is_empty() {
            body.insert("tags".into(), json!(self.tag));
        }
        if !self.platform.is_empty() {
            let platforms: Vec<&str> = self.platform.iter().map(|one| one.as_str()).collect();
            body.insert("platforms".into(), json!(platforms));
        }
        let versions = [("min", &self.min_version), ("below", &self.below_version)];
        let versions: Map<String, Value> = versions
            .into_iter()
            .filter_map(|(name, version)| Some((name.into(), json!(version.as_ref()?))))
            .collect();
        if !versions.is_empty() {
            body.insert("app_versions".into(), Value::Object(versions));
        }
        (!body.is_empty()).then_some(Value::Object(body))
    }
}

/// Decides the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Platform {
    /// APNs
    Ios,
    /// APNs
    Watchos,
    /// FCM
    Android,
}

impl Platform {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Watchos => "watchos",
            Self::Android => "android",
        }
    }

    pub(super) fn model(self) -> model::Platform {
        match self {
            Self::Ios => model::Platform::Ios,
            Self::Watchos => model::Platform::Watchos,
            Self::Android => model::Platform::Android,
        }
    }
}

impl PushCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        let options = self.client;
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Tenant)?;
        let sender = Sender {
            client,
            tenant,
            json: options.json,
        };
        match self.action {
            Action::Send(send) => send.run(&sender, terminal).await,
            Action::Bulk(bulk) => bulk.run(&sender, terminal, fresh_key(now)).await,
            Action::Status(status) => status.run(&sender, terminal).await,
            Action::Failures(failures) => failures.run(&sender, terminal).await,
        }
    }
}

/// The server, the tenant and how answers are printed.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) tenant: TenantId,
    pub(super) json: bool,
}

impl Send {
    fn body(&self) -> Value {
        let mut body = self.content.fields();
        if let Some(user) = &self.user {
            body.insert("user_id".into(), Value::from(user.as_str()));
        }
        if let (Some(device_token), Some(platform)) = (&self.device_token, self.platform) {
            let mut entry = json!({"platform": platform.as_str(), "token": device_token});
            if let Some(environment) = self.environment {
                entry["environment"] = Value::from(environment.as_str());
            }
            body.insert("device_tokens".into(), json!([entry]));
        }
        Value::Object(body)
    }

    async fn run(self, sender: &Sender, terminal: &mut Terminal) -> Result<(), Error> {
        let call = Call::post(&["tenants", sender.tenant.as_str(), "notify"], &self.body())
            .idempotency_key(self.idempotency_key);
        let answer = sender.client.call(call).await?;
        if sender.json {
            terminal.line(render::json(&answer))?;
        }
        if answer["success"] != Value::Bool(true) {
            let reason = answer["error"]
                .as_str()
                .unwrap_or("the server did not say why");
            return Err(Error::Unsuccessful(format!("not sent: {}", plain(reason))));
        }
        if !sender.json {
            terminal.line(render::cell(&answer["message_id"]))?;
        }
        let id = render::cell(&answer["message_id"]);
        Ok(terminal.note(format!(
            "accepted and stored; follow it with: clarion push status {id}"
        ))?)
    }
}

/// An idempotency key that nobody used before.
fn fresh_key(now: i64) -> String {
    let millis = u64::try_from(now).unwrap_or_default();
    let nanos = u32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        millis / 1_000,
        nanos,
    ))
    .to_string()
}

/// What the pieces of a bulk came to.
#[derive(Debug, Default)]
struct Sum {
    requests: usize,
    accepted: u64,
    failed: u64,
}

impl Bulk {
    async fn run(
        self,
        sender: &Sender,
        terminal: &mut Terminal,
        fresh: String,
    ) -> Result<(), Error> {
        let key = self.idempotency_key.clone().unwrap_or(fresh);
        if let Some(audience) = self.selection.body() {
            return self.select(audience, &key, sender, terminal).await;
        }
        let mut upload = Upload {
            sender,
            content: self.content.fields(),
            key: &key,
            sum: Sum::default(),
            bar: ProgressBar::hidden(),
        };
        let sent = match (&self.users, &self.file) {
            (Some(users), _) => upload.list(users, terminal).await,
            (None, Some(path)) => upload.file(Lines::open(path)?, terminal).await,
            (None, None) => Ok(()),
        };
        let Sum {
            requests,
            accepted,
            failed,
        } = upload.sum;
        if let Err(error) = sent {
            // Without an answer nobody knows whether the last piece was accepted.
            if accepted > 0 || error.is_temporary() {
                terminal.note(format!(
                    "{accepted} recipients were accepted; repeat with --idempotency-key {key}"
                ))?;
            }
            return Err(error);
        }
        if requests == 0 {
            return Err(Error::Missing {
                what: "no users",
                advice: "name at least one",
            });
        }
        let notifications = if requests == 1 {
            "notification"
        } else {
            "notifications"
        };
        terminal.note(format!(
            "{accepted} recipients accepted and stored in {requests} {notifications}"
        ))?;
        if failed > 0 {
            return Err(Error::Unsuccessful(format!(
                "{failed} recipients were not accepted: see --json"
            )));
        }
        Ok(())
    }
}

impl Bulk {
    /// One request, however many devices fit.
    async fn select(
        self,
        audience: Value,
        key: &str,
        sender: &Sender,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let mut body = self.content.fields();
        body.insert("audience".into(), audience);
        let path = ["tenants", sender.tenant.as_str(), "notify", "bulk"];
        let call = Call::post(&path, &Value::Object(body)).idempotency_key(Some(key.to_owned()));
        let answer = match sender.client.call(call).await {
            Ok(answer) => answer,
            Err(error) => {
                // Without an answer nobody knows whether it was accepted.
                if error.is_temporary() {
                    terminal.note(format!("repeat with --idempotency-key {key}"))?;
                }
                return Err(error);
            }
        };
        let id = render::cell(&answer["message_id"]);
        terminal.line(if sender.json {
            answer.to_string()
        } else {
            id.clone()
        })?;
        Ok(terminal.note(format!(
            "accepted and stored; how many devices fit tells: clarion push status {id}"
        ))?)
    }
}

/// A bulk on its way, piece by piece.
struct Upload<'a> {
    sender: &'a Sender,
    content: Map<String, Value>,
    key: &'a str,
    sum: Sum,
    /// Of the input, if it has one; out of the way while something is printed.
    bar: ProgressBar,
}

impl Upload<'_> {
    async fn list(&mut self, users: &str, terminal: &mut Terminal) -> Result<(), Error> {
        let mut pieces = Pieces::of(BULK_ENTRIES_MAX);
        for user in users
            .split(',')
            .map(str::trim)
            .filter(|user| !user.is_empty())
        {
            if let Some(full) = pieces.push(Value::from(user)) {
                self.send(full, terminal).await?;
            }
        }
        match pieces.rest() {
            Some(rest) => self.send(rest, terminal).await,
            None => Ok(()),
        }
    }

    async fn file(&mut self, mut lines: Lines, terminal: &mut Terminal) -> Result<(), Error> {
        let mut pieces = Pieces::of(BULK_ENTRIES_MAX);
        self.bar = lines.bar().clone();
        while let Some(user) = lines.next()? {
            if let Some(full) = pieces.push(Value::from(user)) {
                self.send(full, terminal).await?;
                self.bar
                    .set_message(format!("{} accepted", self.sum.accepted));
            }
        }
        match pieces.rest() {
            Some(rest) => self.send(rest, terminal).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, users: Vec<Value>, terminal: &mut Terminal) -> Result<(), Error> {
        let count = users.len() as u64;
        let mut body = self.content.clone();
        body.insert("user_ids".into(), Value::Array(users));
        self.sum.requests += 1;
        // The same input gives the same pieces, so that a repetition meets the same keys.
        let key = format!("{}-{}", self.key, self.sum.requests);
        let path = ["tenants", self.sender.tenant.as_str(), "notify", "bulk"];
        let call = Call::post(&path, &Value::Object(body)).idempotency_key(Some(key));
        let answer = self.sender.client.call(call).await?;
        let failed = answer["failed"].as_u64().unwrap_or(0);
        self.sum.accepted += answer["success"]
            .as_u64()
            .unwrap_or(count - failed.min(count));
        self.sum.failed += failed;
        let line = match self.sender.json {
            true => answer.to_string(),
            false => render::cell(&answer["results"][0]["message_id"]),
        };
        Ok(self.bar.suspend(|| terminal.line(line))?)
    }
}
