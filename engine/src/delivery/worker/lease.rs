//! Leases in hand: which jobs each message holds, how many messages and bytes each queue has out, and how much credit
//! it gets. It must not know what becomes of a job.

use std::collections::HashMap;

use super::Action;
use crate::broker::{LeaseId, QueueName};
use crate::limits::PREFETCHED_BYTES_MAX;
use crate::model::Job;

/// Messages of a queue that may be unacked while nothing of it is being sent.
pub const CREDIT_AT_REST: u32 = 1;

/// Messages of a queue that may be unacked while it is being served. A message of a transactional queue holds a single
/// recipient as a rule, so that it takes many to fill the connections.
const CREDIT_MAX: u32 = 1_024;

#[derive(Debug)]
struct Held {
    queue: QueueName,
    bytes: usize,
    /// Jobs of the message that are not ended.
    open: usize,
    /// Jobs of the message whose ids came before with other recipients.
    reused: Vec<Job>,
}

#[derive(Debug)]
struct Queue {
    leased: u32,
    credit: u32,
}

/// All leases in hand.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<LeaseId, Held>,
    queues: HashMap<QueueName, Queue>,
    bytes: usize,
}

impl Leases {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A message came in. A queue that uses up its credit gets twice as much, while the bytes in hand allow it.
    pub(super) fn add(
        &mut self,
        lease: LeaseId,
        queue: &QueueName,
        size: (usize, usize),
        actions: &mut Vec<Action>,
    ) {
        let (bytes, open) = size;
        self.bytes += bytes;
        self.held.insert(
            lease,
            Held {
                queue: queue.clone(),
                bytes,
                open,
                reused: Vec::new(),
            },
        );
        let entry = self.queues.entry(queue.clone()).or_insert(Queue {
            leased: 0,
            credit: CREDIT_AT_REST,
        });
        entry.leased += 1;
        if entry.leased >= entry.credit
            && entry.credit < CREDIT_MAX
            && self.bytes < PREFETCHED_BYTES_MAX / 2
        {
            entry.credit = (entry.credit * 2).min(CREDIT_MAX);
            actions.push(Action::Credit(queue.clone(), entry.credit));
        }
    }

    /// A job of the message ended; `true` when it was the last.
    pub(super) fn close_job(&mut self, lease: LeaseId) -> bool {
        let Some(held) = self.held.get_mut(&lease) else {
            return false;
        };
        held.open = held.open.saturating_sub(1);
        held.open == 0
    }

    /// A job of the message is not what its id says.
    pub(super) fn keep_reused(&mut self, lease: LeaseId, job: Job) {
        if let Some(held) = self.held.get_mut(&lease) {
            held.reused.push(job);
        }
    }

    /// What [`Leases::keep_reused`] kept.
    pub(super) fn take_reused(&mut self, lease: LeaseId) -> Vec<Job> {
        let held = self.held.get_mut(&lease);
        held.map_or_else(Vec::new, |held| std::mem::take(&mut held.reused))
    }

    /// The message left: acked, buried or given back. `false` when it had left before.
    pub(super) fn remove(&mut self, lease: LeaseId, actions: &mut Vec<Action>) -> bool {
        let Some(held) = self.held.remove(&lease) else {
            return false;
        };
        self.bytes -= held.bytes;
        let Some(queue) = self.queues.get_mut(&held.queue) else {
            return true;
        };
        queue.leased -= 1;
        if queue.leased == 0 {
            if queue.credit != CREDIT_AT_REST {
                actions.push(Action::Credit(held.queue.clone(), CREDIT_AT_REST));
            }
            self.queues.remove(&held.queue);
        }
        true
    }

    /// Forgets everything; the broker has, too.
    pub(super) fn clear(&mut self, actions: &mut Vec<Action>) -> Vec<LeaseId> {
        // Sorted, because a map's order is random and a simulated world's must not be.
        let mut queues: Vec<QueueName> = self.queues.drain().map(|(queue, _)| queue).collect();
        queues.sort_unstable();
        let at_rest = |queue| Action::Credit(queue, CREDIT_AT_REST);
        actions.extend(queues.into_iter().map(at_rest));
        self.bytes = 0;
        let mut leases: Vec<LeaseId> = self.held.drain().map(|(lease, _)| lease).collect();
        leases.sort_unstable();
        leases
    }
}
