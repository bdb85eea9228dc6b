//! The hand-out desk: which queue has work and credit, who holds which message. Synchronous and in memory.
//! It must not know the file in which messages lie.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::broker::{Delivery, GiveBack, Lease, LeaseId, QueueName};
use crate::model::Millis;

/// A message as the file has it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: i64,
    pub(super) published_at: Millis,
    pub(super) body: Bytes,
}

/// Messages of one queue that may be handed out now.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) queue: QueueName,
    pub(super) wanted: Wanted,
    /// At most so many.
    pub(super) limit: usize,
}

/// Which messages a task is about.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// These, which were given back.
    Returned(Vec<i64>),
    /// The next ones after the first id, up to the second.
    Next(i64, i64),
}

/// A message to be handed to the subscriber, with its place there; unlocked, and before the next is
/// announced.
pub(super) type HandOut = (mpsc::OwnedPermit<Delivery>, Lease);

#[derive(Debug, Default)]
struct Queue {
    /// All messages up to this id have been handed out.
    cursor: i64,
    /// The last message.
    tail: i64,
    returned: BTreeSet<i64>,
    /// `None`: the subscription's rest.
    credit: Option<u32>,
    unacked: u32,
    depth: u64,
    /// The dispatcher is at it; nobody else may hand out, or the order would be lost.
    is_served: bool,
    is_listed: bool,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<QueueName, Queue>,
    /// Queues with work and credit, in turn.
    ready: VecDeque<QueueName>,
    leases: HashMap<LeaseId, (QueueName, i64)>,
    leases_given: u64,
    rest: u32,
    out: Option<mpsc::Sender<Delivery>>,
    /// Messages up to this id were there at the start: they may have been handed out before.
    old: i64,
    is_closed: bool,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// There is a ready queue, or the desk has closed.
    work: Notify,
}

impl Queue {
    fn room(&self, rest: u32) -> u32 {
        self.credit.unwrap_or(rest).saturating_sub(self.unacked)
    }

    fn has_work(&self) -> bool {
        !self.returned.is_empty() || self.cursor < self.tail
    }

    fn is_forgettable(&self) -> bool {
        self.depth == 0 && self.unacked == 0 && self.credit.is_none() && !self.is_served
    }
}

impl State {
    /// Lists a queue if something of it may be handed out.
    fn list(&mut self, name: &QueueName) -> bool {
        if self.out.is_none() {
            return false;
        }
        let rest = self.rest;
        let Some(queue) = self.queues.get_mut(name) else {
            return false;
        };
        let is_free = !queue.is_listed && !queue.is_served;
        if !is_free || !queue.has_work() || queue.room(rest) == 0 {
            return false;
        }
        queue.is_listed = true;
        self.ready.push_back(name.clone());
        true
    }

    fn lease(
        &mut self,
        name: &QueueName,
        message: Message,
        was_returned: bool,
        desk: &Arc<Desk>,
    ) -> Lease {
        self.leases_given += 1;
        let id = LeaseId(self.leases_given);
        self.leases.insert(id, (name.clone(), message.id));
        if let Some(queue) = self.queues.get_mut(name) {
            queue.unacked += 1;
        }
        Lease {
            id,
            queue: name.clone(),
            body: message.body,
            redelivered: was_returned || message.id <= self.old,
            published_at: Some(message.published_at),
            give_back: Some(Arc::clone(desk) as Arc<dyn GiveBack>),
        }
    }

    fn forget_idle(&mut self, name: &QueueName) {
        if self.queues.get(name).is_some_and(Queue::is_forgettable) {
            self.queues.remove(name);
        }
    }
}

impl Desk {
    /// A desk for the queues found at the start: name, first id, last id, messages.
    pub(super) fn new(found: Vec<(QueueName, i64, i64, u64)>) -> Self {
        let mut state = State::default();
        for (name, first, last, depth) in found {
            state.old = state.old.max(last);
            let queue = Queue {
                cursor: first - 1,
                tail: last,
                depth,
                ..Queue::default()
            };
            state.queues.insert(name, queue);
        }
        Self {
            state: Mutex::new(state),
            work: Notify::new(),
        }
    }

    /// The last id in the file at the start.
    pub(super) fn last_old(&self) -> i64 {
        self.lock().old
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let names: Vec<QueueName> = state.queues.keys().cloned().collect();
        for name in names {
            state.list(&name);
        }
        // Dropped unlocked: leases inside come back through the lock.
        drop(state);
        drop(gone);
        self.work.notify_one();
        true
    }

    /// Hands out nothing more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let gone = state.out.take();
        // Dropped unlocked: leases inside come back through the lock.
        drop(state);
        drop(gone);
        self.work.notify_one();
    }

    pub(super) fn set_credit(&self, name: &QueueName, unacked: u32) {
        let mut state = self.lock();
        let credit = (unacked != state.rest || state.out.is_none()).then_some(unacked);
        state.queues.entry(name.clone()).or_default().credit = credit;
        let is_listed = state.list(name);
        state.forget_idle(name);
        drop(state);
        if is_listed {
            self.work.notify_one();
        }
    }

    /// Notes a message that was just committed. An idle queue's message goes straight out.
    pub(super) fn committed(
        self: &Arc<Self>,
        name: &QueueName,
        message: Message,
    ) -> Option<HandOut> {
        let mut state = self.lock();
        let rest = state.rest;
        let out = state.out.clone();
        let queue = state.queues.entry(name.clone()).or_default();
        let is_idle = !queue.has_work() && !queue.is_served && queue.room(rest) > 0;
        if queue.depth == 0 && !queue.has_work() {
            queue.cursor = message.id - 1;
        }
        queue.tail = message.id;
        queue.depth += 1;
        let permit = out
            .filter(|_| is_idle)
            .and_then(|out| out.try_reserve_owned().ok());
        if let Some(permit) = permit {
            queue.cursor = message.id;
            let lease = state.lease(name, message, false, self);
            return Some((permit, lease));
        }
        let is_listed = state.list(name);
        drop(state);
        if is_listed {
            self.work.notify_one();
        }
        None
    }

    /// Waits for a ready queue; `false` when the desk has closed.
    pub(super) async fn wait(&self) -> bool {
        loop {
            let notified = self.work.notified();
            {
                let state = self.lock();
                if state.is_closed {
                    return false;
                }
                if !state.ready.is_empty() {
                    return true;
                }
            }
            notified.await;
        }
    }

    /// The next queue's turn, for at most `most` messages. Whoever takes it must end it with
    /// [`Desk::served`].
    pub(super) fn next_task(&self, most: usize) -> Option<Task> {
        next_task(&mut self.lock(), most)
    }

    /// Lets go of a subscriber that has gone. What it had not received is ready again.
    pub(super) fn unsubscribed(&self) {
        let mut state = self.lock();
        let gone = state.out.take_if(|out| out.is_closed());
        // Dropped unlocked: leases inside come back through the lock.
        drop(state);
        drop(gone);
    }

    /// Hands over the messages read for a task.
    pub(super) fn lease(self: &Arc<Self>, task: &Task, messages: Vec<Message>) -> Vec<Lease> {
        let mut state = self.lock();
        let read = messages.len();
        let was_returned = matches!(task.wanted, Wanted::Returned(_));
        if let Some(queue) = state.queues.get_mut(&task.queue) {
            match &task.wanted {
                // What is gone from the file was acked after all.
                Wanted::Returned(asked) => {
                    queue.depth = queue.depth.saturating_sub((asked.len() - read) as u64);
                }
                Wanted::Next(_, tail) => {
                    let last = messages.last().map_or(*tail, |message| message.id);
                    queue.cursor = if read < task.limit { *tail } else { last };
                }
            }
        }
        messages
            .into_iter()
            .map(|message| state.lease(&task.queue, message, was_returned, self))
            .collect()
    }

    /// Ends a queue's turn; `unread` when its messages could not be read.
    pub(super) fn served(&self, task: Task, unread: bool) {
        let mut state = self.lock();
        if let Some(queue) = state.queues.get_mut(&task.queue) {
            queue.is_served = false;
            if let (Wanted::Returned(ids), true) = (task.wanted, unread) {
                queue.returned.extend(ids);
            }
        }
        let is_listed = state.list(&task.queue);
        state.forget_idle(&task.queue);
        drop(state);
        if is_listed {
            self.work.notify_one();
        }
    }

    /// The messages of these leases; `None` for a lease that is void.
    pub(super) fn messages_of(&self, leases: &[Lease]) -> Vec<Option<i64>> {
        let state = self.lock();
        leases
            .iter()
            .map(|lease| state.leases.get(&lease.id).map(|(_, message)| *message))
            .collect()
    }

    /// Forgets leases whose messages are gone from the file.
    pub(super) fn acked(&self, leases: &[LeaseId]) {
        let mut state = self.lock();
        let mut is_listed = false;
        for lease in leases {
            let Some((name, _)) = state.leases.remove(lease) else {
                continue;
            };
            if let Some(queue) = state.queues.get_mut(&name) {
                queue.unacked = queue.unacked.saturating_sub(1);
                queue.depth = queue.depth.saturating_sub(1);
            }
            is_listed |= state.list(&name);
            state.forget_idle(&name);
        }
        drop(state);
        if is_listed {
            self.work.notify_one();
        }
    }

    /// Makes messages of leases ready again.
    pub(super) fn returned(&self, leases: &[LeaseId]) {
        let mut state = self.lock();
        let mut is_listed = false;
        for lease in leases {
            let Some((name, message)) = state.leases.remove(lease) else {
                continue;
            };
            if let Some(queue) = state.queues.get_mut(&name) {
                queue.unacked = queue.unacked.saturating_sub(1);
                queue.returned.insert(message);
            }
            is_listed |= state.list(&name);
        }
        drop(state);
        if is_listed {
            self.work.notify_one();
        }
    }

    /// Messages per queue.
    pub(super) fn depths(&self) -> Vec<(QueueName, u64)> {
        let state = self.lock();
        state
            .queues
            .iter()
            .filter(|(_, queue)| queue.depth > 0)
            .map(|(name, queue)| (name.clone(), queue.depth))
            .collect()
    }
}

impl GiveBack for Desk {
    fn give_back(&self, lease: LeaseId, _queue: &QueueName) {
        self.returned(&[lease]);
    }
}

fn next_task(state: &mut State, most: usize) -> Option<Task> {
    while let Some(name) = state.ready.pop_front() {
        let rest = state.rest;
        let Some(queue) = state.queues.get_mut(&name) else {
            continue;
        };
        queue.is_listed = false;
        let room = queue.room(rest) as usize;
        if room == 0 || !queue.has_work() {
            continue;
        }
        queue.is_served = true;
        let limit = room.min(most);
        let returned: Vec<i64> = queue.returned.iter().take(limit).copied().collect();
        let wanted = if returned.is_empty() {
            Wanted::Next(queue.cursor, queue.tail)
        } else {
            for id in &returned {
                queue.returned.remove(id);
            }
            Wanted::Returned(returned)
        };
        return Some(Task {
            queue: name,
            wanted,
            limit,
        });
    }
    None
}
