//! `clarion tenant …`: tenants with their keys, credentials and limits, over the API.
//! It must not know how the server keeps them.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use clarion_auth::{KeyId, OrgId, Scope, TenantId};
use serde_json::{Map, Value, json};

use super::client::{Call, Client};
use super::error::{Error, at, invalid};
use super::options::{Caller, ClientOptions};
use super::profile::{self, Profile};
use super::{credentials, render};
use crate::terminal::Terminal;

/// Largest key file that is sent, bytes.
const KEY_FILE_MAX: u64 = 64 * 1024;

/// `clarion tenant`
#[derive(Args, Debug)]
pub(crate) struct TenantCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create a tenant: one app of an organisation
    Create(Create),
    /// List the tenants of your organisations
    List {
        /// Only those of this organisation
        #[arg(long, value_name = "ORG_ID")]
        org: Option<OrgId>,
    },
    /// Remember a tenant as the default of later commands
    Use {
        /// The tenant
        tenant_id: TenantId,
    },
    /// Delete a tenant with its devices, keys and credentials
    Delete {
        /// The tenant
        tenant_id: TenantId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Create an API key (shown once), list the keys, replace one, or delete one
    ApiKey(ApiKey),
    /// Upload, list or delete the credentials for APNs and FCM
    Credentials {
        #[command(subcommand)]
        action: credentials::Action,
    },
    /// Show or change a tenant's limits
    Limits(Limits),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("environment").args(["sandbox", "production"])))]
struct Create {
    /// Organisation that owns it
    #[arg(long, value_name = "ORG_ID")]
    org: OrgId,
    /// Bundle id of the iOS app: the default topic
    #[arg(long, value_name = "ID")]
    bundle_id: Option<String>,
    /// Apple team id (10 characters)
    #[arg(long, value_name = "TEAM", requires_all = ["key_id", "key_file"])]
    team_id: Option<String>,
    /// Id of the APNs key (10 characters)
    #[arg(long, value_name = "KEY", requires_all = ["team_id", "key_file"])]
    key_id: Option<String>,
    /// The APNs key: the .p8 file
    #[arg(long, value_name = "FILE", requires_all = ["team_id", "key_id"])]
    key_file: Option<PathBuf>,
    /// The service account for FCM: the JSON file
    #[arg(long, value_name = "FILE")]
    fcm_file: Option<PathBuf>,
    /// Device tokens belong to Apple's sandbox unless they say otherwise (the default)
    #[arg(long)]
    sandbox: bool,
    /// Device tokens belong to Apple's production environment
    #[arg(long)]
    production: bool,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("action").args(["name", "list", "delete", "rotate"])))]
struct ApiKey {
    /// The tenant; without it the default one
    tenant_id: Option<TenantId>,
    /// Name of the new key's holder, such as "backend-server"
    #[arg(long, default_value = "default")]
    name: String,
    /// What the new key may be used for: send, devices or read; repeatable, without it everything
    #[arg(long = "scope", value_name = "SCOPE", conflicts_with_all = ["list", "delete", "rotate"])]
    scopes: Vec<Scope>,
    /// Make a msk_test_ key; it has the same powers
    #[arg(long, conflicts_with_all = ["list", "delete", "rotate"])]
    test: bool,
    /// Requests a second that the new key may make
    #[arg(long, value_name = "N", conflicts_with_all = ["list", "delete", "rotate"])]
    rate: Option<u32>,
    /// Replace this key by a new one instead
    #[arg(long, value_name = "KEY_ID")]
    rotate: Option<KeyId>,
    /// How long the replaced key stays good, seconds
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "rotate",
        default_value_t = 86_400
    )]
    overlap: u32,
    /// List the keys instead
    #[arg(long)]
    list: bool,
    /// Delete a key instead; every request with it fails at once
    #[arg(long, value_name = "KEY_ID")]
    delete: Option<KeyId>,
}

#[derive(Args, Debug)]
struct Limits {
    /// The tenant; without it the default one
    tenant_id: Option<TenantId>,
    /// Recipients a second, or "default"
    #[arg(long, value_name = "N", value_parser = limit)]
    rate: Option<Value>,
    /// Recipients at once, or "default"
    #[arg(long, value_name = "N", value_parser = limit)]
    burst: Option<Value>,
    /// Recipients queued and waiting, or "default"
    #[arg(long, value_name = "N", value_parser = limit)]
    backlog: Option<Value>,
    /// Share in the round robin, or "default"
    #[arg(long, value_name = "N", value_parser = limit)]
    weight: Option<Value>,
    /// Copies after a request without an answer, 0 to 3, or "default"
    #[arg(long, value_name = "N", value_parser = limit)]
    ambiguous_retries: Option<Value>,
}

/// A number, or `default` as null.
fn limit(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(Value::Null),
        _ => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| "give a whole number or \"default\"".into()),
    }
}

impl TenantCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let options = self.client;
        match self.action {
            Action::Create(create) => create.run(&options, terminal).await,
            Action::List { org } => list(org, &options, terminal).await,
            Action::Use { tenant_id } => remember(tenant_id, terminal),
            Action::Delete { tenant_id, yes } => delete(&tenant_id, yes, &options, terminal).await,
            Action::ApiKey(key) => key.run(&options, terminal).await,
            Action::Credentials { action } => action.run(&options, terminal).await,
            Action::Limits(limits) => limits.run(&options, terminal).await,
        }
    }
}

/// The text of a small file with a key in it.
pub(super) fn read_key_file(path: &Path) -> Result<String, Error> {
    let found = std::fs::metadata(path).map_err(at(path))?;
    if found.len() > KEY_FILE_MAX {
        return Err(invalid(
            path.display().to_string(),
            "it is larger than 64 KiB: is it the key's file?",
        ));
    }
    std::fs::read_to_string(path).map_err(at(path))
}

/// The JSON of a small file with a key in it.
pub(super) fn read_json_file(path: &Path) -> Result<Value, Error> {
    serde_json::from_str(&read_key_file(path)?).map_err(|_| {
        invalid(
            path.display().to_string(),
            "it is not JSON: download it again",
        )
    })
}

impl Create {
    fn body(&self) -> Result<Value, Error> {
        let mut body = json!({"org_id": self.org, "use_sandbox": !self.production});
        let private_key = self.key_file.as_deref().map(read_key_file).transpose()?;
        let optional = [
            ("bundle_id", self.bundle_id.clone()),
            ("team_id", self.team_id.clone()),
            ("key_id", self.key_id.clone()),
            ("private_key", private_key),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = Value::from(value);
            }
        }
        if let Some(path) = &self.fcm_file {
            body["fcm"] = read_json_file(path)?;
        }
        Ok(body)
    }

    async fn run(self, options: &ClientOptions, terminal: &mut Terminal) -> Result<(), Error> {
        let body = self.body()?;
        let tenant = options
            .client(Caller::Person)?
            .call(Call::post(&["tenants"], &body))
            .await?;
        if options.json {
            return Ok(terminal.line(render::json(&tenant))?);
        }
        for line in render::facts(&tenant, &["tenant_id", "org_id", "bundle_id"]) {
            terminal.line(line)?;
        }
        let id = render::cell(&tenant["tenant_id"]);
        Ok(terminal.note(format!("make it the default: clarion tenant use {id}"))?)
    }
}

async fn list(
    org: Option<OrgId>,
    options: &ClientOptions,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let call = Call::get(&["tenants"]).query("org_id", org);
    let answer = options.client(Caller::Person)?.call(call).await?;
    if options.json {
        return Ok(terminal.line(render::json(&answer))?);
    }
    let columns = [
        ("TENANT", "/tenant_id"),
        ("ORGANISATION", "/org_id"),
        ("BUNDLE ID", "/bundle_id"),
        ("SANDBOX", "/use_sandbox"),
        ("CREATED", "/created_at"),
    ];
    print_table(&columns, &answer["tenants"], terminal)
}

/// Prints an array as a table.
pub(super) fn print_table(
    columns: &[(&str, &str)],
    rows: &Value,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    for line in render::table(columns, rows.as_array().map_or(&[], Vec::as_slice)) {
        terminal.line(line)?;
    }
    Ok(())
}

fn remember(tenant: TenantId, terminal: &mut Terminal) -> Result<(), Error> {
    let path = profile::default_path().ok_or(Error::Missing {
        what: "no home directory",
        advice: "set XDG_CONFIG_HOME, or give --tenant",
    })?;
    // What the file held before is replaced even if it cannot be read: this command is the advice for that case.
    Profile {
        tenant: Some(tenant.clone()),
    }
    .save(&path)?;
    Ok(terminal.note(format!("default tenant: {tenant} ({})", path.display()))?)
}

/// Has somebody type an id before what it names is deleted.
pub(super) fn confirm(what: &str, id: &str, terminal: &mut Terminal) -> Result<(), Error> {
    match terminal.ask(&format!("{what}? Type its id:"))? {
        Some(answer) if answer == id => Ok(()),
        Some(_) => Err(Error::Unsuccessful("nothing was deleted".into())),
        None => Err(Error::Missing {
            what: "nobody to ask",
            advice: "give --yes",
        }),
    }
}

async fn delete(
    tenant: &TenantId,
    yes: bool,
    options: &ClientOptions,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    if !yes {
        let what = format!("Delete tenant {tenant} with its devices, keys and credentials");
        confirm(&what, tenant.as_str(), terminal)?;
    }
    let answer = options
        .client(Caller::Person)?
        .call(Call::delete(&["tenants", tenant.as_str()]))
        .await?;
    if options.json {
        terminal.line(render::json(&answer))?;
    }
    Ok(terminal.note(format!("deleted tenant {tenant}"))?)
}

impl ApiKey {
    async fn run(self, options: &ClientOptions, terminal: &mut Terminal) -> Result<(), Error> {
        let tenant = options.tenant(self.tenant_id.as_ref())?;
        let client = options.client(Caller::Person)?;
        let path = ["tenants", tenant.as_str(), "api-keys"];
        if self.list {
            let keys = client.call(Call::get(&path)).await?;
            if options.json {
                return Ok(terminal.line(render::json(&keys))?);
            }
            let columns = [
                ("KEY", "/key_id"),
                ("NAME", "/name"),
                ("CREATED", "/created_at"),
                ("LAST USED", "/last_used_at"),
                ("CALLS IN 30 DAYS", "/usage/calls"),
                ("SCOPES", "/scopes"),
                ("ENDS", "/expires_at"),
            ];
            return print_table(&columns, &keys, terminal);
        }
        if let Some(key_id) = self.delete {
            let key_id = key_id.to_string();
            client
                .call(Call::delete(&[
                    "tenants",
                    tenant.as_str(),
                    "api-keys",
                    &key_id,
                ]))
                .await?;
            return Ok(terminal.note(format!(
                "deleted {key_id}: requests with it fail from now on"
            ))?);
        }
        let answer = self.make(&client, &tenant).await?;
        if options.json {
            terminal.line(render::json(&answer))?;
        } else {
            terminal.line(render::cell(&answer["key"]))?;
        }
        let key_id = render::cell(&answer["key_id"]);
        Ok(terminal.note(format!(
            "{key_id} of tenant {tenant}: this is the only time the key is shown. Keep it in a \
             secret store;\nuse it as CLARION_API_KEY or in the header X-API-Key."
        ))?)
    }
}

impl ApiKey {
    /// Makes a key, or one in place of another.
    async fn make(&self, client: &Client, tenant: &TenantId) -> Result<Value, Error> {
        let path = ["tenants", tenant.as_str(), "api-keys"];
        if let Some(old) = self.rotate {
            let old = old.to_string();
            let path = [path[0], path[1], path[2], &old, "rotate"];
            let body = json!({"overlap_seconds": self.overlap});
            return client.call(Call::post(&path, &body)).await;
        }
        let mut body = json!({"name": self.name});
        if !self.scopes.is_empty() {
            body["scopes"] = json!(self.scopes);
        }
        if self.test {
            body["test"] = json!(true);
        }
        if let Some(rate) = self.rate {
            body["rate_per_second"] = json!(rate);
        }
        client.call(Call::post(&path, &body)).await
    }
}

impl Limits {
    fn patch(&self) -> Value {
        let limits = [
            ("rate", &self.rate),
            ("burst", &self.burst),
            ("backlog", &self.backlog),
            ("weight", &self.weight),
            ("ambiguous_retries", &self.ambiguous_retries),
        ];
        let given = limits
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.clone()?)));
        Value::Object(given.collect::<Map<_, _>>())
    }

    async fn run(self, options: &ClientOptions, terminal: &mut Terminal) -> Result<(), Error> {
        let tenant = options.tenant(self.tenant_id.as_ref())?;
        let client = options.client(Caller::Person)?;
        let path = ["tenants", tenant.as_str()];
        let patch = self.patch();
        let is_empty = patch.as_object().is_none_or(Map::is_empty);
        let call = if is_empty {
            Call::get(&path)
        } else {
            Call::new(reqwest::Method::PATCH, &path).json(&json!({"limits": patch}))
        };
        let answer = client.call(call).await?;
        if options.json {
            return Ok(terminal.line(render::json(&answer["limits"]))?);
        }
        let limits = answer["limits"].as_object().into_iter().flatten();
        let named = |(name, value): (&String, &Value)| {
            let value = if value.is_null() {
                "default".into()
            } else {
                value.clone()
            };
            (name.clone(), value)
        };
        for line in render::facts(
            &Value::Object(limits.map(named).collect()),
            &["rate", "burst"],
        ) {
            terminal.line(line)?;
        }
        Ok(())
    }
}
