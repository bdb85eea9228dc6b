//! Who a caller turned out to be, once its credential was verified.
//! Knows nothing of how credentials are carried, verified or stored, nor of what a caller may do.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api_key::ApiKeyKind;
use crate::ids::{ClientId, KeyId, OrgId, PrincipalId, ServiceId, TenantId};
use crate::scope::{Grants, Scopes};

/// A person's role in an organisation. Ordered: each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends to existing tenants and reads.
    Member,
    /// Also creates, changes and deletes tenants, keys and credentials.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// All roles, weakest first.
    pub const ALL: [Self; 3] = [Self::Member, Self::Admin, Self::Owner];

    /// The role as in the `orgs` claim.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is owner, admin or member")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(RoleError)
    }
}

/// The verified caller of a request. Holds no secret, so it may be logged and cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A backend that holds an API key of one tenant.
    TenantKey {
        /// The only tenant it may touch.
        tenant: TenantId,
        /// Which key it showed.
        key_id: KeyId,
        /// Live or test, as stored.
        kind: ApiKeyKind,
        /// What the key was made for.
        scopes: Scopes,
    },
    /// A person, or a tool acting for one, that holds an access token.
    Person {
        /// The `sub` claim.
        subject: PrincipalId,
        /// Role in each of its organisations.
        orgs: BTreeMap<OrgId, Role>,
    },
    /// A service that exchanged an IAM key for an access token.
    ServiceId {
        /// Which.
        id: ServiceId,
        /// The organisation that it belongs to, and whose tenants it may be granted.
        org: OrgId,
        /// What it may do there.
        grants: Grants,
    },
    /// An app of end users: it registers their devices and sends nothing.
    ClientApp {
        /// The only tenant it may touch.
        tenant: TenantId,
        /// The registered application; `None` for whoever showed the tenant's `clientSecret`.
        client_id: Option<ClientId>,
        /// Whether it showed a secret.
        is_proven: bool,
    },
    /// Whoever holds a tenant's `appSecret`, the IBM Push face's credential of old.
    AppSecret {
        /// The only tenant it may touch.
        tenant: TenantId,
    },
    /// Whoever knows the unguessable application id in a path of the IBM Push face, and showed nothing else.
    AppId {
        /// The tenant of that id.
        tenant: TenantId,
    },
}

/// What kind of credential a caller showed: the columns of the permission table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialType {
    /// A tenant's API key.
    TenantKey,
    /// A person's access token.
    Person,
    /// A service ID's access token.
    ServiceId,
    /// A client application's id and secret, or a tenant's `clientSecret`.
    ClientApp,
    /// A tenant's `appSecret`.
    AppSecret,
    /// Nothing but an application id.
    AppId,
}

impl CredentialType {
    /// All types.
    pub const ALL: [Self; 6] = [
        Self::TenantKey,
        Self::Person,
        Self::ServiceId,
        Self::ClientApp,
        Self::AppSecret,
        Self::AppId,
    ];

    /// Its name in the audit log: lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantKey => "api_key",
            Self::Person => "access_token",
            Self::ServiceId => "service_id",
            Self::ClientApp => "client",
            Self::AppSecret => "app_secret",
            Self::AppId => "app_id",
        }
    }
}

impl Principal {
    /// The kind of credential that was shown.
    #[must_use]
    pub const fn credential(&self) -> CredentialType {
        match self {
            Self::TenantKey { .. } => CredentialType::TenantKey,
            Self::Person { .. } => CredentialType::Person,
            Self::ServiceId { .. } => CredentialType::ServiceId,
            Self::ClientApp { .. } => CredentialType::ClientApp,
            Self::AppSecret { .. } => CredentialType::AppSecret,
            Self::AppId { .. } => CredentialType::AppId,
        }
    }

    /// The one tenant that the credential belongs to; `None` where organisations decide.
    #[must_use]
    pub const fn own_tenant(&self) -> Option<&TenantId> {
        match self {
            Self::TenantKey { tenant, .. }
            | Self::ClientApp { tenant, .. }
            | Self::AppSecret { tenant }
            | Self::AppId { tenant } => Some(tenant),
            Self::Person { .. } | Self::ServiceId { .. } => None,
        }
    }

    /// A person's role in an organisation; `None` for strangers and for everything that is no person.
    #[must_use]
    pub fn role_in(&self, org: &OrgId) -> Option<Role> {
        match self {
            Self::Person { orgs, .. } => orgs.get(org).copied(),
            _ => None,
        }
    }

    /// A person's strongest role in any organisation.
    #[must_use]
    pub fn strongest_role(&self) -> Option<Role> {
        match self {
            Self::Person { orgs, .. } => orgs.values().copied().max(),
            _ => None,
        }
    }

    /// The person's subject; `None` for everything that is no person.
    #[must_use]
    pub const fn subject(&self) -> Option<&PrincipalId> {
        match self {
            Self::Person { subject, .. } => Some(subject),
            _ => None,
        }
    }
}

/// For audit records: `key_Ab3dEf9z`, a person's subject, a service's or a client's id; of the rest, its kind.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TenantKey { key_id, .. } => key_id.fmt(f),
            Self::Person { subject, .. } => subject.fmt(f),
            Self::ServiceId { id, .. } => id.fmt(f),
            Self::ClientApp {
                client_id: Some(client_id),
                ..
            } => client_id.fmt(f),
            other => f.pad(other.credential().as_str()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_the_weaker_ones_and_are_named_as_in_the_claim() {
        assert!(Role::Owner > Role::Admin && Role::Admin > Role::Member);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!("root".parse::<Role>(), Err(RoleError));
    }

    #[test]
    fn a_person_has_the_role_of_each_organisation_and_a_key_has_none() {
        let acme: OrgId = "acme".parse().unwrap();
        let other: OrgId = "other".parse().unwrap();
        let ada = Principal::Person {
            subject: "ada@example.com".parse().unwrap(),
            orgs: BTreeMap::from([(acme.clone(), Role::Admin)]),
        };
        assert_eq!(
            (ada.role_in(&acme), ada.role_in(&other)),
            (Some(Role::Admin), None)
        );
        assert_eq!(ada.strongest_role(), Some(Role::Admin));
        assert_eq!(ada.to_string(), "ada@example.com");

        let key = Principal::TenantKey {
            tenant: "shop".parse().unwrap(),
            key_id: "Ab3dEf9z".parse().unwrap(),
            kind: ApiKeyKind::Live,
            scopes: Scopes::ALL,
        };
        assert_eq!((key.role_in(&acme), key.strongest_role()), (None, None));
        assert_eq!(key.to_string(), "key_Ab3dEf9z");
        assert_eq!(key.own_tenant().map(TenantId::as_str), Some("shop"));
        assert_eq!((ada.own_tenant(), key.subject()), (None, None));
    }
}
