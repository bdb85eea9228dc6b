//! Routes from stored credentials: read, unsealed, parsed.
//! It must not keep them: whoever asks does, until the tenant changes.

use std::sync::Arc;

use clarion_auth::seal::SealedFor;
use clarion_auth::{CredentialId, MasterKey, TenantId};

use super::worker::Class;
use crate::model::Environment;
use crate::provider::{Credential, CredentialError, Route, StoredCredential};
use crate::store::{CredentialRecord, Error, Store};

/// What a look for a route came to.
#[derive(Debug)]
pub enum Routed {
    /// Here it is.
    Route(Arc<Route>),
    /// The tenant has no such credential, or is gone.
    Missing,
    /// There is one, and it cannot be used.
    Unusable(UnusableCredential),
}

/// Why a stored credential cannot be used. It was checked when it was stored, so that this is a matter for the operator.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCredential {
    /// It does not open: another master key, or a changed row.
    #[error("it cannot be unsealed: {0}")]
    Sealed(#[from] clarion_auth::seal::SealError),
    /// Its place in the store is not a valid one.
    #[error("its id is not valid: {0}")]
    Id(#[from] clarion_auth::ids::IdError),
    /// It does not parse.
    #[error("it cannot be read: {0}")]
    Parse(#[from] CredentialError),
}

/// Loads routes.
#[derive(Debug)]
pub struct RouteLoader {
    /// Where credentials are.
    pub store: Arc<dyn Store>,
    /// Opens them.
    pub master_key: Arc<MasterKey>,
}

impl RouteLoader {
    /// The route of a tenant's class.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(&self, tenant_id: &TenantId, class: Class) -> Result<Routed, Error> {
        let Some(tenant) = self.store.tenant(tenant_id).await? else {
            return Ok(Routed::Missing);
        };
        let credentials = self.store.credentials(tenant_id).await?;
        let Some(record) = credentials
            .iter()
            .find(|record| record.credential_id == class.credential_id())
        else {
            return Ok(Routed::Missing);
        };
        let credential = match self.open(record) {
            Ok(credential) => credential,
            Err(error) => return Ok(Routed::Unusable(error)),
        };
        let environment = match class {
            Class::ApnsSandbox => Environment::Sandbox,
            Class::ApnsProduction | Class::Fcm => Environment::Production,
        };
        let bundle_id = tenant.bundle_id.map(Arc::from);
        Ok(Routed::Route(Arc::new(Route {
            tenant: tenant_id.clone(),
            credential,
            environment,
            bundle_id,
        })))
    }

    fn open(&self, record: &CredentialRecord) -> Result<Credential, UnusableCredential> {
        let credential: CredentialId = record.credential_id.parse()?;
        let version = u64::try_from(record.version).unwrap_or_default();
        let row = SealedFor {
            tenant: &record.tenant,
            credential: &credential,
            version,
        };
        let secret = self.master_key.open(row, &record.sealed)?;
        Ok(StoredCredential::from_bytes(&secret)?.parse()?)
    }
}
