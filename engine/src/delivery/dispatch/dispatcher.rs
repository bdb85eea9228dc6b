//! The door to the delivery threads: which slice goes to which thread.
//! It must not know connections, nor what becomes of a slice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::counters::DispatchCounters;
use super::load::RouteLoad;
use super::thread::{Command, Thread};
use super::types::{DispatchEvent, DispatchOptions, Slice};
use crate::http2::{TlsError, client_config};
use crate::model::TenantId;
use crate::provider::RouteKey;

/// How much nicer the delivery threads are than the rest of the process.
#[cfg(target_os = "linux")]
const DELIVERY_NICE: i32 = 10;
/// The nicest there is.
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;
/// Commands waiting for one thread.
const COMMANDS_MAX: usize = 1_024;
/// Batches of events waiting for the receiver.
const EVENTS_MAX: usize = 1_024;
/// Routes whose home is remembered.
const ROUTES_MAX: usize = 16_384;
/// What a thread may take to end after its grace.
const JOIN_MARGIN: Duration = Duration::from_secs(2);

/// Why there is no dispatcher.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The TLS configuration is unusable.
    #[error("delivery cannot use its TLS configuration")]
    Tls(#[from] TlsError),
    /// A thread or its runtime could not be started.
    #[error(
        "a delivery thread cannot be started: check the limits on threads and file descriptors"
    )]
    Thread(#[from] std::io::Error),
    /// No thread was asked for.
    #[error("delivery needs at least one thread")]
    NoThreads,
}

/// The delivery threads.
#[derive(Debug)]
pub struct Dispatcher {
    threads: Vec<Handle>,
    routes: Mutex<HashMap<RouteKey, Arc<Home>>>,
    counters: Arc<DispatchCounters>,
}

#[derive(Debug)]
struct Handle {
    commands: mpsc::Sender<Command>,
    ended: oneshot::Receiver<()>,
}

/// A route's threads, home first, and its load on them.
#[derive(Debug)]
struct Home {
    ranking: Box<[usize]>,
    load: Arc<RouteLoad>,
}

impl Dispatcher {
    /// Starts the threads. The receiver must be read: what the threads have to say waits for it.
    ///
    /// # Errors
    /// When TLS cannot be configured, or a thread cannot be started.
    pub fn start(
        options: DispatchOptions,
    ) -> Result<(Self, mpsc::Receiver<DispatchEvent>), DispatchError> {
        if options.threads == 0 {
            return Err(DispatchError::NoThreads);
        }
        let tls = client_config(&options.tls, None)?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let counters = Arc::new(DispatchCounters::default());
        let options = Arc::new(options);
        let mut threads = Vec::with_capacity(options.threads);
        for index in 0..options.threads {
            let shared = (Arc::clone(&options), Arc::clone(&tls));
            threads.push(spawn(index, shared, Arc::clone(&counters), events.clone())?);
        }
        let dispatcher = Self {
            threads,
            routes: Mutex::default(),
            counters,
        };
        Ok((dispatcher, receiver))
    }

    /// Totals for metrics.
    #[must_use]
    pub fn counters(&self) -> &Arc<DispatchCounters> {
        &self.counters
    }

    /// Hands a slice over; never blocks. It goes to the home thread of its route, and to another only while the
    /// streams there are used up.
    ///
    /// # Errors
    /// The slice itself, when the threads have no room: send it again after the next outcomes.
    pub fn send(&self, slice: Slice) -> Result<(), Slice> {
        let key = slice.route.key();
        let home = self.home(&key);
        let free = |thread: &&usize| !home.load.is_saturated(**thread);
        let chosen = home.ranking.iter().find(free).or(home.ranking.first());
        let Some(&first) = chosen else {
            return Err(slice);
        };
        let recipients = slice.range.len();
        home.load.add(first, recipients);
        let command = Command::Slice(slice, key, Arc::clone(&home.load));
        match self.threads[first].commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command) | TrySendError::Closed(command)) => {
                home.load.remove(first, recipients);
                match command {
                    Command::Slice(slice, ..) => Err(slice),
                    Command::Forget(_) | Command::Stop(_) => Ok(()),
                }
            }
        }
    }

    fn home(&self, key: &RouteKey) -> Arc<Home> {
        let mut routes = self.routes.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Some(home) = routes.get(key) {
            return Arc::clone(home);
        }
        if routes.len() >= ROUTES_MAX {
            routes.retain(|_, home| Arc::strong_count(&home.load) > 1);
        }
        let home = Arc::new(Home {
            ranking: ranking(key, self.threads.len()),
            load: Arc::new(RouteLoad::new(self.threads.len())),
        });
        routes.insert(key.clone(), Arc::clone(&home));
        home
    }

    /// Replaces the connections of a tenant's credentials: what waits ends as never handed over, what is in flight
    /// ends by itself. To be called when its credentials or topics change, and when it is suspended or deleted.
    pub async fn forget(&self, tenant: &TenantId) {
        for thread in &self.threads {
            // A thread that is gone has forgotten already.
            if thread
                .commands
                .send(Command::Forget(tenant.clone()))
                .await
                .is_err()
            {
                tracing::debug!("a delivery thread is gone");
            }
        }
    }

    /// Takes nothing more: what waits ends as never handed over, what is in flight has `grace` to be answered.
    /// All outcomes are in the receiver when this returns, if it is read meanwhile.
    pub async fn shutdown(self, grace: Duration) {
        let until = Instant::now() + grace;
        for thread in &self.threads {
            let stop = thread.commands.send(Command::Stop(until));
            if timeout_at(until, stop).await.is_err() {
                tracing::warn!("a delivery thread takes no commands");
            }
        }
        for Handle { commands, ended } in self.threads {
            drop(commands);
            if timeout_at(until + JOIN_MARGIN, ended).await.is_err() {
                tracing::warn!("a delivery thread does not end");
            }
        }
    }
}

fn spawn(
    index: usize,
    shared: (Arc<DispatchOptions>, Arc<ClientConfig>),
    counters: Arc<DispatchCounters>,
    events: mpsc::Sender<DispatchEvent>,
) -> Result<Handle, DispatchError> {
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = move || {
        stand_back();
        runtime.block_on(async move {
            Thread::new(index, shared, counters, receiver, events)
                .run()
                .await;
        });
        // Nobody may be waiting.
        end.send(()).unwrap_or_default();
    };
    std::thread::Builder::new()
        .name(format!("delivery-{index}"))
        .spawn(body)?;
    Ok(Handle { commands, ended })
}

/// Lets the other threads of the process go first when all cores are busy. They do little for each request (answer it, write it,
/// hand it over), and a flood would have each of them wait for a turn of the delivery threads, which have work all the time.
#[cfg(target_os = "linux")]
fn stand_back() {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux this is about the calling thread.
    let set = getpriority_process(None)
        .and_then(|own| setpriority_process(None, (own + DELIVERY_NICE).min(NICEST)));
    if let Err(error) = set {
        tracing::debug!(%error, "the delivery threads keep the priority of the others");
    }
}

#[cfg(not(target_os = "linux"))]
fn stand_back() {}

/// Rendezvous hashing: every route has its own order of threads, and a thread more or less moves few routes.
fn ranking(key: &RouteKey, threads: usize) -> Box<[usize]> {
    let weight = |thread: &usize| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        thread.hash(&mut hasher);
        hasher.finish()
    };
    let mut order: Vec<usize> = (0..threads).collect();
    order.sort_by_key(|thread| std::cmp::Reverse(weight(thread)));
    order.into()
}
