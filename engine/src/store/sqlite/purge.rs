//! Deleting: what retention has run out for, and what a deleted tenant leaves; always in small batches, so
//! that nobody waits long for the one connection that writes. It must not know how long anything is kept.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::{Error, SweepHorizon, day_of};
use super::SqliteStore;
use super::columns::Columns;
use crate::model::{Millis, TenantId};

/// Rows that deleting a tenant removes in one transaction.
const PURGE_BATCH: u32 = 5_000;

/// A notification is forgotten when it has finished long enough ago and could not be sent any more: a late
/// copy of one of its jobs must find its record.
const FORGOTTEN: &str = "
SELECT tenant, id FROM notifications
WHERE state = 1 AND finished_at < ?1 AND expires_at < ?1 ORDER BY finished_at LIMIT ?2";

/// Tables whose rows belong to a notification, with the columns of their keys.
pub(super) const PARTS: [(&str, &str); 5] = [
    ("record_parts", "tenant, notification, job, seq"),
    ("failures", "id"),
    ("page_bodies", "rowid"),
    ("notification_bodies", "rowid"),
    ("pages", "tenant, notification, page"),
];

pub(super) const DELETE_FORGOTTEN: &str = "
DELETE FROM notifications WHERE (tenant, id) IN (
    SELECT tenant, id FROM notifications
    WHERE state = 1 AND finished_at < ?1 AND expires_at < ?1 ORDER BY finished_at LIMIT ?2)
AND NOT EXISTS (SELECT 1 FROM record_parts p WHERE p.tenant = notifications.tenant
    AND p.notification = notifications.id)
AND NOT EXISTS (SELECT 1 FROM failures f WHERE f.tenant = notifications.tenant
    AND f.notification = notifications.id)
AND NOT EXISTS (SELECT 1 FROM pages g WHERE g.tenant = notifications.tenant
    AND g.notification = notifications.id)";

const DELETE_BODIES: &str = "
DELETE FROM notification_bodies WHERE rowid IN (
    SELECT b.rowid FROM notification_bodies b CROSS JOIN notifications n
        ON n.tenant = b.tenant AND n.id = b.notification
    WHERE n.state = 1 AND n.finished_at < ?1 LIMIT ?2)";

/// Rows that go by a time of their own.
pub(super) const BY_TIME: [(&str, Horizon); 11] = [
    (
        "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE at < ?1 ORDER BY at LIMIT ?2)",
        |horizon| horizon.dead,
    ),
    (
        "DELETE FROM dead_replays WHERE (tenant, job) IN (
            SELECT tenant, job FROM dead_replays WHERE at < ?1 ORDER BY at LIMIT ?2)",
        |horizon| horizon.dead,
    ),
    (
        "DELETE FROM idempotency WHERE rowid IN (
            SELECT rowid FROM idempotency WHERE started_at < ?1 ORDER BY started_at LIMIT ?2)",
        |horizon| horizon.idempotency,
    ),
    (
        "DELETE FROM devices WHERE id IN (
            SELECT id FROM devices WHERE pruned_at < ?1 ORDER BY pruned_at LIMIT ?2)",
        |horizon| horizon.receipts,
    ),
    (
        "DELETE FROM audit WHERE (id) IN (
            SELECT id FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)",
        |horizon| horizon.audit,
    ),
    (
        "DELETE FROM api_key_usage WHERE (tenant, key_id, day, operation) IN (
            SELECT tenant, key_id, day, operation FROM api_key_usage WHERE day < ?1 ORDER BY day LIMIT ?2)",
        |horizon| day_of(horizon.audit),
    ),
    (
        "DELETE FROM api_keys WHERE (tenant, key_id) IN (
            SELECT tenant, key_id FROM api_keys WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        |horizon| horizon.expired,
    ),
    (
        "DELETE FROM refresh_tokens WHERE (hash) IN (
            SELECT hash FROM refresh_tokens WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        |horizon| horizon.expired,
    ),
    (
        "DELETE FROM daily_counts WHERE (tenant, day) IN (
            SELECT tenant, day FROM daily_counts WHERE day < ?1 ORDER BY day LIMIT ?2)",
        |horizon| day_of(horizon.analytics),
    ),
    (
        "DELETE FROM messages WHERE rowid IN (
            SELECT rowid FROM messages WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
        |horizon| horizon.receipts,
    ),
    (
        "DELETE FROM message_receipts WHERE (tenant, message, device, seen) IN (
            SELECT tenant, message, device, seen FROM message_receipts
            WHERE at < ?1 ORDER BY at LIMIT ?2)",
        |horizon| horizon.receipts,
    ),
];

pub(super) type Horizon = fn(&SweepHorizon) -> Millis;

const TO_PURGE: &str = "
SELECT id FROM tenants WHERE deleted_at IS NOT NULL AND purged_at IS NULL ORDER BY id LIMIT 1";

const PURGE_DEVICES: &str = "
DELETE FROM devices WHERE id IN (
    SELECT id FROM devices WHERE tenant = ?1 AND pruned_at IS NULL LIMIT ?2)";

const PURGE_SUBSCRIPTIONS: &str = "
DELETE FROM subscriptions WHERE id IN (
    SELECT id FROM subscriptions INDEXED BY subscriptions_of_tenant WHERE tenant = ?1 LIMIT ?2)";

/// What else a deleted tenant leaves, and may be much.
pub(super) const PURGE_ALL: [&str; 2] = [
    "DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages
        WHERE tenant = ?1 AND created_at > -1 LIMIT ?2)",
    "DELETE FROM message_receipts WHERE (tenant, message, device, seen) IN (
        SELECT tenant, message, device, seen FROM message_receipts
        WHERE tenant = ?1 AND at > -1 LIMIT ?2)",
];

/// What is left last.
const PURGE_REST: [&str; 3] = [
    "DELETE FROM prune_candidates WHERE tenant = ?",
    "DELETE FROM tags WHERE tenant = ?",
    "DELETE FROM selections WHERE tenant = ?",
];

const UNFED: &str = "
SELECT id, pages_next, pages_total FROM notifications
WHERE tenant = ? AND pages_next < pages_total
ORDER BY pages_next - pages_ended, id LIMIT 1";

const LAST_UNFED: &str = "
SELECT count(*), coalesce(sum(entries), 0), coalesce(min(page), 0) FROM (
    SELECT page, entries FROM pages
    WHERE tenant = ? AND notification = ? AND page >= ? ORDER BY page DESC LIMIT ?)";

const DELETE_UNFED: [&str; 2] = [
    "DELETE FROM page_bodies WHERE tenant = ? AND notification = ? AND page >= ?",
    "DELETE FROM pages WHERE tenant = ? AND notification = ? AND page >= ?",
];

// The entries of pages that nobody will have end as cancelled.
const CUT_SHORT: &str = "
UPDATE notifications SET pages_total = pages_total - ?3, open_entries = max(0, open_entries - ?4),
    cancelled = cancelled + ?4,
    state = pages_ended >= pages_total - ?3 AND open_jobs <= 0,
    finished_at = CASE WHEN pages_ended >= pages_total - ?3 AND open_jobs <= 0 THEN ?5 END
WHERE tenant = ?1 AND id = ?2";

/// Deletes what is older than its horizon, at most `batch` rows of each table.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    horizon: &SweepHorizon,
    batch: u32,
) -> Result<u64, Error> {
    let mut swept = 0;
    for (table, key) in PARTS {
        let sql = delete_parts(table, key);
        swept += delete(connection, sql, (horizon.receipts, batch)).await?;
    }
    swept += delete(
        connection,
        DELETE_BODIES.to_owned(),
        (horizon.payloads, batch),
    )
    .await?;
    swept += delete(
        connection,
        DELETE_FORGOTTEN.to_owned(),
        (horizon.receipts, batch),
    )
    .await?;
    for (sql, horizon_of) in BY_TIME {
        swept += delete(connection, sql.to_owned(), (horizon_of(horizon), batch)).await?;
    }
    Ok(swept)
}

/// Deletes what belongs to forgotten notifications from one of [`PARTS`].
pub(super) fn delete_parts(table: &str, key: &str) -> String {
    let key_of_part = key.replace(", ", ", t.");
    format!(
        "DELETE FROM {table} WHERE ({key}) IN (SELECT t.{key_of_part} \
         FROM ({FORGOTTEN}) n CROSS JOIN {table} t \
         ON t.tenant = n.tenant AND t.notification = n.id LIMIT ?2)"
    )
}

async fn delete(
    connection: &mut SqliteConnection,
    sql: String,
    (before, batch): (Millis, u32),
) -> Result<u64, Error> {
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(before)
        .bind(batch)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

impl SqliteStore {
    /// Removes all that a deleted tenant leaves, batch by batch. What a crash interrupts, the next sweep goes
    /// on with.
    pub(super) async fn purge_tenant(&self, tenant: &TenantId, now: Millis) -> Result<(), Error> {
        while self.purge_batch(tenant, PURGE_BATCH, now).await? > 0 {}
        Ok(())
    }

    /// One batch of a deleted tenant that still has something.
    pub(super) async fn purge_some(&self, batch: u32, now: Millis) -> Result<u64, Error> {
        let row = sqlx::query(TO_PURGE)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        match row {
            None => Ok(0),
            Some(row) => {
                let tenant = Columns::of(&row, "tenants").tenant(0)?;
                // At least one, so that the caller asks again: there may be another tenant.
                Ok(self.purge_batch(&tenant, batch, now).await?.max(1))
            }
        }
    }

    async fn purge_batch(&self, tenant: &TenantId, batch: u32, now: Millis) -> Result<u64, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut purged = 0;
        for sql in [PURGE_SUBSCRIPTIONS, PURGE_DEVICES]
            .into_iter()
            .chain(PURGE_ALL)
        {
            purged += sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(batch)
                .execute(&mut *tx)
                .await?
                .rows_affected();
        }
        purged += purge_unfed(&mut tx, tenant, batch, now).await?;
        if purged == 0 {
            for sql in PURGE_REST {
                sqlx::query(sql)
                    .bind(tenant.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            sqlx::query("UPDATE tenants SET purged_at = ? WHERE id = ?")
                .bind(now)
                .bind(tenant.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(purged)
    }
}

/// Removes the last pages of one notification that nobody has had; their entries are cancelled.
async fn purge_unfed(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    batch: u32,
    now: Millis,
) -> Result<u64, Error> {
    let found = sqlx::query(UNFED)
        .bind(tenant.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(found) = found else {
        return Ok(0);
    };
    let found = Columns::of(&found, "notifications");
    let (notification, next) = (found.get::<&[u8]>(0)?, found.int(1)?);
    let total = found.int(2)?;
    let last = sqlx::query(LAST_UNFED)
        .bind(tenant.as_str())
        .bind(notification)
        .bind(next)
        .bind(batch)
        .fetch_one(&mut *connection)
        .await?;
    let last = Columns::of(&last, "pages");
    let (pages, entries, first) = (last.int(0)?, last.int(1)?, last.int(2)?);
    for sql in DELETE_UNFED {
        sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(notification)
            .bind(first.max(next))
            .execute(&mut *connection)
            .await?;
    }
    // None: it is a selection, which ends with the pages that it has.
    let pages = if pages == 0 { total - next } else { pages };
    sqlx::query(CUT_SHORT)
        .bind(tenant.as_str())
        .bind(notification)
        .bind(pages)
        .bind(entries)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(u64::try_from(pages.min(i64::from(batch))).unwrap_or_default())
}
