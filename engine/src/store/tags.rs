//! Tags and the devices that subscribe to them.
//! It must not know what is sent to a tag.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{DeviceId, Millis};

/// A tag of a tenant's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Unique within the tenant.
    pub name: Box<str>,
    /// What it is for, in the tenant's words.
    pub description: Box<str>,
    /// When it came into the catalogue.
    pub created_at: Millis,
    /// Last change of its description.
    pub updated_at: Millis,
}

/// A device's wish for what is sent to a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Cursor of lists, and the subscription's id.
    pub id: i64,
    /// The tag.
    pub tag: Box<str>,
    /// The device.
    pub device: DeviceId,
    /// The id that the app gave the device, if it did.
    pub external_id: Option<Box<str>>,
    /// The user that the device belongs to; empty where nobody.
    pub user_id: Box<str>,
    /// Since when.
    pub created_at: Millis,
}

/// A tag and a device.
pub type TagAndDevice = (Box<str>, DeviceId);

/// What became of a wish to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It is new, with this id.
    New(i64),
    /// It was there already, with this id.
    Existed(i64),
    /// There is no such tag.
    NoTag,
    /// There is no such device.
    NoDevice,
}

/// Which subscriptions a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter<'a> {
    /// Only to this tag.
    pub tag: Option<&'a str>,
    /// Only of this device.
    pub device: Option<DeviceId>,
}

/// Tags and subscriptions. A device that is unregistered or pruned loses its subscriptions.
#[async_trait]
pub trait Tags: Send + Sync {
    /// Creates a tag or changes its description; `None` leaves the one it has. Returns it, and whether it is new.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown tenant.
    async fn put_tag(
        &self,
        tenant: &TenantId,
        name: &str,
        description: Option<&str>,
        now: Millis,
    ) -> Result<(Tag, bool), Error>;

    /// One tag.
    async fn tag(&self, tenant: &TenantId, name: &str) -> Result<Option<Tag>, Error>;

    /// Tags with a name after `after` in the order of their bytes.
    async fn tags(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Tag>, Error>;

    /// Removes a tag and all subscriptions to it; `false` when there is none. Many subscriptions take several transactions,
    /// and the tag goes with the last.
    async fn delete_tag(&self, tenant: &TenantId, name: &str) -> Result<bool, Error>;

    /// Subscribes devices to tags; one answer per wish, in order.
    async fn subscribe(
        &self,
        tenant: &TenantId,
        wishes: &[TagAndDevice],
        now: Millis,
    ) -> Result<Vec<Subscribed>, Error>;

    /// Ends subscriptions; one answer per wish, in order: whether there was one.
    async fn unsubscribe(
        &self,
        tenant: &TenantId,
        wishes: &[TagAndDevice],
    ) -> Result<Vec<bool>, Error>;

    /// Makes each of these devices subscribe to exactly these tags, which come into the catalogue where they are new.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a device is unknown: nothing is changed then.
    async fn retag(
        &self,
        tenant: &TenantId,
        devices: &[(DeviceId, Vec<Box<str>>)],
        now: Millis,
    ) -> Result<(), Error>;

    /// Subscriptions with an id greater than `after`, by id.
    async fn subscriptions(
        &self,
        tenant: &TenantId,
        filter: SubscriptionFilter<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Subscription>, Error>;
}
