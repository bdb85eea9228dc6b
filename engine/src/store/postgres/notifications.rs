//! Notifications, their status and their failures in PostgreSQL.
//! It must not know who moves the counters: `commit`, `pages`, `waiting` and `dead` do, in their
//! transactions.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{
    Error, FailureRow, NotificationState, NotificationStatus, Notifications, PageOfEntries,
};
use super::columns::{Coded, Columns, Id, column, int};
use super::session::{read, transact};
use super::{PostgresStore, require_tenant};
use crate::model::{Counts, Notification, NotificationId, TenantId};

/// `notifications.state` of a running one.
pub(super) const RUNNING: i64 = 0;
/// `notifications.state` of a finished one.
pub(super) const FINISHED: i64 = 1;

const INSERT: &str = "
INSERT INTO notifications (tenant, id, lane, state, created_at, expires_at, finished_at, entries,
    recipients, waiting, open_entries, open_jobs, pages_total, pages_next, pages_ended)
VALUES ($1, $2, $3::int8, $4::int8, $5, $6, $7, $8, 0, 0, $8, 0, $9, 0, 0)
ON CONFLICT DO NOTHING";

const INSERT_BODY: &str =
    "INSERT INTO notification_bodies (tenant, notification, body) VALUES ($1, $2, $3)";

const INSERT_PAGES: &str = "
WITH v AS (SELECT v.page - 1 AS page, v.first_ordinal, v.entries, v.body
    FROM unnest($3::int8[], $4::int8[], $5::bytea[])
        WITH ORDINALITY AS v (first_ordinal, entries, body, page)),
bodies AS (INSERT INTO page_bodies (tenant, notification, page, body)
    SELECT $1, $2, v.page, v.body FROM v)
INSERT INTO pages (tenant, notification, page, first_ordinal, entries, state, since)
SELECT $1, $2, v.page, v.first_ordinal, v.entries, 0, $6 FROM v";

const SELECT_STATUS: &str = "
SELECT lane, state, created_at, expires_at, finished_at, entries, recipients, waiting,
    pages_next < pages_total, accepted, unregistered, rejected, expired, exhausted, cancelled, dead,
    no_device, unknown
FROM notifications WHERE tenant = $1 AND id = $2";

const SELECT_FAILURES: &str = "
SELECT id, ordinal, user_id, device, platform, device_token, state, reason, at FROM failures
WHERE tenant = $1 AND notification = $2 AND id > $3 ORDER BY id LIMIT $4";

const SELECT_BACKLOG: &str = "
SELECT coalesce(sum(open_entries + waiting), 0)::int8 FROM notifications
WHERE tenant = $1 AND state = 0";

#[async_trait]
impl Notifications for PostgresStore {
    async fn create_notification(
        &self,
        notification: &Notification,
        pages: &[PageOfEntries],
    ) -> Result<(), Error> {
        let entries: u64 = pages.iter().map(|page| u64::from(page.entries)).sum();
        let counts = (entries, int(pages.len() as u64));
        transact!(self, |tx| {
            require_tenant(tx, &notification.tenant).await?;
            insert(tx, notification, counts).await?;
            sqlx::query(INSERT_PAGES)
                .bind(notification.tenant.as_str())
                .bind(Id(notification.id.0))
                .bind(column(pages, |page| i64::from(page.first_ordinal)))
                .bind(column(pages, |page| i64::from(page.entries)))
                .bind(column(pages, |page| page.body.as_slice()))
                .bind(notification.created_at)
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn notification_status(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationStatus>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(SELECT_STATUS)
                .bind(tenant.as_str())
                .bind(Id(id.0));
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.map(|row| read_status(id, &row)).transpose()
    }

    async fn failures(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<FailureRow>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_FAILURES)
                .bind(tenant.as_str())
                .bind(Id(id.0))
                .bind(after)
                .bind(i64::from(limit));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_failure).collect()
    }

    async fn backlog(&self, tenant: &TenantId) -> Result<u64, Error> {
        let sum: i64 = read!(self, |session| {
            let query = sqlx::query_scalar(SELECT_BACKLOG).bind(tenant.as_str());
            Ok(query.fetch_one(session).await?)
        })
        .await?;
        Ok(u64::try_from(sum).unwrap_or_default())
    }
}

/// Writes a notification's row and its body.
pub(super) async fn insert(
    connection: &mut PgConnection,
    notification: &Notification,
    (entries, pages): (u64, i64),
) -> Result<(), Error> {
    let body = serde_json::to_vec(notification).map_err(|error| Error::Data(Box::new(error)))?;
    // Nobody to send to: nothing will ever end, so it has ended.
    let (state, finished_at) = if pages == 0 {
        (FINISHED, Some(notification.created_at))
    } else {
        (RUNNING, None)
    };
    let done = sqlx::query(INSERT)
        .bind(notification.tenant.as_str())
        .bind(Id(notification.id.0))
        .bind(notification.lane.code())
        .bind(state)
        .bind(notification.created_at)
        .bind(notification.expires_at)
        .bind(finished_at)
        .bind(int(entries))
        .bind(pages)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Conflict("the notification id exists"));
    }
    sqlx::query(INSERT_BODY)
        .bind(notification.tenant.as_str())
        .bind(Id(notification.id.0))
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

fn read_status(id: NotificationId, row: &PgRow) -> Result<NotificationStatus, Error> {
    /// The column of the first count; they follow in the order of the states' numbers.
    const COUNTS: usize = 9;
    let row = Columns::of(row, "notifications");
    let mut counts = Counts::default();
    for (state, count) in counts.0.iter_mut().enumerate() {
        *count = row.small(COUNTS + state)?;
    }
    let state = match row.int(1)? {
        FINISHED => NotificationState::Finished,
        _ => NotificationState::Running,
    };
    Ok(NotificationStatus {
        id,
        lane: row.coded(0)?,
        created_at: row.int(2)?,
        expires_at: row.int(3)?,
        state,
        entries: row.small(5)?,
        recipients: row.small(6)?,
        counts,
        waiting: row.small(7)?,
        paging: row.get(8)?,
        finished_at: row.get(4)?,
    })
}

fn read_failure(row: &PgRow) -> Result<FailureRow, Error> {
    let row = Columns::of(row, "failures");
    Ok(FailureRow {
        id: row.int(0)?,
        ordinal: row.small(1)?,
        user_id: row.text_or_null(2)?.map(str::to_owned),
        device: row.int(3)?,
        platform: row.coded_or_null(4)?,
        device_token: row.text_or_null(5)?.map(str::to_owned),
        state: row.coded(6)?,
        reason: row.lossy(7)?,
        at: row.int(8)?,
    })
}
