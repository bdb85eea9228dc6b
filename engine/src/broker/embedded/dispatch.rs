//! The one task that hands out: it reads the bodies of the queue whose turn it is and gives them to the
//! subscriber. It must not know what is written meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};
use tokio::sync::mpsc;

use super::desk::{Desk, Message, Task, Wanted};
use super::lane_code;
use crate::broker::Delivery;

/// Messages read at once, of one queue.
const READ_MAX: usize = 32;
/// Pause after a failed read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

const SELECT_NEXT: &str = "
SELECT id, published_at, body FROM messages
WHERE tenant = ? AND lane = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?";

const SELECT_RETURNED: &str = "
SELECT id, published_at, body FROM messages WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id";

/// The dispatcher of one subscription.
pub(super) struct Dispatcher {
    pub(super) desk: Arc<Desk>,
    pub(super) readers: SqlitePool,
    pub(super) out: mpsc::Sender<Delivery>,
}

impl Dispatcher {
    /// Hands out until the desk closes or the subscriber is gone.
    pub(super) async fn run(self) {
        self.hand_out().await;
        let desk = Arc::clone(&self.desk);
        drop(self);
        desk.unsubscribed();
    }

    async fn hand_out(&self) {
        // The subscriber's pace comes first, so that what is read is not kept waiting here.
        while let Ok(first) = self.out.reserve().await {
            let is_open = tokio::select! {
                is_open = self.desk.wait() => is_open,
                () = self.out.closed() => false,
            };
            if !is_open {
                break;
            }
            let mut permits = vec![first];
            while permits.len() < READ_MAX
                && let Ok(permit) = self.out.try_reserve()
            {
                permits.push(permit);
            }
            let Some(task) = self.desk.next_task(permits.len()) else {
                continue;
            };
            permits.truncate(task.limit);
            match self.read(&task).await {
                Ok(messages) => {
                    let leases = self.desk.lease(&task, messages);
                    for (permit, lease) in permits.into_iter().zip(leases) {
                        permit.send(Delivery::Leased(lease));
                    }
                    self.desk.served(task, false);
                }
                Err(error) => {
                    tracing::error!(%error, "the queue could not be read; trying again");
                    self.desk.served(task, true);
                    drop(permits);
                    tokio::time::sleep(READ_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn read(&self, task: &Task) -> Result<Vec<Message>, sqlx::Error> {
        let query = match &task.wanted {
            Wanted::Returned(ids) => {
                sqlx::query(SELECT_RETURNED).bind(serde_json::json!(ids).to_string())
            }
            Wanted::Next(after, up_to) => sqlx::query(SELECT_NEXT)
                .bind(task.queue.tenant.as_str())
                .bind(lane_code(task.queue.lane))
                .bind(*after)
                .bind(*up_to)
                .bind(i64::try_from(task.limit).unwrap_or(i64::MAX)),
        };
        let rows = query.fetch_all(&mut *self.readers.acquire().await?).await?;
        rows.iter().map(read_message).collect()
    }
}

fn read_message(row: &SqliteRow) -> Result<Message, sqlx::Error> {
    Ok(Message {
        id: row.try_get(0)?,
        published_at: row.try_get(1)?,
        body: Bytes::from(row.try_get::<Vec<u8>, _>(2)?),
    })
}
