//! One delivery thread: a single task that drives its slices, pools and timers together.
//! It must not know other threads, jobs or stores.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::counters::{DispatchCounters, Tally};
use super::land::unavailable;
use super::load::RouteLoad;
use super::outbox::Outbox;
use super::slices::Slices;
use super::state::{Carries, PoolState, RouteState, Slab, lane_index};
use super::types::{DispatchEvent, DispatchOptions, Slice, SliceDone};
use crate::http2::{
    Bell, Clock, Completion, Connector, Jitter, Origin, Pool, PoolOptions, Signal, TlsError,
    client_config, tls_connector,
};
use crate::limits::{SLICES_PER_THREAD_MAX, TICK};
use crate::model::{Lane, Millis, Processed, TenantId};
use crate::provider::{Credential, RouteKey};

/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 64;
/// Turns before the runtime gets to look at sockets and timers again.
const TURNS_MAX: usize = 4;
/// What the waker for access tokens rings with.
const TOKENS: u32 = u32::MAX;
/// A route without work is kept this long.
const ROUTE_IDLE_MAX: Duration = Duration::from_secs(600);

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Slice(Slice, RouteKey, Arc<RouteLoad>),
    Forget(TenantId),
    /// Take nothing more, finish what is in flight until then.
    Stop(Instant),
}

/// One delivery thread.
pub(super) struct Thread {
    pub(super) index: usize,
    pub(super) options: Arc<DispatchOptions>,
    pub(super) counters: Arc<DispatchCounters>,
    pub(super) outbox: Outbox,
    pub(super) bell: Arc<Bell>,
    pub(super) routes: Slab<RouteState>,
    pub(super) pools: Slab<PoolState>,
    pub(super) slices: Slices,
    pub(super) completions: Vec<Completion>,
    pub(super) tally: Tally,
    pub(super) jitter: Jitter,
    pub(super) token_waker: Waker,
    pub(super) token_pool: Option<u32>,
    /// Routes for which an access token is to be asked for; at most one entry per service account.
    pub(super) refreshes: VecDeque<u32>,
    /// Pools to be filled before the turn ends.
    pub(super) dirty: Vec<u32>,
    /// Pools that have more to send than a turn allows: to be filled in the next.
    pub(super) unfinished: Vec<u32>,
    commands: mpsc::Receiver<Command>,
    inbox: Vec<Command>,
    token_signal: Arc<Signal>,
    connector: Connector,
    by_key: HashMap<RouteKey, u32>,
    fcm_pool: Option<u32>,
    rung: Vec<u32>,
    interval: Interval,
    stopping: Option<Instant>,
}

impl Thread {
    /// A thread's state; to be made inside its runtime.
    pub(super) fn new(
        index: usize,
        (options, tls): (Arc<DispatchOptions>, Arc<ClientConfig>),
        counters: Arc<DispatchCounters>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<DispatchEvent>,
    ) -> Self {
        let bell = Arc::new(Bell::default());
        let token_signal = Signal::new(TOKENS, &bell);
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            index,
            options,
            counters,
            outbox: Outbox::new(events),
            bell,
            routes: Slab::default(),
            pools: Slab::default(),
            slices: Slices::default(),
            completions: Vec::new(),
            tally: Tally::default(),
            jitter: Jitter::seeded(),
            token_waker: Waker::from(Arc::clone(&token_signal)),
            token_pool: None,
            refreshes: VecDeque::new(),
            dirty: Vec::new(),
            unfinished: Vec::new(),
            commands,
            inbox: Vec::with_capacity(COMMANDS_PER_TURN),
            token_signal,
            connector: tls_connector(tls),
            by_key: HashMap::new(),
            fcm_pool: None,
            rung: Vec::new(),
            interval,
            stopping: None,
        }
    }

    /// Runs until it is stopped, or nobody can reach it any more.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.set_task(cx.waker());
        self.bell.hush(true);
        let mut rests = false;
        for _ in 0..TURNS_MAX {
            let clock = clock();
            let was_full = self.is_full();
            let took = self.take_commands(cx, clock);
            self.tick_if_due(cx, clock);
            self.drive_rung(clock);
            self.tally.publish(&self.counters);
            self.outbox.flush(cx);
            if self.is_finished(clock) {
                return Poll::Ready(());
            }
            let has_room_again = was_full && !self.is_full();
            let has_more = has_room_again || !self.unfinished.is_empty();
            rests = !took && !has_more && self.bell.is_silent();
            if rests {
                break;
            }
        }
        self.bell.hush(false);
        if !rests || !self.bell.is_silent() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether the dispatcher has to wait before more is taken.
    fn is_full(&self) -> bool {
        self.slices.len() >= SLICES_PER_THREAD_MAX
    }

    fn take_commands(&mut self, cx: &mut Context<'_>, clock: Clock) -> bool {
        if self.is_full() {
            return false;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let took = match self
            .commands
            .poll_recv_many(cx, &mut inbox, COMMANDS_PER_TURN)
        {
            Poll::Ready(0) => {
                // The dispatcher is gone without a word: stop at once.
                self.stopping.get_or_insert(clock.now);
                false
            }
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        for command in inbox.drain(..) {
            match command {
                Command::Slice(slice, key, load) => self.accept(slice, key, load, clock),
                Command::Forget(tenant) => self.forget(&tenant),
                Command::Stop(until) => self.stop(until),
            }
        }
        self.inbox = inbox;
        took
    }

    fn accept(&mut self, slice: Slice, key: RouteKey, load: Arc<RouteLoad>, clock: Clock) {
        if slice.range.is_empty() {
            let (id, outcomes) = (slice.id, Vec::new());
            return self.outbox.done(SliceDone { id, outcomes });
        }
        let known = self.by_key.get(&key).copied();
        let credential = &slice.route.credential;
        let Ok(route) = known.map_or_else(|| self.add_route(key, credential, load, clock), Ok)
        else {
            tracing::error!("the client certificate is not accepted for TLS");
            let outcome = unavailable("tls", Processed::No);
            let (id, outcomes) = (slice.id, vec![outcome; slice.range.len()]);
            return self.outbox.done(SliceDone { id, outcomes });
        };
        let lane = lane_index(slice.lane);
        let number = self.slices.insert(slice, route);
        let Some(state) = self.routes.get_mut(route) else {
            return;
        };
        state.used_at = clock.now;
        state.lanes[lane].push_back(number);
        let pool = state.pool;
        if !std::mem::replace(&mut state.listed[lane], true)
            && let Some(pool) = self.pools.get_mut(pool)
        {
            pool.turns[lane].push_back(route);
        }
        self.dirty.push(pool);
        if self.stopping.is_some() {
            self.end_queued(route, &unavailable("shutdown", Processed::No));
        }
    }

    fn add_route(
        &mut self,
        key: RouteKey,
        credential: &Credential,
        load: Arc<RouteLoad>,
        clock: Clock,
    ) -> Result<u32, TlsError> {
        let pool = self.pool_for(&key, credential)?;
        let state = RouteState::new((key.clone(), credential.clone()), pool, load, clock.now);
        let route = self.routes.insert(state);
        self.by_key.insert(key, route);
        self.report_window(route);
        Ok(route)
    }

    fn pool_for(&mut self, key: &RouteKey, credential: &Credential) -> Result<u32, TlsError> {
        if let (Credential::Fcm(_), Some(shared)) = (credential, self.fcm_pool) {
            return Ok(shared);
        }
        let (options, carries) = match credential {
            Credential::Apns(credential) => {
                let identity = credential.client_identity();
                let origin = self.options.apns(key.environment);
                let mut options = self.pool_options(origin, identity.is_some());
                if let Some(identity) = identity {
                    let config = client_config(&self.options.tls, Some(identity))?;
                    options.connector = tls_connector(config);
                }
                (options, Carries::Apns)
            }
            Credential::Fcm(_) => (self.pool_options(&self.options.fcm, true), Carries::Fcm),
        };
        let number = self.pools.next_number();
        let pool = Pool::new(number, options, &self.bell, &self.counters.pools);
        self.pools.insert(PoolState::new(pool, carries));
        if carries == Carries::Fcm {
            self.fcm_pool = Some(number);
        }
        Ok(number)
    }

    pub(super) fn pool_options(&self, origin: &Origin, trusted: bool) -> PoolOptions {
        PoolOptions {
            origin: origin.clone(),
            connector: Connector::clone(&self.connector),
            connections_max: self.options.connections_per_key_max,
            request_deadline: self.options.request_deadline,
            trusted,
        }
    }

    fn forget(&mut self, tenant: &TenantId) {
        let outcome = unavailable("forgotten", Processed::No);
        for route in self.routes.numbers() {
            let Some(state) = self
                .routes
                .get(route)
                .filter(|state| state.key.tenant == *tenant)
            else {
                continue;
            };
            let pool = state.pool;
            self.end_queued(route, &outcome);
            if let Some(pool) = self
                .pools
                .get_mut(pool)
                .filter(|one| one.carries == Carries::Apns)
            {
                pool.pool.retire_all();
            }
            self.dirty.push(pool);
        }
    }

    fn stop(&mut self, until: Instant) {
        self.stopping = Some(until);
        for route in self.routes.numbers() {
            self.end_queued(route, &unavailable("shutdown", Processed::No));
        }
    }

    fn is_finished(&mut self, clock: Clock) -> bool {
        let Some(until) = self.stopping else {
            return false;
        };
        if self.slices.len() > 0 && clock.now >= until {
            for number in self.pools.numbers() {
                if let Some(pool) = self.pools.get_mut(number) {
                    pool.pool.close(clock, &mut self.completions);
                }
                self.land(number, clock);
                self.end_waiting(number, "shutdown", clock);
            }
            self.tally.publish(&self.counters);
        }
        self.slices.len() == 0 && (self.outbox.is_empty() || clock.now >= until)
    }

    fn drive_rung(&mut self, clock: Clock) {
        let mut rung = std::mem::take(&mut self.rung);
        self.bell.take(&mut rung);
        rung.append(&mut self.dirty);
        rung.append(&mut self.unfinished);
        if rung.contains(&TOKENS) {
            self.token_signal.lower();
            rung.extend(self.fcm_pool);
        }
        // Whoever has somebody waiting for a transactional push goes first.
        rung.sort_unstable_by_key(|number| (!self.is_urgent(*number), *number));
        rung.dedup();
        for number in &rung {
            self.drive(*number, clock);
        }
        self.rung = rung;
        // Filling one pool may ask for an access token over another.
        while let Some(number) = self.dirty.pop() {
            self.drive(number, clock);
        }
    }

    fn drive(&mut self, number: u32, clock: Clock) {
        let Some(state) = self.pools.get_mut(number) else {
            return;
        };
        state.pool.drive(clock, &mut self.completions);
        self.land(number, clock);
        let is_urgent = self.is_urgent(number);
        self.fill(number, clock);
        if is_urgent && let Some(state) = self.pools.get_mut(number) {
            // Written at once, before other pools have their turn.
            state.pool.drive(clock, &mut self.completions);
        }
        if !self.completions.is_empty() {
            self.land(number, clock);
        }
        self.report_windows(number);
    }

    fn is_urgent(&self, number: u32) -> bool {
        let lane = lane_index(Lane::Transactional);
        let pool = self.pools.get(number);
        pool.is_some_and(|pool| !pool.turns[lane].is_empty())
    }

    fn tick_if_due(&mut self, cx: &mut Context<'_>, clock: Clock) {
        // A thread without work needs no timer.
        let busy = !self.by_key.is_empty() || self.stopping.is_some();
        if !busy || self.interval.poll_tick(cx).is_pending() {
            return;
        }
        for number in self.pools.numbers() {
            if let Some(state) = self.pools.get_mut(number) {
                state.pool.tick(clock, &mut self.completions);
                self.land(number, clock);
                self.end_stalled(number, clock);
                self.drive(number, clock);
            }
        }
        self.end_tokenless(clock);
        self.drop_idle(clock);
        // Registers for the next tick.
        if self.interval.poll_tick(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Requests that wait while nothing is in flight wait for a connection; not for ever.
    fn end_stalled(&mut self, number: u32, clock: Clock) {
        let waits = self.waiting(number) > 0;
        let deadline = self.options.connect_deadline;
        let Some(state) = self.pools.get_mut(number) else {
            return;
        };
        if state.pool.in_flight() > 0 || !(waits || state.pool.has_resends()) {
            state.stalled_since = None;
            return;
        }
        let since = *state.stalled_since.get_or_insert(clock.now);
        if clock.now.duration_since(since) >= deadline {
            state.stalled_since = None;
            self.end_waiting(number, "no_connection", clock);
        }
    }

    fn end_tokenless(&mut self, clock: Clock) {
        let deadline = self.options.connect_deadline;
        for route in self.routes.numbers() {
            let since = self
                .routes
                .get(route)
                .and_then(|state| state.tokenless_since);
            if since.is_some_and(|since| clock.now.duration_since(since) >= deadline) {
                self.end_queued(route, &unavailable("no_access_token", Processed::No));
            }
        }
    }

    fn drop_idle(&mut self, clock: Clock) {
        for route in self.routes.numbers() {
            let Some(state) = self.routes.get(route).filter(|state| state.is_idle()) else {
                continue;
            };
            let idle = clock.now.duration_since(state.used_at) >= ROUTE_IDLE_MAX;
            let number = state.pool;
            let Some(pool) = self.pools.get(number) else {
                continue;
            };
            let shared = pool.carries != Carries::Apns;
            if !idle || (!shared && !pool.pool.is_idle()) {
                continue;
            }
            if !shared {
                self.pools.remove(number);
            }
            if let Some(state) = self.routes.remove(route) {
                state.load.set_window(self.index, 0);
                self.by_key.remove(&state.key);
            }
        }
    }

    /// Tells how much each route of a pool may have in flight, if that has changed.
    fn report_windows(&mut self, number: u32) {
        let Some(state) = self.pools.get_mut(number) else {
            return;
        };
        let window = state.pool.window();
        if window == state.window || self.outbox.is_blocked() {
            return;
        }
        state.window = window;
        let routes: Vec<u32> = self.routes.iter().map(|(route, _)| route).collect();
        for route in routes {
            if self
                .routes
                .get(route)
                .is_some_and(|state| state.pool == number)
            {
                self.report_window(route);
            }
        }
    }

    fn report_window(&mut self, route: u32) {
        let Some(state) = self.routes.get(route) else {
            return;
        };
        let Some(pool) = self.pools.get(state.pool) else {
            return;
        };
        let streams = match pool.pool.window() {
            0 => 0,
            _ => pool.route_window(),
        };
        state.load.set_window(self.index, streams);
        let (key, streams) = (state.key.clone(), state.load.window());
        self.outbox.event(DispatchEvent::Window { key, streams });
    }
}

/// The edge: the only place of delivery that reads clocks, once a turn.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the room: everything inside is passed the time"
)]
fn clock() -> Clock {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Clock {
        now: Instant::now(),
        wall: Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX),
    }
}
