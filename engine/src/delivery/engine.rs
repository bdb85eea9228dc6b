//! The engine's wiring: worker, feeder, releaser, reporter and sweeper over a store and a broker.
//! It must not know how store and broker are built.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use clarion_auth::{MasterKey, TenantId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::dispatch::{DispatchOptions, Dispatcher};
use super::driver::{Driver, Inputs, Parts};
use super::events::Events;
use super::feeder::Feeder;
use super::releaser::{Released, Releaser};
use super::reporter::Reporter;
use super::routes::RouteLoader;
use super::sweeper::{Retention, Sweeper};
use super::worker::{Options, Worker};
use super::{Clock, Command};
use crate::broker::{Broker, EventExchange};
use crate::delivery::worker::CREDIT_AT_REST;
use crate::limits::CONTROL_LEASE;
use crate::metrics::EngineMetrics;
use crate::model::{Lane, Millis, Platform};
use crate::store::Store;

/// Commands that may wait for the driver.
const COMMANDS_MAX: usize = 64;

/// Told of answered requests: lane, milliseconds since acceptance, how many. Must not block.
pub type AnswerHook = Arc<dyn Fn(Lane, Millis, usize) + Send + Sync>;

/// Everything an engine needs.
pub struct EngineOptions {
    /// How the worker works.
    pub worker: Options,
    /// How the delivery threads work.
    pub dispatch: DispatchOptions,
    /// How long things are kept.
    pub retention: Retention,
    /// How long outcome events that cannot be published are kept.
    pub events_kept: Duration,
    /// How long a stop may take.
    pub grace: Duration,
    /// Told of answered requests.
    pub on_answered: Option<AnswerHook>,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("worker", &self.worker)
            .field("dispatch", &self.dispatch)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// What an engine works with.
#[derive(Clone)]
pub struct Backends {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The queue.
    pub broker: Arc<dyn Broker>,
    /// Where outcome events go; without it none are written, whatever the options say.
    pub events: Option<Arc<dyn EventExchange>>,
    /// Opens provider credentials.
    pub master_key: Arc<MasterKey>,
    /// Told when a bulk was accepted.
    pub bulk_accepted: Arc<Notify>,
    /// Told when a waiting row was written from outside.
    pub waiting_written: Arc<Notify>,
    /// Reads the time.
    pub clock: Clock,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends")
            .field("store", &self.store)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The queue does not hand out.
    #[error("the engine cannot subscribe to the queue")]
    Broker(#[from] crate::broker::Error),
    /// The delivery threads do not start.
    #[error("the delivery threads cannot start")]
    Dispatch(#[from] super::dispatch::DispatchError),
}

/// When the driver last turned, for health checks.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulse {
    /// The driver turned at `now`.
    pub(super) fn beat(&self, now: Millis) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// The driver ended.
    pub(super) fn end(&self) {
        self.0.store(Millis::MAX, Ordering::Relaxed);
    }

    /// When it last turned; `None` before its first turn, and [`Millis::MAX`] after its last.
    #[must_use]
    pub fn last(&self) -> Option<Millis> {
        Some(self.0.load(Ordering::Relaxed)).filter(|last| *last != 0)
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    pulse: Pulse,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    handle: EngineHandle,
}

/// What others may ask of a running engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

impl EngineHandle {
    /// Pruning goes on for a tenant and platform, after an operator settled the candidates.
    pub async fn release_brake(&self, tenant: TenantId, platform: Platform) {
        if self
            .commands
            .send(Command::ReleaseBrake(tenant, platform))
            .await
            .is_err()
        {
            tracing::debug!("the engine has stopped; its brakes are gone with it");
        }
    }
}

impl EngineHandle {
    /// Waits until this engine obeys the control state as it is now: pauses, limits, suspensions, deletions. At most for
    /// [`CONTROL_LEASE`]: an engine that could not read the state for that long hands over nothing.
    pub async fn obeyed(&self) {
        let (heard, obeyed) = oneshot::channel();
        let asked = async {
            if self
                .commands
                .send(Command::Acknowledge(heard))
                .await
                .is_ok()
            {
                // The driver drops its end once it has read the state, or when it ends itself.
                drop(obeyed.await);
            }
        };
        if tokio::time::timeout(CONTROL_LEASE, asked).await.is_err() {
            tracing::debug!("the engine did not acknowledge a change within its lease");
        }
    }
}

/// What works beside the driver: feeder, releaser, reporter and sweeper.
struct Beside {
    released: Released,
    event_written: Arc<Notify>,
    unrecorded_max: usize,
    retention: Retention,
    events_kept: Duration,
}

impl Beside {
    fn spawn(self, with: Backends, tasks: &mut JoinSet<()>, stopped: &watch::Receiver<bool>) {
        let feeder = Feeder {
            store: Arc::clone(&with.store),
            broker: Arc::clone(&with.broker),
            wake: with.bulk_accepted,
            unrecorded_max: self.unrecorded_max,
            clock: Arc::clone(&with.clock),
        };
        tasks.spawn(feeder.run(stopped.clone()));
        let releaser = Releaser {
            store: Arc::clone(&with.store),
            broker: with.broker,
            wake: with.waiting_written,
            released: self.released,
            clock: Arc::clone(&with.clock),
        };
        tasks.spawn(releaser.run(stopped.clone()));
        if let Some(exchange) = with.events {
            let reporter = Reporter {
                store: Arc::clone(&with.store),
                exchange,
                wake: self.event_written,
                kept: self.events_kept,
                clock: Arc::clone(&with.clock),
            };
            tasks.spawn(reporter.run(stopped.clone()));
        }
        let sweeper = Sweeper {
            store: with.store,
            retention: self.retention,
            clock: with.clock,
        };
        tasks.spawn(sweeper.run(stopped.clone()));
    }
}

impl Engine {
    /// Starts delivering.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: EngineOptions, backends: Backends) -> Result<Self, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (commands, command_rx) = mpsc::channel(COMMANDS_MAX);
        let beside = Beside {
            released: Released::default(),
            event_written: Arc::new(Notify::new()),
            unrecorded_max: options.worker.unrecorded_max,
            retention: options.retention,
            events_kept: options.events_kept,
        };
        let (dispatcher, dispatched) = Dispatcher::start(options.dispatch)?;
        let subscription = backends.broker.subscribe(CREDIT_AT_REST).await?;
        let mut worker = options.worker;
        if backends.events.is_none() {
            worker.events = Events::Off;
        }
        let pulse = Pulse::default();
        let parts = Parts {
            store: Arc::clone(&backends.store),
            broker: Arc::clone(&backends.broker),
            dispatcher: Arc::new(dispatcher),
            loader: Arc::new(RouteLoader {
                store: Arc::clone(&backends.store),
                master_key: Arc::clone(&backends.master_key),
            }),
            feeder: Arc::clone(&backends.bulk_accepted),
            releaser: Arc::clone(&backends.waiting_written),
            reporter: Arc::clone(&beside.event_written),
            released: beside.released.clone(),
            clock: Arc::clone(&backends.clock),
            pulse: pulse.clone(),
            metrics: EngineMetrics::new(),
            on_answered: options.on_answered,
        };
        let inputs = Inputs {
            subscription,
            dispatched,
            commands: command_rx,
            stop: stopped.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(Driver::new(parts, Worker::new(worker)).run(inputs, options.grace));
        beside.spawn(backends, &mut tasks, &stopped);
        Ok(Self {
            pulse,
            stop,
            tasks,
            handle: EngineHandle { commands },
        })
    }

    /// Whether it works: a driver that has not turned for a while is stalled.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// For others to ask something of it.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Stops taking work, lets what is out be answered and recorded, and ends. Ends early when a part of it failed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the engine failed");
            }
        }
    }
}
