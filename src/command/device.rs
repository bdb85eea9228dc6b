//! `clarion device …`: registers, lists and removes devices over the API.
//! It must not know how devices are stored.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use clarion_auth::TenantId;
use clarion_engine::limits::REGISTRATIONS_MAX;
use serde_json::{Value, json};

use super::chunks::{Lines, Pieces};
use super::client::{Call, Client};
use super::credentials::Environment;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::pages::{List, Pages};
use super::push::Platform;
use super::records::{Csv, json_record};
use super::render;
use crate::terminal::Terminal;

/// `clarion device`
#[derive(Args, Debug)]
pub(crate) struct DeviceCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Register a device, or many from a file
    Register(Register),
    /// List the devices of a user
    List {
        /// The user; without it all devices, page by page
        #[arg(long, value_name = "USER_ID")]
        user: Option<String>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show the tags that a device subscribes to, or set them
    Tag {
        /// The user it belongs to
        #[arg(long, value_name = "USER_ID")]
        user: String,
        /// Its device token
        #[arg(long = "token", value_name = "TOKEN")]
        device_token: String,
        /// The tags from now on, separated by commas; "" for none. Without it they are shown
        #[arg(long, value_name = "TAGS")]
        set: Option<String>,
    },
    /// Remove a device
    Unregister {
        /// The user it belongs to
        #[arg(long, value_name = "USER_ID")]
        user: String,
        /// Its device token
        #[arg(long = "token", value_name = "TOKEN")]
        device_token: String,
    },
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["user", "file"]).required(true)))]
struct Register {
    /// The user it belongs to from now on
    #[arg(long, value_name = "USER_ID", requires = "device_token")]
    user: Option<String>,
    /// Its device token
    #[arg(long = "token", value_name = "TOKEN", requires = "user")]
    device_token: Option<String>,
    /// Decides the provider
    #[arg(long, default_value = "ios")]
    platform: Platform,
    /// Apple's environment; without it the tenant's own
    #[arg(long)]
    environment: Option<Environment>,
    /// The app's version
    #[arg(long = "version", value_name = "VERSION")]
    app_version: Option<String>,
    /// The tags that it subscribes to from now on, separated by commas; without it those that it has
    #[arg(long, value_name = "TAGS")]
    tags: Option<String>,
    /// CSV with a heading (user_id,token,platform and optionally environment,app_version), or NDJSON with the same
    /// names; "-" is standard input
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["device_token", "environment", "app_version", "tags"])]
    file: Option<PathBuf>,
    /// Form of the file; without it by the file's ending
    #[arg(long, requires = "file")]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Values separated by commas
    Csv,
    /// A JSON object a line
    Ndjson,
}

/// What is printed of a device.
const COLUMNS: [(&str, &str); 6] = [
    ("USER", "/user_id"),
    ("PLATFORM", "/platform"),
    ("ENVIRONMENT", "/environment"),
    ("VERSION", "/app_version"),
    ("UPDATED", "/updated_at"),
    ("DEVICE TOKEN", "/token"),
];

impl DeviceCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let options = self.client;
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Tenant)?;
        match self.action {
            Action::Register(register) => {
                register.run(&client, &tenant, options.json, terminal).await
            }
            Action::List { user, pages } => {
                let list = List {
                    path: &["tenants", tenant.as_str(), "devices"],
                    filters: vec![("user_id", user)],
                    rows: "devices",
                    columns: &COLUMNS,
                };
                pages.print(&list, &client, options.json, terminal).await
            }
            Action::Tag {
                user,
                device_token,
                set,
            } => {
                let path = ["tenants", tenant.as_str(), "devices", &device_token, "tags"];
                let call = match set {
                    Some(tags) => Call::put(&path, &json!({"tags": listed(&tags)})),
                    None => Call::get(&path),
                };
                let answer = client.call(call.query("user_id", Some(user))).await?;
                if options.json {
                    return Ok(terminal.line(render::json(&answer))?);
                }
                for tag in answer["tags"].as_array().into_iter().flatten() {
                    terminal.line(render::cell(tag))?;
                }
                Ok(())
            }
            Action::Unregister { user, device_token } => {
                let path = ["tenants", tenant.as_str(), "devices", &device_token];
                client
                    .call(Call::delete(&path).query("user_id", Some(user)))
                    .await?;
                Ok(terminal.note("removed")?)
            }
        }
    }
}

/// What stands between commas.
fn listed(text: &str) -> Vec<&str> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).collect()
}

impl Register {
    async fn run(
        self,
        client: &Client,
        tenant: &TenantId,
        as_json: bool,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        if let Some(path) = &self.file {
            return self.many(path, client, tenant, terminal).await;
        }
        let mut body = json!({
            "user_id": self.user, "token": self.device_token,
            "platform": self.platform.as_str(), "app_version": self.app_version,
        });
        if let Some(environment) = self.environment {
            body["environment"] = Value::from(environment.as_str());
        }
        if let Some(tags) = &self.tags {
            body["tags"] = json!(listed(tags));
        }
        let device = client
            .call(Call::post(&["tenants", tenant.as_str(), "devices"], &body))
            .await?;
        if as_json {
            return Ok(terminal.line(render::json(&device))?);
        }
        let (user, platform) = (
            render::cell(&device["user_id"]),
            render::cell(&device["platform"]),
        );
        Ok(terminal.note(format!("registered a device of {user} ({platform})"))?)
    }

    fn format(&self, path: &Path) -> Result<Format, Error> {
        let by_ending = match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Some(Format::Csv),
            Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
            _ => None,
        };
        self.format.or(by_ending).ok_or(Error::Missing {
            what: "the form of the file is not known",
            advice: "give --format csv or --format ndjson",
        })
    }

    async fn many(
        &self,
        path: &Path,
        client: &Client,
        tenant: &TenantId,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let format = self.format(path)?;
        let mut lines = Lines::open(path)?;
        let mut csv = None;
        let mut pieces = Pieces::of(REGISTRATIONS_MAX);
        let mut upload = Registrations {
            client,
            tenant,
            registered: 0,
        };
        let sent = async {
            while let Some(line) = lines.next()? {
                let device = match (format, &csv) {
                    (Format::Ndjson, _) => json_record(&line, &lines.place())?,
                    (Format::Csv, Some(csv)) => Csv::record(csv, &line, &lines.place())?,
                    (Format::Csv, None) => {
                        csv = Some(Csv::heading(&line, &lines.place())?);
                        continue;
                    }
                };
                if let Some(full) = pieces.push(device) {
                    upload.send(full).await?;
                    lines
                        .bar()
                        .set_message(format!("{} registered", upload.registered));
                }
            }
            match pieces.rest() {
                Some(rest) => upload.send(rest).await,
                None => Ok(()),
            }
        };
        let sent: Result<(), Error> = sent.await;
        drop(lines);
        let advice = if sent.is_err() {
            "; the same file may be sent again: known devices stay what they are"
        } else {
            ""
        };
        terminal.note(format!("{} devices registered{advice}", upload.registered))?;
        sent
    }
}

/// Registrations on their way, piece by piece.
struct Registrations<'a> {
    client: &'a Client,
    tenant: &'a TenantId,
    registered: usize,
}

impl Registrations<'_> {
    async fn send(&mut self, devices: Vec<Value>) -> Result<(), Error> {
        let count = devices.len();
        let path = ["tenants", self.tenant.as_str(), "devices", "bulk"];
        self.client
            .call(Call::post(&path, &json!({"devices": devices})))
            .await?;
        self.registered += count;
        Ok(())
    }
}
