//! A model of the queue's contract, in memory: messages per queue, leases per connection, redelivery.
//! It must not know what is in a message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clarion_engine::broker::{LeaseId, QueueName};
use clarion_engine::model::{JobId, Millis};

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) jobs: Vec<JobId>,
    pub(crate) redelivered: bool,
    pub(crate) published_at: Millis,
}

/// A connection: an engine's process, and its how-manieth.
pub(crate) type Connection = (u32, u32);

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) queues: BTreeMap<QueueName, VecDeque<Stored>>,
    pub(crate) leased: BTreeMap<LeaseId, (Connection, QueueName, Stored)>,
    /// Connections with the credit of their queues.
    pub(crate) connections: BTreeMap<Connection, BTreeMap<QueueName, u32>>,
    next_lease: u64,
}

impl Broker {
    pub(crate) fn publish(
        &mut self,
        queue: QueueName,
        body: Vec<u8>,
        jobs: Vec<JobId>,
        now: Millis,
    ) {
        let stored = Stored {
            body: Arc::new(body),
            jobs,
            redelivered: false,
            published_at: now,
        };
        self.queues.entry(queue).or_default().push_back(stored);
    }

    /// The next hand-out, if there is a message and a connection with credit; `turn` chooses among connections.
    pub(crate) fn hand_out(&mut self, turn: usize, rest: u32) -> Option<(Connection, LeaseId)> {
        let connections: Vec<Connection> = self.connections.keys().copied().collect();
        for (queue, messages) in &mut self.queues {
            if messages.is_empty() {
                continue;
            }
            for place in 0..connections.len() {
                let to = connections[(place + turn) % connections.len()];
                let credit = self.connections[&to].get(queue).copied().unwrap_or(rest);
                let held = self
                    .leased
                    .values()
                    .filter(|(holder, of, _)| *holder == to && of == queue)
                    .count();
                if held >= credit as usize {
                    continue;
                }
                let message = messages.pop_front()?;
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                self.leased.insert(lease, (to, queue.clone(), message));
                return Some((to, lease));
            }
        }
        None
    }

    pub(crate) fn set_credit(&mut self, connection: Connection, queue: QueueName, credit: u32) {
        if let Some(credits) = self.connections.get_mut(&connection) {
            credits.insert(queue, credit);
        }
    }

    /// Removes a message; `None` when the lease is void.
    pub(crate) fn ack(&mut self, connection: Connection, lease: LeaseId) -> Option<Stored> {
        match self.leased.get(&lease) {
            Some((holder, _, _)) if *holder == connection => {}
            _ => return None,
        }
        self.leased.remove(&lease).map(|(_, _, message)| message)
    }

    pub(crate) fn give_back(&mut self, connection: Connection, lease: LeaseId) {
        let Some((holder, queue, mut message)) = self.leased.remove(&lease) else {
            return;
        };
        if holder != connection {
            self.leased.insert(lease, (holder, queue, message));
            return;
        }
        message.redelivered = true;
        self.queues.entry(queue).or_default().push_front(message);
    }

    /// A connection is gone: others may have its messages.
    pub(crate) fn drop_connection(&mut self, connection: Connection) {
        self.connections.remove(&connection);
        let of = |(lease, (holder, _, _)): (&LeaseId, &(Connection, QueueName, Stored))| {
            (*holder == connection).then_some(*lease)
        };
        let mut held: Vec<LeaseId> = self.leased.iter().filter_map(of).collect();
        held.reverse();
        for lease in held {
            self.give_back(connection, lease);
        }
    }

    /// All connections are gone, and nothing is known of earlier hand-outs.
    pub(crate) fn restart(&mut self) {
        let connections: Vec<Connection> = self.connections.keys().copied().collect();
        for connection in connections {
            self.drop_connection(connection);
        }
        // Connections that were lost before may still be unknown to their engines; their leases went back already.
        for message in self.queues.values_mut().flatten() {
            message.redelivered = false;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leased.is_empty() && self.queues.values().all(VecDeque::is_empty)
    }
}
