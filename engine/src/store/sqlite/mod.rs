//! The store of a single machine: one SQLite file, one connection that writes, a few that read.
//! It must not know who else reads the traits it implements; a file here belongs to the trait part of its
//! name.

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
mod tags;
mod waiting;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool, SqliteTransaction};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::turns::Turns;
use super::{Error, Store};
use crate::datadir::{Checkpoints, DataDir, SqliteFile, migrate, synchronous};
use crate::model::TenantId;

/// What a file has been through, oldest first; append only.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_dead_requests.sql"),
    include_str!("migrations/0003_outbox.sql"),
    include_str!("migrations/0004_credentials.sql"),
    include_str!("migrations/0005_audience.sql"),
    include_str!("migrations/0006_ibm_push.sql"),
    include_str!("migrations/0007_daily_counts.sql"),
];
/// Connections that read.
const READERS: u32 = 3;

/// What opening a store needs.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// This process, as its [`super::Writer`] says: claims of any other are void, because the lock proves it
    /// dead.
    pub process: Uuid,
    /// The lock of the directory that the file lies in.
    pub data_dir: Arc<DataDir>,
}

/// A store in a SQLite file.
pub struct SqliteStore {
    writer: Mutex<WriteConnection>,
    readers: SqlitePool,
    checkpoints: Mutex<Option<Checkpoints>>,
    process: Uuid,
    /// Where the last round of reservations and of releases ended.
    turn: std::sync::Mutex<Turns>,
    running: idempotency::Running,
    _data_dir: Arc<DataDir>,
}

/// The connection that writes, until the store is closed.
struct WriteConnection(Option<SqliteConnection>);

impl WriteConnection {
    /// Begins a transaction that may write. Dropped before its commit, it leaves no trace.
    async fn begin(&mut self) -> Result<SqliteTransaction<'_>, Error> {
        let connection = self.0.as_mut().ok_or_else(closed)?;
        Ok(connection.begin_with("BEGIN IMMEDIATE").await?)
    }
}

impl SqliteStore {
    /// Opens or creates the store in the file at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] when a newer Clarion wrote it, [`Error::Unavailable`] when it cannot be opened.
    pub async fn open(path: &Path, options: OpenOptions) -> Result<Self, Error> {
        let file = SqliteFile::new(path, "store");
        let mut writer = file.writer().await?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let found = migrate(&mut writer, MIGRATIONS).await?;
        if found > known {
            return Err(Error::NewerSchema { found, known });
        }
        Ok(Self {
            writer: Mutex::new(WriteConnection(Some(writer))),
            readers: file.readers(READERS).await?,
            checkpoints: Mutex::new(Some(file.checkpoints().await?)),
            process: options.process,
            turn: std::sync::Mutex::default(),
            running: idempotency::Running::default(),
            _data_dir: options.data_dir,
        })
    }

    /// What `PRAGMA synchronous` says on the connection that writes; 2 is FULL.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn synchronous(&self) -> Result<i64, Error> {
        let mut writer = self.writer.lock().await;
        let connection = writer.0.as_mut().ok_or_else(closed)?;
        Ok(synchronous(connection).await?)
    }

    async fn writer(&self) -> MutexGuard<'_, WriteConnection> {
        self.writer.lock().await
    }

    /// Reads or notes whose turn it is.
    fn turn<T>(&self, with: impl FnOnce(&mut Turns) -> T) -> T {
        let mut turns = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut turns)
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, Error> {
        Ok(self.readers.acquire().await?)
    }
}

impl Store for SqliteStore {}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::Unavailable(Box::new(super::Closing))
}

/// Whether SQLite refused the data rather than the moment.
pub(super) fn is_data(error: &dyn DatabaseError) -> bool {
    /// SQLite's "string or BLOB exceeds size limit".
    const TOO_BIG: &str = "18";
    !matches!(error.kind(), ErrorKind::Other) || error.code().is_some_and(|code| code == TOO_BIG)
}

/// Refuses a tenant that is unknown or deleted.
async fn require_tenant(connection: &mut SqliteConnection, tenant: &TenantId) -> Result<(), Error> {
    let sql = "SELECT 1 FROM tenants WHERE id = ? AND deleted_at IS NULL";
    let found: Option<i64> = sqlx::query_scalar(sql)
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    found.map(|_| ()).ok_or(Error::NotFound("tenant"))
}
