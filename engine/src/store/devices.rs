//! Registered devices: registration, look-up, resolving users, pruning.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{Device, DeviceId, Environment, Millis, Platform};

/// A device as it registers.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    /// The user it belongs to from now on.
    pub user_id: Box<str>,
    /// Decides the provider.
    pub platform: Platform,
    /// Decides Apple's host.
    pub environment: Environment,
    /// Unique within the tenant while not pruned.
    pub device_token: Box<str>,
    /// The app's version.
    pub app_version: Option<Box<str>>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// A user to be resolved, from a device on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCursor {
    /// The user.
    pub user_id: Box<str>,
    /// Only devices with a greater id.
    pub after: DeviceId,
}

/// One device of one asked user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedDevice {
    /// Index of the user in the question.
    pub user: usize,
    /// The device.
    pub device: Device,
}

/// A device whose pruning the brake holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneCandidate {
    /// The tenant.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// Decides which brake.
    pub platform: Platform,
    /// The instant that must not be before the device's last registration.
    pub dead_since: Millis,
    /// The provider's word.
    pub reason: String,
    /// When it was noted.
    pub noted_at: Millis,
}

/// Devices.
#[async_trait]
pub trait Devices: Send + Sync {
    /// Registers devices, all or none: a known device token is reassigned to its new user, gets the new facts, a new
    /// `registered_at` and loses any suspicion; a pruned one becomes a new device. Returned in the order given.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant.
    async fn register(
        &self,
        tenant: &TenantId,
        devices: &[Registration],
        now: Millis,
    ) -> Result<Vec<Device>, Error>;

    /// Devices with an id greater than `after`, of one user or of all, by id.
    async fn devices(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        after: DeviceId,
        limit: u32,
    ) -> Result<Vec<Device>, Error>;

    /// Removes a device by its device token if it belongs to `user_id`; `false` otherwise.
    async fn unregister(
        &self,
        tenant: &TenantId,
        user_id: &str,
        device_token: &str,
    ) -> Result<bool, Error>;

    /// Which of these users have a device; one answer per user, in order.
    async fn have_devices(&self, tenant: &TenantId, users: &[Box<str>])
    -> Result<Vec<bool>, Error>;

    /// The devices of these users, by (user index, device id), at most `limit`. One query.
    async fn resolve(
        &self,
        tenant: &TenantId,
        users: &[UserCursor],
        limit: usize,
    ) -> Result<Vec<ResolvedDevice>, Error>;

    /// Devices that the brake keeps, oldest first.
    async fn prune_candidates(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<PruneCandidate>, Error>;

    /// Ends the brake for a tenant and platform: prunes the candidates (`release`) or forgets them. Returns how many.
    async fn settle_prune_candidates(
        &self,
        tenant: &TenantId,
        platform: Platform,
        release: bool,
        now: Millis,
    ) -> Result<u64, Error>;
}
