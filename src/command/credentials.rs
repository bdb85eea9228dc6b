//! `clarion tenant credentials …`: what the providers must know of a tenant, uploaded and listed.
//! It must not show a secret again, nor look into one.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use clarion_auth::CredentialId;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Call;
use super::error::{Error, at};
use super::options::{Caller, ClientOptions};
use super::render;
use super::tenant::{print_table, read_json_file, read_key_file};
use crate::terminal::Terminal;

/// `clarion tenant credentials`
#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Upload a signing key (.p8) or a certificate (.p12 or .pem) for APNs
    Apns(Apns),
    /// Upload a service account (JSON) for FCM
    Fcm {
        /// The file from Google's console
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List them, without their secrets
    List,
    /// Delete one
    Delete {
        /// As listed
        credential_id: CredentialId,
    },
}

/// Apple's two environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Environment {
    /// api.push.apple.com
    Production,
    /// api.sandbox.push.apple.com
    Sandbox,
}

impl Environment {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("secret").args(["key_file", "certificate_file"]).required(true)))]
pub(super) struct Apns {
    /// Which of Apple's environments it is for; without it the tenant's own
    #[arg(long)]
    environment: Option<Environment>,
    /// Apple team id (10 characters)
    #[arg(long, value_name = "TEAM", requires_all = ["key_id", "key_file"])]
    team_id: Option<String>,
    /// Id of the key (10 characters)
    #[arg(long, value_name = "KEY", requires_all = ["team_id", "key_file"])]
    key_id: Option<String>,
    /// The .p8 file
    #[arg(long, value_name = "FILE", requires_all = ["team_id", "key_id"])]
    #[arg(
        required_unless_present = "certificate_file",
        conflicts_with = "certificate_file"
    )]
    key_file: Option<PathBuf>,
    /// A certificate with its key: .p12, or .pem
    #[arg(long, value_name = "FILE")]
    certificate_file: Option<PathBuf>,
    /// A file with the .p12's password
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    password_file: Option<PathBuf>,
}

impl Apns {
    fn body(&self) -> Result<Value, Error> {
        let mut body = match (&self.key_file, &self.certificate_file) {
            (Some(path), _) => {
                json!({"team_id": self.team_id, "key_id": self.key_id, "private_key": read_key_file(path)?})
            }
            (None, Some(path)) if path.extension().is_some_and(|end| end == "pem") => {
                json!({"certificate_pem": read_key_file(path)?})
            }
            (None, Some(path)) => {
                let bytes = std::fs::read(path).map_err(at(path))?;
                json!({"certificate_p12": STANDARD.encode(bytes)})
            }
            (None, None) => {
                return Err(Error::Missing {
                    what: "no key",
                    advice: "give --key-file with --team-id and --key-id, or --certificate-file",
                });
            }
        };
        if let Some(path) = &self.password_file {
            body["password"] = Value::from(read_key_file(path)?.trim_end_matches(['\r', '\n']));
        }
        if let Some(environment) = self.environment {
            body["environment"] = Value::from(environment.as_str());
        }
        Ok(body)
    }
}

impl Action {
    pub(super) async fn run(
        self,
        options: &ClientOptions,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Person)?;
        let path = |last: &'static str| vec!["tenants", tenant.as_str(), "credentials", last];
        let call = match &self {
            Self::Apns(apns) => Call::new(Method::PUT, &path("apns")).json(&apns.body()?),
            Self::Fcm { file } => {
                let account = read_json_file(file)?;
                Call::new(Method::PUT, &path("fcm")).json(&json!({"service_account": account}))
            }
            Self::List => Call::get(&["tenants", tenant.as_str(), "credentials"]),
            Self::Delete { credential_id } => {
                let path = [
                    "tenants",
                    tenant.as_str(),
                    "credentials",
                    credential_id.as_str(),
                ];
                client.call(Call::delete(&path)).await?;
                return Ok(terminal.note(format!("deleted {credential_id}"))?);
            }
        };
        let answer = client.call(call).await?;
        if options.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        if matches!(self, Self::List) {
            let columns = [
                ("CREDENTIAL", "/credential_id"),
                ("KIND", "/kind"),
                ("ENVIRONMENT", "/environment"),
                ("KNOWN AS", "/public"),
                ("CREATED", "/created_at"),
            ];
            return print_table(&columns, &answer["credentials"], terminal);
        }
        for line in render::facts(&answer, &["credential_id", "kind", "environment"]) {
            terminal.line(line)?;
        }
        Ok(())
    }
}
