//! Who a caller turned out to be, once its credential was verified.
//! Knows nothing of how credentials are carried, verified or stored, nor of what a caller may do.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api_key::ApiKeyKind;
use crate::ids::{KeyId, OrgId, PrincipalId, TenantId};

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
///
/// Later credentials (a client id with its secret, IAM tokens) become variants here and columns of the
/// table in [`crate::permission`].
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
    },
    /// A person, or a tool acting for one, that holds an access token.
    Person {
        /// The `sub` claim.
        subject: PrincipalId,
        /// Role in each of its organisations.
        orgs: BTreeMap<OrgId, Role>,
    },
}

impl Principal {
    /// The role in an organisation; `None` for strangers, and for keys, which have no roles.
    #[must_use]
    pub fn role_in(&self, org: &OrgId) -> Option<Role> {
        match self {
            Self::TenantKey { .. } => None,
            Self::Person { orgs, .. } => orgs.get(org).copied(),
        }
    }

    /// The strongest role in any organisation.
    #[must_use]
    pub fn strongest_role(&self) -> Option<Role> {
        match self {
            Self::TenantKey { .. } => None,
            Self::Person { orgs, .. } => orgs.values().copied().max(),
        }
    }
}

/// For audit records: `key_Ab3dEf9z` or the person's subject.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TenantKey { key_id, .. } => key_id.fmt(f),
            Self::Person { subject, .. } => subject.fmt(f),
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
        };
        assert_eq!((key.role_in(&acme), key.strongest_role()), (None, None));
        assert_eq!(key.to_string(), "key_Ab3dEf9z");
    }
}
