//! The outbox in SQLite.
//! It must not know what a row says or who is told.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::super::{Error, JobKey, Outbox, OutboxRow, Settlement};
use super::SqliteStore;
use super::columns::{Columns, bytes};
use crate::datadir::Rows;
use crate::limits::EVENT_LEASE;
use crate::model::{JobId, Millis, NotificationId};

const INSERT: Rows = Rows {
    columns: "tenant, notification, job, seq, at, free_at, body",
    statement: "INSERT INTO outbox (tenant, notification, job, seq, at, free_at, body)
        SELECT * FROM v WHERE v.tenant IS NOT NULL",
};

pub(super) const FREE: &str = "
SELECT id, length(body) FROM outbox WHERE free_at <= ? ORDER BY free_at, id LIMIT ?";

const TAKE: Rows = Rows {
    columns: "id, free_at",
    statement: "UPDATE outbox SET free_at = v.free_at FROM v WHERE outbox.id = v.id
        RETURNING id, tenant, notification, job, seq, at, body",
};

const DELETE: Rows = Rows {
    columns: "id",
    statement: "DELETE FROM outbox WHERE id IN (SELECT v.id FROM v)",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&INSERT, &TAKE, &DELETE];

#[async_trait]
impl Outbox for SqliteStore {
    async fn take_events(
        &self,
        most: u32,
        bytes: u64,
        now: Millis,
    ) -> Result<Vec<OutboxRow>, Error> {
        // Looked at first, so that an empty outbox never keeps a writer waiting.
        let free = free(&mut *self.reader().await?, (most, bytes), now).await?;
        if free.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let free = self::free(&mut tx, (most, bytes), now).await?;
        let lease = i64::try_from(EVENT_LEASE.as_millis()).unwrap_or(i64::MAX);
        let rows = TAKE
            .fetch(&mut tx, &free, |binder, id| {
                binder.bind(*id).bind(now.saturating_add(lease));
            })
            .await?;
        tx.commit().await?;
        let mut taken = rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()?;
        taken.sort_unstable_by_key(|row| row.id);
        Ok(taken)
    }

    async fn delete_events(&self, rows: &[OutboxRow]) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        DELETE
            .execute(&mut tx, rows, |binder, row| {
                binder.bind(row.id);
            })
            .await?;
        Ok(tx.commit().await?)
    }
}

/// Writes what these settlements tell; most tell nothing.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    let events: Vec<(&Settlement, &[u8])> = written
        .iter()
        .filter_map(|settlement| Some((*settlement, settlement.event.as_deref()?)))
        .collect();
    INSERT
        .execute(connection, &events, |binder, (settlement, body)| {
            binder.bind(settlement.key.tenant.as_str());
            binder.bind(bytes(&settlement.key.notification.0));
            binder.bind(bytes(&settlement.key.job.0));
            binder.bind(settlement.part.seq);
            binder.bind(now).bind(now).bind(*body);
        })
        .await?;
    Ok(())
}

/// The oldest free rows, within both bounds.
async fn free(
    connection: &mut SqliteConnection,
    (most, bytes): (u32, u64),
    now: Millis,
) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query(FREE)
        .bind(now)
        .bind(most)
        .fetch_all(connection)
        .await?;
    let mut free = Vec::with_capacity(rows.len());
    let mut before = 0;
    for row in &rows {
        if before >= bytes {
            break;
        }
        free.push(row.try_get(0)?);
        before += u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default();
    }
    Ok(free)
}

fn read_row(row: &SqliteRow) -> Result<OutboxRow, Error> {
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
