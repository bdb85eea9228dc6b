//! Dead letters: what could not be parsed or has used up its attempts, with the original bytes.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::{Error, WaitingRow};
use crate::model::{JobId, Millis, NotificationId};

/// By which door a dead row came; its replay goes back through the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadOrigin {
    /// A job that this store's own engine parsed.
    Internal,
    /// A message of the internal queue that this engine cannot have published: it could not be parsed, or contradicts a
    /// record. Never replayed.
    Unparsed,
    /// A publish request from outside.
    External(RequestOrigin),
}

impl DeadOrigin {
    /// The word on screens.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Unparsed => "unparsed",
            Self::External(_) => "external",
        }
    }
}

/// How a publish request came, and where it is broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOrigin {
    /// Its routing key, as it came: it decides the tenant and the lane of a replay.
    pub routing_key: String,
    /// The place of the first problem as a JSON Pointer (RFC 6901); empty where the whole message is meant.
    pub path: String,
}

/// A dead row to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct NewDead {
    /// The tenant of the queue it came by.
    pub tenant: TenantId,
    /// Its door.
    pub origin: DeadOrigin,
    /// Machine-readable reason.
    pub reason: String,
    /// A sentence for people; no secrets.
    pub detail: String,
    /// The notification, where it is known.
    pub notification: Option<NotificationId>,
    /// The job, where it is known.
    pub job: Option<JobId>,
    /// Recipients or entries in it, where known.
    pub recipients: u32,
    /// The original bytes.
    pub body: Vec<u8>,
}

impl NewDead {
    /// A message of the internal queue that no engine can have published: nothing is known of it but its bytes and whose
    /// queue it came by. Never replayed.
    #[must_use]
    pub fn unparsed(tenant: TenantId, reason: &str, detail: String, body: &[u8]) -> Self {
        Self {
            tenant,
            origin: DeadOrigin::Unparsed,
            reason: reason.to_owned(),
            detail,
            notification: None,
            job: None,
            recipients: 0,
            body: body.to_vec(),
        }
    }
}

impl std::fmt::Debug for NewDead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDead")
            .field("tenant", &self.tenant)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// A dead row as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRow {
    /// Its number, growing.
    pub id: i64,
    /// When it died.
    pub at: Millis,
    /// How often it was replayed.
    pub replays: u32,
    /// What it is.
    pub dead: NewDead,
}

/// Which dead rows are meant; empty fields mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// With this reason.
    pub reason: Option<String>,
    /// Dead before this instant.
    pub before: Option<Millis>,
    /// Exactly these ids.
    pub ids: Option<Vec<i64>>,
}

/// Dead letters.
#[async_trait]
pub trait Dead: Send + Sync {
    /// Writes a row that belongs to no job record (an unparsable message, say).
    async fn bury(&self, dead: &NewDead, now: Millis) -> Result<i64, Error>;

    /// Rows with an id greater than `after`.
    async fn dead(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadRow>, Error>;

    /// Turns a dead row into a waiting row in one transaction: the dead row is gone, its recipients leave the `dead` count and
    /// the notification is open again. `false` when the row is gone already.
    async fn replay(&self, dead: i64, row: &WaitingRow, now: Millis) -> Result<bool, Error>;

    /// Deletes the rows meant. Returns how many.
    async fn purge(&self, filter: &DeadFilter) -> Result<u64, Error>;
}
