//! The driver: it lets the worker's actions happen and tells it what came of them. One task; every call to store and broker
//! is a future it polls, at most one of each grouped kind at a time, so that groups form by themselves.
//! It decides nothing that the worker could decide.

mod act;
mod answer;
mod keep;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clarion_auth::TenantId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::engine::{AnswerHook, Pulse};
use super::releaser::Released;
use super::routes::{RouteLoader, Routed};
use super::worker::{Action, Class, JobHandle, Message, SliceOut, Worker};
use super::{Clock, Command};
use crate::broker::{Broker, Delivery, Lease, LeaseId, Subscription};
use crate::delivery::dispatch::{DispatchEvent, Dispatcher, Slice};
use crate::metrics::EngineMetrics;
use crate::model::{Lane, Millis, NotificationId};
use crate::provider::{Prepared, Route, RouteKey};
use crate::store::{
    ClaimAnswer, ClaimRequest, CommitAnswer, ControlState, RateWish, ResolvedDevice, Settlement,
    Store,
};

/// How often the control state is read; well within its lease.
const CONTROL_INTERVAL: Duration = Duration::from_millis(250);

/// How often the worker is told that time passed.
const TICK: Duration = Duration::from_millis(50);

/// Settlements, claims and acks of one group.
const GROUP_MAX: usize = 256;

/// Deliveries taken from the broker in one turn.
const DELIVERIES_MAX: usize = 256;

/// Encoded contents kept for further slices of the same notification.
const PREPARED_MAX: usize = 1_024;

/// Rest after a failed call before it is tried again.
const RETRY_REST: Duration = Duration::from_millis(200);

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Settlements committed together.
type Group = Vec<(JobHandle, Box<Settlement>)>;

/// What a call came to.
enum Done {
    Claimed(
        Vec<JobHandle>,
        Result<Vec<ClaimAnswer>, crate::store::Error>,
    ),
    Resolved(JobHandle, Result<Vec<ResolvedDevice>, crate::store::Error>),
    Routed(TenantId, Class, Result<Routed, crate::store::Error>),
    Committed(
        Group,
        Millis,
        Result<Vec<CommitAnswer>, crate::store::Error>,
    ),
    Unrecordable(JobHandle, Result<Vec<CommitAnswer>, crate::store::Error>),
    Acked(Vec<LeaseId>, Result<Vec<bool>, crate::broker::Error>),
    Buried(LeaseId, Result<i64, crate::store::Error>),
    Shared(Vec<RateWish>, Millis, Result<Vec<u32>, crate::store::Error>),
    Control(Millis, Result<ControlState, crate::store::Error>),
    Forgotten,
}

/// What a driver works with.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) loader: Arc<RouteLoader>,
    pub(super) feeder: Arc<Notify>,
    pub(super) releaser: Arc<Notify>,
    pub(super) reporter: Arc<Notify>,
    pub(super) released: Released,
    pub(super) clock: Clock,
    pub(super) pulse: Pulse,
    pub(super) metrics: EngineMetrics,
    pub(super) on_answered: Option<AnswerHook>,
}

/// The driver of one process's worker.
pub(super) struct Driver {
    parts: Parts,
    worker: Worker,
    leases: HashMap<LeaseId, Lease>,
    running: FuturesUnordered<Running>,
    claims: Vec<(JobHandle, ClaimRequest)>,
    commits: Group,
    acks: Vec<Lease>,
    claiming: bool,
    committing: bool,
    acking: bool,
    sharing: bool,
    reading_control: bool,
    /// Who waits for the control read that is under way, and who for the one after it.
    hearing: Vec<oneshot::Sender<()>>,
    unheard: Vec<oneshot::Sender<()>>,
    routes: HashMap<(TenantId, Class), Arc<Route>>,
    /// Which class a route's window speaks of.
    classes: HashMap<RouteKey, Class>,
    prepared: HashMap<(NotificationId, Class), Arc<Prepared>>,
    /// Slices that are out: lane, acceptance, requests.
    out: HashMap<u64, (Lane, Millis, usize)>,
    /// Slices that the delivery threads could not take yet.
    stalled: VecDeque<Slice>,
    control_version: i64,
}

/// Where a driver's events come from.
pub(super) struct Inputs {
    pub(super) subscription: Subscription,
    pub(super) dispatched: mpsc::Receiver<DispatchEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Driver {
    pub(super) fn new(parts: Parts, worker: Worker) -> Self {
        Self {
            parts,
            worker,
            leases: HashMap::new(),
            running: FuturesUnordered::new(),
            claims: Vec::new(),
            commits: Vec::new(),
            acks: Vec::new(),
            claiming: false,
            committing: false,
            acking: false,
            sharing: false,
            reading_control: false,
            hearing: Vec::new(),
            unheard: Vec::new(),
            routes: HashMap::new(),
            classes: HashMap::new(),
            prepared: HashMap::new(),
            out: HashMap::new(),
            stalled: VecDeque::new(),
            control_version: 0,
        }
    }

    /// Works until `stop`, then finishes what is out and what must be recorded, within `grace`.
    pub(super) async fn run(mut self, mut inputs: Inputs, grace: Duration) {
        let mut control = tokio::time::interval(CONTROL_INTERVAL);
        let mut tick = tokio::time::interval(TICK);
        control.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deliveries = Vec::with_capacity(DELIVERIES_MAX);
        while !*inputs.stop.borrow() {
            let wake = self.wake_in();
            tokio::select! {
                Some(done) = self.running.next(), if !self.running.is_empty() => self.on_done(done),
                Some(event) = inputs.dispatched.recv() => self.on_dispatched(event, &mut inputs.dispatched),
                taken = inputs.subscription.deliveries.recv_many(&mut deliveries, DELIVERIES_MAX) => {
                    if taken == 0 {
                        tracing::error!("the queue ended its subscription; nothing more is delivered");
                        break;
                    }
                    self.on_deliveries(&mut deliveries);
                }
                Some(command) = inputs.commands.recv() => self.on_command(command),
                _ = control.tick() => self.read_control(),
                _ = tick.tick() => self.on_tick(),
                () = tokio::time::sleep(wake) => {}
                _ = inputs.stop.changed() => {}
            }
            self.act();
        }
        self.drain(inputs, grace).await;
    }

    /// Stops taking work: gives back what was not begun, and waits for what is out to be answered, recorded and acked.
    async fn drain(mut self, mut inputs: Inputs, grace: Duration) {
        drop(inputs.subscription);
        let deadline = tokio::time::Instant::now() + grace;
        let mut tick = tokio::time::interval(TICK);
        self.worker.on_stopping();
        loop {
            self.act();
            if self.worker.is_quiet()
                && self.running.is_empty()
                && self.commits.is_empty()
                && self.acks.is_empty()
            {
                break;
            }
            tokio::select! {
                Some(done) = self.running.next(), if !self.running.is_empty() => self.on_done(done),
                Some(event) = inputs.dispatched.recv() => self.on_dispatched(event, &mut inputs.dispatched),
                _ = tick.tick() => self.on_tick(),
                () = tokio::time::sleep_until(deadline) => {
                    let unrecorded = self.worker.unrecorded();
                    tracing::warn!(unrecorded, "stopped before all answers were recorded");
                    break;
                }
            }
        }
        self.parts.pulse.end();
        drop(self.running);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if let Some(dispatcher) = Arc::into_inner(self.parts.dispatcher) {
            dispatcher.shutdown(left).await;
        }
    }

    fn now(&self) -> Millis {
        (self.parts.clock)()
    }

    /// When the scheduler wants to look again.
    fn wake_in(&self) -> Duration {
        let now = self.now();
        let at = self.worker.next_wake().unwrap_or(now + 1_000);
        Duration::from_millis(u64::try_from(at - now).unwrap_or_default().clamp(1, 1_000))
    }

    fn on_deliveries(&mut self, deliveries: &mut Vec<Delivery>) {
        let now = self.now();
        for delivery in deliveries.drain(..) {
            match delivery {
                Delivery::Leased(mut lease) => {
                    let message = Message {
                        lease: lease.id,
                        queue: &lease.queue,
                        body: &lease.body,
                        redelivered: lease.redelivered,
                        published_at: lease.published_at,
                    };
                    self.worker.on_leased(&message, now);
                    // The worker has what is in it.
                    lease.body = Bytes::new();
                    self.keep(lease);
                }
                Delivery::LeasesLost => {
                    self.worker.on_leases_lost(now);
                    self.leases.clear();
                }
            }
        }
        // They may have lain here for a while, in a process that was stopped: only the broker knows how good they are.
        self.hear(now);
    }

    fn hear(&mut self, now: Millis) {
        let heard = self.parts.broker.heard_from(now);
        self.worker.on_heartbeat(heard);
    }

    fn on_tick(&mut self) {
        let now = self.now();
        self.parts.pulse.beat(now);
        self.hear(now);
        self.worker.on_tick(now);
        self.parts
            .metrics
            .in_hand(self.worker.unrecorded(), self.worker.jobs());
        self.send_stalled();
    }

    fn read_control(&mut self) {
        if std::mem::replace(&mut self.reading_control, true) {
            return;
        }
        self.hearing.append(&mut self.unheard);
        let (store, read_at, version) = (
            Arc::clone(&self.parts.store),
            self.now(),
            self.control_version,
        );
        self.running.push(Box::pin(async move {
            Done::Control(read_at, store.control(version).await)
        }));
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::ReleaseBrake(tenant, platform) => {
                self.worker.on_brake_released(&tenant, platform)
            }
            Command::Acknowledge(heard) => {
                // Those who waited no longer than a lease have had their answer, so that few are kept.
                self.unheard.retain(|waiting| !waiting.is_closed());
                self.unheard.push(heard);
                self.read_control();
            }
        }
    }

    /// Does what the worker asks for, and starts the groups that have come together.
    fn act(&mut self) {
        let now = self.now();
        for action in self.worker.take_actions(now) {
            self.perform(action);
        }
        self.start_groups();
        self.ask_for_shares(now);
    }
}
