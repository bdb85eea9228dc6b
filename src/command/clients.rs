//! `clarion client …`: credentials of applications on devices: client ids with their secrets, and the secrets of the IBM Push
//! face. Over the API. It must not know how the server compares them.

use clap::{Args, Subcommand, ValueEnum};
use clarion_auth::ClientId;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Call;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::render;
use super::tenant::print_table;
use crate::terminal::Terminal;

/// What is said with every secret.
const ONCE: &str = "this is the only time it is shown. Keep it in a secret store.";

/// `clarion client`
#[derive(Args, Debug)]
pub(crate) struct ClientCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Register a client application: at most five inside the organisation, and five outside
    Create {
        /// The customer's name
        #[arg(long)]
        name: String,
        /// Inside the organisation it gets an id and a secret, outside an id only
        #[arg(long, value_enum, default_value = "inside")]
        section: Section,
    },
    /// List the client applications, without their secrets
    List,
    /// Give a client application outside the organisation its secret, once
    AddSecret {
        /// As listed
        client_id: ClientId,
    },
    /// Delete a client application; every request with its id fails at once
    Delete {
        /// As listed
        client_id: ClientId,
    },
    /// Show which push secrets there are, make them anew, or switch what they are demanded for
    PushSecrets(PushSecrets),
}

/// For whom a client application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// A customer within the organisation
    Inside,
    /// A customer outside of it
    Outside,
}

#[derive(Args, Debug)]
struct PushSecrets {
    /// Make a new clientSecret: what mobile clients register users with
    #[arg(long)]
    rotate_client_secret: bool,
    /// Make a new appSecret: what legacy servers send with
    #[arg(long)]
    rotate_app_secret: bool,
    /// Whether appSecret is accepted
    #[arg(long, value_name = "true|false")]
    allow_app_secret: Option<bool>,
    /// Whether a registration with a user needs clientSecret
    #[arg(long, value_name = "true|false")]
    verify_client_secret: Option<bool>,
}

impl ClientCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let options = self.client;
        match self.action {
            Action::PushSecrets(secrets) => secrets.run(&options, terminal).await,
            action => action.run(&options, terminal).await,
        }
    }
}

impl Action {
    async fn run(self, options: &ClientOptions, terminal: &mut Terminal) -> Result<(), Error> {
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Person)?;
        let clients = ["tenants", tenant.as_str(), "clients"];
        let call = match &self {
            Self::Create { name, section } => {
                let section = match section {
                    Section::Inside => "inside",
                    Section::Outside => "outside",
                };
                Call::post(&clients, &json!({"name": name, "section": section}))
            }
            Self::AddSecret { client_id } => {
                let path = [clients.as_slice(), &[client_id.as_str(), "secret"]].concat();
                Call::post(&path, &json!({}))
            }
            Self::Delete { client_id } => {
                let path = [clients.as_slice(), &[client_id.as_str()]].concat();
                client.call(Call::delete(&path)).await?;
                let says = format!("deleted {client_id}: requests with it fail from now on");
                return Ok(terminal.note(says)?);
            }
            Self::List | Self::PushSecrets(_) => Call::get(&clients),
        };
        let answer = client.call(call).await?;
        if options.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        if matches!(self, Self::List) {
            let columns = [
                ("CLIENT ID", "/client_id"),
                ("NAME", "/name"),
                ("SECTION", "/section"),
                ("SECRET", "/has_secret"),
                ("CREATED", "/created_at"),
            ];
            return print_table(&columns, &answer, terminal);
        }
        for line in render::facts(&answer, &["client_id", "client_secret"]) {
            terminal.line(line)?;
        }
        if answer["client_secret"].is_string() {
            terminal.note(format!("client_secret: {ONCE}"))?;
        }
        Ok(())
    }
}

impl PushSecrets {
    async fn run(self, options: &ClientOptions, terminal: &mut Terminal) -> Result<(), Error> {
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Person)?;
        let path = ["tenants", tenant.as_str(), "push-secrets"];
        let switches = json!({
            "allow_app_secret": self.allow_app_secret,
            "verify_client_secret": self.verify_client_secret,
        });
        let has_switch = self.allow_app_secret.is_some() || self.verify_client_secret.is_some();
        let rotates = self.rotate_client_secret || self.rotate_app_secret;
        let mut answer = Value::Null;
        if rotates {
            let wish = json!({
                "client_secret": self.rotate_client_secret, "app_secret": self.rotate_app_secret,
            });
            answer = client.call(Call::post(&path, &wish)).await?;
        }
        if has_switch {
            let patched = client
                .call(Call::new(Method::PATCH, &path).json(&switches))
                .await?;
            if !rotates {
                answer = patched;
            }
        }
        if !rotates && !has_switch {
            answer = client.call(Call::get(&path)).await?;
        }
        if options.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        for line in render::facts(&answer, &["client_secret", "app_secret"]) {
            terminal.line(line)?;
        }
        if rotates {
            terminal.note(format!("{ONCE} The old one is of no use any more."))?;
        }
        Ok(())
    }
}
