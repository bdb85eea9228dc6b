//! Brings a database's schema up to date, one process at a time.
//! It must not know what a migration does.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::timeout;

use super::super::Error;
use super::session::stalled;

/// What a database has been through, oldest first; append only.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_dead_requests.sql"),
    include_str!("migrations/0003_outbox.sql"),
    include_str!("migrations/0004_credentials.sql"),
    include_str!("migrations/0005_audience.sql"),
    include_str!("migrations/0006_ibm_push.sql"),
    include_str!("migrations/0007_daily_counts.sql"),
];
/// All migrations together take no longer, waits for another process's included.
const MIGRATE_WITHIN: Duration = Duration::from_secs(10 * 60);

// Any number that no other application locks: the first bytes of "clarion\0".
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'636c6172696f6e00'::bigint)";

const CREATE_SCHEMA: &str = "
CREATE TABLE clarion_schema (
    id smallint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL
);
INSERT INTO clarion_schema (id, version) VALUES (1, 0)";

/// Runs the migrations that the database has not seen, each in a transaction of its own.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), Error> {
    let migrated = timeout(MIGRATE_WITHIN, async {
        while migrate_once(connection).await? {}
        Ok(())
    });
    migrated.await.map_err(|_| stalled(MIGRATE_WITHIN))?
}

/// Runs the next migration; `false` when there is none.
async fn migrate_once(connection: &mut PgConnection) -> Result<bool, Error> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // Whatever the default is: what the last holder of the lock did must be seen.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut tx = sqlx::Connection::begin_with(connection, begin).await?;
    sqlx::query(LOCK).execute(&mut *tx).await?;
    let found = version(&mut tx).await?;
    if found > known {
        return Err(Error::NewerSchema { found, known });
    }
    let next = usize::try_from(found)
        .ok()
        .and_then(|at| MIGRATIONS.get(at));
    let Some(sql) = next else {
        tx.rollback().await?;
        return Ok(false);
    };
    sqlx::raw_sql(*sql).execute(&mut *tx).await?;
    sqlx::query("UPDATE clarion_schema SET version = $1")
        .bind(found + 1)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// How many migrations the database has seen.
async fn version(connection: &mut PgConnection) -> Result<i64, Error> {
    // A role that may not create tables can still open a schema that is up to date.
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('clarion_schema') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        sqlx::raw_sql(CREATE_SCHEMA)
            .execute(&mut *connection)
            .await?;
    }
    Ok(sqlx::query_scalar("SELECT version FROM clarion_schema")
        .fetch_one(connection)
        .await?)
}
