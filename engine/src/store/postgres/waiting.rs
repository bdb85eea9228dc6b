//! Waiting rows in PostgreSQL. What a process takes to release it, no other takes for a while.
//! It must not know why a job waits or how it is released.

use std::collections::{BTreeMap, HashMap, VecDeque};

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::turns::deal_rows;
use super::super::{Error, Waiting, WaitingRow};
use super::PostgresStore;
use super::columns::{Coded, Columns, Id, column};
use super::session::{read, transact};
use crate::limits::RESERVATION_TTL;
use crate::model::{JobId, Lane, Millis, NotificationId, TenantId};

const INSERT: &str = "
INSERT INTO waiting (tenant, job, notification, lane, due, ready_at, why, recipients, body)
SELECT v.tenant, v.job, v.notification, v.lane, v.due, v.due, v.why, v.recipients, v.body
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
    $8::bytea[]) AS v (tenant, job, notification, lane, due, why, recipients, body)
ORDER BY v.tenant COLLATE \"C\", v.job";

// Queues with something to take, walked from tenant to tenant.
const QUEUES_DUE: &str = "
WITH RECURSIVE walk (tenant) AS (
    SELECT min(tenant) FROM waiting
    UNION ALL
    SELECT (SELECT min(w.tenant) FROM waiting w WHERE w.tenant > walk.tenant)
    FROM walk WHERE walk.tenant IS NOT NULL
)
SELECT walk.tenant, lanes.lane FROM walk CROSS JOIN (VALUES (0), (1)) AS lanes (lane)
CROSS JOIN LATERAL (SELECT 1 FROM waiting w
    WHERE w.tenant = walk.tenant AND w.lane = lanes.lane AND w.ready_at <= $1 LIMIT 1) AS w
WHERE walk.tenant IS NOT NULL ORDER BY 1, 2";

// What this process took before and has not released: its publish failed.
const HELD_HERE: &str = "
SELECT tenant, lane, job, due FROM waiting
WHERE holder = $1 AND due <= $2 AND ready_at > $2 ORDER BY due, job LIMIT $3";

// Locked at once, so that two processes share what is due: neither waits for the other's rows.
const ROWS_DUE: &str = "
SELECT q.tenant, q.lane, w.job, w.due
FROM unnest($1::text[], $2::int8[], $3::int8[]) AS q (tenant, lane, room)
CROSS JOIN LATERAL (SELECT job, due FROM waiting w
    WHERE w.tenant = q.tenant AND w.lane = q.lane AND w.ready_at <= $4
    ORDER BY w.ready_at LIMIT q.room FOR NO KEY UPDATE SKIP LOCKED) AS w";

const TAKE: &str = "
UPDATE waiting AS w SET holder = $3, ready_at = $4
FROM unnest($1::text[], $2::uuid[]) AS v (tenant, job)
WHERE w.tenant = v.tenant AND w.job = v.job
RETURNING w.tenant, w.notification, w.job, w.lane, w.due, w.why, w.recipients, w.body";

// Before the notifications: nobody who has locked one waits for a row that is there.
const DELETE: &str = "
DELETE FROM waiting AS w USING (SELECT l.tenant, l.job
    FROM unnest($1::text[], $2::uuid[]) AS u (tenant, job)
    JOIN waiting l ON l.tenant = u.tenant AND l.job = u.job
    ORDER BY l.tenant, l.job FOR UPDATE OF l) AS v
WHERE w.tenant = v.tenant AND w.job = v.job RETURNING w.tenant, w.notification, w.recipients";

const RELEASED: &str = "
UPDATE notifications AS n SET waiting = greatest(0, n.waiting - v.recipients)
FROM (SELECT l.tenant, l.id, u.recipients
    FROM unnest($1::text[], $2::uuid[], $3::int8[]) AS u (tenant, id, recipients)
    JOIN notifications l ON l.tenant = u.tenant AND l.id = u.id
    ORDER BY l.tenant, l.id FOR NO KEY UPDATE OF l) AS v
WHERE n.tenant = v.tenant AND n.id = v.id";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[QUEUES_DUE, HELD_HERE, ROWS_DUE, TAKE, DELETE, RELEASED];

#[async_trait]
impl Waiting for PostgresStore {
    async fn due(
        &self,
        now: Millis,
        max: u32,
        per_queue: u32,
        released: &[(TenantId, Lane, u32)],
    ) -> Result<Vec<WaitingRow>, Error> {
        let rooms = Rooms {
            busy: released
                .iter()
                .map(|(tenant, lane, jobs)| ((tenant, *lane), *jobs))
                .collect(),
            per_queue,
        };
        let last = self.turn(|turns| turns.waiting.clone());
        let (rooms, last) = (&rooms, last.as_str());
        let due = transact!(self, |tx| {
            let held = held_here(tx, self.process, now, max).await?;
            let queues = queues_due(tx, now).await?;
            if held.is_empty() && queues.is_empty() {
                return Ok(Vec::new());
            }
            let found = rows_due(tx, (&queues, rooms), held, (now, max)).await?;
            let mut found: Vec<(Queue, VecDeque<JobId>)> = found.into_iter().collect();
            let served = found.partition_point(|((tenant, _), _)| tenant.as_str() <= last);
            found.rotate_left(served);
            take(tx, self.process, &deal_rows(found.into(), max), now).await
        })
        .await?;
        if let Some(row) = due.last() {
            self.turn(|turns| turns.waiting = row.tenant.as_str().to_owned());
        }
        Ok(due)
    }

    async fn delete_released(&self, rows: &[(TenantId, JobId)]) -> Result<(), Error> {
        transact!(self, |tx| {
            let deleted = sqlx::query(DELETE)
                .bind(column(rows, |(tenant, _)| tenant.as_str()))
                .bind(column(rows, |(_, job)| Id(job.0)))
                .fetch_all(&mut *tx)
                .await?;
            let mut fewer: BTreeMap<(&str, Uuid), i64> = BTreeMap::new();
            for row in &deleted {
                let row = Columns::of(row, "waiting");
                *fewer.entry((row.get(0)?, row.uuid(1)?)).or_default() += row.int(2)?;
            }
            if fewer.is_empty() {
                return Ok(());
            }
            let fewer: Vec<_> = fewer.into_iter().collect();
            sqlx::query(RELEASED)
                .bind(column(&fewer, |((tenant, _), _)| *tenant))
                .bind(column(&fewer, |((_, id), _)| Id(*id)))
                .bind(column(&fewer, |(_, recipients)| *recipients))
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn next_due(&self) -> Result<Option<Millis>, Error> {
        read!(self, |session| {
            let sql = "SELECT min(ready_at) FROM waiting";
            Ok(sqlx::query_scalar(sql).fetch_one(session).await?)
        })
        .await
    }
}

/// A tenant and a lane.
type Queue = (TenantId, Lane);

/// How many more rows of each queue may be released.
struct Rooms<'a> {
    busy: HashMap<(&'a TenantId, Lane), u32>,
    per_queue: u32,
}

impl Rooms<'_> {
    fn of(&self, (tenant, lane): &Queue) -> u32 {
        let busy = self.busy.get(&(tenant, *lane)).copied();
        self.per_queue.saturating_sub(busy.unwrap_or_default())
    }
}

/// Rows of each queue, in the order in which they are due.
type Found = BTreeMap<Queue, VecDeque<JobId>>;

/// Writes rows; the caller keeps the notification's `waiting` in step.
pub(super) async fn insert(
    connection: &mut PgConnection,
    rows: &[&WaitingRow],
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT)
        .bind(column(rows, |row| row.tenant.as_str()))
        .bind(column(rows, |row| Id(row.job.0)))
        .bind(column(rows, |row| Id(row.notification.0)))
        .bind(column(rows, |row| row.lane.code()))
        .bind(column(rows, |row| row.due))
        .bind(column(rows, |row| row.why.code()))
        .bind(column(rows, |row| i64::from(row.recipients)))
        .bind(column(rows, |row| row.body.as_slice()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn held_here(
    connection: &mut PgConnection,
    process: Uuid,
    now: Millis,
    max: u32,
) -> Result<Vec<(Queue, Millis, JobId)>, Error> {
    let rows = sqlx::query(HELD_HERE)
        .bind(Id(process))
        .bind(now)
        .bind(i64::from(max))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_key).collect()
}

async fn queues_due(connection: &mut PgConnection, now: Millis) -> Result<Vec<Queue>, Error> {
    let rows = sqlx::query(QUEUES_DUE)
        .bind(now)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row, "waiting");
            Ok((row.tenant(0)?, row.coded(1)?))
        })
        .collect()
}

/// Locks rows of these queues, each within its room and about as many as its turns of `max` are, and adds what
/// is held here already.
async fn rows_due(
    connection: &mut PgConnection,
    (queues, rooms): (&[Queue], &Rooms<'_>),
    held: Vec<(Queue, Millis, JobId)>,
    (now, max): (Millis, u32),
) -> Result<Found, Error> {
    let queues: Vec<(&Queue, u32)> = queues
        .iter()
        .map(|queue| (queue, rooms.of(queue)))
        .filter(|(_, room)| *room > 0)
        .collect();
    let turns = max.div_ceil(u32::try_from(queues.len().max(1)).unwrap_or(u32::MAX));
    let rows = sqlx::query(ROWS_DUE)
        .bind(column(&queues, |((tenant, _), _)| tenant.as_str()))
        .bind(column(&queues, |((_, lane), _)| lane.code()))
        .bind(column(&queues, |(_, room)| i64::from((*room).min(turns))))
        .bind(now)
        .fetch_all(connection)
        .await?;
    let fresh = rows.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
    let mut by_due: BTreeMap<Queue, Vec<(Millis, JobId)>> = BTreeMap::new();
    for (queue, due, job) in held.into_iter().chain(fresh) {
        by_due.entry(queue).or_default().push((due, job));
    }
    let within = by_due.into_iter().map(|(queue, mut rows)| {
        rows.sort_unstable();
        rows.truncate(rooms.of(&queue) as usize);
        (queue, rows.into_iter().map(|(_, job)| job).collect())
    });
    Ok(within.collect())
}

/// Takes rows for this process and reads them, in the order given.
async fn take(
    connection: &mut PgConnection,
    process: Uuid,
    chosen: &[(Queue, JobId)],
    now: Millis,
) -> Result<Vec<WaitingRow>, Error> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let hold = i64::try_from(RESERVATION_TTL.as_millis()).unwrap_or(i64::MAX);
    let rows = sqlx::query(TAKE)
        .bind(column(chosen, |((tenant, _), _)| tenant.as_str()))
        .bind(column(chosen, |(_, job)| Id(job.0)))
        .bind(Id(process))
        .bind(now.saturating_add(hold))
        .fetch_all(connection)
        .await?;
    let mut taken: HashMap<(TenantId, JobId), WaitingRow> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let row = read_row(row)?;
        taken.insert((row.tenant.clone(), row.job), row);
    }
    let in_order = chosen.iter();
    Ok(in_order
        .filter_map(|((tenant, _), job)| taken.remove(&(tenant.clone(), *job)))
        .collect())
}

fn read_key(row: &PgRow) -> Result<(Queue, Millis, JobId), Error> {
    let row = Columns::of(row, "waiting");
    let queue = (row.tenant(0)?, row.coded(1)?);
    Ok((queue, row.int(3)?, JobId(row.uuid(2)?)))
}

fn read_row(row: &PgRow) -> Result<WaitingRow, Error> {
    let row = Columns::of(row, "waiting");
    Ok(WaitingRow {
        tenant: row.tenant(0)?,
        notification: NotificationId(row.uuid(1)?),
        job: JobId(row.uuid(2)?),
        lane: row.coded(3)?,
        due: row.int(4)?,
        why: row.coded(5)?,
        recipients: row.small(6)?,
        body: row.get(7)?,
    })
}
