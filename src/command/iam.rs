//! `clarion service-id …` and `clarion key …`: service IDs with their grants, and IAM keys, over the API.
//! It must not know how a key is exchanged for an access token.

use std::str::FromStr;

use clap::{Args, Subcommand};
use clarion_auth::{IamKeyId, IamRole, OrgId, ServiceId, TenantId};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Call;
use super::error::Error;
use super::options::{Caller, ClientOptions};
use super::render;
use super::tenant::{confirm, print_table};
use crate::terminal::Terminal;

/// What precedes a service ID where an identity is named.
const IAM_PREFIX: &str = "iam-";

/// `clarion service-id`
#[derive(Args, Debug)]
pub(crate) struct ServiceIdCommand {
    #[command(subcommand)]
    action: ServiceAction,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum ServiceAction {
    /// Create a service ID: a service that holds keys of its own
    Create {
        /// The organisation that it belongs to
        #[arg(long, value_name = "ORG_ID")]
        org: OrgId,
        /// What people call it
        #[arg(long)]
        name: String,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// A tenant, or all of them, and the role there: Reader, Writer or Manager; repeatable
        #[arg(long = "grant", value_name = "TENANT_ID|all=ROLE")]
        grants: Vec<Granted>,
    },
    /// List the service IDs of an organisation
    List {
        /// The organisation
        #[arg(long, value_name = "ORG_ID")]
        org: OrgId,
    },
    /// Replace what a service ID is granted; without --grant, with nothing
    Grant {
        /// The service ID
        id: ServiceId,
        /// A tenant, or all of them, and the role there; repeatable
        #[arg(long = "grant", value_name = "TENANT_ID|all=ROLE")]
        grants: Vec<Granted>,
    },
    /// Delete a service ID with its keys
    Delete {
        /// The service ID
        id: ServiceId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A role on a tenant, or on all tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    tenant: Option<TenantId>,
    role: IamRole,
}

impl FromStr for Granted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, role) = text
            .split_once('=')
            .ok_or("write it as TENANT_ID=Writer or all=Reader")?;
        let tenant = match tenant {
            "all" => None,
            id => Some(id.parse().map_err(|error| format!("{error}"))?),
        };
        let role = role.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { tenant, role })
    }
}

fn grants(granted: &[Granted]) -> Value {
    let one = |grant: &Granted| json!({"tenant_id": grant.tenant, "role": grant.role});
    granted.iter().map(one).collect()
}

impl ServiceIdCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        if let ServiceAction::Delete { id, yes: false } = &self.action {
            confirm(&format!("Delete {id} with its keys"), id.as_str(), terminal)?;
        }
        let client = self.client.client(Caller::Person)?;
        let answer = client.call(self.action.call()).await?;
        if self.client.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        match self.action {
            ServiceAction::Create { .. } => {
                terminal.line(render::cell(&answer["id"]))?;
                let next = "created; give it a key with `clarion key create --service-id`";
                Ok(terminal.note(next)?)
            }
            ServiceAction::List { .. } => {
                let columns = [("ID", "/id"), ("CREATED", "/created_at"), ("NAME", "/name")];
                print_table(&columns, &answer["serviceids"], terminal)
            }
            ServiceAction::Grant { id, .. } => {
                Ok(terminal.note(format!("{id} may do that from now on, and nothing else"))?)
            }
            ServiceAction::Delete { id, .. } => Ok(terminal.note(format!("deleted {id}"))?),
        }
    }
}

impl ServiceAction {
    fn call(&self) -> Call<'_> {
        const PATH: [&str; 2] = ["v1", "serviceids"];
        match self {
            Self::Create {
                org,
                name,
                description,
                grants: granted,
            } => {
                let body = json!({
                    "account_id": org, "name": name, "description": description, "grants": grants(granted),
                });
                Call::post(&PATH, &body)
            }
            Self::List { org } => Call::get(&PATH).query("account_id", Some(org)),
            Self::Grant {
                id,
                grants: granted,
            } => Call::new(Method::PUT, &[PATH[0], PATH[1], id.as_str()])
                .json(&json!({"grants": grants(granted)}))
                .if_match_any(),
            Self::Delete { id, .. } => Call::delete(&[PATH[0], PATH[1], id.as_str()]),
        }
    }
}

/// `clarion key`
#[derive(Args, Debug)]
pub(crate) struct KeyCommand {
    #[command(subcommand)]
    action: KeyAction,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand, Debug)]
enum KeyAction {
    /// Create an IAM key, of your own or of a service ID; it is shown once
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// The service ID that it stands for; without it, you
        #[arg(long, value_name = "ID")]
        service_id: Option<ServiceId>,
        /// From when on it is good no more, as in 2030-01-31T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List your keys, or those of a service ID
    List {
        /// The service ID
        #[arg(long, value_name = "ID")]
        service_id: Option<ServiceId>,
    },
    /// Delete a key; access tokens that it was exchanged for live to their end
    Delete {
        /// The key's id
        id: IamKeyId,
    },
    /// Keep a key from being changed or deleted
    Lock {
        /// The key's id
        id: IamKeyId,
    },
    /// Undo a lock
    Unlock {
        /// The key's id
        id: IamKeyId,
    },
    /// Keep a key from being used
    Disable {
        /// The key's id
        id: IamKeyId,
    },
    /// Undo a disable
    Enable {
        /// The key's id
        id: IamKeyId,
    },
}

impl KeyCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let client = self.client.client(Caller::Person)?;
        let named = match &self.action {
            KeyAction::Create { service_id, .. } | KeyAction::List { service_id } => {
                service_id.as_ref()
            }
            _ => None,
        };
        let iam_id = named.map(|id| format!("{IAM_PREFIX}{id}"));
        let answer = client.call(self.action.call(iam_id)).await?;
        if self.client.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        match self.action {
            KeyAction::Create { .. } => {
                terminal.line(render::cell(&answer["apikey"]))?;
                let id = render::cell(&answer["id"]);
                Ok(terminal.note(format!(
                    "{id}: this is the only time the key is shown. Keep it in a secret store;\nexchange it \
                     for an access token at /identity/token."
                ))?)
            }
            KeyAction::List { .. } => {
                let columns = [
                    ("ID", "/id"),
                    ("CREATED", "/created_at"),
                    ("LOCKED", "/locked"),
                    ("DISABLED", "/disabled"),
                    ("EXPIRES", "/expires_at"),
                    ("NAME", "/name"),
                ];
                print_table(&columns, &answer["apikeys"], terminal)
            }
            KeyAction::Delete { id } => {
                Ok(terminal.note(format!("deleted {id}: it is exchanged no more"))?)
            }
            KeyAction::Lock { id } => Ok(terminal.note(format!("locked {id}"))?),
            KeyAction::Unlock { id } => Ok(terminal.note(format!("unlocked {id}"))?),
            KeyAction::Disable { id } => Ok(terminal.note(format!("disabled {id}"))?),
            KeyAction::Enable { id } => Ok(terminal.note(format!("enabled {id}"))?),
        }
    }
}

impl KeyAction {
    fn call(&self, iam_id: Option<String>) -> Call<'_> {
        const PATH: [&str; 2] = ["v1", "apikeys"];
        let (method, id, end) = match self {
            Self::Create {
                name,
                description,
                expires_at,
                ..
            } => {
                let body = json!({
                    "name": name, "description": description, "iam_id": iam_id, "expires_at": expires_at,
                });
                return Call::post(&PATH, &body);
            }
            Self::List { .. } => return Call::get(&PATH).query("iam_id", iam_id),
            Self::Delete { id } => (Method::DELETE, id, ""),
            Self::Lock { id } => (Method::POST, id, "lock"),
            Self::Unlock { id } => (Method::DELETE, id, "lock"),
            Self::Disable { id } => (Method::POST, id, "disable"),
            Self::Enable { id } => (Method::DELETE, id, "disable"),
        };
        let path = [PATH[0], PATH[1], id.as_str(), end];
        let used = if end.is_empty() {
            &path[..3]
        } else {
            &path[..]
        };
        Call::new(method, used)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_written_as_tenant_and_role() {
        let one: Granted = "shop=writer".parse().unwrap();
        assert_eq!(
            (one.tenant.unwrap().as_str(), one.role),
            ("shop", IamRole::Writer)
        );
        let all: Granted = "all=Reader".parse().unwrap();
        assert_eq!((all.tenant, all.role), (None, IamRole::Reader));
        for bad in ["shop", "=Reader", "shop=", "shop=root", "a b=Reader"] {
            assert!(bad.parse::<Granted>().is_err(), "{bad}");
        }
    }
}
