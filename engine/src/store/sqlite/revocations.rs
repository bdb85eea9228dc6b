//! Deleted API keys with SQLite: there is one process, and it knows what it deletes.
//! It must not know who caches keys.

use async_trait::async_trait;

use super::super::{Error, Revocation, Revocations};
use super::SqliteStore;

#[async_trait]
impl Revocations for SqliteStore {
    async fn revocations(&self, _tell: &(dyn Fn(Revocation) + Send + Sync)) -> Result<(), Error> {
        Ok(())
    }
}
