//! Service IDs, IAM keys and refresh tokens.
//! It must not know the secrets themselves, nor what an access token says.

use async_trait::async_trait;
use clarion_auth::{Grants, IamKeyId, OrgId, PrincipalId, ServiceId};
use uuid::Uuid;

use super::Error;
use crate::model::Millis;

/// A service ID: a service of an organisation, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIdRecord {
    /// Its id.
    pub id: ServiceId,
    /// Whose it is.
    pub org: OrgId,
    /// What people call it; need not be unique.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub grants: Grants,
    /// Grows with every change, from 1.
    pub version: i64,
    /// Who created it.
    pub created_by: String,
    /// When.
    pub created_at: Millis,
    /// Last change.
    pub updated_at: Millis,
}

/// Whose identity an IAM key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IamOwner {
    /// A person's.
    Person(PrincipalId),
    /// A service ID's.
    Service(ServiceId),
}

impl IamOwner {
    /// The columns of an owner.
    pub(super) fn columns(&self) -> (i64, &str) {
        match self {
            Self::Person(subject) => (0, subject.as_str()),
            Self::Service(id) => (1, id.as_str()),
        }
    }

    /// The owner of these columns.
    pub(super) fn of_columns(kind: i64, owner: &str) -> Option<Self> {
        match kind {
            0 => owner.parse().ok().map(Self::Person),
            1 => owner.parse().ok().map(Self::Service),
            _ => None,
        }
    }
}

/// An IAM key as stored: never the key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct IamKeyRecord {
    /// Its public id.
    pub id: IamKeyId,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// Whose identity it stands for.
    pub owner: IamOwner,
    /// The organisation whose admins may also manage it: a service ID's; of a person's key, the one it was made in.
    pub org: Option<OrgId>,
    /// What people call it; need not be unique.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// It cannot be changed or deleted.
    pub is_locked: bool,
    /// It cannot be used.
    pub is_disabled: bool,
    /// Grows with every change, from 1.
    pub version: i64,
    /// From when on it is good no more.
    pub expires_at: Option<Millis>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Millis,
    /// Last change.
    pub updated_at: Millis,
}

impl IamKeyRecord {
    /// Whether it can be exchanged for an access token.
    #[must_use]
    pub fn is_usable(&self, now: Millis) -> bool {
        !self.is_disabled && self.expires_at.is_none_or(|at| now < at)
    }
}

impl std::fmt::Debug for IamKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IamKeyRecord")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A refresh token as stored: never the token itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// From when on it is good no more.
    pub expires_at: Millis,
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What became of a refresh token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a request, and looked at once"
)]
pub enum Refreshed {
    /// It was good, and the next one has taken its place.
    Rotated(IamKeyRecord),
    /// It is unknown or expired, or its key is gone.
    Unknown,
    /// It was used before: somebody else has it too, and its whole family is revoked.
    Reused,
}

/// Service IDs, IAM keys, refresh tokens.
#[async_trait]
pub trait Iam: Send + Sync {
    /// Stores a new service ID.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id exists.
    async fn create_service_id(&self, service: &ServiceIdRecord) -> Result<(), Error>;

    /// A service ID.
    async fn service_id(&self, id: &ServiceId) -> Result<Option<ServiceIdRecord>, Error>;

    /// The service IDs of an organisation, oldest first.
    async fn service_ids(&self, org: &OrgId) -> Result<Vec<ServiceIdRecord>, Error>;

    /// Replaces name, description and grants of a service ID whose version is one less than the record's.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another change came first or it is gone.
    async fn update_service_id(&self, service: &ServiceIdRecord) -> Result<(), Error>;

    /// Deletes a service ID with its grants and its keys; `false` when unknown.
    async fn delete_service_id(&self, id: &ServiceId) -> Result<bool, Error>;

    /// Stores a new key.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown service ID, [`Error::Conflict`] when the id or the hash exists.
    async fn create_iam_key(&self, key: &IamKeyRecord) -> Result<(), Error>;

    /// A key by its public id.
    async fn iam_key(&self, id: &IamKeyId) -> Result<Option<IamKeyRecord>, Error>;

    /// A key by the SHA-256 of its value.
    async fn iam_key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<IamKeyRecord>, Error>;

    /// The keys of an owner, oldest first.
    async fn iam_keys(&self, owner: &IamOwner) -> Result<Vec<IamKeyRecord>, Error>;

    /// Replaces name, description, lock and state of a key whose version is one less than the record's.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another change came first or it is gone.
    async fn update_iam_key(&self, key: &IamKeyRecord) -> Result<(), Error>;

    /// Deletes a key with its refresh tokens; `false` when unknown.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is locked.
    async fn delete_iam_key(&self, id: &IamKeyId) -> Result<bool, Error>;

    /// Stores the first refresh token of a family that comes from a key.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the key is gone.
    async fn begin_refresh(
        &self,
        family: Uuid,
        key: &IamKeyId,
        first: &RefreshToken,
    ) -> Result<(), Error>;

    /// Takes the refresh token of this hash and stores `next` in its place. One that was taken before revokes its family.
    async fn rotate_refresh(
        &self,
        hash: &[u8; 32],
        next: &RefreshToken,
        now: Millis,
    ) -> Result<Refreshed, Error>;
}
