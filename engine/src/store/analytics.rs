//! Analytics: what came of a tenant's pushes, by day.
//! It must not know how a day is shown, nor what else follows a send.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::TenantId;

use super::{Error, Settlement};
use crate::model::Counts;

/// How many days ago the epoch was: a day of Greenwich.
pub type Day = i64;

/// The counts of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyCounts {
    /// The day on which it was recorded.
    pub day: Day,
    /// How many recipients ended, and how.
    pub counts: Counts,
}

/// Analytics.
#[async_trait]
pub trait Analytics: Send + Sync {
    /// The days from `first` to `last` on which something of this tenant was recorded, in their order.
    async fn daily_counts(
        &self,
        tenant: &TenantId,
        first: Day,
        last: Day,
    ) -> Result<Vec<DailyCounts>, Error>;
}

/// What a group of settlements adds to the day's counts of its tenants, in the order of their ids; those of which nothing ended
/// are left out.
pub(super) fn ended<'a>(written: &[&'a Settlement]) -> Vec<(&'a str, Counts)> {
    let mut ended: BTreeMap<&str, Counts> = BTreeMap::new();
    for settlement in written {
        if settlement.part.counts.total() == 0 {
            continue;
        }
        let counts = ended.entry(settlement.key.tenant.as_str()).or_default();
        for (sum, count) in counts.0.iter_mut().zip(settlement.part.counts.0) {
            *sum += count;
        }
    }
    ended.into_iter().collect()
}
