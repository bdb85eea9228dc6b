//! Leases while their jobs are out: kept until the record is written, and acked after it.
//! It must not decide when that is; the worker does.
//!
//! With `--cfg clarion_break_ack_first` it is broken on purpose and acks before anything is recorded: `scripts/proof/kill`
//! shows that the proof catches it.

use super::Driver;
use crate::broker::{Lease, LeaseId};

#[cfg(not(clarion_break_ack_first))]
impl Driver {
    /// Keeps a lease: dropping it gives its message back.
    pub(super) fn keep(&mut self, lease: Lease) {
        self.leases.insert(lease.id, lease);
    }

    /// Acks a lease with the next group.
    pub(super) fn ack(&mut self, lease: LeaseId) {
        self.acks.extend(self.leases.remove(&lease));
    }
}

#[cfg(clarion_break_ack_first)]
impl Driver {
    pub(super) fn keep(&mut self, lease: Lease) {
        let broker = std::sync::Arc::clone(&self.parts.broker);
        self.running.push(Box::pin(async move {
            drop(broker.ack(vec![lease]).await);
            super::Done::Forgotten
        }));
    }

    pub(super) fn ack(&mut self, lease: LeaseId) {
        let now = self.now();
        self.worker.on_acked(lease, true, now);
    }
}
