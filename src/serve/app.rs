//! A whole Clarion in this process: data directory, keys, store, queue, engine, faces.
//! It must not know which command runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clarion_auth::token::{AccessTokenVerifier, Issuer, SigningKey};
use clarion_engine::broker::Broker;
use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::datadir::DataDir;
use clarion_engine::delivery::Clock;
use clarion_engine::delivery::engine::{AnswerHook, Backends, Engine, EngineHandle, Pulse};
use clarion_engine::intake::Intake;
use clarion_engine::model::Millis;
use clarion_engine::store::Store;
use clarion_engine::store::sqlite::{OpenOptions, SqliteStore};
use clarion_ingest::EngineHealth;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::engine_options::engine_options;
use crate::config::Config;
use crate::keys::Keys;
use crate::telemetry::UPKEEP_INTERVAL;

/// Who else is told of what happens.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Told of answered requests.
    pub(crate) on_answered: Option<AnswerHook>,
}

/// A running Clarion.
pub(crate) struct App {
    public: SocketAddr,
    admin: SocketAddr,
    engine: Engine,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    faces: clarion_ingest::App,
    stop: watch::Sender<bool>,
    servers: JoinSet<anyhow::Result<()>>,
    grace: Duration,
}

/// The wall clock, Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the composition root is where the clock is read"
)]
pub(crate) fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

impl App {
    /// Starts everything, in the order in which it is needed; listens last, so that nothing is accepted that could not be
    /// stored.
    ///
    /// # Errors
    /// When something cannot start; the message says what to do.
    pub(crate) async fn start(
        config: &Config,
        metrics: PrometheusHandle,
        hooks: Hooks,
    ) -> anyhow::Result<Self> {
        let data_dir = Arc::new(DataDir::lock(&config.data_dir)?);
        let master_key = Arc::new(Keys::master(config)?);
        let signing_key = Keys::signing(config)?;
        let process = Uuid::new_v4();
        let (store, broker) = open(config, &data_dir, process).await?;
        let bulk_accepted = Arc::new(Notify::new());
        let backends = Backends {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker),
            master_key: Arc::clone(&master_key),
            bulk_accepted: Arc::clone(&bulk_accepted),
            waiting_written: Arc::new(Notify::new()),
            clock: Arc::new(now) as Clock,
        };
        let engine =
            Engine::start(engine_options(config, process, now(), hooks)?, backends).await?;
        let mac = master_key.mac_key("notification id")?;
        let (at_store, at_broker) = (Arc::clone(&store), Arc::clone(&broker));
        let intake = Intake::new(
            at_store,
            at_broker,
            mac,
            config.limits.backlog,
            bulk_accepted,
        )
        .with_default_life(config.retry.ttl_default);
        let parts = clarion_ingest::Parts {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker),
            intake: Arc::new(intake),
            access_tokens: verifier(config, &signing_key)?,
            sealer: master_key,
            config: ingest_config(config),
            now,
            health: health_probe(engine.pulse()),
            metrics: metrics_page(metrics.clone()),
            release_brake: brake_release(engine.handle()),
            control_obeyed: control_obeyed(engine.handle()),
        };
        let faces = clarion_ingest::App::new(parts);
        let public = listen(config.server.listen, "server.listen").await?;
        let admin = listen(config.server.admin_listen, "server.admin_listen").await?;
        let addresses = (public.local_addr()?, admin.local_addr()?);
        let (stop, stopped) = watch::channel(false);
        let grace = config.server.shutdown_grace;
        let (outside, inside) = (
            clarion_ingest::router(faces.clone()),
            clarion_ingest::operator_router(faces.clone()),
        );
        let mut servers = JoinSet::new();
        servers.spawn(serve(public, outside, stopped.clone(), grace));
        servers.spawn(serve(admin, inside, stopped.clone(), grace));
        servers.spawn(upkeep(metrics, stopped));
        Ok(Self {
            public: addresses.0,
            admin: addresses.1,
            engine,
            store,
            broker,
            faces,
            stop,
            servers,
            grace,
        })
    }
}

impl App {
    /// Where the public API listens.
    pub(crate) fn public(&self) -> SocketAddr {
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
        self.engine.stop().await;
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
    let issuer = Issuer {
        iss: config.auth.issuer.clone(),
        aud: config.auth.audience.clone(),
    };
    Ok(AccessTokenVerifier::new(&issuer, [key.public()])?)
}

async fn open(
    config: &Config,
    data_dir: &Arc<DataDir>,
    process: Uuid,
) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn Broker>)> {
    make_parent(&config.store.path)?;
    make_parent(&config.queue.path)?;
    let options = OpenOptions {
        process,
        data_dir: Arc::clone(data_dir),
    };
    let store = SqliteStore::open(&config.store.path, options)
        .await
        .with_context(|| format!("opening the store {}", config.store.path.display()))?;
    let broker = EmbeddedBroker::open(&config.queue.path, Arc::clone(data_dir))
        .await
        .with_context(|| format!("opening the queue {}", config.queue.path.display()))?;
    Ok((Arc::new(store), Arc::new(broker)))
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("making the directory {}", parent.display()))?;
    }
    Ok(())
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

/// The engine's driver turns twenty times a second; without a turn for this long something is stuck.
const STALLED_AFTER: Millis = 10_000;

fn health_probe(pulse: Pulse) -> clarion_ingest::HealthProbe {
    Arc::new(move || match pulse.last() {
        None => EngineHealth::Starting,
        Some(Millis::MAX) => EngineHealth::Stopping,
        Some(last) if now() - last > STALLED_AFTER => EngineHealth::Stalled,
        Some(_) => EngineHealth::Running,
    })
}

fn brake_release(engine: EngineHandle) -> clarion_ingest::BrakeRelease {
    Arc::new(move |tenant, platform| {
        let engine = engine.clone();
        Box::pin(async move { engine.release_brake(tenant, platform).await })
    })
}

fn control_obeyed(engine: EngineHandle) -> clarion_ingest::ControlObeyed {
    Arc::new(move || {
        let engine = engine.clone();
        Box::pin(async move { engine.obeyed().await })
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
