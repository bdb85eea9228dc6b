//! The one task that writes: it takes what publishers and ackers ask at the same time into one synchronised
//! transaction. It must not know who is handed a message.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::desk::{Desk, Message};
use super::lane_code;
use crate::broker::{Delivery, Error, LeaseId, Publish};
use crate::datadir::{Batch, DataDir, Rows};
use crate::model::Millis;

/// Requests taken into one transaction.
const GROUP_REQUESTS: usize = 1_024;
/// Bodies taken into one transaction, bytes; the request that goes beyond still belongs to it. Little, because whoever asks next
/// waits until they are written.
const GROUP_BYTES: usize = 1024 * 1024;

/// How long acks wait for a publish to be written with, or for more of their kind: they need no synchronisation of their own,
/// because a message whose ack is lost finds its job's record.
const ACKS_REST: Duration = Duration::from_millis(10);

const INSERT: Rows = Rows {
    columns: "id, tenant, lane, published_at, body",
    statement:
        "INSERT INTO messages (id, tenant, lane, published_at, body) SELECT * FROM v WHERE v.id IS
        NOT NULL",
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

impl Writer {
    /// Serves until it is told to close or nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let group = self.gather(first).await;
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

    async fn gather(&mut self, first: Request) -> Group {
        let mut group = Group::default();
        let until = Instant::now() + ACKS_REST;
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            bytes += group.take(request);
            if group.answers.len() >= GROUP_REQUESTS || bytes >= GROUP_BYTES || group.close {
                break;
            }
            next = match self.requests.try_recv() {
                Ok(request) => Some(request),
                Err(_) if group.is_urgent() => None,
                Err(_) => timeout_at(until, self.requests.recv())
                    .await
                    .unwrap_or_default(),
            };
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
            let committed = commit(&mut self.connection, &group, first_id, now).await;
            committed.map_err(Arc::new)
        };
        match &written {
            Ok(()) => {
                self.desk.acked(&group.leases);
                self.announce(group.publishes, now);
            }
            Err(error) => {
                tracing::error!(%error, "the queue could not be written");
                self.desk.returned(&group.leases);
            }
        }
        for answer in group.answers {
            let said = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(Error::NotConfirmed(Box::new(Arc::clone(error)))),
            };
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

    /// Whether somebody waits for more than acks.
    fn is_urgent(&self) -> bool {
        !self.publishes.is_empty() || self.beat || self.close
    }

    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.deletes.is_empty() && !self.beat
    }
}

/// Writes a group in one transaction, all of which goes to the connection's thread at once.
async fn commit(
    connection: &mut SqliteConnection,
    group: &Group,
    first_id: i64,
    now: Millis,
) -> Result<(), sqlx::Error> {
    let mut batch = Batch::default();
    batch.add_one("BEGIN IMMEDIATE", |_| ());
    let numbered: Vec<(i64, &Publish)> = (first_id..).zip(&group.publishes).collect();
    batch.add(&INSERT, &numbered, |binder, (id, publish)| {
        let queue = &publish.queue;
        binder.bind(*id).bind(queue.tenant.as_str());
        binder.bind(lane_code(queue.lane)).bind(now);
        binder.bind(&*publish.body);
    });
    if !group.deletes.is_empty() {
        let ids = serde_json::json!(group.deletes).to_string();
        batch.add_one(DELETE, |binder| {
            binder.bind(ids);
        });
    }
    if group.beat {
        batch.add_one(BEAT, |_| ());
    }
    batch.add_one("COMMIT", |_| ());
    let written = batch.execute(&mut *connection).await;
    if written.is_err() {
        // Fails when there is nothing to roll back, because it did not begin or was rolled back already.
        let _nothing = sqlx::raw_sql("ROLLBACK").execute(connection).await.is_err();
    }
    written
}
