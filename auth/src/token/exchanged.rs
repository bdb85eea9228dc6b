//! Access tokens that were exchanged for an IAM key: the claims that IBM's client libraries read.
//! Knows nothing of keys, nor of what the holder may do: that is looked up when the token is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{AccessToken, AccessTokenError, AccessTokenIssuer};
use crate::ids::{OrgId, PrincipalId, ServiceId};
use crate::principal::Role;

/// How long an exchanged access token is good: one hour.
pub const EXCHANGED_TTL: Duration = Duration::from_secs(60 * 60);

/// What precedes a service ID in its `iam_id`.
pub const SERVICE_IAM_ID: &str = "iam-";
/// The `sub_type` of a service ID.
pub(super) const SERVICE: &str = "ServiceId";

/// For whom a key stands.
#[derive(Debug, Clone, Copy)]
pub enum Holder<'a> {
    /// A person, with its stored roles: for whoever reads the token; Clarion looks them up again.
    Person(&'a PrincipalId, &'a BTreeMap<OrgId, Role>),
    /// A service ID of an organisation.
    Service(&'a ServiceId, &'a OrgId),
}

/// What was shown for the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A key.
    ApiKey,
    /// A refresh token.
    Refresh,
}

impl Grant {
    /// As in requests and in the `grant_type` claim.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "urn:ibm:params:oauth:grant-type:apikey",
            Self::Refresh => "refresh_token",
        }
    }
}

#[derive(Serialize)]
struct Exchanged<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    orgs: Value,
    iam_id: String,
    id: String,
    realmid: &'static str,
    identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'static str>,
    account: Value,
    grant_type: &'static str,
    scope: &'static str,
    client_id: &'static str,
    acr: u8,
    amr: [&'static str; 1],
}

impl AccessTokenIssuer {
    /// An access token in exchange for a key, good from `now` (Unix milliseconds) for [`EXCHANGED_TTL`].
    ///
    /// # Errors
    /// [`AccessTokenError::TooLong`] for too many organisations.
    pub fn exchange(
        &self,
        holder: Holder<'_>,
        grant: Grant,
        now: i64,
    ) -> Result<AccessToken, AccessTokenError> {
        let iat = now.div_euclid(1000);
        let (sub, orgs, account) = match holder {
            Holder::Person(subject, orgs) => {
                (subject.as_str(), json!(orgs), json!({"valid": true}))
            }
            Holder::Service(id, org) => {
                let account = json!({"valid": true, "bss": org});
                (id.as_str(), json!({}), account)
            }
        };
        let is_service = matches!(holder, Holder::Service(..));
        let iam_id = match is_service {
            true => format!("{SERVICE_IAM_ID}{sub}"),
            false => sub.to_owned(),
        };
        self.sign(&Exchanged {
            iss: &self.issuer.iss,
            aud: &self.issuer.aud,
            sub,
            iat,
            exp: iat.saturating_add(EXCHANGED_TTL.as_secs().cast_signed()),
            orgs,
            id: iam_id.clone(),
            iam_id,
            realmid: "iam",
            identifier: sub,
            sub_type: is_service.then_some(SERVICE),
            account,
            grant_type: grant.as_str(),
            scope: "ibm openid",
            client_id: "default",
            acr: 1,
            amr: ["pwd"],
        })
    }
}
