//! Dead letters in PostgreSQL.
//! It must not know what killed them.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use super::super::coded::Door;
use super::super::{
    Dead, DeadFilter, DeadOrigin, DeadRow, Error, NewDead, RequestOrigin, WaitingRow,
};
use super::PostgresStore;
use super::columns::{Coded, Columns, Id};
use super::session::{read, transact};
use super::waiting;
use crate::model::{JobId, Millis, NotificationId};

const INSERT: &str = "
INSERT INTO dead (tenant, at, origin, reason, detail, notification, job, recipients, body, routing_key,
    path, replays)
VALUES ($1, $2, $3::int8, $4, $5, $6, $7, $8, $9, $10, $11, coalesce(
    (SELECT replays FROM dead_replays WHERE tenant = $1 AND job = $7), 0))
RETURNING id";

/// The rows that a filter means; an argument that is NULL means all.
macro_rules! meant {
    ($verb:literal, $rest:literal) => {
        concat!(
            $verb,
            " FROM dead WHERE ($1::text IS NULL OR tenant = $1) AND ($2::bytea IS NULL OR reason = $2)",
            " AND ($3::int8 IS NULL OR at < $3) AND ($4::int8[] IS NULL OR id = ANY($4))",
            $rest
        )
    };
}

const SELECT: &str = meant!(
    "SELECT id, at, replays, tenant, origin, reason, detail, notification, job, recipients, body,
        routing_key, path",
    " AND id > $5 ORDER BY id LIMIT $6"
);

const PURGE: &str = meant!("DELETE", "");

// Of two that replay a row one finds it, and the other waits and finds nothing.
const TAKE: &str =
    "DELETE FROM dead WHERE id = $1 RETURNING tenant, notification, recipients, replays";

// The notification may have been swept meanwhile: it comes back with this one job.
const REOPEN: &str = "
INSERT INTO notifications AS n (tenant, id, lane, state, created_at, expires_at, entries, recipients,
    waiting, open_entries, open_jobs, pages_total, pages_next, pages_ended)
VALUES ($1, $2, $3::int8, 0, $4, $4, $5, 0, $5, 0, 1, 0, 0, 0)
ON CONFLICT (tenant, id) DO UPDATE SET dead = greatest(0, n.dead - $6), open_jobs = n.open_jobs + 1,
    waiting = n.waiting + $5, state = 0, finished_at = NULL";

const NOTE_REPLAY: &str = "
INSERT INTO dead_replays (tenant, job, replays, at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, job) DO UPDATE SET replays = excluded.replays, at = excluded.at";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[INSERT, TAKE, REOPEN, NOTE_REPLAY];

#[async_trait]
impl Dead for PostgresStore {
    async fn bury(&self, dead: &NewDead, now: Millis) -> Result<i64, Error> {
        transact!(self, |tx| { insert(tx, dead, now).await }).await
    }

    async fn dead(
        &self,
        filter: &DeadFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadRow>, Error> {
        let rows = read!(self, |session| {
            let query = filtered(SELECT, filter).bind(after).bind(i64::from(limit));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_dead).collect()
    }

    async fn replay(&self, dead: i64, row: &WaitingRow, now: Millis) -> Result<bool, Error> {
        transact!(self, |tx| {
            let taken = sqlx::query(TAKE)
                .bind(dead)
                .fetch_optional(&mut *tx)
                .await?;
            let Some(taken) = taken else {
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
            reopen(tx, row, died, now).await?;
            waiting::insert(tx, &[row]).await?;
            sqlx::query(NOTE_REPLAY)
                .bind(row.tenant.as_str())
                .bind(Id(row.job.0))
                .bind(taken.int(3)? + 1)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            Ok(true)
        })
        .await
    }

    async fn purge(&self, filter: &DeadFilter) -> Result<u64, Error> {
        transact!(self, |tx| {
            let done = filtered(PURGE, filter).execute(&mut *tx).await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

/// Writes a dead row. A job that came of a replay keeps count of it.
pub(super) async fn insert(
    connection: &mut PgConnection,
    dead: &NewDead,
    now: Millis,
) -> Result<i64, Error> {
    let (door, request) = Door::of_origin(&dead.origin);
    let row = sqlx::query(INSERT)
        .bind(dead.tenant.as_str())
        .bind(now)
        .bind(door.code())
        .bind(dead.reason.as_bytes())
        .bind(dead.detail.as_bytes())
        .bind(dead.notification.map(|id| Id(id.0)))
        .bind(dead.job.map(|id| Id(id.0)))
        .bind(i64::from(dead.recipients))
        .bind(dead.body.as_slice())
        .bind(request.map(|request| request.routing_key.as_bytes()))
        .bind(request.map(|request| request.path.as_bytes()))
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Opens the notification of a replayed job again.
async fn reopen(
    connection: &mut PgConnection,
    row: &WaitingRow,
    died: i64,
    now: Millis,
) -> Result<(), Error> {
    sqlx::query(REOPEN)
        .bind(row.tenant.as_str())
        .bind(Id(row.notification.0))
        .bind(row.lane.code())
        .bind(now)
        .bind(i64::from(row.recipients))
        .bind(died)
        .execute(connection)
        .await?;
    Ok(())
}

fn filtered(sql: &'static str, filter: &DeadFilter) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql)
        .bind(filter.tenant.as_ref().map(|tenant| tenant.as_str()))
        .bind(filter.reason.as_deref().map(str::as_bytes))
        .bind(filter.before)
        .bind(filter.ids.as_deref())
}

fn read_dead(row: &PgRow) -> Result<DeadRow, Error> {
    let row = Columns::of(row, "dead");
    Ok(DeadRow {
        id: row.int(0)?,
        at: row.int(1)?,
        replays: row.small(2)?,
        dead: NewDead {
            tenant: row.tenant(3)?,
            origin: read_origin(&row)?,
            reason: row.lossy(5)?,
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
