//! By which credential, and to which of a provider's hosts, pushes of a tenant go.
//! It must not know how credentials are stored or sealed.

use std::fmt;
use std::sync::Arc;

use super::{apns, fcm};
use crate::model::{Environment, TenantId};

/// A provider credential, parsed and verified.
#[derive(Clone, Debug)]
pub enum Credential {
    /// APNs: signing key or certificate.
    Apns(Arc<apns::Credential>),
    /// FCM: service account.
    Fcm(Arc<fcm::Credential>),
}

impl Credential {
    /// Distinguishes credentials by what they prove, not by the names they carry.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        match self {
            Self::Apns(credential) => credential.identity(),
            Self::Fcm(credential) => credential.identity(),
        }
    }
}

/// The way of a tenant's pushes to one provider and environment. Kept and shared by the caller, one per tenant,
/// provider, environment and version of the credential.
#[derive(Clone, Debug)]
pub struct Route {
    /// Whose pushes.
    pub tenant: TenantId,
    /// What authorises them.
    pub credential: Credential,
    /// Which of Apple's hosts; production for FCM.
    pub environment: Environment,
    /// The tenant's bundle id: the default topic.
    pub bundle_id: Option<Arc<str>>,
}

impl Route {
    /// What pools, provider tokens and windows are keyed by.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        RouteKey {
            tenant: self.tenant.clone(),
            environment: self.environment,
            identity: self.credential.identity(),
        }
    }
}

/// (tenant, environment, identity of the credential). The identity is a digest over the key material and the names
/// that go with it: team and key ids are public strings and prove nothing alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which of Apple's hosts; production for FCM.
    pub environment: Environment,
    /// See [`Credential::identity`].
    pub identity: [u8; 32],
}

impl fmt::Debug for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.identity;
        write!(
            f,
            "{}/{}/{a:02x}{b:02x}{c:02x}{d:02x}",
            self.tenant,
            self.environment.as_str()
        )
    }
}
