//! Installations: registered devices by the id that their app gave them, beside their device token.
//! It must not know which face calls a device by such an id.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::{Error, Registration};
use crate::model::{Device, Millis, Platform};

/// A device with the id that its app gave it. Its user may be empty: nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Unique within the tenant while not pruned.
    pub external_id: Box<str>,
    /// The device.
    pub device: Device,
}

/// An installation as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutInstallation {
    /// As it is now.
    pub installation: Installation,
    /// There was none of this id before.
    pub created: bool,
}

/// How many installations there are of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformCount {
    /// The platform.
    pub platform: Platform,
    /// Registered now.
    pub devices: u64,
    /// Of these, first registered since an instant.
    pub registered: u64,
}

/// Installations.
#[async_trait]
pub trait Installations: Send + Sync {
    /// Registers a device under an id of the app's choice, new or anew; it keeps its row id and subscriptions under the same
    /// id. The device token moves to it from whoever had it: a device that had no id becomes this one, and one that had
    /// another id is gone, with its subscriptions.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant.
    async fn put_installation(
        &self,
        tenant: &TenantId,
        external_id: &str,
        registration: &Registration,
        now: Millis,
    ) -> Result<PutInstallation, Error>;

    /// The installations with these ids, by id; unknown ids are passed over.
    async fn installations_by_id(
        &self,
        tenant: &TenantId,
        external_ids: &[Box<str>],
    ) -> Result<Vec<Installation>, Error>;

    /// Installations with an id after `after` in the order of their bytes, of one user or of all.
    async fn installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Installation>, Error>;

    /// How many installations there are by platform, of one user or of all, and how many of them are new since `since`.
    /// Walks all that are counted.
    async fn count_installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        since: Millis,
    ) -> Result<Vec<PlatformCount>, Error>;

    /// Removes an installation and its subscriptions; `false` when there is none.
    async fn remove_installation(
        &self,
        tenant: &TenantId,
        external_id: &str,
    ) -> Result<bool, Error>;
}
