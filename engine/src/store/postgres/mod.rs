//! The store of many machines: one PostgreSQL database that any number of processes share.
//! It must not know who else reads the traits it implements; a file here belongs to the trait part of its
//! name. Rows are locked in the order job records, notifications, pages, prune candidates, devices, subscriptions, waiting, and
//! by their keys within a table, so that two processes wait for each other in one direction only.

mod accounts;
mod analytics;
mod api_keys;
mod audit;
mod clients;
mod columns;
mod commit;
mod control;
mod dead;
mod devices;
mod iam;
mod idempotency;
mod installations;
mod messages;
mod migrate;
mod notifications;
mod orgs;
mod outbox;
mod pages;
#[cfg(test)]
mod plans;
mod purge;
mod rates;
mod records;
mod revocations;
mod selections;
mod session;
mod stale;
mod tags;
mod waiting;

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::turns::Turns;
use super::{Error, Store};
use crate::model::TenantId;
use session::Sessions;

pub(super) use session::is_data;

/// Default of the sessions a process opens.
pub const CONNECTIONS_DEFAULT: u32 = 12;
/// Default of the wait for a free session.
pub const ACQUIRE_WITHIN_DEFAULT: Duration = Duration::from_secs(1);
/// Default of the time that one call may take, waits for locks and repetitions included.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(5);

/// What opening a store needs.
#[derive(Clone)]
pub struct OpenOptions {
    /// `postgres://user:password@host:port/database`, with `sslmode` and `sslrootcert` as libpq has them.
    pub url: String,
    /// This process, as its [`super::Writer`] says.
    pub process: Uuid,
    /// Sessions at most.
    pub connections: u32,
    /// How long a call waits for a session before it is [`Error::Unavailable`].
    pub acquire_within: Duration,
    /// How long a call may take beyond that before it is [`Error::Unavailable`].
    pub patience: Duration,
}

impl OpenOptions {
    /// The defaults for a database and a process.
    #[must_use]
    pub fn new(url: String, process: Uuid) -> Self {
        Self {
            url,
            process,
            connections: CONNECTIONS_DEFAULT,
            acquire_within: ACQUIRE_WITHIN_DEFAULT,
            patience: PATIENCE_DEFAULT,
        }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("OpenOptions")
            .field("process", &self.process)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    sessions: Sessions,
    process: Uuid,
    /// Where the last round of reservations and of releases ended.
    turn: std::sync::Mutex<Turns>,
}

impl PostgresStore {
    /// Connects to the database and brings its schema up to date; of several processes that do so at once, one does it and the
    /// others wait.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] when a newer Clarion wrote it; [`Error::Unavailable`] when it cannot be reached, or when it
    /// does not write durably (`fsync` or `synchronous_commit` off).
    pub async fn open(options: OpenOptions) -> Result<Self, Error> {
        let mut connection = session::connect_once(&options).await?;
        migrate::migrate(&mut connection).await?;
        if let Err(error) = sqlx::Connection::close(connection).await {
            tracing::warn!(%error, "a connection did not close cleanly; nothing is lost");
        }
        Ok(Self {
            sessions: Sessions::new(&options)?,
            process: options.process,
            turn: std::sync::Mutex::default(),
        })
    }

    /// Reads or notes whose turn it is.
    fn turn<T>(&self, with: impl FnOnce(&mut Turns) -> T) -> T {
        let mut turns = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut turns)
    }
}

impl Store for PostgresStore {}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// Refuses a tenant that is unknown or deleted, and keeps it from being deleted meanwhile.
async fn require_tenant(connection: &mut PgConnection, tenant: &TenantId) -> Result<(), Error> {
    let sql = "SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL FOR SHARE";
    let found: Option<i32> = sqlx::query_scalar(sql)
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    found.map(|_| ()).ok_or(Error::NotFound("tenant"))
}
