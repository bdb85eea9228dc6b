//! The connections of one key on one thread: picking, growing, draining, and the one place that re-sends.
//! It must not know what it carries, nor why a connection is retired from above.
//!
//! A request is re-sent at once only if the peer proved that it did not process it (RFC 9113, 8.7). The pool keeps
//! tickets, not requests: whoever sends makes the request anew, which is cheaper than keeping a copy of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Jitter, after_failure};
use super::connection::{Change, Connection};
use super::connector::Connector;
use super::ready::Bell;
use super::streams::{Clock, Flight, Landing};
use super::{Error, ErrorKind, Origin, Request, Response};
use crate::limits::{
    CONNECTION_AGE_MAX, CONNECTION_IDLE_MAX, CONNECTION_SPARE_IDLE_MAX, OPEN_GAP, RESENDS_MAX,
};
use crate::model::Processed;

/// Ticks in a row with most streams in use after which another connection is worth its cost. Most, not all: a part is kept
/// for the transactional lane, and a stream is not taken again in the instant it ends.
const SATURATED_TICKS: u32 = 3;

/// How a pool connects.
#[derive(Clone)]
pub struct PoolOptions {
    /// Where to.
    pub origin: Origin,
    /// How.
    pub connector: Connector,
    /// Most connections.
    pub connections_max: usize,
    /// Total time of one request.
    pub request_deadline: Duration,
    /// All streams may be used from the start; otherwise one, until a request has succeeded on the connection.
    pub trusted: bool,
}

impl std::fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolOptions")
            .field("origin", &self.origin)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// What pools have done, for metrics.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Connections opened.
    pub connects: AtomicU64,
    /// Connections that could not be opened.
    pub connect_failures: AtomicU64,
    /// Connections that broke, or were given up.
    pub losses: AtomicU64,
    /// GOAWAY received.
    pub goaways: AtomicU64,
    /// Requests sent again because the peer proved them unprocessed.
    pub resends: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A request in the pool's books: the caller's number, and how often it was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The caller's.
    pub number: u64,
    resends: u8,
}

impl Ticket {
    /// A request that was never sent.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self { number, resends: 0 }
    }
}

/// What one request came to.
#[derive(Debug)]
pub struct Completion {
    /// The caller's number.
    pub number: u64,
    /// The connection it went by; 0 for none.
    pub connection: u32,
    /// Time since it was handed over.
    pub elapsed: Duration,
    /// The answer, or why there is none.
    pub result: Result<Response, Error>,
}

/// The connections of one key on one thread.
pub struct Pool {
    number: u32,
    options: PoolOptions,
    bell: Arc<Bell>,
    counters: Arc<PoolCounters>,
    connections: Vec<Connection>,
    resends: VecDeque<Ticket>,
    landed: Vec<Landing>,
    jitter: Jitter,
    last_id: u32,
    failures: u32,
    open_after: Option<Instant>,
    saturated: u32,
}

impl Pool {
    /// An empty pool; `number` is what its signals ring with at `bell`.
    pub(crate) fn new(
        number: u32,
        options: PoolOptions,
        bell: &Arc<Bell>,
        counters: &Arc<PoolCounters>,
    ) -> Self {
        Self {
            number,
            options,
            bell: Arc::clone(bell),
            counters: Arc::clone(counters),
            connections: Vec::new(),
            resends: VecDeque::new(),
            landed: Vec::new(),
            jitter: Jitter::seeded(),
            last_id: 0,
            failures: 0,
            open_after: None,
            saturated: 0,
        }
    }

    /// Streams that may be opened now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.connections.iter().map(Connection::free).sum()
    }

    /// Streams that may be open at once on the connections there are.
    #[must_use]
    pub fn window(&self) -> usize {
        self.connections.iter().map(Connection::limit).sum()
    }

    /// Streams that are open.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.connections.iter().map(Connection::in_flight).sum()
    }

    /// Whether there is no connection, not even one on its way, and nothing to send again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.resends.is_empty()
    }

    /// Whether requests have to wait for a connection to open.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        !self.connections.iter().any(Connection::is_usable)
    }

    /// Polls what was woken.
    pub fn drive(&mut self, clock: Clock, done: &mut Vec<Completion>) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let change = connection.drive(clock, &mut self.landed);
            if connection.take_goaway() {
                count(&self.counters.goaways);
            }
            self.settle(index, clock.now, done);
            self.note(index, change, clock.now);
        }
        self.connections
            .retain(|connection| !connection.is_closed());
    }

    /// Deadlines, PING, age, idleness; to be called about every 100 ms.
    pub fn tick(&mut self, clock: Clock, done: &mut Vec<Completion>) {
        for index in 0..self.connections.len() {
            let deadline = self.options.request_deadline;
            let change = self.connections[index].tick(deadline, clock, &mut self.landed);
            self.settle(index, clock.now, done);
            self.note(index, change, clock.now);
        }
        self.connections
            .retain(|connection| !connection.is_closed());
        self.retire_idle(clock.now);
        let busy = self.in_flight();
        let full = busy > 0 && busy * 4 >= self.window() * 3;
        self.saturated = if full {
            self.saturated.saturating_add(1)
        } else {
            0
        };
    }

    /// Opens a connection if requests wait and one more is needed, allowed and due.
    pub fn grow(&mut self, waiting: usize, now: Instant) {
        let usable = self
            .connections
            .iter()
            .filter(|one| one.is_usable())
            .count();
        let starting = |one: &Connection| one.is_opening() || one.is_unproven();
        let needed = if usable == 0 {
            waiting > 0 || !self.resends.is_empty()
        } else {
            let full = waiting > 0 && self.free() == 0;
            full || self.saturated >= SATURATED_TICKS
        };
        let due = self.open_after.is_none_or(|at| now >= at);
        if !needed || !due || self.connections.iter().any(starting) {
            return;
        }
        if usable >= self.options.connections_max {
            return;
        }
        self.saturated = 0;
        self.open_after = Some(now + OPEN_GAP);
        self.last_id = self.last_id.wrapping_add(1);
        let age = CONNECTION_AGE_MAX + self.jitter.part_of(CONNECTION_AGE_MAX / 2);
        self.connections.push(Connection::open(
            (self.last_id, self.number),
            &self.bell,
            (&self.options.origin, &self.options.connector),
            self.options.trusted,
            (now, now + age),
        ));
    }

    /// The next request to send again; these go before all others.
    pub fn next_resend(&mut self) -> Option<Ticket> {
        self.resends.pop_front()
    }

    /// Whether something is to be sent again.
    #[must_use]
    pub fn has_resends(&self) -> bool {
        !self.resends.is_empty()
    }

    /// Puts a ticket back that could not be sent yet.
    pub fn put_back(&mut self, ticket: Ticket) {
        self.resends.push_front(ticket);
    }

    /// Hands a request to a connection that has yet to prove itself, else to the least loaded one. To be called while [`Self::free`] says so.
    pub fn send(
        &mut self,
        ticket: Ticket,
        request: Request,
        now: Instant,
        done: &mut Vec<Completion>,
    ) {
        // A new connection offers one stream until its first success. It goes first, or beside full ones it never gets a request
        // and never offers more.
        let rank = |one: &&mut Connection| (one.is_unproven() && one.free() > 0, one.free());
        let best = self.connections.iter_mut().max_by_key(rank);
        let flight = Flight {
            ticket: ticket.number,
            resends: ticket.resends,
            sent_at: now,
        };
        let Some(connection) = best.filter(|one| one.free() > 0) else {
            self.again(
                flight,
                0,
                Error::new(ErrorKind::NoConnection, Processed::No),
                done,
            );
            return;
        };
        if !connection.send(request, flight) {
            let id = connection.id;
            self.again(
                flight,
                id,
                Error::new(ErrorKind::Refused, Processed::No),
                done,
            );
        }
    }

    /// No new streams on a connection; it closes when those in flight have ended.
    pub fn retire(&mut self, connection: u32) {
        let found = self.connections.iter_mut().find(|one| one.id == connection);
        if let Some(connection) = found {
            connection.retire();
        }
    }

    /// No new streams on any connection there is now.
    pub fn retire_all(&mut self) {
        self.connections.iter_mut().for_each(Connection::retire);
    }

    /// Ends everything at once.
    pub fn close(&mut self, clock: Clock, done: &mut Vec<Completion>) {
        for index in 0..self.connections.len() {
            self.connections[index].close(clock, &mut self.landed);
            self.settle(index, clock.now, done);
        }
        self.connections.clear();
    }

    fn note(&mut self, index: usize, change: Option<Change>, now: Instant) {
        let answered = self.connections[index].has_answered;
        let origin = &self.options.origin;
        match change {
            None => return,
            Some(Change::Opened) => return count(&self.counters.connects),
            Some(Change::Failed(error)) => {
                count(&self.counters.connect_failures);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%origin, %error, ?cause, "no connection to the provider");
            }
            Some(Change::Lost(error)) => {
                count(&self.counters.losses);
                let cause = error.map(|error| error.to_string());
                tracing::debug!(%origin, ?cause, "connection ended");
            }
        }
        if !answered {
            // A peer that takes connections and breaks them is as bad as one that takes none.
            self.failures = self.failures.saturating_add(1);
            self.open_after = Some(now + after_failure(self.failures, &mut self.jitter));
        }
    }

    /// Turns landings of connection `index` into completions, or into another try.
    fn settle(&mut self, index: usize, now: Instant, done: &mut Vec<Completion>) {
        let connection = self.connections[index].id;
        if self.landed.iter().any(|landing| landing.result.is_ok()) {
            self.connections[index].has_answered = true;
            self.failures = 0;
        }
        let mut landed = std::mem::take(&mut self.landed);
        for Landing { flight, result } in landed.drain(..) {
            match result {
                Err(error) if error.processed == Processed::No => {
                    self.again(flight, connection, error, done);
                }
                result => done.push(Completion {
                    number: flight.ticket,
                    connection,
                    elapsed: now.saturating_duration_since(flight.sent_at),
                    result,
                }),
            }
        }
        self.landed = landed;
    }

    fn again(&mut self, flight: Flight, connection: u32, error: Error, done: &mut Vec<Completion>) {
        if flight.resends < RESENDS_MAX {
            count(&self.counters.resends);
            self.resends.push_back(Ticket {
                number: flight.ticket,
                resends: flight.resends + 1,
            });
        } else {
            done.push(Completion {
                number: flight.ticket,
                connection,
                elapsed: Duration::ZERO,
                result: Err(error),
            });
        }
    }

    fn retire_idle(&mut self, now: Instant) {
        let mut spare = self.connections.len().saturating_sub(1);
        for connection in &mut self.connections {
            let idle = now.saturating_duration_since(connection.last_used_at);
            let is_spare = spare > 0 && idle >= CONNECTION_SPARE_IDLE_MAX;
            if connection.in_flight() == 0 && (is_spare || idle >= CONNECTION_IDLE_MAX) {
                spare = spare.saturating_sub(1);
                connection.retire();
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("options", &self.options)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}
