//! Leases in hand: which jobs each message holds, how many messages and bytes each queue has out, and how much credit
//! it gets. It must not know what becomes of a job.

use std::collections::HashMap;

use super::Action;
use crate::broker::{LeaseId, QueueName};
use crate::limits::PREFETCHED_BYTES_MAX;
use crate::model::{Job, Lane};

/// Messages of a queue that may be unacked while nothing of it is being sent.
pub const CREDIT_AT_REST: u32 = 1;

/// Messages of a queue that may be unacked while it is being served. A message of a transactional queue holds a single
/// recipient as a rule, so that it takes many to fill the connections.
const CREDIT_MAX: u32 = 1_024;

/// Bytes of one lane in hand up to which its queues get more. Each lane has a half of its own, so that the bulk of some
/// does not hold back the transactional pushes of others.
const LANE_BYTES_MAX: usize = PREFETCHED_BYTES_MAX / 2;

/// Bytes of one queue in hand up to which it gets more, so that no tenant takes all of a lane's.
const QUEUE_BYTES_MAX: usize = LANE_BYTES_MAX / 4;

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
    bytes: usize,
    credit: u32,
}

/// All leases in hand.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<LeaseId, Held>,
    queues: HashMap<QueueName, Queue>,
    /// By lane.
    bytes: [usize; 2],
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
        let in_lane = &mut self.bytes[lane_index(queue.lane)];
        *in_lane += bytes;
        let in_lane = *in_lane;
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
            bytes: 0,
            credit: CREDIT_AT_REST,
        });
        entry.leased += 1;
        entry.bytes += bytes;
        if entry.leased >= entry.credit
            && entry.credit < CREDIT_MAX
            && entry.bytes < QUEUE_BYTES_MAX
            && in_lane < LANE_BYTES_MAX
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
        self.bytes[lane_index(held.queue.lane)] -= held.bytes;
        let Some(queue) = self.queues.get_mut(&held.queue) else {
            return true;
        };
        queue.leased -= 1;
        queue.bytes -= held.bytes;
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
        self.bytes = [0; 2];
        let mut leases: Vec<LeaseId> = self.held.drain().map(|(lease, _)| lease).collect();
        leases.sort_unstable();
        leases
    }
}

fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Transactional => 0,
        Lane::Bulk => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    /// Bytes of a job of 500 recipients, about.
    const JOB: usize = 36_000;

    fn queue(tenant: &str, lane: Lane) -> QueueName {
        let tenant = tenant.parse().unwrap();
        QueueName { tenant, lane }
    }

    /// Takes messages of `bytes` as long as credit is left, which the flood of a deep queue does; the credit it came to.
    fn flood(leases: &mut Leases, queue: &QueueName, bytes: usize, ids: &mut u64) -> u32 {
        let mut credit = CREDIT_AT_REST;
        let mut leased = 0;
        while leased < credit {
            let mut actions = Vec::new();
            *ids += 1;
            leases.add(LeaseId(*ids), queue, (bytes, 1), &mut actions);
            leased += 1;
            for action in actions {
                if let Action::Credit(_, more) = action {
                    credit = more;
                }
            }
        }
        credit
    }

    #[test]
    fn a_flood_takes_its_share_and_no_more() {
        let (mut leases, mut ids) = (Leases::default(), 0);
        let credit = flood(&mut leases, &queue("a", Lane::Bulk), JOB, &mut ids);
        assert!(
            credit as usize * JOB < 2 * QUEUE_BYTES_MAX + JOB,
            "{credit}"
        );
        assert!(credit >= 64, "{credit}");
    }

    #[test]
    fn transactional_queues_get_credit_beside_any_number_of_floods() {
        let (mut leases, mut ids) = (Leases::default(), 0);
        for tenant in 0..64 {
            flood(
                &mut leases,
                &queue(&format!("a{tenant}"), Lane::Bulk),
                JOB,
                &mut ids,
            );
        }
        assert!(leases.bytes[1] >= LANE_BYTES_MAX);
        assert_eq!(
            flood(&mut leases, &queue("late", Lane::Bulk), JOB, &mut ids),
            CREDIT_AT_REST
        );
        let mine = queue("b", Lane::Transactional);
        assert_eq!(flood(&mut leases, &mine, 400, &mut ids), CREDIT_MAX);
    }

    #[test]
    fn what_is_given_back_is_counted_back() {
        let (mut leases, mut ids) = (Leases::default(), 0);
        let mine = queue("a", Lane::Bulk);
        flood(&mut leases, &mine, JOB, &mut ids);
        let mut actions = Vec::new();
        for id in 1..=ids {
            assert!(leases.remove(LeaseId(id), &mut actions));
        }
        assert_eq!(leases.bytes, [0, 0]);
        assert!(leases.is_empty() && leases.queues.is_empty());
        assert!(matches!(actions[..], [Action::Credit(_, CREDIT_AT_REST)]));
    }
}
