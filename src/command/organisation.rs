//! `clarion org …` and `clarion audit …`: organisations, their members and their audit log, over the API.
//! It must not know what a role allows.

use clap::{Args, Subcommand};
use clarion_auth::principal::Role;
use clarion_auth::{OrgId, PrincipalId};
use serde_json::json;

use super::client::Call;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::render;
use super::tenant::{confirm, print_table};
use crate::terminal::Terminal;

/// `clarion org`
#[derive(Args, Debug)]
pub(crate) struct OrgCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create an organisation, as its owner
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// Its id, for whoever's access token names its holder owner of it; without it one is made
        #[arg(long, value_name = "ORG_ID")]
        id: Option<OrgId>,
    },
    /// List your organisations
    List,
    /// List the members of an organisation
    Members {
        /// The organisation
        org_id: OrgId,
    },
    /// Add a member, or change its role; "owner" hands the organisation over
    Member {
        /// The organisation
        org_id: OrgId,
        /// The subject of the member's access tokens, such as a mail address
        user_id: PrincipalId,
        /// owner, admin or member
        #[arg(long)]
        role: Role,
    },
    /// Remove a member
    Remove {
        /// The organisation
        org_id: OrgId,
        /// The member
        user_id: PrincipalId,
    },
    /// Delete an organisation with its tenants, their keys and its service IDs
    Delete {
        /// The organisation
        org_id: OrgId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl OrgCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let options = self.client;
        if let Action::Delete { org_id, yes: false } = &self.action {
            let what =
                format!("Delete organisation {org_id} with its tenants, keys and service IDs");
            confirm(&what, org_id.as_str(), terminal)?;
        }
        let client = options.client(Caller::Person)?;
        let answer = client.call(self.action.call()).await?;
        if options.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        match self.action {
            Action::Create { .. } => {
                terminal.line(render::cell(&answer["org_id"]))?;
                Ok(terminal.note("created; you are its owner")?)
            }
            Action::List => {
                let columns = [("ORG", "/org_id"), ("ROLE", "/role"), ("NAME", "/name")];
                print_table(&columns, &answer["orgs"], terminal)
            }
            Action::Members { .. } => {
                let columns = [
                    ("MEMBER", "/user_id"),
                    ("ROLE", "/role"),
                    ("SINCE", "/added_at"),
                    ("BY", "/added_by"),
                ];
                print_table(&columns, &answer["members"], terminal)
            }
            Action::Member { user_id, role, .. } => {
                Ok(terminal.note(format!("{user_id} is {role} from now on"))?)
            }
            Action::Remove { user_id, .. } => Ok(terminal.note(format!("removed {user_id}"))?),
            Action::Delete { org_id, .. } => {
                let tenants = render::cell(&answer["tenants"]);
                Ok(terminal.note(format!("deleted {org_id} with {tenants} tenants"))?)
            }
        }
    }
}

impl Action {
    fn call(&self) -> Call<'_> {
        match self {
            Self::Create { name, id } => {
                Call::post(&["orgs"], &json!({"name": name, "org_id": id}))
            }
            Self::List => Call::get(&["orgs"]),
            Self::Members { org_id } => Call::get(&["orgs", org_id.as_str(), "members"]),
            Self::Member {
                org_id,
                user_id,
                role,
            } => Call::new(
                reqwest::Method::PUT,
                &["orgs", org_id.as_str(), "members", user_id.as_str()],
            )
            .json(&json!({"role": role})),
            Self::Remove { org_id, user_id } => {
                Call::delete(&["orgs", org_id.as_str(), "members", user_id.as_str()])
            }
            Self::Delete { org_id, .. } => Call::delete(&["orgs", org_id.as_str()]),
        }
    }
}

/// `clarion audit`
#[derive(Args, Debug)]
pub(crate) struct AuditCommand {
    /// The organisation
    org_id: OrgId,
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Only what is earlier: next_cursor of an earlier answer
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
}

impl AuditCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let client = self.client.client(Caller::Person)?;
        let call = Call::get(&["orgs", self.org_id.as_str(), "audit"])
            .query("limit", Some(self.limit))
            .query("cursor", self.cursor);
        let page = client.call(call).await?;
        if self.client.json {
            return Ok(terminal.line(render::json(&page))?);
        }
        let columns = [
            ("AT", "/at"),
            ("WHO", "/actor"),
            ("FROM", "/source"),
            ("DID", "/operation"),
            ("STATUS", "/status"),
            ("TENANT", "/tenant_id"),
            ("TO", "/target"),
        ];
        print_table(&columns, &page["entries"], terminal)?;
        match page["next_cursor"].as_str() {
            Some(cursor) => Ok(terminal.note(format!("earlier entries: --cursor {cursor}"))?),
            None => Ok(()),
        }
    }
}
