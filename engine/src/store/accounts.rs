//! Tenants, their provider credentials and limits.

use async_trait::async_trait;
use clarion_auth::{OrgId, TenantId};

use super::Error;
use crate::model::{Environment, Millis};

/// A tenant: one app of one organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, also the app id.
    pub id: TenantId,
    /// The organisation that owns it.
    pub org: OrgId,
    /// Apple's bundle id: the default topic.
    pub bundle_id: Option<String>,
    /// Whether Apple device tokens are of the sandbox unless they say otherwise.
    pub use_sandbox: bool,
    /// Overrides of the configured limits.
    pub limits: TenantLimits,
    /// When nothing of it is sent.
    pub suspended: bool,
    /// Who created it (the subject of the access token).
    pub created_by: String,
    /// When.
    pub created_at: Millis,
    /// Last change.
    pub updated_at: Millis,
    /// When it was deleted; such a tenant exists only for the engine, which ends its jobs as cancelled.
    pub deleted_at: Option<Millis>,
}

/// Overrides of the configured limits; `None` means the configured default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Recipients a second.
    pub rate: Option<u32>,
    /// Recipients at once; a slice never exceeds it.
    pub burst: Option<u32>,
    /// Recipients queued and waiting.
    pub backlog: Option<u64>,
    /// Weight in the round robin; 1 when absent.
    pub weight: Option<u32>,
    /// Retries of unanswered requests, 0 to 3.
    pub ambiguous_retries: Option<u8>,
}

/// Changes to a tenant; the outer `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPatch {
    /// New bundle id.
    pub bundle_id: Option<String>,
    /// New default environment.
    pub use_sandbox: Option<bool>,
    /// New limits, field by field; the inner `None` returns to the default.
    pub rate: Option<Option<u32>>,
    /// See [`TenantLimits::burst`].
    pub burst: Option<Option<u32>>,
    /// See [`TenantLimits::backlog`].
    pub backlog: Option<Option<u64>>,
    /// See [`TenantLimits::weight`].
    pub weight: Option<Option<u32>>,
    /// See [`TenantLimits::ambiguous_retries`].
    pub ambiguous_retries: Option<Option<u8>>,
    /// Suspend or resume.
    pub suspended: Option<bool>,
}

impl TenantPatch {
    /// The tenant with these changes, made at `now`.
    pub(super) fn applied_to(&self, mut tenant: Tenant, now: Millis) -> Tenant {
        let limits = &mut tenant.limits;
        if let Some(bundle_id) = &self.bundle_id {
            tenant.bundle_id = Some(bundle_id.clone());
        }
        tenant.use_sandbox = self.use_sandbox.unwrap_or(tenant.use_sandbox);
        tenant.suspended = self.suspended.unwrap_or(tenant.suspended);
        limits.rate = self.rate.unwrap_or(limits.rate);
        limits.burst = self.burst.unwrap_or(limits.burst);
        limits.backlog = self.backlog.unwrap_or(limits.backlog);
        limits.weight = self.weight.unwrap_or(limits.weight);
        limits.ambiguous_retries = self.ambiguous_retries.unwrap_or(limits.ambiguous_retries);
        tenant.updated_at = now;
        tenant
    }
}

/// What kind of provider credential a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// APNs signing key (.p8).
    ApnsKey,
    /// APNs client certificate (.p12 or .pem).
    ApnsCertificate,
    /// Google service account.
    Fcm,
}

/// A sealed provider credential. At most one per tenant, provider and environment.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialRecord {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// `apns-production`, `apns-sandbox` or `fcm`: its place, and part of the seal's associated data.
    pub credential_id: String,
    /// What it is.
    pub kind: CredentialKind,
    /// For which of Apple's environments (production for FCM).
    pub environment: Environment,
    /// Grows with every replacement; part of the seal's associated data.
    pub version: i64,
    /// Public facts for lists: team id, key id, project id, fingerprint. JSON object text.
    pub public: String,
    /// The sealed secret.
    pub sealed: Vec<u8>,
    /// When it was stored.
    pub created_at: Millis,
}

impl std::fmt::Debug for CredentialRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialRecord")
            .field("tenant", &self.tenant)
            .field("credential_id", &self.credential_id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Tenants and credentials. Every change that an engine must obey also raises the control version (see
/// [`super::Control`]) in the same transaction.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Stores a new tenant, with its credentials if given.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id exists.
    async fn create_tenant(
        &self,
        tenant: &Tenant,
        credentials: &[CredentialRecord],
    ) -> Result<(), Error>;

    /// The tenant, unless it is unknown or deleted.
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Error>;

    /// The tenants of these organisations that are not deleted, oldest first; `None` means of all.
    async fn tenants(&self, orgs: Option<&[OrgId]>) -> Result<Vec<Tenant>, Error>;

    /// Changes a tenant and returns it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn update_tenant(
        &self,
        tenant: &TenantId,
        patch: &TenantPatch,
        now: Millis,
    ) -> Result<Tenant, Error>;

    /// Marks a tenant deleted and removes its keys, credentials, devices and unfed pages. `false` when unknown. Its
    /// waiting rows and jobs end as cancelled when the engine meets them.
    async fn delete_tenant(&self, tenant: &TenantId, now: Millis) -> Result<bool, Error>;

    /// Stores or replaces a credential; `record.version` must be
    /// what [`Accounts::next_credential_version`] said before sealing (it is part of the seal).
    ///
    /// # Errors
    /// [`Error::Conflict`] when `record.version` is not the next one (another replacement won), [`Error::NotFound`] for an
    /// unknown tenant.
    async fn put_credential(&self, record: &CredentialRecord) -> Result<(), Error>;

    /// The version that the next replacement of this credential will have (1 for a new one).
    async fn next_credential_version(
        &self,
        tenant: &TenantId,
        credential_id: &str,
    ) -> Result<i64, Error>;

    /// Deletes a credential; `false` when there is none.
    async fn delete_credential(
        &self,
        tenant: &TenantId,
        credential_id: &str,
        now: Millis,
    ) -> Result<bool, Error>;

    /// A tenant's credentials.
    async fn credentials(&self, tenant: &TenantId) -> Result<Vec<CredentialRecord>, Error>;
}
