//! The control version: one number that grows with every change an engine must obey.

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::{Error, Tenant};
use crate::model::Millis;

/// What an engine must know about tenants that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlState {
    /// The store's current version.
    pub version: i64,
    /// Tenants changed after the version asked from (deleted ones included), with their current state.
    pub changed: Vec<Tenant>,
    /// Suspended or deleted tenants, all of them, if anything changed.
    pub stopped: Vec<(TenantId, Suspension)>,
}

/// Why nothing of a tenant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// Its jobs end as cancelled; later requests are refused.
    Suspended,
    /// Its jobs end as cancelled; its keys and credentials are gone.
    Deleted,
}

/// Control state, the clock, upkeep.
#[async_trait]
pub trait Control: Send + Sync {
    /// What changed after `after`. One cheap query when nothing did; both lists are empty then, and the caller keeps the stops it
    /// knows.
    async fn control(&self, after: i64) -> Result<ControlState, Error>;

    /// The store's clock, Unix milliseconds.
    async fn clock(&self) -> Result<Millis, Error>;

    /// Deletes what is older than its retention, in small batches (at most `batch` rows of each table a call): receipts
    /// before `receipts`, payloads of finished notifications before `payloads`, dead rows before `dead`, idempotency rows
    /// before `idempotency`, audit rows and usage before `audit`, keys and refresh tokens that ended before `expired`, daily
    /// counts before `analytics`. Returns the number of rows deleted; call again until 0.
    async fn sweep(&self, horizon: &SweepHorizon, batch: u32) -> Result<u64, Error>;

    /// Whether a write would succeed now.
    async fn is_ready(&self) -> bool;

    /// Waits for running transactions and closes.
    async fn close(&self);
}

/// Everything older than these instants may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepHorizon {
    /// Receipts, failures and finished notifications.
    pub receipts: Millis,
    /// Payloads and audiences of finished notifications.
    pub payloads: Millis,
    /// Dead rows.
    pub dead: Millis,
    /// Idempotency rows.
    pub idempotency: Millis,
    /// Audit rows, and counts of what API keys were used for.
    pub audit: Millis,
    /// What ends at a time of its own: API keys and refresh tokens.
    pub expired: Millis,
    /// Daily counts.
    pub analytics: Millis,
}
