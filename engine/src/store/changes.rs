//! What a group of settlements changes in the counters of its notifications, without a database.
//! It must not know where the counters are kept.

use std::collections::HashMap;

use super::Settlement;
use crate::model::{Counts, JobKind};

/// What a group changes in one notification's counters.
pub(super) struct Change<'a> {
    /// A settlement of it, of a page's first job if there is one; stands in for a row that is not there.
    pub(super) sample: &'a Settlement,
    pub(super) counts: Counts,
    pub(super) recipients: i64,
    pub(super) waiting: i64,
    pub(super) open_entries: i64,
    pub(super) open_jobs: i64,
    pub(super) pages_ended: i64,
}

impl<'a> Change<'a> {
    fn new(sample: &'a Settlement) -> Self {
        Self {
            sample,
            counts: Counts::default(),
            recipients: 0,
            waiting: 0,
            open_entries: 0,
            open_jobs: 0,
            pages_ended: 0,
        }
    }

    fn add(&mut self, settlement: &'a Settlement) {
        if settlement.page.is_some() {
            self.sample = settlement;
        }
        for (sum, count) in self.counts.0.iter_mut().zip(settlement.part.counts.0) {
            *sum += count;
        }
        if !settlement.part.end {
            return;
        }
        if matches!(settlement.kind, JobKind::First | JobKind::Continuation) {
            self.recipients += i64::from(settlement.resolved);
        }
        for row in &settlement.waiting {
            self.waiting += i64::from(row.recipients);
            self.open_jobs += 1;
        }
        if settlement.page.is_some() {
            self.pages_ended += 1;
            self.open_entries -= i64::from(settlement.entries);
        } else {
            self.open_jobs -= 1;
        }
    }
}

/// The changes of all notifications that these settlements belong to, in no order.
pub(super) fn changes<'a>(written: &[&'a Settlement]) -> Vec<Change<'a>> {
    let mut changes: HashMap<_, Change<'a>> = HashMap::with_capacity(written.len());
    for settlement in written {
        let key = (&settlement.key.tenant, settlement.key.notification);
        changes
            .entry(key)
            .or_insert_with(|| Change::new(settlement))
            .add(settlement);
    }
    changes.into_values().collect()
}
