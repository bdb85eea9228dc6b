//! The queue of a single machine: messages in a SQLite file of its own, leases in memory.
//! It must not know what is in a message.
//!
//! Publishes and acks that arrive together share one synchronised transaction. At the start every unacked
//! message is ready again. Bodies are read when they are handed out, so that a backlog costs no memory; what
//! is published to an idle queue goes out without being read back.

mod desk;
mod dispatch;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, SqlitePool};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use self::desk::Desk;
use self::dispatch::Dispatcher;
use self::writer::{Request, Writer};
use super::{Broker, Error, Lease, LeaseId, Publish, QueueName, Subscription};
use crate::datadir::{Checkpoints, DataDir, SqliteFile, migrate, synchronous};
use crate::model::{Lane, TenantId};

/// What a file has been through, oldest first; append only.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_first.sql")];
/// Requests that may wait for the writer.
const REQUESTS_MAX: usize = 4_096;
/// Bodies that may wait for the writer, KiB.
const PENDING_KIB: usize = 64 * 1024;
/// Hand-outs that may wait for the subscriber.
const DELIVERIES_MAX: usize = 256;
/// Connections that read.
const READERS: u32 = 1;
/// A queue that does not take a write within this time is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

const SELECT_QUEUES: &str = "
SELECT tenant, lane, min(id), max(id), count(*) FROM messages GROUP BY tenant, lane";

/// A durable queue in a SQLite file.
pub struct EmbeddedBroker {
    requests: mpsc::Sender<Request>,
    /// KiB of bodies that may still be given to the writer.
    pending: Arc<Semaphore>,
    desk: Arc<Desk>,
    readers: SqlitePool,
    running: Mutex<Option<(JoinHandle<()>, Checkpoints)>>,
    synchronous: i64,
}

impl EmbeddedBroker {
    /// Opens or creates the queue in the file at `path`, which lies in the directory that `data_dir` owns.
    /// Every unacked message in it is ready again.
    ///
    /// # Errors
    /// [`Error::Storage`] when the file cannot be opened or is not a queue, [`Error::NewerSchema`] when a
    /// newer Clarion wrote it.
    pub async fn open(path: &Path, data_dir: Arc<DataDir>) -> Result<Self, Error> {
        let file = SqliteFile::new(path, "queue");
        let mut connection = file.writer().await.map_err(storage)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let found = migrate(&mut connection, MIGRATIONS)
            .await
            .map_err(storage)?;
        if found > known {
            return Err(Error::NewerSchema { found, known });
        }
        let synchronous = synchronous(&mut connection).await.map_err(storage)?;
        let desk = Arc::new(Desk::new(find_queues(&mut connection).await?));
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let writer = Writer {
            connection,
            requests: receiver,
            desk: Arc::clone(&desk),
            last_id: desk.last_old(),
            data_dir,
        };
        Ok(Self {
            requests,
            pending: Arc::new(Semaphore::new(PENDING_KIB)),
            desk,
            readers: file.readers(READERS).await.map_err(storage)?,
            running: Mutex::new(Some((
                tokio::spawn(writer.run()),
                file.checkpoints().await.map_err(storage)?,
            ))),
            synchronous,
        })
    }

    /// What `PRAGMA synchronous` said on the connection that writes; 2 is FULL.
    #[must_use]
    pub fn synchronous(&self) -> i64 {
        self.synchronous
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, messages: Vec<Publish>) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        let kib = u32::try_from((bytes / 1024 + 1).min(PENDING_KIB)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.pending)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| CLOSING)?;
        let (answer, answered) = oneshot::channel();
        let request = Request::Publish {
            messages,
            share,
            answer,
        };
        self.requests.send(request).await.map_err(|_| CLOSING)?;
        answered.await.map_err(|_| CLOSING)?
    }

    async fn subscribe(&self, rest: u32) -> Result<Subscription, Error> {
        let (out, deliveries) = mpsc::channel(DELIVERIES_MAX);
        if !self.desk.open(out.clone(), rest) {
            return Err(Error::Unavailable(
                "it is closing, or this process has a subscription already",
            ));
        }
        let dispatcher = Dispatcher {
            desk: Arc::clone(&self.desk),
            readers: self.readers.clone(),
            out,
        };
        tokio::spawn(dispatcher.run());
        Ok(Subscription { deliveries })
    }

    fn set_credit(&self, queue: &QueueName, unacked: u32) {
        self.desk.set_credit(queue, unacked);
    }

    async fn ack(&self, mut leases: Vec<Lease>) -> Result<Vec<bool>, Error> {
        // Only with a place at the writer are the leases taken over: a caller that gives up before gives them
        // back.
        let place = self.requests.reserve().await.map_err(|_| CLOSING)?;
        let messages = self.desk.messages_of(&leases);
        let counts: Vec<bool> = messages.iter().map(Option::is_some).collect();
        let ids: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        for lease in &mut leases {
            lease.give_back = None;
        }
        let (answer, answered) = oneshot::channel();
        place.send(Request::Ack {
            messages: messages.into_iter().flatten().collect(),
            leases: ids,
            answer,
        });
        answered.await.map_err(|_| CLOSING)??;
        Ok(counts)
    }

    async fn depths(&self) -> Result<Vec<(QueueName, u64)>, Error> {
        Ok(self.desk.depths())
    }

    async fn is_ready(&self) -> bool {
        let beat = async {
            let (answer, answered) = oneshot::channel();
            let request = Request::Beat { answer };
            self.requests.send(request).await.map_err(|_| CLOSING)?;
            answered.await.map_err(|_| CLOSING)?
        };
        matches!(tokio::time::timeout(READY_WITHIN, beat).await, Ok(Ok(())))
    }

    async fn close(&self) {
        self.desk.close();
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.take()
        };
        if let Some((writer, checkpoints)) = running {
            checkpoints.close().await;
            // Closed already: then it is on its way out.
            let _gone = self.requests.send(Request::Close).await.is_err();
            if let Err(error) = writer.await {
                tracing::error!(%error, "the queue's writer broke; what was confirmed is safe");
            }
        }
        self.readers.close().await;
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").finish_non_exhaustive()
    }
}

const CLOSING: Error = Error::Unavailable("it is closing");

fn storage(error: sqlx::Error) -> Error {
    Error::Storage(Box::new(error))
}

/// A lane as a column has it.
fn lane_code(lane: Lane) -> i64 {
    match lane {
        Lane::Transactional => 0,
        Lane::Bulk => 1,
    }
}

/// A row of a queue that this build cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a message of the unknown queue {tenant:?}, lane {lane}")]
struct UnknownQueue {
    tenant: String,
    lane: i64,
}

async fn find_queues(
    connection: &mut SqliteConnection,
) -> Result<Vec<(QueueName, i64, i64, u64)>, Error> {
    let rows = sqlx::query(SELECT_QUEUES)
        .fetch_all(connection)
        .await
        .map_err(storage)?;
    let mut queues = Vec::with_capacity(rows.len());
    for row in rows {
        let tenant: String = row.try_get(0).map_err(storage)?;
        let lane: i64 = row.try_get(1).map_err(storage)?;
        let name = queue_name(&tenant, lane);
        let name = name.ok_or_else(|| Error::Storage(Box::new(UnknownQueue { tenant, lane })))?;
        let depth: i64 = row.try_get(4).map_err(storage)?;
        let first = row.try_get(2).map_err(storage)?;
        let last = row.try_get(3).map_err(storage)?;
        queues.push((name, first, last, depth.unsigned_abs()));
    }
    Ok(queues)
}

fn queue_name(tenant: &str, lane: i64) -> Option<QueueName> {
    let lanes = [Lane::Transactional, Lane::Bulk];
    Some(QueueName {
        tenant: tenant.parse::<TenantId>().ok()?,
        lane: lanes.into_iter().find(|known| lane_code(*known) == lane)?,
    })
}
