//! A thread's books on its routes and pools.
//! It must not know how requests are sent or answers read.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::load::RouteLoad;
use crate::http2::Pool;
use crate::model::Lane;
use crate::provider::{Credential, CredentialAlert, RouteKey};

/// Streams of a warm pool that only transactional pushes may use: one in this many.
const RESERVED_SHARE: usize = 16;
/// Most such streams.
const RESERVED_MAX: usize = 64;

/// What a pool carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// Pushes of one APNs credential.
    Apns,
    /// Pushes of all FCM projects.
    Fcm,
    /// Requests for access tokens.
    AccessTokens,
}

/// A pool and who waits for it.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) pool: Pool,
    pub(super) carries: Carries,
    /// Routes with queued recipients, by lane, in turn.
    pub(super) turns: [VecDeque<u32>; 2],
    /// Since when requests wait and nothing is in flight.
    pub(super) stalled_since: Option<Instant>,
    /// The last window that was reported.
    pub(super) window: usize,
}

impl PoolState {
    pub(super) fn new(pool: Pool, carries: Carries) -> Self {
        Self {
            pool,
            carries,
            turns: Default::default(),
            stalled_since: None,
            window: 0,
        }
    }

    /// Streams that `lane` may open now.
    pub(super) fn free(&self, lane: Lane) -> usize {
        let reserved = match lane {
            Lane::Transactional => 0,
            Lane::Bulk => reserved(self.pool.window()),
        };
        self.pool.free().saturating_sub(reserved)
    }

    /// Streams that one route may have open: all of its own pool; of a shared one three in four, so that a stalled
    /// project leaves some to the others while the pool grows.
    pub(super) fn route_window(&self) -> usize {
        let window = self.pool.window();
        match self.carries {
            Carries::Fcm => (window - window / 4).max(1),
            Carries::Apns | Carries::AccessTokens => window.max(1),
        }
    }
}

fn reserved(window: usize) -> usize {
    match window {
        0 | 1 => 0,
        _ => (window / RESERVED_SHARE).clamp(1, RESERVED_MAX),
    }
}

/// One route on this thread.
#[derive(Debug)]
pub(super) struct RouteState {
    pub(super) key: RouteKey,
    pub(super) credential: Credential,
    pub(super) pool: u32,
    /// Slices with unsent recipients, by lane.
    pub(super) lanes: [VecDeque<u32>; 2],
    /// Whether the pool has this route in its turns, by lane.
    pub(super) listed: [bool; 2],
    /// Recipients sent and not answered.
    pub(super) in_flight: usize,
    /// Since when recipients wait for an access token.
    pub(super) tokenless_since: Option<Instant>,
    /// An access token is asked for in its name.
    pub(super) refreshing: bool,
    pub(super) load: Arc<RouteLoad>,
    /// The last alert, so that each is raised once.
    pub(super) alert: Option<CredentialAlert>,
    pub(super) used_at: Instant,
}

impl RouteState {
    pub(super) fn new(
        (key, credential): (RouteKey, Credential),
        pool: u32,
        load: Arc<RouteLoad>,
        now: Instant,
    ) -> Self {
        Self {
            key,
            credential,
            pool,
            lanes: Default::default(),
            listed: [false; 2],
            in_flight: 0,
            tokenless_since: None,
            refreshing: false,
            load,
            alert: None,
            used_at: now,
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_empty())
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.has_queued() && self.in_flight == 0 && !self.refreshing
    }
}

/// The index of a lane.
pub(super) fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Transactional => 0,
        Lane::Bulk => 1,
    }
}

/// Values by small numbers that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The number that the next value will have.
    pub(super) fn next_number(&self) -> u32 {
        let end = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.free.last().copied().unwrap_or(end)
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = self.next_number();
        match self.free.pop() {
            Some(number) => self.slots[number as usize] = Some(value),
            None => self.slots.push(Some(value)),
        }
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// The numbers in use.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let used = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some());
        used.filter_map(|(number, _)| u32::try_from(number).ok())
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let used = self.slots.iter().enumerate();
        used.filter_map(|(number, slot)| Some((u32::try_from(number).ok()?, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_streams_are_kept_for_transactional_pushes() {
        let cases = [
            (0, 0),
            (1, 0),
            (2, 1),
            (31, 1),
            (100, 6),
            (1_000, 62),
            (8_000, 64),
        ];
        for (window, expected) in cases {
            assert_eq!(reserved(window), expected, "{window}");
        }
    }

    #[test]
    fn numbers_are_used_again() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert('a'), slab.insert('b')), (0, 1));
        assert_eq!(slab.remove(0), Some('a'));
        assert_eq!((slab.remove(0), slab.next_number()), (None, 0));
        assert_eq!(slab.insert('c'), 0);
        assert_eq!(slab.numbers(), [0, 1]);
    }
}
