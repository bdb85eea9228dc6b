//! Who may call: ids, credentials, principals, permissions and the sealing of secrets.
//! Never opens a socket, a file or a database, and reads no clock: `now` is passed in.

pub mod api_key;
pub mod ids;
pub mod mac;
pub mod opaque;
pub mod operation;
pub mod permission;
pub mod principal;
pub mod scope;
pub mod seal;
pub mod token;

pub use api_key::{ApiKey, ApiKeyHash, ApiKeyKind};
pub use ids::{ClientId, CredentialId, IamKeyId, KeyId, OrgId, PrincipalId, ServiceId, TenantId};
pub use mac::MacKey;
pub use operation::{Effect, Operation};
pub use permission::{Denied, Target, authorize};
pub use principal::{CredentialType, Principal, Role};
pub use scope::{Grants, IamRole, Scope, Scopes};
pub use seal::MasterKey;
pub use token::{AccessToken, AccessTokenIssuer, AccessTokenVerifier, Verified};

/// Why the operating system's randomness or the crypto library could not serve a call.
///
/// Neither says more than that it failed; a start-up check of the machine is what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library failed ({doing}): check that the system's random source works")]
pub struct CryptoUnavailable {
    /// What was being done, as in "drawing random bytes".
    pub doing: &'static str,
}
