//! Waiting rows in SQLite.
//! It must not know why a job waits or how it is released.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::turns::deal_rows;
use super::super::{Error, Waiting, WaitingRow};
use super::SqliteStore;
use super::columns::{Coded, Columns, bytes};
use crate::datadir::Rows;
use crate::model::{JobId, Lane, Millis, NotificationId, TenantId};

const INSERT: Rows = Rows {
    columns: "tenant, job, notification, lane, due, why, recipients, body",
    statement:
        "INSERT INTO waiting (tenant, job, notification, lane, due, why, recipients, body) SELECT *
        FROM v WHERE v.tenant IS NOT NULL",
};

// Queues with something due, walked from tenant to tenant.
const QUEUES_DUE: &str = "
WITH RECURSIVE walk (tenant) AS (
    SELECT min(tenant) FROM waiting
    UNION ALL
    SELECT (SELECT min(w.tenant) FROM waiting w WHERE w.tenant > walk.tenant)
    FROM walk WHERE walk.tenant IS NOT NULL
), lanes (lane) AS (VALUES (0), (1))
SELECT walk.tenant, lanes.lane FROM walk CROSS JOIN lanes
WHERE walk.tenant IS NOT NULL AND EXISTS (SELECT 1 FROM waiting w
    WHERE w.tenant = walk.tenant AND w.lane = lanes.lane AND w.due <= ?)";

const ROWS_DUE: &str = "
SELECT rowid FROM waiting WHERE tenant = ? AND lane = ? AND due <= ? ORDER BY due, rowid LIMIT ?";

const SELECT: &str = "
SELECT tenant, notification, job, lane, due, why, recipients, body FROM waiting WHERE rowid = ?";

const DELETE: Rows = Rows {
    columns: "tenant, job",
    statement: "DELETE FROM waiting WHERE rowid IN (SELECT w.rowid FROM v CROSS JOIN waiting w
        ON w.tenant = v.tenant AND w.job = v.job) RETURNING tenant, notification, recipients",
};

const RELEASED: Rows = Rows {
    columns: "tenant, id, recipients",
    statement:
        "UPDATE notifications AS n SET waiting = max(0, n.waiting - v.recipients) FROM v WHERE
        n.tenant = v.tenant AND n.id = v.id",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&INSERT, &DELETE, &RELEASED];

#[async_trait]
impl Waiting for SqliteStore {
    async fn due(
        &self,
        now: Millis,
        max: u32,
        per_queue: u32,
        released: &[(TenantId, Lane, u32)],
    ) -> Result<Vec<WaitingRow>, Error> {
        let busy: HashMap<(&TenantId, Lane), u32> = released
            .iter()
            .map(|(tenant, lane, jobs)| ((tenant, *lane), *jobs))
            .collect();
        // A transaction, so that a row that was found is still there when it is read.
        let mut reader = self.reader().await?;
        let mut tx = sqlx::Connection::begin(&mut *reader).await?;
        let mut queues = queues_due(&mut tx, now).await?;
        let last = self.turn(|turns| turns.waiting.clone());
        let served = queues.partition_point(|(tenant, _)| tenant.as_str() <= last.as_str());
        queues.rotate_left(served);
        let mut found = VecDeque::with_capacity(queues.len());
        for (tenant, lane) in queues {
            let busy = busy.get(&(&tenant, lane)).copied().unwrap_or_default();
            let room = per_queue.saturating_sub(busy).min(max);
            if room == 0 {
                continue;
            }
            let rows: Vec<i64> = sqlx::query_scalar(ROWS_DUE)
                .bind(tenant.as_str())
                .bind(lane.code())
                .bind(now)
                .bind(room)
                .fetch_all(&mut *tx)
                .await?;
            found.push_back((tenant, VecDeque::from(rows)));
        }
        let mut due = Vec::new();
        for (_, row) in deal_rows(found, max) {
            let row = sqlx::query(SELECT).bind(row).fetch_one(&mut *tx).await?;
            due.push(read_row(&row)?);
        }
        tx.commit().await?;
        if let Some(row) = due.last() {
            self.turn(|turns| turns.waiting = row.tenant.as_str().to_owned());
        }
        Ok(due)
    }

    async fn delete_released(&self, rows: &[(TenantId, JobId)]) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let deleted = DELETE
            .fetch(&mut tx, rows, |binder, (tenant, job)| {
                binder.bind(tenant.as_str()).bind(bytes(&job.0));
            })
            .await?;
        let mut fewer: HashMap<(TenantId, NotificationId), i64> = HashMap::new();
        for row in &deleted {
            let row = Columns::of(row, "waiting");
            let key = (row.tenant(0)?, NotificationId(row.uuid(1)?));
            *fewer.entry(key).or_default() += row.int(2)?;
        }
        let fewer: Vec<_> = fewer.into_iter().collect();
        RELEASED
            .execute(&mut tx, &fewer, |binder, ((tenant, id), recipients)| {
                binder.bind(tenant.as_str()).bind(bytes(&id.0));
                binder.bind(*recipients);
            })
            .await?;
        Ok(tx.commit().await?)
    }

    async fn next_due(&self) -> Result<Option<Millis>, Error> {
        Ok(sqlx::query_scalar("SELECT min(due) FROM waiting")
            .fetch_one(&mut *self.reader().await?)
            .await?)
    }
}

/// Writes rows; the caller keeps the notification's `waiting` in step.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    rows: &[&WaitingRow],
) -> Result<(), Error> {
    INSERT
        .execute(connection, rows, |binder, row| {
            binder.bind(row.tenant.as_str()).bind(bytes(&row.job.0));
            binder.bind(bytes(&row.notification.0));
            binder.bind(row.lane.code()).bind(row.due);
            binder.bind(row.why.code()).bind(row.recipients);
            binder.bind(row.body.as_slice());
        })
        .await?;
    Ok(())
}

async fn queues_due(
    connection: &mut SqliteConnection,
    now: Millis,
) -> Result<Vec<(TenantId, Lane)>, Error> {
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

fn read_row(row: &SqliteRow) -> Result<WaitingRow, Error> {
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
