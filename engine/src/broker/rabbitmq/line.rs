//! The line of queues that wait for a consumer while many bytes are in hand. It must not know consumers or messages.
//!
//! Thousands of queues with a large message each would bring more than a process may hold, though each brings only one. So
//! beyond a number of bytes no queue of a lane gets its first consumer; it waits in line. While others wait, a queue whose
//! consumer has brought something gives the consumer up and stands at the end of the line: every queue is served, a few at
//! a time. Only the first message of each queue in hand counts: the floods of a few are bounded by their credit, and keep nobody
//! in line.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::PREFETCHED_BYTES_MAX;
use crate::model::Lane;

/// Bytes of first messages in hand up to which bulk queues get their first consumer. A job that was parsed takes three times
/// the memory of its message, and a tenant's connection as much again.
const BULK_BYTES_MAX: usize = PREFETCHED_BYTES_MAX / 16 * 3;
/// The same for transactional queues: the bulk of many leaves something for them.
const TRANSACTIONAL_BYTES_MAX: usize = PREFETCHED_BYTES_MAX / 16 * 5;

/// Whether a queue of this lane may get its first consumer with so many bytes of first messages in hand.
pub(super) fn may_begin(lane: Lane, bytes: usize) -> bool {
    let most = match lane {
        Lane::Transactional => TRANSACTIONAL_BYTES_MAX,
        Lane::Bulk => BULK_BYTES_MAX,
    };
    bytes < most
}

/// Queues that wait, with their channels; a line for each lane.
#[derive(Debug, Default)]
pub(super) struct Line([VecDeque<(usize, Arc<str>)>; 2]);

impl Line {
    /// A queue takes its place at the end.
    pub(super) fn push(&mut self, channel: usize, lane: Lane, name: Arc<str>) {
        self.0[index(lane)].push_back((channel, name));
    }

    /// The queue whose turn it is, if it is one of this channel; transactional ones first.
    pub(super) fn pop(&mut self, channel: usize, may: impl Fn(Lane) -> bool) -> Option<Arc<str>> {
        let lanes = [Lane::Transactional, Lane::Bulk].into_iter();
        lanes.filter(|lane| may(*lane)).find_map(|lane| {
            let first = self.0[index(lane)].pop_front_if(|(its, _)| *its == channel);
            first.map(|(_, name)| name)
        })
    }

    /// Whether any queue of this lane waits.
    pub(super) fn has(&self, lane: Lane) -> bool {
        !self.0[index(lane)].is_empty()
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Transactional => 0,
        Lane::Bulk => 1,
    }
}
