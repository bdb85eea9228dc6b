//! Notifications with their audiences, their status and their failures.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{
    Counts, DeviceId, FinalState, Lane, Millis, Notification, NotificationId, Platform,
};

/// One page of a bulk's audience, encoded by [`crate::model::encode_entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOfEntries {
    /// Ordinal of its first entry.
    pub first_ordinal: u32,
    /// How many entries it has.
    pub entries: u32,
    /// The encoded entries.
    pub body: Vec<u8>,
}

/// Where a notification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationState {
    /// Pages or jobs are open.
    Running,
    /// All pages are ended and no job is open.
    Finished,
}

/// The counts of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationStatus {
    /// Its id.
    pub id: NotificationId,
    /// Its lane.
    pub lane: Lane,
    /// When it was accepted.
    pub created_at: Millis,
    /// When nothing more of it is sent.
    pub expires_at: Millis,
    /// Where it stands.
    pub state: NotificationState,
    /// Entries accepted.
    pub entries: u64,
    /// Recipients resolved so far.
    pub recipients: u64,
    /// How many ended, and how.
    pub counts: Counts,
    /// Recipients in waiting rows.
    pub waiting: u64,
    /// Whether pages are still to be reserved.
    pub paging: bool,
    /// When it finished.
    pub finished_at: Option<Millis>,
}

/// One failed recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct FailureRow {
    /// Cursor: rows are read in this order.
    pub id: i64,
    /// The entry.
    pub ordinal: u32,
    /// The user, where the entry named one.
    pub user_id: Option<String>,
    /// The device, 0 for a device token given directly.
    pub device: DeviceId,
    /// The platform, where a device was met.
    pub platform: Option<Platform>,
    /// The device token; the tenant's own data, for the tenant's eyes only.
    pub device_token: Option<String>,
    /// How it ended.
    pub state: FinalState,
    /// The provider's word, or ours.
    pub reason: String,
    /// When.
    pub at: Millis,
}

impl std::fmt::Debug for FailureRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailureRow")
            .field("id", &self.id)
            .field("ordinal", &self.ordinal)
            .field("state", &self.state)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Notifications.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Stores a notification and all its pages in one transaction: the acceptance of a bulk.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant, [`Error::Conflict`] when the id exists.
    async fn create_notification(
        &self,
        notification: &Notification,
        pages: &[PageOfEntries],
    ) -> Result<(), Error>;

    /// Its status, or `None` when there is no row (yet).
    async fn notification_status(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationStatus>, Error>;

    /// Its failures with an id greater than `after`.
    async fn failures(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<FailureRow>, Error>;

    /// Recipients of this tenant that are in pages not yet ended or in waiting rows (entries count as one each).
    async fn backlog(&self, tenant: &TenantId) -> Result<u64, Error>;
}
