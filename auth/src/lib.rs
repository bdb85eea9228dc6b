//! Who may call: ids, credentials, principals, permissions and the sealing of secrets.
//! Never opens a socket, a file or a database, and reads no clock: `now` is passed in.

pub mod ids;
pub mod mac;

pub use ids::{KeyId, OrgId, PrincipalId, TenantId};
pub use mac::MacKey;
