//! The hand-out desk: which queue has messages here and credit, who holds which message. Synchronous and in memory.
//! It must not know how consumers are started; it says which step comes next.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::Acker;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::inbox::Inbox;
use super::line::{Line, may_begin};
use super::names::ReadyQueue;
use super::plan::Plan;
use crate::broker::{Delivery, LeaseId};
use crate::limits::PREFETCHED_BYTES_MAX;
use crate::metrics::BrokerMetrics;
use crate::model::{Lane, Millis, TenantId};

/// Channels that consume. The consumers of a queue share one.
pub(super) const CHANNELS: usize = 4;
/// Queues that one process consumes.
const QUEUES_MAX: usize = 20_000;
/// Above this many bytes in hand the transactional queues rest, too; bulk queues rest from `PREFETCHED_BYTES_MAX` on.
const BYTES_MAX: usize = PREFETCHED_BYTES_MAX / 2 * 3;
/// Queues that rest are consumed again below this many bytes in hand.
const RESUME_BYTES: usize = PREFETCHED_BYTES_MAX / 2;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) ready: ReadyQueue,
    pub(super) channel: usize,
    /// What was said of its tenants' credit; the others are at rest.
    pub(super) credits: HashMap<TenantId, u32>,
    pub(super) plan: Plan,
    pub(super) inbox: Inbox,
    pub(super) leased: u32,
    /// It does not answer; it is left alone until it does on a channel that nothing depends on.
    pub(super) is_mute: bool,
    /// It waits for its turn to hand out.
    pub(super) is_listed: bool,
    /// It waits for the task of its channel.
    pub(super) is_dirty: bool,
    /// It waits in line for its first consumer.
    pub(super) is_in_line: bool,
    /// Its consumers have brought something: it has had its turn.
    pub(super) has_brought: bool,
}

/// A message in somebody's hands, or on its way back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) acker: Acker,
    pub(super) queue: Arc<str>,
    pub(super) consumer: u64,
    pub(super) bytes: usize,
    pub(super) is_first: bool,
    pub(super) session: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queues: HashMap<Arc<str>, Queue>,
    /// Queues with messages here and credit, in turn.
    pub(super) ready: VecDeque<Arc<str>>,
    /// Queues whose consumers may not be as they should, per channel.
    pub(super) dirty: [VecDeque<Arc<str>>; CHANNELS],
    /// Queues to be looked at later, per channel.
    pub(super) later: [BTreeSet<(Instant, Arc<str>)>; CHANNELS],
    pub(super) leases: HashMap<LeaseId, Held>,
    /// Messages on their way back to the broker; `false`: to its dead letters.
    pub(super) returns: VecDeque<(Acker, bool)>,
    /// Queues that wait for their first consumer.
    pub(super) line: Line,
    /// Bytes in hand.
    pub(super) bytes: usize,
    /// Bytes of messages that were the only one of their queue when they came in.
    pub(super) first_bytes: usize,
    /// Lanes that rest until less is in hand.
    pub(super) resting: Option<Resting>,
    pub(super) rest: u32,
    pub(super) out: Option<mpsc::Sender<Delivery>>,
    /// The connection; zero while there is none.
    pub(super) session: u64,
    pub(super) sessions: u64,
    pub(super) ids: u64,
    /// The subscriber is to be told that its leases are void.
    pub(super) is_lost: bool,
    pub(super) is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resting {
    Bulk,
    All,
}

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// There is something to hand out, or the desk has closed.
    pub(super) work: Notify,
    /// There is something to do on a channel.
    pub(super) channels: [Notify; CHANNELS],
    /// There is something to give back.
    pub(super) give_backs: Notify,
    /// The connection is to be given up.
    pub(super) failed: Notify,
    /// When the broker was last heard from, ms.
    heard: AtomicI64,
    pub(super) metrics: Arc<BrokerMetrics>,
}

impl Queue {
    pub(super) fn credit(&self, rest: u32) -> u32 {
        let said = self.credits.values().copied().max();
        match self.ready.tenant {
            Some(_) => said.unwrap_or(rest),
            None => said.unwrap_or(rest).max(rest),
        }
    }
}

impl State {
    /// What a queue's consumers should bring up to.
    pub(super) fn wanted(&self, queue: &Queue) -> u32 {
        let lane = queue.ready.lane;
        let is_idle = self.out.is_none() || self.session == 0 || self.rests(lane) || queue.is_mute;
        let gives_way = queue.has_brought && self.line.has(lane);
        if is_idle || gives_way {
            return 0;
        }
        queue.credit(self.rest)
    }

    fn rests(&self, lane: Lane) -> bool {
        match self.resting {
            None => false,
            Some(Resting::Bulk) => lane == Lane::Bulk,
            Some(Resting::All) => true,
        }
    }

    /// Whether queues of this lane may get their first consumers now.
    pub(super) fn may_begin(&self, lane: Lane) -> bool {
        may_begin(lane, self.first_bytes) && !self.rests(lane)
    }

    pub(super) fn list(&mut self, name: &Arc<str>) -> bool {
        let (rest, is_open) = (self.rest, self.out.is_some());
        let Some(queue) = self.queues.get_mut(name) else {
            return false;
        };
        let has_room = queue.leased < queue.credit(rest);
        if queue.is_listed || !is_open || queue.inbox.is_empty() || !has_room {
            return false;
        }
        queue.is_listed = true;
        self.ready.push_back(Arc::clone(name));
        true
    }

    pub(super) fn touch(&mut self, name: &Arc<str>) -> Option<usize> {
        let queue = self.queues.get_mut(name)?;
        if std::mem::replace(&mut queue.is_dirty, true) {
            return None;
        }
        self.dirty[queue.channel].push_back(Arc::clone(name));
        Some(queue.channel)
    }

    fn touch_all(&mut self) {
        let names: Vec<Arc<str>> = self.queues.keys().cloned().collect();
        for name in names {
            self.touch(&name);
        }
    }

    fn add(&mut self, ready: ReadyQueue) -> bool {
        if self.queues.contains_key(&ready.name) || self.queues.len() >= QUEUES_MAX {
            return false;
        }
        let name = Arc::clone(&ready.name);
        let queue = Queue {
            ready,
            channel: self.queues.len() % CHANNELS,
            credits: HashMap::new(),
            plan: Plan::default(),
            inbox: Inbox::default(),
            leased: 0,
            is_mute: false,
            is_listed: false,
            is_dirty: false,
            is_in_line: false,
            has_brought: false,
        };
        self.queues.insert(Arc::clone(&name), queue);
        self.touch(&name);
        true
    }

    /// Looks at the bytes in hand; `true` when queues began or ceased to rest, or the next in line may begin.
    pub(super) fn weigh(&mut self) -> bool {
        let is_still = |resting| self.resting == Some(resting) && self.bytes > RESUME_BYTES;
        let resting = if self.bytes > BYTES_MAX || is_still(Resting::All) {
            Some(Resting::All)
        } else if self.bytes > PREFETCHED_BYTES_MAX || is_still(Resting::Bulk) {
            Some(Resting::Bulk)
        } else {
            None
        };
        let changed = resting != self.resting;
        if changed {
            self.resting = resting;
            self.touch_all();
        }
        let moves = |lane| self.line.has(lane) && self.may_begin(lane);
        changed || moves(Lane::Transactional) || moves(Lane::Bulk)
    }

    /// A message has left: acked, or on its way back.
    pub(super) fn settle(&mut self, held: &Held) -> bool {
        if held.session != self.session {
            return false;
        }
        self.bytes -= held.bytes;
        if held.is_first {
            self.first_bytes -= held.bytes;
        }
        if let Some(queue) = self.queues.get_mut(&held.queue) {
            queue.plan.settled(held.consumer);
        }
        self.weigh()
    }

    /// What is here and not handed out goes back.
    pub(super) fn empty_inbox(&mut self, name: &Arc<str>) -> bool {
        let Some(queue) = self.queues.get_mut(name) else {
            return false;
        };
        let returned = queue.inbox.take_all();
        for message in &returned {
            self.bytes -= message.body.len();
            if message.is_first {
                self.first_bytes -= message.body.len();
            }
            queue.plan.settled(message.consumer);
        }
        self.returns
            .extend(returned.into_iter().map(|message| (message.acker, true)));
        self.weigh()
    }
}

impl Desk {
    pub(super) fn new(metrics: Arc<BrokerMetrics>) -> Self {
        Self {
            state: Mutex::default(),
            work: Notify::new(),
            channels: [const { Notify::const_new() }; CHANNELS],
            give_backs: Notify::new(),
            failed: Notify::new(),
            heard: AtomicI64::new(0),
            metrics,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_channels(&self) {
        for channel in &self.channels {
            channel.notify_one();
        }
    }

    /// Takes a subscriber; `false` when there is one already or the desk has closed.
    pub(super) fn open(&self, out: mpsc::Sender<Delivery>, rest: u32) -> bool {
        let mut state = self.lock();
        let is_taken = state.out.as_ref().is_some_and(|out| !out.is_closed());
        if is_taken || state.is_closed {
            return false;
        }
        let gone = state.out.replace(out);
        state.rest = rest;
        state.is_lost = false;
        state.touch_all();
        let names: Vec<Arc<str>> = state.queues.keys().cloned().collect();
        for name in names {
            state.list(&name);
        }
        // Dropped unlocked: leases inside come back through the lock.
        drop(state);
        drop(gone);
        self.wake_channels();
        self.work.notify_one();
        true
    }

    /// Hands out nothing more; every lease is void.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let gone = (state.out.take(), std::mem::take(&mut state.leases));
        drop(state);
        drop(gone);
        self.work.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Lets go of a subscriber that has gone.
    pub(super) fn unsubscribed(&self) {
        let mut state = self.lock();
        let gone = state.out.take_if(|out| out.is_closed());
        if gone.is_some() {
            state.touch_all();
        }
        drop(state);
        drop(gone);
        self.wake_channels();
        // A wake-up that was meant for the next subscriber.
        self.work.notify_one();
    }

    /// Consumes these queues from now on.
    pub(super) fn watch(&self, queues: impl Iterator<Item = ReadyQueue>) {
        let mut state = self.lock();
        let mut is_new = false;
        for queue in queues {
            is_new |= state.add(queue);
        }
        drop(state);
        if is_new {
            self.wake_channels();
        }
    }

    /// Somebody found a queue that nobody consumes: it is new, or was deleted and is here again. The broker does not always
    /// say when a queue is deleted, if it is made again at once.
    pub(super) fn announced(&self, ready: ReadyQueue) {
        let mut state = self.lock();
        let name = Arc::clone(&ready.name);
        let is_new = state.add(ready);
        let queue = state.queues.get_mut(&name);
        let is_stale = queue.is_some_and(|queue| queue.plan.suspect());
        if is_stale {
            state.touch(&name);
        }
        drop(state);
        if is_new || is_stale {
            self.wake_channels();
        }
    }

    /// Queues that are consumed, with the messages of each that are here.
    pub(super) fn watched(&self) -> Vec<(ReadyQueue, u64)> {
        let state = self.lock();
        let here = |queue: &Queue| queue.leased as usize + queue.inbox.len();
        let queues = state.queues.values();
        queues
            .map(|queue| (queue.ready.clone(), here(queue) as u64))
            .collect()
    }

    pub(super) fn set_credit(
        &self,
        ready: ReadyQueue,
        tenant: &TenantId,
        unacked: u32,
        now: Instant,
    ) {
        let mut state = self.lock();
        let (name, rest) = (Arc::clone(&ready.name), state.rest);
        let is_rest = unacked == rest && state.out.is_some();
        if is_rest && !state.queues.contains_key(&name) {
            return;
        }
        state.add(ready);
        let Some(queue) = state.queues.get_mut(&name) else {
            return;
        };
        let before = queue.credit(rest);
        if is_rest {
            queue.credits.remove(tenant);
        } else {
            queue.credits.insert(tenant.clone(), unacked);
        }
        let after = queue.credit(rest);
        queue.plan.credit_changed(before, after, now);
        let touched = state.touch(&name);
        let is_listed = state.list(&name);
        drop(state);
        self.wake(touched, is_listed);
    }

    pub(super) fn wake(&self, touched: Option<usize>, is_listed: bool) {
        if let Some(channel) = touched {
            self.channels[channel].notify_one();
        }
        if is_listed {
            self.work.notify_one();
        }
    }

    /// A connection stands: consumers may be started on it.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.sessions += 1;
        state.session = state.sessions;
        state.touch_all();
        state.session
    }

    /// The connection is gone, and with it every lease.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if state.session == 0 {
            return;
        }
        state.session = 0;
        state.bytes = 0;
        state.first_bytes = 0;
        state.resting = None;
        state.is_lost = true;
        let gone = (
            std::mem::take(&mut state.leases),
            std::mem::take(&mut state.returns),
        );
        for queue in state.queues.values_mut() {
            queue.plan = Plan::default();
            queue.inbox = Inbox::default();
            queue.leased = 0;
            queue.is_in_line = false;
            queue.has_brought = false;
        }
        state.line.clear();
        for later in &mut state.later {
            later.clear();
        }
        drop(state);
        drop(gone);
        self.work.notify_one();
    }

    /// The broker was heard from: it answered what was sent at this time.
    pub(super) fn heard(&self, at: Millis) {
        self.heard.fetch_max(at, Ordering::Relaxed);
    }

    pub(super) fn last_heard(&self) -> Millis {
        self.heard.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
