//! Sessions with PostgreSQL: bounded in number and in time, durable or refused, and transactions that are run
//! again when the database asks for it. It must not know any table.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres, Row};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::{Closing, Error};
use super::OpenOptions;

/// How often a transaction is run that the database ends for another's sake (deadlock, serialisation), and a
/// read whose connection turns out to be lost.
const ATTEMPTS: u32 = 4;
/// A connection that rested this long is looked at before it is used again.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// A connection that nobody needed for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);
/// How long the server keeps the locks of a process that stopped in the middle of a transaction.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);
/// How long a close waits for what is under way.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

// Every statement here finds its rows by whole keys, and plans are made when the tables are still empty or
// have just grown a thousandfold: better never to walk a table than to trust their statistics.
const PREPARE: &str = "
SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $1, false),
    set_config('idle_in_transaction_session_timeout', $2, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false), set_config('enable_bitmapscan', 'off', false),
    set_config('enable_material', 'off', false), set_config('jit', 'off', false)";

const DURABILITY: &str = "SELECT current_setting('fsync'), current_setting('synchronous_commit')";

/// The sessions of one store.
pub(super) struct Sessions {
    pool: PgPool,
    patience: Duration,
}

/// One session, for as long as it is needed. Dropped in the middle of something, it is closed, and what it had
/// begun is undone.
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    is_at_rest: bool,
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The pool would wait for the answer to whatever was asked, for ever if the server stalls.
        if !self.is_at_rest {
            self.connection.close_on_drop();
        }
    }
}

impl Session {
    async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        sqlx::raw_sql(sql).execute(&mut *self.connection).await?;
        Ok(())
    }
}

/// What a database does not keep, and we do not start on.
#[derive(Debug, thiserror::Error)]
#[error("{setting} is {value}: what is answered could be lost; set it to on")]
struct NotDurable {
    setting: &'static str,
    value: String,
}

/// The server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the database did not answer within {0:?}")]
struct Stalled(Duration);

impl Sessions {
    /// Sessions as `options` say; none is opened yet.
    pub(super) fn new(options: &OpenOptions) -> Result<Self, Error> {
        let connect = connect_options(&options.url)?;
        let patience = options.patience;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(options.acquire_within)
            .idle_timeout(IDLE_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, meta: PoolConnectionMetadata| {
                Box::pin(async move {
                    if meta.idle_for > LOOK_AFTER {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move { prepare(connection, patience).await })
            })
            .connect_lazy_with(connect);
        Ok(Self { pool, patience })
    }

    /// Runs `work` as one transaction: all of it or nothing. It is run again when the database ended it for
    /// another's sake, so that it must not remember anything.
    pub(super) async fn transact<T, Work, Done>(&self, work: Work) -> Result<T, Error>
    where
        Work: Fn(Session) -> Done,
        Done: Future<Output = (Session, Result<T, Error>)>,
    {
        let work = &work;
        self.again(|mut session| async move {
            session.run("BEGIN").await.map_err(Failed::before)?;
            let (mut session, result) = work(session).await;
            let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = session.run(end).await;
            session.is_at_rest = ended.is_ok();
            let value = result.map_err(Failed::within)?;
            // Whether a commit took place that was not answered, nobody knows: the caller asks again.
            ended.map_err(Failed::within)?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` without a transaction around it: what only reads, or one statement that may as well run twice.
    pub(super) async fn read<T, Work, Done>(&self, work: Work) -> Result<T, Error>
    where
        Work: Fn(Session) -> Done,
        Done: Future<Output = (Session, Result<T, Error>)>,
    {
        let work = &work;
        self.again(|session| async move {
            let (mut session, result) = work(session).await;
            session.is_at_rest = !matches!(result, Err(Error::Unavailable(_)));
            result.map_err(Failed::before)
        })
        .await
    }

    async fn again<T, Attempt, Done>(&self, attempt: Attempt) -> Result<T, Error>
    where
        Attempt: Fn(Session) -> Done,
        Done: Future<Output = Result<T, Failed>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut attempts = 1;
        loop {
            let session = Session {
                connection: self.pool.acquire().await.map_err(unavailable)?,
                is_at_rest: false,
            };
            let ended = timeout_at(deadline, attempt(session)).await;
            match ended.map_err(|_| stalled(self.patience))? {
                Ok(value) => return Ok(value),
                Err(failed) if attempts < ATTEMPTS && failed.is_worth_another_attempt() => {
                    attempts += 1;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// A pool for one connection beside the sessions.
    pub(super) fn pool_of_one(&self) -> PgPool {
        let connect = (*self.pool.connect_options()).clone();
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.patience)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(connect.application_name("clarion-keys"))
    }

    /// How long a call may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits for what is under way and closes.
    pub(super) async fn close(&self) {
        if timeout(CLOSE_WITHIN, self.pool.close()).await.is_err() {
            tracing::warn!("the database did not let go of all sessions; nothing is lost");
        }
    }
}

/// Opens a connection of its own, for the schema. Refuses a database that is not durable.
pub(super) async fn connect_once(options: &OpenOptions) -> Result<PgConnection, Error> {
    use sqlx::ConnectOptions;
    let connect = connect_options(&options.url)?;
    let opened = timeout(options.patience, connect.connect()).await;
    let mut connection = opened.map_err(|_| stalled(options.patience))??;
    check_durability(&mut connection).await?;
    Ok(connection)
}

/// The server took longer than that.
pub(super) fn stalled(patience: Duration) -> Error {
    Error::Unavailable(Box::new(Stalled(patience)))
}

fn connect_options(url: &str) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url).map_err(unavailable)?;
    Ok(options.application_name("clarion"))
}

/// Sets a connection up as every session is.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(PREPARE)
        .bind(patience.as_millis().to_string())
        .bind(ABANDONED_AFTER.as_millis().to_string())
        .execute(&mut *connection)
        .await?;
    // Another server may have taken the first one's place.
    check_durability(connection)
        .await
        .map_err(|error| sqlx::Error::Configuration(Box::new(error)))
}

async fn check_durability(connection: &mut PgConnection) -> Result<(), Error> {
    let row = sqlx::query(DURABILITY).fetch_one(connection).await?;
    for (column, setting) in ["fsync", "synchronous_commit"].into_iter().enumerate() {
        let value: String = row.try_get(column)?;
        if value == "off" {
            return Err(Error::Unavailable(Box::new(NotDurable { setting, value })));
        }
    }
    Ok(())
}

fn unavailable(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolClosed => Error::Unavailable(Box::new(Closing)),
        error => Error::Unavailable(Box::new(error)),
    }
}

/// What went wrong, and whether anything may have been written.
struct Failed {
    error: Error,
    is_untouched: bool,
}

impl Failed {
    /// Before anything was written.
    fn before(error: Error) -> Self {
        Self {
            error,
            is_untouched: true,
        }
    }

    /// In the middle of a transaction.
    fn within(error: Error) -> Self {
        Self {
            error,
            is_untouched: false,
        }
    }

    fn is_worth_another_attempt(&self) -> bool {
        let Error::Unavailable(source) = &self.error else {
            return false;
        };
        match source.downcast_ref() {
            Some(sqlx::Error::Io(_)) => self.is_untouched,
            Some(sqlx::Error::Database(database)) => {
                // Deadlock, serialisation: undone by the database. Shut down: the connection is lost.
                let code = database.code();
                let code = code.as_deref().unwrap_or_default();
                ["40001", "40P01"].contains(&code) || (self.is_untouched && code.starts_with("57P"))
            }
            _ => false,
        }
    }
}

/// Whether PostgreSQL refused the data rather than the moment: data exceptions, violated constraints, and what
/// is too large for a row or an index.
pub(in crate::store) fn is_data(error: &PgDatabaseError) -> bool {
    ["22", "23", "54"]
        .iter()
        .any(|class| error.code().starts_with(class))
}

/// Runs statements as one transaction; `?` leaves and undoes it.
macro_rules! transact {
    ($store:expr, |$session:ident| $work:block) => {
        $store.sessions.transact(|mut session| async move {
            let $session: &mut sqlx::PgConnection = &mut session;
            let result: Result<_, Error> = async { $work }.await;
            (session, result)
        })
    };
}
pub(super) use transact;

/// Runs statements that only read, or one that may as well run twice.
macro_rules! read {
    ($store:expr, |$session:ident| $work:block) => {
        $store.sessions.read(|mut session| async move {
            let $session: &mut sqlx::PgConnection = &mut session;
            let result: Result<_, Error> = async { $work }.await;
            (session, result)
        })
    };
}
pub(super) use read;
