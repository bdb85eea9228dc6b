//! How a SQLite file is opened: write-ahead log, full synchronisation, bounded caches; and its schema
//! version. It must not know the tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use super::checkpoint::Checkpoints;
use crate::model::Millis;

/// How long a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 128;
/// Rows that a connection's thread may be ahead of its reader; large, so that threads change seldom.
const ROW_BUFFER: usize = 512;
/// Page cache of the writing connection, KiB.
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// Page cache of a reading connection, KiB.
const READER_CACHE_KIB: u32 = 8 * 1024;
/// Pages in the write-ahead log after which the writing connection itself copies them back into the file: only if
/// [`Checkpoints`] does not keep up.
const CHECKPOINT_PAGES: u32 = 16_000;
/// The log is cut back to this size after a checkpoint, bytes.
const LOG_BYTES: u32 = 64 * 1024 * 1024;

/// A SQLite file and the way it is opened.
#[derive(Clone, Debug)]
pub(crate) struct SqliteFile {
    path: PathBuf,
    name: &'static str,
}

impl SqliteFile {
    /// The file at `path`; `name` names its threads.
    pub(crate) fn new(path: &Path, name: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            name,
        }
    }

    /// Opens the one connection that writes, creating the file if need be.
    pub(crate) async fn writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options(WRITER_CACHE_KIB)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("journal_size_limit", LOG_BYTES.to_string())
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .connect()
            .await
    }

    /// Begins to copy the write-ahead log back, beside the one that writes.
    pub(crate) async fn checkpoints(&self) -> Result<Checkpoints, sqlx::Error> {
        let connection = self
            .options(READER_CACHE_KIB)
            .create_if_missing(false)
            .pragma("wal_autocheckpoint", "0")
            .connect()
            .await?;
        Ok(Checkpoints::start(connection, self.name))
    }

    /// Opens up to `connections` connections that read.
    pub(crate) async fn readers(&self, connections: u32) -> Result<SqlitePool, sqlx::Error> {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(
                self.options(READER_CACHE_KIB)
                    .create_if_missing(false)
                    .pragma("query_only", "ON"),
            )
            .await
    }

    fn options(&self, cache_kib: u32) -> SqliteConnectOptions {
        let name = self.name;
        SqliteConnectOptions::new()
            .filename(&self.path)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS_MAX)
            .row_buffer_size(ROW_BUFFER)
            .pragma("cache_size", format!("-{cache_kib}"))
            .pragma("mmap_size", "0")
            .pragma("temp_store", "MEMORY")
            .thread_name(move |number| format!("{name}-{number}"))
    }
}

/// What `PRAGMA synchronous` says on this connection; 2 is FULL.
pub(crate) async fn synchronous(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(connection)
        .await
}

/// The file's own clock, Unix milliseconds.
pub(crate) async fn clock(connection: &mut SqliteConnection) -> Result<Millis, sqlx::Error> {
    sqlx::query_scalar("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)")
        .fetch_one(connection)
        .await
}

/// How many of its migrations a file has seen.
async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await
}

/// Runs the migrations that the file has not seen, each in a transaction of its own, and returns the version
/// found. A version above the newest known is left alone: the caller refuses it.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    migrations: &'static [&'static str],
) -> Result<i64, sqlx::Error> {
    let found = schema_version(connection).await?;
    let seen = usize::try_from(found).unwrap_or(usize::MAX);
    for (index, sql) in migrations.iter().enumerate().skip(seen) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", index + 1));
        sqlx::raw_sql(version).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(found)
}
