//! `clarion token mint`: access tokens for people, signed with the deployment's key.
//! It must not know who accepts them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use clarion_auth::principal::Role;
use clarion_auth::token::{AccessTokenIssuer, Issuer};
use clarion_auth::{OrgId, PrincipalId};

use super::error::Error;
use crate::config::{Config, Sources, parse_duration, show_duration};
use crate::keys::Keys;
use crate::terminal::Terminal;

/// `clarion token`
#[derive(Args, Debug)]
pub(crate) struct TokenCommand {
    #[command(subcommand)]
    action: Action,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is kept
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Mint an access token for a person (on the machine that holds the signing key)
    Mint(Mint),
}

#[derive(Args, Debug)]
struct Mint {
    /// Who it is for, such as a mail address
    #[arg(long)]
    subject: PrincipalId,
    /// An organisation and the role in it: owner, admin or member; repeatable
    #[arg(long = "org", value_name = "ORG_ID=ROLE", required = true)]
    memberships: Vec<Membership>,
    /// How long it is good, as in "1h"; without it auth.access_token_ttl
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "give a number and a unit, as in \"1h\"".into())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    org: OrgId,
    role: Role,
}

impl FromStr for Membership {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (org, role) = text.split_once('=').ok_or("write it as acme=admin")?;
        Ok(Self {
            org: org.parse().map_err(|error| format!("{error}"))?,
            role: role.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

impl TokenCommand {
    /// Runs it.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn run(self, terminal: &mut Terminal, now: i64) -> Result<(), Error> {
        let sources = Sources::with_data_dir(self.config.as_deref(), self.data_dir.as_deref());
        let config = Config::load(&sources)?;
        let Action::Mint(mint) = self.action;
        let issuer = Issuer {
            iss: config.auth.issuer.clone(),
            aud: config.auth.audience.clone(),
        };
        let signing_key = Keys::signing(&config)?;
        let ttl = mint.ttl.unwrap_or(config.auth.access_token_ttl);
        let orgs: BTreeMap<OrgId, Role> = mint
            .memberships
            .into_iter()
            .map(|one| (one.org, one.role))
            .collect();
        let access_token =
            AccessTokenIssuer::new(issuer, &signing_key).mint(&mint.subject, &orgs, ttl, now)?;
        terminal.line(access_token.reveal())?;
        let good_for = show_duration(ttl);
        Ok(terminal.note(format!(
            "an access token for {}, good for {good_for}; it cannot be revoked. Use it as CLARION_TOKEN.",
            mint.subject
        ))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_written_as_org_and_role() {
        let one: Membership = "acme=owner".parse().unwrap();
        assert_eq!((one.org.as_str(), one.role), ("acme", Role::Owner));
        for bad in ["acme", "=owner", "acme=", "acme=root", "a b=owner"] {
            assert!(bad.parse::<Membership>().is_err(), "{bad}");
        }
    }
}
