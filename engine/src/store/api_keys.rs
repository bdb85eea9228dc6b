//! API keys of tenants: what is stored of them, and what they were used for.
//! It must not know the keys themselves, nor what a scope allows.

use async_trait::async_trait;
use clarion_auth::{KeyId, Scopes, TenantId};

use super::Error;
use crate::model::Millis;

/// A day, milliseconds.
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// The day of an instant: days since 1970 in UTC.
#[must_use]
pub const fn day_of(at: Millis) -> i64 {
    at.div_euclid(DAY)
}

/// An API key as stored: never the key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its public id (eight characters).
    pub key_id: KeyId,
    /// `msk_test_` rather than `msk_live_`.
    pub is_test: bool,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// The holder's name.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Requests a second; `None` for no limit of its own.
    pub rate: Option<u32>,
    /// From when on it is good no more: set only where another has taken its place.
    pub expires_at: Option<Millis>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Millis,
    /// Coarsely, when it was last used.
    pub last_used_at: Option<Millis>,
}

impl ApiKeyRecord {
    /// Whether it is good no more.
    #[must_use]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl std::fmt::Debug for ApiKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyRecord")
            .field("tenant", &self.tenant)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Changes to a key; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyPatch {
    /// New name.
    pub name: Option<String>,
    /// New scopes.
    pub scopes: Option<Scopes>,
    /// New rate; the inner `None` takes the limit away.
    pub rate: Option<Option<u32>>,
}

impl ApiKeyPatch {
    /// The key with these changes.
    pub(super) fn applied_to(&self, mut key: ApiKeyRecord) -> ApiKeyRecord {
        if let Some(name) = &self.name {
            key.name.clone_from(name);
        }
        key.scopes = self.scopes.unwrap_or(key.scopes);
        key.rate = self.rate.unwrap_or(key.rate);
        key
    }
}

/// What a key was used for since this was last noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key_id: KeyId,
    /// See [`day_of`].
    pub day: i64,
    /// The operation's name.
    pub operation: &'static str,
    /// Calls of it.
    pub calls: u64,
    /// When the last of them was.
    pub last_at: Millis,
}

/// How often a key was used for something on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which key.
    pub key_id: KeyId,
    /// See [`day_of`].
    pub day: i64,
    /// The operation's name.
    pub operation: String,
    /// Calls of it.
    pub calls: u64,
}

/// API keys of tenants.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Stores a new key.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant, [`Error::Conflict`] when the key id exists.
    async fn create_api_key(&self, key: &ApiKeyRecord) -> Result<(), Error>;

    /// The key of this public id, of any tenant that is not deleted, expired or not.
    async fn api_key(&self, key_id: &KeyId) -> Result<Option<ApiKeyRecord>, Error>;

    /// A tenant's keys, oldest first.
    async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyRecord>, Error>;

    /// Changes a key and returns it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn update_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        patch: &ApiKeyPatch,
    ) -> Result<ApiKeyRecord, Error>;

    /// Stores `new` in place of a key of the same tenant, which is good until `old_until`, or until it ends anyway if that
    /// is earlier.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown key, [`Error::Conflict`] when the new key's id exists.
    async fn rotate_api_key(
        &self,
        old: &KeyId,
        new: &ApiKeyRecord,
        old_until: Millis,
    ) -> Result<(), Error>;

    /// Deletes a key; `false` when the tenant has no such key.
    async fn delete_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        now: Millis,
    ) -> Result<bool, Error>;

    /// Notes what keys were used for (batched; keys that are gone are passed over).
    async fn note_key_uses(&self, uses: &[KeyUse]) -> Result<(), Error>;

    /// What a tenant's keys were used for since a day, by key, day and operation.
    async fn key_usage(&self, tenant: &TenantId, since: i64) -> Result<Vec<Usage>, Error>;
}
