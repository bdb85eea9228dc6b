//! What the delivery threads have done, for metrics.
//! It must not know how metrics are named or exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http2::PoolCounters;
use crate::model::Outcome;

/// Totals since the start.
#[derive(Debug, Default)]
pub struct DispatchCounters {
    /// The provider took it.
    pub accepted: AtomicU64,
    /// Dead device tokens.
    pub unregistered: AtomicU64,
    /// Refused for good.
    pub rejected: AtomicU64,
    /// Too many.
    pub throttled: AtomicU64,
    /// Nobody took it, or nobody knows.
    pub unavailable: AtomicU64,
    /// The credential was refused.
    pub unauthorized: AtomicU64,
    /// Access tokens that were asked for.
    pub refreshes: AtomicU64,
    /// Connections and re-sends.
    pub pools: Arc<PoolCounters>,
}

/// Outcomes of one turn, added up before they are shared.
#[derive(Debug, Default)]
pub(super) struct Tally([u64; 6]);

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let class = match outcome {
            Outcome::Accepted => 0,
            Outcome::Unregistered { .. } => 1,
            Outcome::Rejected { .. } => 2,
            Outcome::Throttled { .. } => 3,
            Outcome::Unavailable { .. } => 4,
            Outcome::Unauthorized { .. } => 5,
        };
        self.0[class] += 1;
    }

    pub(super) fn publish(&mut self, counters: &DispatchCounters) {
        let totals = [
            &counters.accepted,
            &counters.unregistered,
            &counters.rejected,
            &counters.throttled,
            &counters.unavailable,
            &counters.unauthorized,
        ];
        for (total, more) in totals.into_iter().zip(&mut self.0) {
            if *more > 0 {
                total.fetch_add(std::mem::take(more), Ordering::Relaxed);
            }
        }
    }
}
