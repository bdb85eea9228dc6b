//! Deleting: what retention has run out for, and what a deleted tenant leaves; always in small batches, so
//! that nobody waits long for a row. It must not know how long anything is kept.

use sqlx::{AssertSqlSafe, PgConnection};

use super::super::{Error, SweepHorizon, day_of};
use super::PostgresStore;
use super::columns::{Columns, Id};
use super::session::{read, transact};
use crate::model::{Millis, TenantId};

/// Rows that deleting a tenant removes in one transaction.
const PURGE_BATCH: u32 = 5_000;

/// A notification is forgotten when it has finished long enough ago and could not be sent any more: a late
/// copy of one of its jobs must find its record.
const FORGOTTEN: &str = "
SELECT tenant, id FROM notifications
WHERE state = 1 AND finished_at < $1 AND expires_at < $1 ORDER BY finished_at LIMIT $2";

/// Tables whose rows belong to a notification.
const PARTS: [&str; 5] = [
    "record_parts",
    "failures",
    "page_bodies",
    "notification_bodies",
    "pages",
];

const DELETE_FORGOTTEN: &str = "
DELETE FROM notifications WHERE ctid = ANY(ARRAY(
    SELECT n.ctid FROM notifications n
    WHERE n.state = 1 AND n.finished_at < $1 AND n.expires_at < $1
        AND NOT EXISTS (SELECT 1 FROM record_parts p WHERE p.tenant = n.tenant
            AND p.notification = n.id)
        AND NOT EXISTS (SELECT 1 FROM failures f WHERE f.tenant = n.tenant AND f.notification = n.id)
        AND NOT EXISTS (SELECT 1 FROM pages g WHERE g.tenant = n.tenant AND g.notification = n.id)
    ORDER BY n.finished_at LIMIT $2 FOR UPDATE OF n SKIP LOCKED))";

const DELETE_BODIES: &str = "
DELETE FROM notification_bodies WHERE ctid = ANY(ARRAY(
    SELECT b.ctid FROM notifications n JOIN notification_bodies b
        ON b.tenant = n.tenant AND b.notification = n.id
    WHERE n.state = 1 AND n.finished_at < $1 LIMIT $2 FOR UPDATE OF b SKIP LOCKED))";

/// Rows that go by a time of their own.
const BY_TIME: [(&str, Horizon); 11] = [
    (
        "DELETE FROM dead WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead
            WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.dead,
    ),
    (
        "DELETE FROM dead_replays WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead_replays
            WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.dead,
    ),
    (
        "DELETE FROM idempotency WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency
            WHERE started_at < $1 ORDER BY started_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.idempotency,
    ),
    (
        "DELETE FROM devices WHERE ctid = ANY(ARRAY(SELECT ctid FROM devices
            WHERE pruned_at < $1 ORDER BY pruned_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.receipts,
    ),
    (
        "DELETE FROM audit WHERE ctid = ANY(ARRAY(SELECT ctid FROM audit
            WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.audit,
    ),
    (
        "DELETE FROM api_key_usage WHERE ctid = ANY(ARRAY(SELECT ctid FROM api_key_usage
            WHERE day < $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| day_of(horizon.audit),
    ),
    (
        "DELETE FROM api_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM api_keys
            WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.expired,
    ),
    (
        "DELETE FROM refresh_tokens WHERE ctid = ANY(ARRAY(SELECT ctid FROM refresh_tokens
            WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.expired,
    ),
    (
        "DELETE FROM daily_counts WHERE ctid = ANY(ARRAY(SELECT ctid FROM daily_counts
            WHERE day < $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| day_of(horizon.analytics),
    ),
    (
        "DELETE FROM messages WHERE ctid = ANY(ARRAY(SELECT ctid FROM messages
            WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.receipts,
    ),
    (
        "DELETE FROM message_receipts WHERE ctid = ANY(ARRAY(SELECT ctid FROM message_receipts
            WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        |horizon| horizon.receipts,
    ),
];

type Horizon = fn(&SweepHorizon) -> Millis;

const TO_PURGE: &str = "
SELECT id FROM tenants WHERE deleted_at IS NOT NULL AND purged_at IS NULL ORDER BY id LIMIT 1";

const PURGE_DEVICES: &str = "
DELETE FROM devices WHERE ctid = ANY(ARRAY(SELECT ctid FROM devices
    WHERE tenant = $1 AND pruned_at IS NULL LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// What else a deleted tenant leaves, and may be much.
const PURGE_ALL: [&str; 2] = [
    "DELETE FROM messages WHERE ctid = ANY(ARRAY(SELECT ctid FROM messages
        WHERE tenant = $1 AND created_at > -1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM message_receipts WHERE ctid = ANY(ARRAY(SELECT ctid FROM message_receipts
        WHERE tenant = $1 AND at > -1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

// What was locked and passed over is left for the next sweep.
const PURGED: &str = "
UPDATE tenants SET purged_at = $1 WHERE id = $2
    AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.tenant = $2 AND d.pruned_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM subscriptions s WHERE s.tenant = $2)
    AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.tenant = $2 AND m.created_at > -1)
    AND NOT EXISTS (SELECT 1 FROM message_receipts r WHERE r.tenant = $2 AND r.at > -1)
    AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.tenant = $2 AND n.pages_next < n.pages_total)";

const PURGE_SUBSCRIPTIONS: &str = "
DELETE FROM subscriptions WHERE ctid = ANY(ARRAY(SELECT ctid FROM subscriptions
    WHERE tenant = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// What is left last.
const PURGE_REST: [&str; 3] = [
    "DELETE FROM prune_candidates WHERE tenant = $1",
    "DELETE FROM tags WHERE tenant = $1",
    "DELETE FROM selections WHERE tenant = $1",
];

const UNFED: &str = "
SELECT id, pages_next, pages_total FROM notifications
WHERE tenant = $1 AND pages_next < pages_total
ORDER BY pages_next - pages_ended, id LIMIT 1 FOR NO KEY UPDATE";

const LAST_UNFED: &str = "
SELECT count(*), coalesce(sum(entries), 0)::int8, coalesce(min(page), 0) FROM (
    SELECT page, entries FROM pages
    WHERE tenant = $1 AND notification = $2 AND page >= $3 ORDER BY page DESC LIMIT $4) AS l";

const DELETE_UNFED: [&str; 2] = [
    "DELETE FROM page_bodies WHERE tenant = $1 AND notification = $2 AND page >= $3",
    "DELETE FROM pages WHERE tenant = $1 AND notification = $2 AND page >= $3",
];

// The entries of pages that nobody will have end as cancelled.
const CUT_SHORT: &str = "
UPDATE notifications SET pages_total = pages_total - $3, open_entries = greatest(0, open_entries - $4),
    cancelled = cancelled + $4,
    state = (pages_ended >= pages_total - $3 AND open_jobs <= 0)::int,
    finished_at = CASE WHEN pages_ended >= pages_total - $3 AND open_jobs <= 0 THEN $5 END
WHERE tenant = $1 AND id = $2";

/// Deletes what is older than its horizon, at most `batch` rows of each table.
pub(super) async fn sweep(
    connection: &mut PgConnection,
    horizon: &SweepHorizon,
    batch: u32,
) -> Result<u64, Error> {
    let mut swept = 0;
    for table in PARTS {
        swept += delete(connection, delete_parts(table), (horizon.receipts, batch)).await?;
    }
    let bodies = (horizon.payloads, batch);
    swept += delete(connection, DELETE_BODIES.to_owned(), bodies).await?;
    let forgotten = (horizon.receipts, batch);
    swept += delete(connection, DELETE_FORGOTTEN.to_owned(), forgotten).await?;
    for (sql, horizon_of) in BY_TIME {
        swept += delete(connection, sql.to_owned(), (horizon_of(horizon), batch)).await?;
    }
    Ok(swept)
}

/// Deletes what belongs to forgotten notifications from one of [`PARTS`].
fn delete_parts(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT t.ctid FROM ({FORGOTTEN}) n \
         JOIN {table} t ON t.tenant = n.tenant AND t.notification = n.id \
         LIMIT $2 FOR UPDATE OF t SKIP LOCKED))"
    )
}

/// What the plans of are looked at.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let mut statements: Vec<String> = PARTS.map(delete_parts).to_vec();
    statements.push(DELETE_FORGOTTEN.to_owned());
    statements.extend(BY_TIME.iter().map(|(sql, _)| (*sql).to_owned()));
    statements.extend(PURGE_ALL.map(str::to_owned));
    statements
}

async fn delete(
    connection: &mut PgConnection,
    sql: String,
    (before, batch): (Millis, u32),
) -> Result<u64, Error> {
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(before)
        .bind(i64::from(batch))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

impl PostgresStore {
    /// Removes all that a deleted tenant leaves, batch by batch. What a crash interrupts, the next sweep goes
    /// on with.
    pub(super) async fn purge_tenant(&self, tenant: &TenantId, now: Millis) -> Result<(), Error> {
        while self.purge_batch(tenant, PURGE_BATCH, now).await? > 0 {}
        Ok(())
    }

    /// One batch of a deleted tenant that still has something.
    pub(super) async fn purge_some(&self, batch: u32, now: Millis) -> Result<u64, Error> {
        let row = read!(self, |session| {
            Ok(sqlx::query(TO_PURGE).fetch_optional(session).await?)
        })
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
        transact!(self, |tx| {
            let unfed = purge_unfed(tx, tenant, batch, now).await?;
            let mut purged = unfed;
            for sql in [PURGE_DEVICES, PURGE_SUBSCRIPTIONS]
                .into_iter()
                .chain(PURGE_ALL)
            {
                purged += sqlx::query(sql)
                    .bind(tenant.as_str())
                    .bind(i64::from(batch))
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            }
            if purged == 0 {
                for sql in PURGE_REST {
                    sqlx::query(sql)
                        .bind(tenant.as_str())
                        .execute(&mut *tx)
                        .await?;
                }
                sqlx::query(PURGED)
                    .bind(now)
                    .bind(tenant.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(purged)
        })
        .await
    }
}

/// Removes the last pages of one notification that nobody has had; their entries are cancelled.
async fn purge_unfed(
    connection: &mut PgConnection,
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
    let (notification, next) = (Id(found.uuid(0)?), found.int(1)?);
    let total = found.int(2)?;
    let last = sqlx::query(LAST_UNFED)
        .bind(tenant.as_str())
        .bind(notification)
        .bind(next)
        .bind(i64::from(batch))
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
