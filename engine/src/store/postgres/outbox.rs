//! The outbox in PostgreSQL. What a process takes to publish it, no other takes for a while.
//! It must not know what a row says or who is told.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{Error, JobKey, Outbox, OutboxRow, Settlement};
use super::PostgresStore;
use super::columns::{Columns, Id, column, int};
use super::session::transact;
use crate::limits::EVENT_LEASE;
use crate::model::{JobId, Millis, NotificationId};

const INSERT: &str = "
INSERT INTO outbox (tenant, notification, job, seq, at, free_at, body)
SELECT v.tenant, v.notification, v.job, v.seq, $6, $6, v.body
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int8[], $5::bytea[])
    AS v (tenant, notification, job, seq, body)";

// Locked at once, so that two processes share what is free: neither waits for the other's rows.
const TAKE: &str = "
WITH free AS MATERIALIZED (
    SELECT tenant, id, octet_length(body) AS size FROM outbox
    WHERE free_at < $1 ORDER BY free_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), few AS (
    SELECT tenant, id FROM (
        SELECT tenant, id, sum(size) OVER (ORDER BY id) - size AS before FROM free) AS f
    WHERE f.before < $3
)
UPDATE outbox AS o SET free_at = $4 FROM few WHERE o.tenant = few.tenant AND o.id = few.id
RETURNING o.id, o.tenant, o.notification, o.job, o.seq, o.at, o.body";

const DELETE: &str = "
DELETE FROM outbox AS o USING unnest($1::text[], $2::int8[]) AS v (tenant, id)
WHERE o.tenant = v.tenant AND o.id = v.id";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[INSERT, TAKE, DELETE];

#[async_trait]
impl Outbox for PostgresStore {
    async fn take_events(
        &self,
        most: u32,
        bytes: u64,
        now: Millis,
    ) -> Result<Vec<OutboxRow>, Error> {
        let lease = i64::try_from(EVENT_LEASE.as_millis()).unwrap_or(i64::MAX);
        let mut taken = transact!(self, |tx| {
            let rows = sqlx::query(TAKE)
                .bind(now.saturating_add(1))
                .bind(i64::from(most))
                .bind(int(bytes))
                .bind(now.saturating_add(lease))
                .fetch_all(&mut *tx)
                .await?;
            rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        taken.sort_unstable_by_key(|row| row.id);
        Ok(taken)
    }

    async fn delete_events(&self, rows: &[OutboxRow]) -> Result<(), Error> {
        transact!(self, |tx| {
            sqlx::query(DELETE)
                .bind(column(rows, |row| row.key.tenant.as_str()))
                .bind(column(rows, |row| row.id))
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }
}

/// Writes what these settlements tell; most tell nothing.
pub(super) async fn insert(
    connection: &mut PgConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    let events: Vec<(&Settlement, &[u8])> = written
        .iter()
        .filter_map(|settlement| Some((*settlement, settlement.event.as_deref()?)))
        .collect();
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT)
        .bind(column(&events, |(s, _)| s.key.tenant.as_str()))
        .bind(column(&events, |(s, _)| Id(s.key.notification.0)))
        .bind(column(&events, |(s, _)| Id(s.key.job.0)))
        .bind(column(&events, |(s, _)| i64::from(s.part.seq)))
        .bind(column(&events, |(_, body)| *body))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

fn read_row(row: &PgRow) -> Result<OutboxRow, Error> {
    let row = Columns::of(row, "outbox");
    Ok(OutboxRow {
        id: row.int(0)?,
        key: JobKey {
            tenant: row.tenant(1)?,
            notification: NotificationId(row.uuid(2)?),
            job: JobId(row.uuid(3)?),
        },
        seq: row.small(4)?,
        at: row.int(5)?,
        body: row.get(6)?,
    })
}
