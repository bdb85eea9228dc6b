//! Dead letters in SQLite.
//! It must not know what killed them.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use uuid::Uuid;

use super::super::coded::Door;
use super::super::{
    Dead, DeadFilter, DeadOrigin, DeadRow, Error, NewDead, RequestOrigin, WaitingRow,
};
use super::SqliteStore;
use super::columns::{Coded, Columns, bytes};
use super::waiting;
use crate::datadir::Binder;
use crate::model::{JobId, Millis, NotificationId};

const INSERT: &str = "
INSERT INTO dead (tenant, at, origin, reason, detail, notification, job, recipients, body, routing_key,
    path, replays)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, coalesce(
    (SELECT replays FROM dead_replays WHERE tenant = ?1 AND job = ?7), 0))";

/// The rows that a filter means; a mark that is NULL means all. The fifth mark is the smallest id.
macro_rules! meant {
    ($verb:literal, $rest:literal) => {
        concat!(
            $verb,
            " FROM dead WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR reason = ?2)",
            " AND (?3 IS NULL OR at < ?3)",
            " AND (?4 IS NULL OR id IN (SELECT value FROM json_each(?4)))",
            $rest
        )
    };
}

const SELECT: &str = meant!(
    "SELECT id, at, replays, tenant, origin, reason, detail, notification, job, recipients, body,
        routing_key, path",
    " AND id > ?5 ORDER BY id LIMIT ?6"
);

const PURGE: &str = meant!("DELETE", "");

const TAKE: &str =
    "DELETE FROM dead WHERE id = ? RETURNING tenant, notification, recipients, replays";

const REOPEN: &str = "
UPDATE notifications SET dead = max(0, dead - ?3), open_jobs = open_jobs + 1,
    waiting = waiting + ?4, state = 0, finished_at = NULL
WHERE tenant = ?1 AND id = ?2";

// The notification was swept meanwhile: it comes back with this one job.
const REVIVE: &str = "
INSERT INTO notifications (tenant, id, lane, state, created_at, expires_at, entries, recipients,
    waiting, open_entries, open_jobs, pages_total, pages_next, pages_ended)
VALUES (?1, ?2, ?3, 0, ?4, ?4, ?5, 0, ?5, 0, 1, 0, 0, 0)";

const NOTE_REPLAY: &str = "
INSERT INTO dead_replays (tenant, job, replays, at) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET replays = excluded.replays, at = excluded.at";

#[async_trait]
impl Dead for SqliteStore {
    async fn bury(&self, dead: &NewDead, now: Millis) -> Result<i64, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let id = insert(&mut tx, dead, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn dead(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadRow>, Error> {
        let arguments = arguments(filter, Some((after, limit)))?;
        let rows = sqlx::query_with(SELECT, arguments)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_dead).collect()
    }

    async fn replay(&self, dead: i64, row: &WaitingRow, now: Millis) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let Some(taken) = sqlx::query(TAKE)
            .bind(dead)
            .fetch_optional(&mut *tx)
            .await?
        else {
            return Ok(false);
        };
        let taken = Columns::of(&taken, "dead");
        let notification: Option<Uuid> = taken.uuid_or_null(1)?;
        let is_other = notification.is_some_and(|id| id != row.notification.0);
        if is_other || taken.tenant(0)? != row.tenant {
            return Err(Error::Conflict("the waiting row is another notification's"));
        }
        // A row that belonged to no notification was in no `dead` count.
        let died = if notification.is_some() {
            taken.int(2)?
        } else {
            0
        };
        reopen(&mut tx, row, died, now).await?;
        waiting::insert(&mut tx, &[row]).await?;
        sqlx::query(NOTE_REPLAY)
            .bind(row.tenant.as_str())
            .bind(bytes(&row.job.0))
            .bind(taken.int(3)? + 1)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn purge(&self, filter: &DeadFilter) -> Result<u64, Error> {
        let arguments = arguments(filter, None)?;
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let done = sqlx::query_with(PURGE, arguments).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

/// Writes a dead row. A job that came of a replay keeps count of it.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    dead: &NewDead,
    now: Millis,
) -> Result<i64, Error> {
    let (door, request) = Door::of_origin(&dead.origin);
    let done = sqlx::query(INSERT)
        .bind(dead.tenant.as_str())
        .bind(now)
        .bind(door.code())
        .bind(dead.reason.as_str())
        .bind(dead.detail.as_bytes())
        .bind(dead.notification.as_ref().map(|id| bytes(&id.0)))
        .bind(dead.job.as_ref().map(|id| bytes(&id.0)))
        .bind(dead.recipients)
        .bind(dead.body.as_slice())
        .bind(request.map(|request| request.routing_key.as_bytes()))
        .bind(request.map(|request| request.path.as_bytes()))
        .execute(connection)
        .await?;
    Ok(done.last_insert_rowid())
}

/// Opens the notification of a replayed job again.
async fn reopen(
    connection: &mut SqliteConnection,
    row: &WaitingRow,
    died: i64,
    now: Millis,
) -> Result<(), Error> {
    let done = sqlx::query(REOPEN)
        .bind(row.tenant.as_str())
        .bind(bytes(&row.notification.0))
        .bind(died)
        .bind(row.recipients)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        sqlx::query(REVIVE)
            .bind(row.tenant.as_str())
            .bind(bytes(&row.notification.0))
            .bind(row.lane.code())
            .bind(now)
            .bind(row.recipients)
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn arguments(filter: &DeadFilter, page: Option<(i64, u32)>) -> Result<SqliteArguments, Error> {
    let ids = filter.ids.as_ref();
    let mut binder = Binder::default();
    binder.bind(filter.tenant.as_ref().map(|tenant| tenant.as_str()));
    binder.bind(filter.reason.as_deref()).bind(filter.before);
    binder.bind(ids.map(|ids| serde_json::json!(ids).to_string()));
    if let Some((after, limit)) = page {
        binder.bind(after).bind(limit);
    }
    Ok(binder.finish()?)
}

fn read_dead(row: &SqliteRow) -> Result<DeadRow, Error> {
    let row = Columns::of(row, "dead");
    Ok(DeadRow {
        id: row.int(0)?,
        at: row.int(1)?,
        replays: row.small(2)?,
        dead: NewDead {
            tenant: row.tenant(3)?,
            origin: read_origin(&row)?,
            reason: row.get(5)?,
            detail: row.lossy(6)?,
            notification: row.uuid_or_null(7)?.map(NotificationId),
            job: row.uuid_or_null(8)?.map(JobId),
            recipients: row.small(9)?,
            body: row.get(10)?,
        },
    })
}

fn read_origin(row: &Columns<'_>) -> Result<DeadOrigin, Error> {
    Ok(match row.coded(4)? {
        Door::Internal => DeadOrigin::Internal,
        Door::Unparsed => DeadOrigin::Unparsed,
        Door::External => DeadOrigin::External(RequestOrigin {
            routing_key: row.lossy(11)?,
            path: row.lossy(12)?,
        }),
    })
}
