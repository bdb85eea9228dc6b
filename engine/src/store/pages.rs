//! Pages: a bulk's audience on its way to the broker. ready → reserved → fed → ended.

use std::sync::Arc;

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{Entry, Millis, Notification, NotificationId};

/// A page that is this engine's to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct ReservedPage {
    /// The notification it belongs to.
    pub notification: Arc<Notification>,
    /// Its number.
    pub page: u32,
    /// Its entries, exactly as stored.
    pub entries: Vec<Entry>,
    /// It may have been published before.
    pub recheck: bool,
}

/// Pages.
#[async_trait]
pub trait Pages: Send + Sync {
    /// Reserves up to `max` pages of running notifications, oldest page first within a notification and the tenants in
    /// turn, such that no notification has more than `ahead` pages reserved or fed. Stale pages
    /// are handed out again with `recheck`. Pages of selections are written here, from the devices that come next, in the
    /// transaction that moves on; where none of the devices looked at fits, there is another transaction.
    async fn reserve_pages(
        &self,
        ahead: u32,
        max: u32,
        stale: StalePages,
        now: Millis,
    ) -> Result<Vec<ReservedPage>, Error>;

    /// Marks published pages as fed.
    async fn mark_fed(
        &self,
        pages: &[(TenantId, NotificationId, u32)],
        now: Millis,
    ) -> Result<(), Error>;
}

/// Since when a page that is on its way counts as stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StalePages {
    /// Reserved before this instant and not fed.
    pub reserved_before: Millis,
    /// Fed before this instant, without an end and without a part since.
    pub fed_before: Millis,
}
