//! Idempotency keys: the same request twice is one notification and one answer.

use std::time::Duration;

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::Error;
use crate::model::{Millis, NotificationId};

/// A request in progress for this long is taken over by its repetition.
pub(super) const TAKEOVER_AFTER: Duration = Duration::from_secs(30);

/// An answer kept for a repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status, as a number.
    pub status: u16,
    /// Body, byte for byte.
    pub body: Vec<u8>,
}

/// What a request with an idempotency key meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The row is this request's: use this notification id, with `recheck` when it is taken over from a request that never
    /// finished.
    Started {
        /// The id stored in the row.
        notification: NotificationId,
        /// An earlier request may have published it.
        recheck: bool,
    },
    /// The first request is still running.
    Running,
    /// The first request is done: answer the same.
    Done(StoredAnswer),
    /// The key was used for another request.
    OtherRequest,
}

/// Idempotency.
#[async_trait]
pub trait Idempotency: Send + Sync {
    /// Begins a request: stores (tenant, key) with `fingerprint` and `notification` if the key is new. A row in progress for
    /// longer than 30 s, or of a process that is proven dead, is taken over.
    async fn begin(
        &self,
        tenant: &TenantId,
        key: &str,
        fingerprint: &[u8; 32],
        notification: NotificationId,
        now: Millis,
    ) -> Result<Begun, Error>;

    /// Stores the answer.
    async fn finish(
        &self,
        tenant: &TenantId,
        key: &str,
        answer: &StoredAnswer,
        now: Millis,
    ) -> Result<(), Error>;

    /// Forgets a request that was refused before anything was published, so that the key may be used again.
    async fn forget(&self, tenant: &TenantId, key: &str) -> Result<(), Error>;
}
