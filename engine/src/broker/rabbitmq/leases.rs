//! Leases: handed out, acked, given back. It must not know how a message came in.

use std::sync::Arc;

use lapin::Acker;

use super::desk::{Desk, Held};
use crate::broker::{Delivery, GiveBack, Lease, LeaseId, QueueName};

/// A message that is being acked. Unless [`Taken::acked`] is called it goes back to the broker.
pub(super) struct Taken {
    desk: Arc<Desk>,
    held: Option<Held>,
}

impl Taken {
    /// Its handle; acks once.
    pub(super) fn acker(&self) -> Option<&Acker> {
        self.held.as_ref().map(|held| &held.acker)
    }

    /// It is acked.
    pub(super) fn acked(mut self) {
        if let Some(held) = self.held.take() {
            self.desk.let_go(held, false);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.desk.let_go(held, true);
        }
    }
}

impl Desk {
    /// The next thing for the subscriber.
    pub(super) fn next(self: &Arc<Self>) -> Option<Delivery> {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_lost) {
            return Some(Delivery::LeasesLost);
        }
        loop {
            let name = state.ready.pop_front()?;
            let (rest, session) = (state.rest, state.session);
            let Some(queue) = state.queues.get_mut(&name) else {
                continue;
            };
            queue.is_listed = false;
            if queue.leased >= queue.credit(rest) {
                continue;
            }
            let Some(arrived) = queue.inbox.pop() else {
                continue;
            };
            queue.leased += 1;
            let lane = queue.ready.lane;
            state.ids += 1;
            let id = LeaseId(state.ids);
            let held = Held {
                acker: arrived.acker,
                queue: Arc::clone(&name),
                consumer: arrived.consumer,
                bytes: arrived.body.len(),
                is_first: arrived.is_first,
                session,
            };
            state.leases.insert(id, held);
            state.list(&name);
            let tenant = arrived.tenant;
            return Some(Delivery::Leased(Lease {
                id,
                queue: QueueName { tenant, lane },
                body: arrived.body,
                redelivered: arrived.redelivered,
                published_at: arrived.published_at,
                give_back: Some(Arc::clone(self) as Arc<dyn GiveBack>),
            }));
        }
    }

    /// Takes over leases to be acked; `None` for one that is void.
    pub(super) fn take(self: &Arc<Self>, leases: &[Lease]) -> Vec<Option<Taken>> {
        let mut state = self.lock();
        leases
            .iter()
            .map(|lease| {
                let held = state.leases.remove(&lease.id)?;
                Some(Taken {
                    desk: Arc::clone(self),
                    held: Some(held),
                })
            })
            .collect()
    }

    /// A message is nobody's any more: it was acked, or goes back.
    fn let_go(&self, held: Held, goes_back: bool) {
        let mut state = self.lock();
        if held.session != state.session {
            return;
        }
        if let Some(queue) = state.queues.get_mut(&held.queue) {
            queue.leased = queue.leased.saturating_sub(1);
        }
        let weighed = state.settle(&held);
        let is_listed = state.list(&held.queue);
        // Room for a further consumer, where cancelled ones had left messages.
        let touched = state.touch(&held.queue);
        if goes_back {
            state.returns.push_back((held.acker, true));
        }
        drop(state);
        if weighed {
            self.wake_channels();
        }
        if goes_back {
            self.give_backs.notify_one();
        }
        self.wake(touched, is_listed);
    }

    /// The next message that goes back; `false` to the broker's dead letters.
    pub(super) fn next_return(&self) -> Option<(Acker, bool)> {
        self.lock().returns.pop_front()
    }
}

impl GiveBack for Desk {
    fn give_back(&self, lease: LeaseId, _queue: &QueueName) {
        let held = self.lock().leases.remove(&lease);
        if let Some(held) = held {
            self.let_go(held, true);
        }
    }
}
