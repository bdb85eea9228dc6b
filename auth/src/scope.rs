//! What a tenant's API key was made for, and what a service ID is granted.
//! Knows nothing of which operation needs which.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;

/// One of the things that an API key may be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send notifications.
    Send,
    /// Register, read and unregister devices.
    Devices,
    /// Read status, failures and analytics.
    Read,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Send, Self::Devices, Self::Read];

    /// Its name: `send`, `devices` or `read`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Devices => "devices",
            Self::Read => "read",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Send => 1,
            Self::Devices => 2,
            Self::Read => 4,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is send, devices or read")]
pub struct ScopeError;

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or(ScopeError)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything that an API key can do.
    pub const ALL: Self = Self(7);

    /// Whether it holds this one.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.contains(*scope))
    }

    /// As it is stored: the sum of 1 (send), 2 (devices) and 4 (read).
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// What was stored; `None` for a number that no set of known scopes has.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits == 0 || bits > Self::ALL.0 {
            return None;
        }
        Some(Self(bits))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// An IAM role on a tenant. Ordered: each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IamRole {
    /// Reads.
    Reader,
    /// Also registers and sends.
    Writer,
    /// Also deletes, and changes provider settings.
    Manager,
}

impl IamRole {
    /// All roles, weakest first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Writer, Self::Manager];

    /// Its name: `Reader`, `Writer` or `Manager`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "Reader",
            Self::Writer => "Writer",
            Self::Manager => "Manager",
        }
    }
}

impl fmt::Display for IamRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not an IAM role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IAM role is Reader, Writer or Manager")]
pub struct IamRoleError;

impl FromStr for IamRole {
    type Err = IamRoleError;

    /// Without regard to case.
    fn from_str(text: &str) -> Result<Self, IamRoleError> {
        let mut roles = Self::ALL.into_iter();
        let found = roles.find(|role| role.as_str().eq_ignore_ascii_case(text));
        found.ok_or(IamRoleError)
    }
}

/// What a service ID may do on the tenants of its organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// On every tenant of the organisation, present and future.
    pub everywhere: Option<IamRole>,
    /// On single tenants.
    pub tenants: BTreeMap<TenantId, IamRole>,
}

impl Grants {
    /// The role on a tenant of the organisation: the stronger of both grants.
    #[must_use]
    pub fn role_on(&self, tenant: &TenantId) -> Option<IamRole> {
        self.everywhere.max(self.tenants.get(tenant).copied())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_sets_that_round_trip_through_their_number_and_json() {
        for bits in 1..=7 {
            let scopes = Scopes::from_bits(bits).unwrap();
            assert_eq!(scopes.bits(), bits);
            assert_eq!(scopes.iter().collect::<Scopes>(), scopes);
        }
        assert_eq!((Scopes::from_bits(0), Scopes::from_bits(8)), (None, None));
        assert!(
            Scope::ALL
                .into_iter()
                .all(|scope| Scopes::ALL.contains(scope))
        );
        let two: Scopes = [Scope::Read, Scope::Send].into_iter().collect();
        assert!(!two.contains(Scope::Devices) && !two.is_empty());
        assert_eq!(serde_json::to_string(&two).unwrap(), r#"["send","read"]"#);
        assert_eq!("devices".parse(), Ok(Scope::Devices));
        assert_eq!("Send".parse::<Scope>(), Err(ScopeError));
    }

    #[test]
    fn the_stronger_grant_counts() {
        let (shop, bank): (TenantId, TenantId) = ("shop".parse().unwrap(), "bank".parse().unwrap());
        let mut grants = Grants::default();
        assert_eq!(grants.role_on(&shop), None);
        grants.tenants.insert(shop.clone(), IamRole::Writer);
        assert_eq!(
            (grants.role_on(&shop), grants.role_on(&bank)),
            (Some(IamRole::Writer), None)
        );
        grants.everywhere = Some(IamRole::Reader);
        assert_eq!(grants.role_on(&shop), Some(IamRole::Writer));
        assert_eq!(grants.role_on(&bank), Some(IamRole::Reader));
        assert_eq!("manager".parse(), Ok(IamRole::Manager));
        assert_eq!("root".parse::<IamRole>(), Err(IamRoleError));
    }
}
