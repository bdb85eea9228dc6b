//! `clarion dead …`: a tenant's dead letters, over the operator's listener.
//! It must not know why jobs die, nor how they are sent again.

use clap::{ArgGroup, Args, Subcommand};
use clarion_auth::TenantId;
use serde_json::{Value, json};

use super::client::{Call, Client};
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::pages::{List, Pages};
use super::render;
use crate::terminal::Terminal;

/// Requests that one replay makes at most; each covers many dead letters.
const REPLAY_REQUESTS_MAX: usize = 10_000;
/// What is shown of one above what it holds.
const FACTS: [&str; 7] = [
    "id",
    "at",
    "reason",
    "path",
    "detail",
    "origin",
    "routing_key",
];

/// What is listed of a tenant's.
const COLUMNS: [(&str, &str); 7] = [
    ("ID", "/id"),
    ("DIED", "/at"),
    ("REASON", "/reason"),
    ("ORIGIN", "/origin"),
    ("RECIPIENTS", "/recipients"),
    ("REPLAYS", "/replays"),
    ("DETAIL", "/detail"),
];
/// What is listed of everybody's.
const COLUMNS_OF_ALL: [(&str, &str); 6] = [
    ("ID", "/id"),
    ("TENANT", "/tenant_id"),
    ("DIED", "/at"),
    ("REASON", "/reason"),
    ("ROUTING KEY", "/routing_key"),
    ("DETAIL", "/detail"),
];

/// `clarion dead`
#[derive(Args, Debug)]
pub(crate) struct DeadCommand {
    #[command(subcommand)]
    action: Action,
    /// Address of the operator's listener
    #[arg(long, global = true, env = "CLARION_ADMIN_URL", value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:9090", help_heading = "Connection")]
    admin_url: String,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List dead letters
    List {
        /// Only those with this reason
        #[arg(long)]
        reason: Option<String>,
        /// Only those that died before this instant, as in 2030-01-15T10:30:00Z
        #[arg(long, value_name = "TIME")]
        before: Option<jiff::Timestamp>,
        /// Of all tenants, and of ids that are no tenant's: for the organisation "operators"
        #[arg(long)]
        all_tenants: bool,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show one with what it holds
    Show {
        /// As listed
        id: i64,
    },
    /// Send dead letters again, at a capped rate; recipients that have a final state are not sent twice
    Replay(Selection),
    /// Delete dead letters for good
    Purge {
        #[command(flatten)]
        selection: Selection,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("which").args(["ids", "reason", "before", "all"]).required(true).multiple(true)
))]
struct Selection {
    /// Exactly these
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<i64>,
    /// Those with this reason
    #[arg(long, conflicts_with = "all")]
    reason: Option<String>,
    /// Those that died before this instant, as in 2030-01-15T10:30:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "all")]
    before: Option<jiff::Timestamp>,
    /// All of the tenant
    #[arg(long)]
    all: bool,
}

impl Selection {
    fn body(&self) -> Value {
        let mut body = json!({});
        if self.all {
            body["all"] = Value::Bool(true);
        }
        if !self.ids.is_empty() {
            body["ids"] = json!(self.ids);
        }
        if let Some(reason) = &self.reason {
            body["reason"] = Value::from(reason.as_str());
        }
        if let Some(before) = &self.before {
            body["before"] = Value::from(before.to_string());
        }
        body
    }
}

impl DeadCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let all_tenants = matches!(
            self.action,
            Action::List {
                all_tenants: true,
                ..
            }
        );
        let tenant = match all_tenants {
            true => None,
            false => Some(self.client.tenant(None)?),
        };
        let client = self
            .client
            .client_at(&self.admin_url, "--admin-url", Caller::Person)?;
        let operator = Operator {
            client,
            tenant,
            json: self.client.json,
        };
        match self.action {
            Action::List {
                reason,
                before,
                pages,
                ..
            } => {
                let before = before.map(|before| before.to_string());
                operator
                    .list(
                        vec![("reason", reason), ("before", before)],
                        pages,
                        terminal,
                    )
                    .await
            }
            Action::Show { id } => operator.show(id, terminal).await,
            Action::Replay(selection) => operator.replay(&selection, terminal).await,
            Action::Purge { selection, yes } => operator.purge(&selection, yes, terminal).await,
        }
    }
}

struct Operator {
    client: Client,
    /// `None` for all.
    tenant: Option<TenantId>,
    json: bool,
}

impl Operator {
    fn path<'a>(&'a self, last: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["operate"];
        if let Some(tenant) = &self.tenant {
            path.extend(["tenants", tenant.as_str()]);
        }
        path.push("dead");
        path.extend(last);
        path
    }

    async fn list(
        &self,
        filters: Vec<(&'static str, Option<String>)>,
        pages: Pages,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let list = List {
            path: &self.path(&[]),
            filters,
            rows: "dead",
            columns: match self.tenant {
                Some(_) => &COLUMNS,
                None => &COLUMNS_OF_ALL,
            },
        };
        pages.print(&list, &self.client, self.json, terminal).await
    }

    async fn show(&self, id: i64, terminal: &mut Terminal) -> Result<(), Error> {
        let answer = self
            .client
            .call(Call::get(&self.path(&[&id.to_string()])))
            .await?;
        if self.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        for line in render::facts(&answer["dead"], &FACTS) {
            terminal.line(line)?;
        }
        for held in [&answer["notification"], &answer["request"]] {
            if held.is_object() {
                return Ok(terminal.line(format!("\n{}", render::json(held)))?);
            }
        }
        Ok(terminal.note(
            "its bytes are no job or request of this version: --json prints them in base64",
        )?)
    }

    async fn replay(&self, selection: &Selection, terminal: &mut Terminal) -> Result<(), Error> {
        let (path, body) = (self.path(&["replay"]), selection.body());
        let (mut replayed, mut skipped) = (0, 0);
        for _ in 0..REPLAY_REQUESTS_MAX {
            let answer = self.client.call(Call::post(&path, &body)).await?;
            let now_replayed = answer["replayed"].as_u64().unwrap_or(0);
            replayed += now_replayed;
            skipped = answer["skipped"].as_u64().unwrap_or(0);
            // What cannot be replayed stays, and would be looked at again for ever.
            if answer["more"] != Value::Bool(true) || now_replayed == 0 {
                break;
            }
        }
        if self.json {
            terminal.line(render::json(
                &json!({"replayed": replayed, "skipped": skipped}),
            ))?;
        }
        Ok(terminal.note(format!(
            "{replayed} replayed, {skipped} cannot be replayed and stay"
        ))?)
    }

    async fn purge(
        &self,
        selection: &Selection,
        yes: bool,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        if !yes {
            let whose = self.tenant.as_ref().map_or("nobody", TenantId::as_str);
            let question = format!("Delete dead letters of {whose} for good? Type yes:");
            match terminal.ask(&question)?.as_deref() {
                Some("yes") => {}
                Some(_) => return Err(Error::Unsuccessful("nothing was deleted".into())),
                None => {
                    return Err(Error::Missing {
                        what: "nobody to ask",
                        advice: "give --yes",
                    });
                }
            }
        }
        let call = Call::post(&self.path(&["purge"]), &selection.body());
        let answer = self.client.call(call).await?;
        if self.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        Ok(terminal.note(format!("{} deleted", render::cell(&answer["purged"])))?)
    }
}
