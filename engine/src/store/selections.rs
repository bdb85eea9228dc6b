//! Notifications for selections: stored with the description of their audience, paged when their turn comes.
//! It must not know how the engine sends a page.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::limits::JOB_ENTRIES_MAX;
use crate::model::{Entry, Notification, SelectedPage, Selection, Target};

/// `notifications.pages_total` of a selection whose last page is not known yet: more than there can be, so that such a
/// notification has pages to reserve and is not finished.
pub(super) const PAGES_OPEN: i64 = i32::MAX as i64;

/// Devices looked at for one page when not every one of them fits.
const SCAN_MAX: usize = 2_000;

/// Selections.
#[async_trait]
pub trait Selections: Send + Sync {
    /// Stores a notification and the description of its audience: all devices that fit and are registered now. The feeder
    /// pages it. Where the tenant has no device at all, the notification is finished at once.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant, [`Error::Conflict`] when the id exists.
    async fn create_selection(
        &self,
        notification: &Notification,
        selection: &Selection,
    ) -> Result<(), Error>;

    /// How many selections of this tenant are not paged to their end.
    async fn open_selections(&self, tenant: &TenantId) -> Result<u64, Error>;
}

/// How many devices are looked at for the next page.
pub(super) fn scan(selection: &Selection) -> usize {
    if selection.fits_all() {
        JOB_ENTRIES_MAX
    } else {
        SCAN_MAX
    }
}

/// The entries of a page whose first has this ordinal.
pub(super) fn entries(page: SelectedPage, first_ordinal: u32) -> Vec<Entry> {
    let of = |(ordinal, address)| Entry {
        ordinal,
        target: Target::Device(address),
    };
    (first_ordinal..).zip(page.addresses).map(of).collect()
}
