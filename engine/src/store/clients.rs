//! What applications on devices authenticate with: a tenant's push secrets, and registered client applications.
//! Secrets are kept as hashes only.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::Millis;

/// Client applications of a tenant in each section, at most.
pub const CLIENTS_PER_SECTION_MAX: usize = 5;

/// SHA-256 of a secret.
pub type SecretHash = [u8; 32];

/// The secrets of a tenant's push application.
#[derive(Clone, PartialEq, Eq)]
pub struct PushSecrets {
    /// What mobile clients send as `clientSecret`, and since when.
    pub client_secret: Option<(SecretHash, Millis)>,
    /// What legacy servers send as `appSecret`, and since when.
    pub app_secret: Option<(SecretHash, Millis)>,
    /// Whether `appSecret` is accepted at all.
    pub allows_app_secret: bool,
    /// Whether a registration with a user needs `clientSecret`.
    pub verifies_client_secret: bool,
    /// What apps register at Google with; public.
    pub sender_id: Option<Box<str>>,
}

impl Default for PushSecrets {
    /// A tenant that never made any.
    fn default() -> Self {
        Self {
            client_secret: None,
            app_secret: None,
            allows_app_secret: false,
            verifies_client_secret: true,
            sender_id: None,
        }
    }
}

impl std::fmt::Debug for PushSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushSecrets")
            .field("has_client_secret", &self.client_secret.is_some())
            .field("has_app_secret", &self.app_secret.is_some())
            .field("allows_app_secret", &self.allows_app_secret)
            .field("verifies_client_secret", &self.verifies_client_secret)
            .finish()
    }
}

/// Changes to a tenant's push secrets; `None` leaves what is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PushSecretsPatch {
    /// A new `clientSecret`; the old one is dead at once.
    pub client_secret: Option<SecretHash>,
    /// A new `appSecret`; the old one is dead at once.
    pub app_secret: Option<SecretHash>,
    /// See [`PushSecrets::allows_app_secret`].
    pub allows_app_secret: Option<bool>,
    /// See [`PushSecrets::verifies_client_secret`].
    pub verifies_client_secret: Option<bool>,
    /// See [`PushSecrets::sender_id`]; the inner `None` removes it.
    pub sender_id: Option<Option<Box<str>>>,
}

impl PushSecretsPatch {
    /// The secrets with these changes, made at `now`.
    pub(super) fn applied_to(&self, secrets: PushSecrets, now: Millis) -> PushSecrets {
        let new = |hash: Option<SecretHash>| hash.map(|hash| (hash, now));
        PushSecrets {
            client_secret: new(self.client_secret).or(secrets.client_secret),
            app_secret: new(self.app_secret).or(secrets.app_secret),
            allows_app_secret: self.allows_app_secret.unwrap_or(secrets.allows_app_secret),
            verifies_client_secret: self
                .verifies_client_secret
                .unwrap_or(secrets.verifies_client_secret),
            sender_id: self.sender_id.clone().unwrap_or(secrets.sender_id),
        }
    }
}

impl std::fmt::Debug for PushSecretsPatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushSecretsPatch").finish_non_exhaustive()
    }
}

/// For whom a client application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// A customer within the organisation: id and secret are made together and never change.
    Inside,
    /// A customer outside of it: an id only; a secret may be added later, once.
    Outside,
}

impl Section {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
}

/// A registered client application.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientRecord {
    /// The tenant whose interface it may call.
    pub tenant: TenantId,
    /// Its public id.
    pub client_id: String,
    /// The customer's name.
    pub name: String,
    /// For whom it is.
    pub section: Section,
    /// Its secret, if it has one: then both are needed.
    pub secret: Option<SecretHash>,
    /// When it was registered.
    pub created_at: Millis,
}

impl std::fmt::Debug for ClientRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientRecord")
            .field("tenant", &self.tenant)
            .field("client_id", &self.client_id)
            .field("section", &self.section)
            .field("has_secret", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCreated {
    /// It is stored.
    Stored,
    /// Its section has [`CLIENTS_PER_SECTION_MAX`] already.
    Full,
}

/// What became of an added secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretAdded {
    /// It is stored.
    Stored,
    /// There is no such client.
    Unknown,
    /// It has a secret already, or is one within the organisation.
    Immutable,
}

/// Push secrets and client applications.
#[async_trait]
pub trait Clients: Send + Sync {
    /// A tenant's push secrets; of one that never made any, the default.
    async fn push_secrets(&self, tenant: &TenantId) -> Result<PushSecrets, Error>;

    /// Changes a tenant's push secrets and returns them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant.
    async fn update_push_secrets(
        &self,
        tenant: &TenantId,
        patch: &PushSecretsPatch,
        now: Millis,
    ) -> Result<PushSecrets, Error>;

    /// Registers a client application, if its section has room.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant, [`Error::Conflict`] when the id exists.
    async fn create_client(&self, client: &ClientRecord) -> Result<ClientCreated, Error>;

    /// A tenant's client application of this id.
    async fn client(
        &self,
        tenant: &TenantId,
        client_id: &str,
    ) -> Result<Option<ClientRecord>, Error>;

    /// A tenant's client applications, oldest first.
    async fn clients(&self, tenant: &TenantId) -> Result<Vec<ClientRecord>, Error>;

    /// Gives a client application outside the organisation its secret, once.
    async fn add_client_secret(
        &self,
        tenant: &TenantId,
        client_id: &str,
        secret: &SecretHash,
    ) -> Result<SecretAdded, Error>;

    /// Deletes a client application; `false` when unknown.
    async fn delete_client(&self, tenant: &TenantId, client_id: &str) -> Result<bool, Error>;
}
