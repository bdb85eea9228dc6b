//! The flags that every client command shares, and what follows from them: server, credential, tenant.
//! It must not know what a command does with them.

use clap::Args;
use clarion_auth::TenantId;

use super::client::{Client, Credential};
use super::error::{Error, invalid};
use super::profile::{self, Profile};

/// Where the server is, who asks, and which tenant is meant.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ClientOptions {
    /// Address of the API
    #[arg(
        long,
        global = true,
        env = "CLARION_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) url: String,
    /// Tenant; without it the one of `clarion tenant use`
    #[arg(long, global = true, env = "CLARION_TENANT", value_name = "TENANT_ID")]
    pub(crate) tenant: Option<String>,
    /// API key of the tenant; the variable keeps it out of the process list
    #[arg(
        long,
        global = true,
        env = "CLARION_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Option<String>,
    /// Access token of a person, from `clarion token mint`
    #[arg(
        long,
        global = true,
        env = "CLARION_TOKEN",
        value_name = "ACCESS_TOKEN",
        hide_env_values = true
    )]
    pub(crate) access_token: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("url", &self.url)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// Which credential goes first when both are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Devices and pushes: the tenant's own key.
    Tenant,
    /// Tenants, keys, credentials, limits: a person.
    Person,
}

/// A variable that is set and empty counts as not set.
fn given(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.trim().is_empty())
}

impl ClientOptions {
    /// The client for a kind of caller.
    ///
    /// # Errors
    /// Without any credential, or with an unusable one.
    pub(crate) fn client(&self, caller: Caller) -> Result<Client, Error> {
        self.client_at(&self.url, "--url", caller)
    }

    /// The same for another address, which `flag` names.
    ///
    /// # Errors
    /// See [`ClientOptions::client`].
    pub(crate) fn client_at(
        &self,
        url: &str,
        flag: &'static str,
        caller: Caller,
    ) -> Result<Client, Error> {
        let credential = self.credential(caller).ok_or(Error::Missing {
            what: "no credential",
            advice: "set CLARION_API_KEY or CLARION_TOKEN (see `clarion token mint`)",
        })?;
        Client::new(url, flag, Some(&credential))
    }

    fn credential(&self, caller: Caller) -> Option<Credential> {
        let key = given(self.api_key.as_ref())
            .cloned()
            .map(Credential::ApiKey);
        let person = given(self.access_token.as_ref())
            .cloned()
            .map(Credential::AccessToken);
        match caller {
            Caller::Tenant => key.or(person),
            Caller::Person => person.or(key),
        }
    }

    /// The tenant meant: the argument, the flag or variable, the remembered one.
    ///
    /// # Errors
    /// When there is none, or it is not an id.
    pub(crate) fn tenant(&self, argument: Option<&TenantId>) -> Result<TenantId, Error> {
        if let Some(tenant) = argument {
            return Ok(tenant.clone());
        }
        if let Some(text) = given(self.tenant.as_ref()) {
            return text
                .trim()
                .parse()
                .map_err(|error| invalid("--tenant", format!("{error}")));
        }
        let profile = Profile::load(profile::default_path().as_deref())?;
        profile.tenant.ok_or(Error::Missing {
            what: "no tenant",
            advice: "give --tenant, set CLARION_TENANT, or run `clarion tenant use TENANT_ID`",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_caller_prefers_its_own_credential() {
        let both = ClientOptions {
            api_key: Some("msk_live_x".into()),
            access_token: Some("jwt".into()),
            ..ClientOptions::default()
        };
        assert_eq!(
            both.credential(Caller::Tenant),
            Some(Credential::ApiKey("msk_live_x".into()))
        );
        assert_eq!(
            both.credential(Caller::Person),
            Some(Credential::AccessToken("jwt".into()))
        );
        let blank = ClientOptions {
            api_key: Some(" ".into()),
            ..both.clone()
        };
        assert_eq!(
            blank.credential(Caller::Tenant),
            Some(Credential::AccessToken("jwt".into()))
        );
        let none = ClientOptions::default();
        assert_eq!(
            none.client(Caller::Tenant).unwrap_err().to_string(),
            "no credential: set CLARION_API_KEY or CLARION_TOKEN (see `clarion token mint`)"
        );
        assert!(!format!("{both:?}").contains("msk_live_x"));
    }

    #[test]
    fn an_argument_goes_before_the_flag() {
        let options = ClientOptions {
            tenant: Some("flag".into()),
            ..ClientOptions::default()
        };
        assert_eq!(options.tenant(None).unwrap().as_str(), "flag");
        let argument: TenantId = "argument".parse().unwrap();
        assert_eq!(options.tenant(Some(&argument)).unwrap(), argument);
        let bad = ClientOptions {
            tenant: Some("a b".into()),
            ..ClientOptions::default()
        };
        assert!(
            bad.tenant(None)
                .unwrap_err()
                .to_string()
                .starts_with("--tenant: the tenant id has a wrong")
        );
    }
}
