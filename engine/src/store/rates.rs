//! Leases on a tenant's rate: several engines share it, and what they hold together never exceeds it.

use async_trait::async_trait;
use clarion_auth::TenantId;
use uuid::Uuid;

use super::Error;
use crate::model::Millis;

/// What a process could send of a tenant within a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateWish {
    /// The tenant.
    pub tenant: TenantId,
    /// Recipients that are here to be sent, at most those of one second; 0 gives the lease back.
    pub recipients: u32,
}

/// Rates.
#[async_trait]
pub trait Rates: Send + Sync {
    /// Renews this process's leases on the rates of these tenants, each named once; one answer per wish, in order: the recipients a
    /// second that it may send of the tenant until `now` + RATE_LEASE, 0 for a tenant that is unknown, suspended or deleted. One
    /// statement, whatever the number of tenants.
    ///
    /// A tenant's rate is its own, or `default`. Leases of all processes that have not lapsed sum up to no more, unless the
    /// rate was lowered since they were granted. Each process has its fair share for the asking, or what it wishes if that is
    /// less, as soon as the others have renewed; what nobody wishes goes to whoever does. Of a rate smaller than the number
    /// of processes, the turns change.
    async fn lease_rates(
        &self,
        process: Uuid,
        wishes: &[RateWish],
        default: u32,
        now: Millis,
    ) -> Result<Vec<u32>, Error>;
}
