//! The one task that writes: it takes what publishers and ackers ask at the same time into one synchronised
//! transaction. It must not know who is handed a message.

use std::sync::Arc;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::desk::{Desk, Message};
use super::lane_code;
use crate::broker::{Delivery, Error, LeaseId, Publish};
use crate::datadir::{DataDir, Rows};
use crate::model::Millis;

/// Requests taken into one transaction.
const GROUP_REQUESTS: usize = 1_024;
/// Bodies taken into one transaction, bytes; the request that goes beyond still belongs to it.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

const INSERT: Rows = Rows {
    head: "INSERT INTO messages (id, tenant, lane, published_at, body)",
    width: 5,
    tail: "",
};

const DELETE: &str = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))";

const BEAT: &str = "UPDATE heartbeat SET beats = beats + 1";

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Write messages.
    Publish {
        messages: Vec<Publish>,
        /// Their share of the bytes that may be on their way.
        share: OwnedSemaphorePermit,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Delete messages.
    Ack {
        messages: Vec<i64>,
        leases: Vec<LeaseId>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Show that a write succeeds.
    Beat {
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Close after what is written now.
    Close,
}

/// The writer.
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) desk: Arc<Desk>,
    pub(super) last_id: i64,
    /// Held as long as something may be written.
    pub(super) data_dir: Arc<DataDir>,
}

/// Requests of one transaction.
#[derive(Default)]
struct Group {
    publishes: Vec<Publish>,
    deletes: Vec<i64>,
    leases: Vec<LeaseId>,
    beat: bool,
    answers: Vec<oneshot::Sender<Result<(), Error>>>,
    shares: Vec<OwnedSemaphorePermit>,
    close: bool,
}

/// Why a transaction failed; every request of the group hears of it.
#[derive(Clone)]
enum Failed {
    /// Nothing was written.
    Before(Arc<sqlx::Error>),
    /// Nobody knows.
    AtCommit(Arc<sqlx::Error>),
}

impl Writer {
    /// Serves until it is told to close or nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let group = self.gather(first);
            let close = group.close;
            self.write(group).await;
            if close {
                break;
            }
        }
        self.requests.close();
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the queue did not close cleanly; nothing is lost");
        }
        drop(self.data_dir);
    }

    fn gather(&mut self, first: Request) -> Group {
        let mut group = Group::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            bytes += group.take(request);
            if group.answers.len() >= GROUP_REQUESTS || bytes >= GROUP_BYTES || group.close {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        group
    }

    async fn write(&mut self, group: Group) {
        #[expect(clippy::disallowed_methods, reason = "the queue stamps what it takes")]
        let now = jiff::Timestamp::now().as_millisecond();
        let first_id = self.last_id + 1;
        let written = if group.is_empty() {
            Ok(())
        } else {
            commit(&mut self.connection, &group, first_id, now).await
        };
        match &written {
            Ok(()) => {
                self.desk.acked(&group.leases);
                self.announce(group.publishes, now);
            }
            Err(failed) => {
                tracing::error!(error = %failed.cause(), "the queue could not be written");
                self.desk.returned(&group.leases);
            }
        }
        for answer in group.answers {
            let said = written.clone().map_err(Failed::into_error);
            // Whoever asked may have gone; what was done is done.
            let _gone = answer.send(said).is_err();
        }
    }

    fn announce(&mut self, publishes: Vec<Publish>, now: Millis) {
        for publish in publishes {
            self.last_id += 1;
            let message = Message {
                id: self.last_id,
                published_at: now,
                body: publish.body,
            };
            // Handed over before the next is announced, or the dispatcher might overtake it.
            if let Some((permit, lease)) = self.desk.committed(&publish.queue, message) {
                permit.send(Delivery::Leased(lease));
            }
        }
    }
}

impl Group {
    /// Adds a request and returns the bytes it brings.
    fn take(&mut self, request: Request) -> usize {
        match request {
            Request::Publish {
                messages,
                share,
                answer,
            } => {
                let bytes = messages.iter().map(|message| message.body.len()).sum();
                self.publishes.extend(messages);
                self.shares.push(share);
                self.answers.push(answer);
                bytes
            }
            Request::Ack {
                messages,
                leases,
                answer,
            } => {
                self.deletes.extend(messages);
                self.leases.extend(leases);
                self.answers.push(answer);
                0
            }
            Request::Beat { answer } => {
                self.beat = true;
                self.answers.push(answer);
                0
            }
            Request::Close => {
                self.close = true;
                0
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.deletes.is_empty() && !self.beat
    }
}

impl Failed {
    fn cause(&self) -> &sqlx::Error {
        match self {
            Self::Before(error) | Self::AtCommit(error) => error,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Before(error) => Error::Storage(Box::new(error)),
            Self::AtCommit(error) => Error::NotConfirmed(Box::new(error)),
        }
    }
}

async fn commit(
    connection: &mut SqliteConnection,
    group: &Group,
    first_id: i64,
    now: Millis,
) -> Result<(), Failed> {
    let before = |error| Failed::Before(Arc::new(error));
    let mut tx = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(before)?;
    let numbered: Vec<(i64, &Publish)> = (first_id..).zip(&group.publishes).collect();
    INSERT
        .execute(&mut tx, &numbered, |binder, (id, publish)| {
            let queue = &publish.queue;
            binder.bind(*id).bind(queue.tenant.as_str());
            binder.bind(lane_code(queue.lane)).bind(now);
            binder.bind(&*publish.body);
        })
        .await
        .map_err(before)?;
    if !group.deletes.is_empty() {
        let ids = serde_json::json!(group.deletes).to_string();
        sqlx::query(DELETE)
            .bind(ids)
            .execute(&mut *tx)
            .await
            .map_err(before)?;
    }
    if group.beat {
        sqlx::query(BEAT).execute(&mut *tx).await.map_err(before)?;
    }
    let at_commit = |error| Failed::AtCommit(Arc::new(error));
    tx.commit().await.map_err(at_commit)
}
