//! `clarion tag …`: the catalogue of a tenant's tags over the API.
//! It must not know which devices subscribe to them.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::Call;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::pages::{List, Pages};
use super::render;
use crate::terminal::Terminal;

/// `clarion tag`
#[derive(Args, Debug)]
pub(crate) struct TagCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the tags of the tenant
    List {
        #[command(flatten)]
        pages: Pages,
    },
    /// Create a tag, or change its description
    Put {
        /// Its name
        #[arg(value_name = "TAG")]
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete a tag, with all subscriptions to it (needs an access token)
    Delete {
        /// Its name
        #[arg(value_name = "TAG")]
        name: String,
        /// Do not ask
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// What is printed of a tag.
const COLUMNS: [(&str, &str); 3] = [
    ("TAG", "/name"),
    ("UPDATED", "/updated_at"),
    ("DESCRIPTION", "/description"),
];

impl TagCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let options = self.client;
        let tenant = options.tenant(None)?;
        let client = options.client(Caller::Tenant)?;
        match self.action {
            Action::List { pages } => {
                let list = List {
                    path: &["tenants", tenant.as_str(), "tags"],
                    filters: Vec::new(),
                    rows: "tags",
                    columns: &COLUMNS,
                };
                pages.print(&list, &client, options.json, terminal).await
            }
            Action::Put { name, description } => {
                let mut body = Map::new();
                if let Some(description) = description {
                    body.insert("description".into(), Value::from(description));
                }
                let path = ["tenants", tenant.as_str(), "tags", &name];
                let tag = client.call(Call::put(&path, &Value::Object(body))).await?;
                if options.json {
                    return Ok(terminal.line(render::json(&tag))?);
                }
                Ok(terminal.note(format!("the tag {} is there", render::cell(&tag["name"])))?)
            }
            Action::Delete { name, yes: _ } => {
                let path = ["tenants", tenant.as_str(), "tags", &name];
                client.call(Call::delete(&path)).await?;
                Ok(terminal.note("deleted")?)
            }
        }
    }
}
