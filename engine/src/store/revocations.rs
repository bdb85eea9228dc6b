//! Deleted API keys, told to every process that may still know them.

use async_trait::async_trait;
use clarion_auth::{KeyId, TenantId};
use tokio::time::Instant;

use super::Error;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// This key was deleted or changed: what is known of it is true no more.
    Key(KeyId),
    /// This tenant was deleted, with all its keys.
    Tenant(TenantId),
    /// Every deletion that had been answered by this instant, and after the channel was opened, has been told.
    Current(Instant),
}

/// Deletions of keys, as they happen.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Tells of every deletion, whoever makes it, as long as a channel to the database stands, and several times a second
    /// how current that is. Returns `Ok` at once where no other process can delete anything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no channel or it is lost: what is deleted from then on is not told.
    async fn revocations(&self, tell: &(dyn Fn(Revocation) + Send + Sync)) -> Result<(), Error>;
}
