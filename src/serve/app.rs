//! A whole Clarion in this process: data directory, keys, store, queue, engine, faces.
//! It must not know which command runs it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clarion_auth::token::{AccessTokenIssuer, AccessTokenVerifier, Issuer, SigningKey};
use clarion_engine::broker::Broker;
use clarion_engine::delivery::Clock;
use clarion_engine::delivery::drain::Drain;
use clarion_engine::delivery::engine::{AnswerHook, Backends, Engine, EngineHandle, Pulse};
use clarion_engine::delivery::taker::Taker;
use clarion_engine::delivery::worker::CLOCK_MARGIN;
use clarion_engine::intake::Intake;
use clarion_engine::limits::CONTROL_LEASE;
use clarion_engine::model::Millis;
use clarion_engine::store::Store;
use clarion_ingest::EngineHealth;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Role;
use super::backends::{self, Opened};
use super::clock::StoreClock;
use super::engine_options::engine_options;
use super::outside::Outside;
use crate::config::{Config, QueuePlace};
use crate::keys::Keys;
use crate::telemetry::UPKEEP_INTERVAL;
use crate::wiring;

/// Who else is told of what happens.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Told of answered requests.
    pub(crate) on_answered: Option<AnswerHook>,
}

/// A running Clarion.
pub(crate) struct App {
    public: Option<SocketAddr>,
    admin: SocketAddr,
    engine: Option<Engine>,
    outside: Option<Outside>,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    faces: clarion_ingest::App,
    stop: watch::Sender<bool>,
    servers: JoinSet<anyhow::Result<()>>,
    grace: Duration,
}

impl App {
    /// Starts everything, in the order in which it is needed; listens last, so that nothing is accepted that could not be
    /// stored.
    ///
    /// # Errors
    /// When something cannot start; the message says what to do.
    pub(crate) async fn start(
        config: &Config,
        role: Role,
        metrics: PrometheusHandle,
        hooks: Hooks,
    ) -> anyhow::Result<Self> {
        let process = Uuid::new_v4();
        let master_key = Arc::new(Keys::master(config)?);
        let signing_key = Keys::signing(config)?;
        let opened = backends::open(config, role, process).await?;
        let (store, broker) = (Arc::clone(&opened.store), Arc::clone(&opened.broker));
        let events = opened.events.clone();
        let store_clock = StoreClock::start(&store)
            .await
            .context("reading the store's clock")?;
        let backends = Backends {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker),
            events,
            master_key: Arc::clone(&master_key),
            bulk_accepted: Arc::new(Notify::new()),
            waiting_written: Arc::new(Notify::new()),
            clock: store_clock.clock(),
        };
        let engine = match role.delivers() {
            true => Some(start_engine(config, process, &backends, hooks).await?),
            false => None,
        };
        let at_engine = engine
            .as_ref()
            .map(|engine| (engine.handle(), engine.pulse()));
        let intake = Arc::new(intake(config, &backends)?);
        let outside = outside(config, role, &opened, (&intake, &backends))?;
        let faces = clarion_ingest::App::new(clarion_ingest::Parts {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker),
            intake,
            access_tokens: verifier(config, &signing_key)?,
            issuer: AccessTokenIssuer::new(issuer(config), &signing_key),
            sealer: master_key,
            config: ingest_config(config),
            now: store_clock.clock(),
            health: health_probe(at_engine.clone(), store_clock.clock()),
            metrics: metrics_page(metrics.clone()),
            release_brake: brake_release(at_engine.clone()),
            control_obeyed: control_obeyed(at_engine, config.store.is_shared()),
        });
        let listeners = Listeners::bind(config, role).await?;
        let addresses = listeners.addresses()?;
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        listeners.serve(&faces, &mut servers, &stopped, config.server.shutdown_grace);
        servers.spawn(upkeep(metrics, stopped.clone()));
        servers.spawn(store_clock.keep(stopped.clone()));
        if role.ingests() {
            servers.spawn(watch_keys(faces.keys().watch(), stopped));
        }
        Ok(Self {
            public: addresses.0,
            admin: addresses.1,
            engine,
            outside,
            store,
            broker,
            faces,
            stop,
            servers,
            grace: config.server.shutdown_grace,
        })
    }
}

impl App {
    /// Where the public API listens, if this process serves it.
    pub(crate) fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    /// Where the operator's listener listens.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Takes no more requests, finishes what is under way, and closes everything in the opposite order of its start.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.servers.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a listener failed"),
                Err(error) => tracing::error!(%error, "a listener failed"),
            }
        }
        self.faces.keys().flush().await;
        if let Some(outside) = self.outside {
            outside.stop().await;
        }
        if let Some(engine) = self.engine {
            engine.stop().await;
        }
        if tokio::time::timeout(self.grace, async {
            tokio::join!(self.broker.close(), self.store.close())
        })
        .await
        .is_err()
        {
            tracing::warn!("the databases did not close in time; what they confirmed is on disk");
        }
    }
}

fn verifier(config: &Config, key: &SigningKey) -> anyhow::Result<AccessTokenVerifier> {
    Ok(AccessTokenVerifier::new(&issuer(config), [key.public()])?)
}

fn issuer(config: &Config) -> Issuer {
    Issuer {
        iss: config.auth.issuer.clone(),
        aud: config.auth.audience.clone(),
    }
}

async fn start_engine(
    config: &Config,
    process: Uuid,
    backends: &Backends,
    hooks: Hooks,
) -> anyhow::Result<Engine> {
    let mut since = (backends.clock)();
    if matches!(config.queue.place, QueuePlace::Amqp(_)) {
        // What was published before now may have been handed out before, and publishers' clocks differ.
        since += CLOCK_MARGIN;
    }
    let options = engine_options(config, process, since, hooks)?;
    Ok(Engine::start(options, backends.clone()).await?)
}

fn intake(config: &Config, backends: &Backends) -> anyhow::Result<Intake> {
    Ok(Intake::new(
        Arc::clone(&backends.store),
        Arc::clone(&backends.broker),
        backends.master_key.mac_key("notification id")?,
        config.limits.backlog,
        Arc::clone(&backends.bulk_accepted),
    )
    .with_default_life(config.retry.ttl_default))
}

/// What an engine does for those outside, on a queue that they can reach.
fn outside(
    config: &Config,
    role: Role,
    opened: &Opened,
    (intake, backends): (&Arc<Intake>, &Backends),
) -> anyhow::Result<Option<Outside>> {
    let Some(broker) = opened.shared.as_ref().filter(|_| role.delivers()) else {
        return Ok(None);
    };
    let taker = |trust| Taker {
        intake: Arc::clone(intake),
        store: Arc::clone(&backends.store),
        trust,
        clock: Arc::clone(&backends.clock),
    };
    let drain = Drain {
        broker: Arc::clone(broker),
        store: Arc::clone(&backends.store),
        events: wiring::events(config.queue.events),
        clock: Arc::clone(&backends.clock),
    };
    Outside::start(broker, config.queue.publish_trust, taker, drain).map(Some)
}

/// The sockets of a role: an engine has no public one.
struct Listeners {
    public: Option<TcpListener>,
    admin: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config, role: Role) -> anyhow::Result<Self> {
        let public = match role.ingests() {
            true => Some(listen(config.server.listen, "server.listen").await?),
            false => None,
        };
        let admin = listen(config.server.admin_listen, "server.admin_listen").await?;
        Ok(Self { public, admin })
    }

    fn addresses(&self) -> std::io::Result<(Option<SocketAddr>, SocketAddr)> {
        let public = self.public.as_ref().map(TcpListener::local_addr);
        Ok((public.transpose()?, self.admin.local_addr()?))
    }

    fn serve(
        self,
        faces: &clarion_ingest::App,
        servers: &mut JoinSet<anyhow::Result<()>>,
        stopped: &watch::Receiver<bool>,
        grace: Duration,
    ) {
        if let Some(public) = self.public {
            let outside = clarion_ingest::router(faces.clone());
            servers.spawn(serve(public, outside, stopped.clone(), grace));
        }
        let inside = clarion_ingest::operator_router(faces.clone());
        servers.spawn(serve(self.admin, inside, stopped.clone(), grace));
    }
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{key} = {address} cannot be listened on: is another process there? choose another port"
        )
    })
}

async fn serve(
    listener: TcpListener,
    router: axum::Router,
    mut stopped: watch::Receiver<bool>,
    grace: Duration,
) -> anyhow::Result<()> {
    let shutdown = async move {
        // An error means that the sender is gone, which is a stop as well.
        drop(stopped.wait_for(|stop| *stop).await);
    };
    Ok(clarion_ingest::serve(listener, router, shutdown, grace).await?)
}

/// Folds the samples of histograms into their buckets now and then, or they pile up.
async fn upkeep(
    metrics: PrometheusHandle,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => metrics.run_upkeep(),
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Hears of keys that other processes delete.
async fn watch_keys(
    watching: impl Future<Output = ()>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = watching => {}
        // The sender says one thing only, or is gone.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    Ok(())
}

/// The engine's driver turns twenty times a second; without a turn for this long something is stuck.
const STALLED_AFTER: Millis = 10_000;

type AtEngine = Option<(EngineHandle, Pulse)>;

fn health_probe(engine: AtEngine, clock: Clock) -> clarion_ingest::HealthProbe {
    Arc::new(
        move || match engine.as_ref().map(|(_, pulse)| pulse.last()) {
            None => EngineHealth::Elsewhere,
            Some(None) => EngineHealth::Starting,
            Some(Some(Millis::MAX)) => EngineHealth::Stopping,
            Some(Some(last)) if clock() - last > STALLED_AFTER => EngineHealth::Stalled,
            Some(Some(_)) => EngineHealth::Running,
        },
    )
}

fn brake_release(engine: AtEngine) -> clarion_ingest::BrakeRelease {
    Arc::new(move |tenant, platform| {
        let engine = engine.clone();
        Box::pin(async move {
            if let Some((engine, _)) = engine {
                engine.release_brake(tenant, platform).await;
            }
        })
    })
}

/// An engine that could not read the control state for a second hands over nothing: where there may be others than this process's
/// own, a second is waited for.
fn control_obeyed(engine: AtEngine, is_shared: bool) -> clarion_ingest::ControlObeyed {
    Arc::new(move || {
        let engine = engine.clone().filter(|_| !is_shared);
        Box::pin(async move {
            match engine {
                Some((engine, _)) => engine.obeyed().await,
                None => tokio::time::sleep(CONTROL_LEASE).await,
            }
        })
    })
}

fn metrics_page(metrics: PrometheusHandle) -> clarion_ingest::MetricsPage {
    Arc::new(move || metrics.render())
}

fn ingest_config(config: &Config) -> clarion_ingest::IngestConfig {
    clarion_ingest::IngestConfig {
        body_max: config.server.body_max,
        bulk_body_max: config.server.bulk_body_max,
        bulk_entries_max: config.server.bulk_entries_max,
        bodies_in_memory_max: config.server.bodies_in_memory_max,
        request_timeout: config.server.request_timeout,
        check_devices: config.ingest.check_devices,
        ttl_default: config.retry.ttl_default,
        limits: clarion_ingest::DefaultLimits {
            rate: config.limits.rate,
            burst: config.limits.burst,
            backlog: config.limits.backlog,
            ambiguous_retries: config.retry.ambiguous_retries,
        },
    }
}
