//! Push messages of the IBM Push face, and what devices reported about them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{MessageId, Millis, NotificationId};

/// A push message: a notification under the short id that its sender knows it by.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose it is.
    pub tenant: TenantId,
    /// Unique within the tenant.
    pub id: MessageId,
    /// The notification that carries it.
    pub notification: NotificationId,
    /// The text, if it has one.
    pub alert: Option<Box<str>>,
    /// The address that it opens, if it has one.
    pub url: Option<Box<str>>,
    /// The request as it was sent: JSON.
    pub body: Vec<u8>,
    /// When it was accepted.
    pub created_at: Millis,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .field("notification", &self.notification)
            .finish_non_exhaustive()
    }
}

/// Where a page of messages goes on: after this one, newest first.
pub type MessageCursor = (Millis, MessageId);

/// What a device reports about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Seen {
    /// The device showed it.
    Shown,
    /// Somebody opened it.
    Opened,
}

/// A device's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// The device, as its app names it.
    pub device: Box<str>,
    /// What it reports.
    pub seen: Seen,
    /// When it did so first.
    pub at: Millis,
}

/// How many devices reported what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenCounts {
    /// Devices that showed it.
    pub shown: u64,
    /// Devices that opened it.
    pub opened: u64,
}

/// A day's messages and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageDay {
    /// Its first instant, UTC.
    pub day: Millis,
    /// Messages accepted.
    pub messages: u64,
    /// Reports.
    pub seen: SeenCounts,
}

/// Push messages and delivery receipts.
#[async_trait]
pub trait Messages: Send + Sync {
    /// Stores new messages, all or none.
    ///
    /// # Errors
    /// [`Error::Conflict`] when one of the ids is taken, [`Error::NotFound`] for an unknown tenant.
    async fn create_messages(&self, tenant: &TenantId, messages: &[Message]) -> Result<(), Error>;

    /// One message.
    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error>;

    /// Messages, newest first: those after `after`, of which `skip` are passed over.
    async fn messages(
        &self,
        tenant: &TenantId,
        after: Option<MessageCursor>,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<Message>, Error>;

    /// How many messages there are.
    async fn count_messages(&self, tenant: &TenantId) -> Result<u64, Error>;

    /// Deletes a message and its receipts; `false` when unknown. What it sends is not touched.
    async fn delete_message(&self, tenant: &TenantId, id: MessageId) -> Result<bool, Error>;

    /// Notes what a device reports; the first report of each kind stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown message.
    async fn put_receipt(
        &self,
        tenant: &TenantId,
        id: MessageId,
        receipt: &DeliveryReceipt,
    ) -> Result<(), Error>;

    /// The reports about a message, by device and kind: those of one device, or all after a place.
    async fn receipts(
        &self,
        tenant: &TenantId,
        id: MessageId,
        device: Option<&str>,
        after: Option<(&str, Seen)>,
        limit: u32,
    ) -> Result<Vec<DeliveryReceipt>, Error>;

    /// How many devices reported what about a message.
    async fn count_receipts(&self, tenant: &TenantId, id: MessageId) -> Result<SeenCounts, Error>;

    /// Messages and reports by day (UTC), from `since` on, oldest first; days without any are left out.
    async fn message_days(
        &self,
        tenant: &TenantId,
        since: Millis,
    ) -> Result<Vec<MessageDay>, Error>;
}

/// Milliseconds of a day.
pub(super) const DAY: Millis = 24 * 3600 * 1000;

/// Days from counts: (day number, messages) and (day number, kind, reports).
pub(super) fn days_of(messages: &[(i64, u64)], reports: &[(i64, Seen, u64)]) -> Vec<MessageDay> {
    let mut days: BTreeMap<i64, MessageDay> = BTreeMap::new();
    let mut day = |number: i64, note: &dyn Fn(&mut MessageDay)| {
        note(days.entry(number).or_insert(MessageDay {
            day: number * DAY,
            messages: 0,
            seen: SeenCounts::default(),
        }));
    };
    for (number, count) in messages {
        day(*number, &|day| day.messages += count);
    }
    for (number, seen, count) in reports {
        day(*number, &|day| day.seen.add(*seen, *count));
    }
    days.into_values().collect()
}

impl SeenCounts {
    /// Counts reports of a kind.
    pub(super) fn add(&mut self, seen: Seen, count: u64) {
        match seen {
            Seen::Shown => self.shown += count,
            Seen::Opened => self.opened += count,
        }
    }
}
