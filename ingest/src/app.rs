//! What every handler works with, built once by the composition root.
//! It must not know where configuration comes from or how requests are parsed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clarion_auth::TenantId;
use clarion_auth::seal::MasterKey;
use clarion_auth::token::{AccessTokenIssuer, AccessTokenVerifier};
use clarion_engine::broker::Broker;
use clarion_engine::intake::Intake;
use clarion_engine::limits;
use clarion_engine::model::{Millis, Platform};
use clarion_engine::store::Store;
use tokio::sync::Semaphore;

use crate::authenticate::KeyCache;
use crate::notify::Presence;

/// Bytes of request bodies held at once are counted in pieces of this many bytes.
pub(crate) const BODY_PIECE: usize = 1024;

/// The bounds and switches of the HTTP faces.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Largest body of an ordinary request, bytes.
    pub body_max: usize,
    /// Largest body of a JSON bulk and of a bulk registration, bytes.
    pub bulk_body_max: usize,
    /// Most recipients of a JSON bulk; at most [`limits::BULK_ENTRIES_MAX`].
    pub bulk_entries_max: usize,
    /// Bytes of request bodies held at once; beyond it requests are answered 503.
    pub bodies_in_memory_max: usize,
    /// Time for a request's body to arrive, and again for it to be answered.
    pub request_timeout: Duration,
    /// Answer a single notification to a user without devices with `success: false`.
    pub check_devices: bool,
    /// Life of a notification that names none.
    pub ttl_default: Duration,
    /// What tenants without limits of their own have.
    pub limits: DefaultLimits,
}

/// The limits of tenants without their own.
#[derive(Clone, Copy, Debug)]
pub struct DefaultLimits {
    /// Recipients a second.
    pub rate: u32,
    /// Recipients at once.
    pub burst: u32,
    /// Recipients queued and waiting.
    pub backlog: u64,
    /// Retries of unanswered requests.
    pub ambiguous_retries: u8,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            body_max: limits::BODY_MAX,
            bulk_body_max: limits::BULK_BODY_MAX,
            bulk_entries_max: limits::BULK_ENTRIES_MAX,
            bodies_in_memory_max: 128 * 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            check_devices: true,
            ttl_default: limits::TTL_DEFAULT,
            limits: DefaultLimits {
                rate: limits::RATE_DEFAULT,
                burst: limits::RATE_DEFAULT,
                backlog: limits::BACKLOG_MAX_DEFAULT,
                ambiguous_retries: 1,
            },
        }
    }
}

/// How the engine says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineHealth {
    /// Not working yet.
    Starting,
    /// Working.
    Running,
    /// It made no progress for too long: the process should be restarted.
    Stalled,
    /// Shutting down.
    Stopping,
    /// Not in this process.
    Elsewhere,
}

/// Reads the time, Unix milliseconds. Must not block.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Asks the engine how it is doing. Must not block.
pub type HealthProbe = Arc<dyn Fn() -> EngineHealth + Send + Sync>;
/// Renders all metrics as Prometheus text. Must not block for long.
pub type MetricsPage = Arc<dyn Fn() -> String + Send + Sync>;

/// Tells the engine that the brake of a tenant and platform was taken off by a person.
pub type BrakeRelease =
    Arc<dyn Fn(TenantId, Platform) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Waits until every live engine obeys the control state as it is now, or its lease has lapsed.
pub type ControlObeyed = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the composition root hands over.
pub struct Parts {
    /// Tenants, keys, devices, receipts.
    pub store: Arc<dyn Store>,
    /// Asked only whether it is ready.
    pub broker: Arc<dyn Broker>,
    /// The door to the engine.
    pub intake: Arc<Intake>,
    /// Who signed access tokens.
    pub access_tokens: AccessTokenVerifier,
    /// Signs the access tokens that IAM keys are exchanged for.
    pub issuer: AccessTokenIssuer,
    /// Seals provider credentials.
    pub sealer: Arc<MasterKey>,
    /// Bounds and switches.
    pub config: IngestConfig,
    /// The clock, Unix milliseconds.
    pub now: Clock,
    /// How the engine is doing.
    pub health: HealthProbe,
    /// The metrics page of the operator's listener.
    pub metrics: MetricsPage,
    /// Called after the candidates of a brake were released or discarded.
    pub release_brake: BrakeRelease,
    /// Awaited before a change of limits, a credential or a tenant's life is answered.
    pub control_obeyed: ControlObeyed,
}

/// The state of the HTTP faces; cheap to clone.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

/// What is behind an [`App`].
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) access_tokens: AccessTokenVerifier,
    pub(crate) issuer: AccessTokenIssuer,
    pub(crate) sealer: Arc<MasterKey>,
    pub(crate) config: IngestConfig,
    pub(crate) now: Clock,
    pub(crate) health: HealthProbe,
    pub(crate) metrics: MetricsPage,
    pub(crate) release_brake: BrakeRelease,
    pub(crate) control_obeyed: ControlObeyed,
    pub(crate) keys: KeyCache,
    pub(crate) presence: Presence,
    /// Pieces of [`BODY_PIECE`] bytes that bodies may still take.
    pub(crate) bodies: Arc<Semaphore>,
}

impl App {
    /// The state of one process's faces.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let pieces = parts.config.bodies_in_memory_max / BODY_PIECE;
        let pieces = pieces.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            keys: KeyCache::new(Arc::clone(&parts.store)),
            presence: Presence::new(Arc::clone(&parts.store)),
            bodies: Arc::new(Semaphore::new(pieces)),
            store: parts.store,
            broker: parts.broker,
            intake: parts.intake,
            access_tokens: parts.access_tokens,
            issuer: parts.issuer,
            sealer: parts.sealer,
            config: parts.config,
            now: parts.now,
            health: parts.health,
            metrics: parts.metrics,
            release_brake: parts.release_brake,
            control_obeyed: parts.control_obeyed,
        }))
    }

    /// The cache of API keys: another process's deletions are told to it.
    #[must_use]
    pub fn keys(&self) -> &KeyCache {
        &self.0.keys
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
