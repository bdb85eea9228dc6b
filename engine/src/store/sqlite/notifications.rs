//! Notifications, their status and their failures in SQLite.
//! It must not know who moves the counters: `commit`, `pages`, `waiting` and `dead` do, in their
//! transactions.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{
    Error, FailureRow, NotificationState, NotificationStatus, Notifications, PageOfEntries,
};
use super::columns::{Coded, Columns, bytes, int};
use super::{SqliteStore, require_tenant};
use crate::datadir::{Binder, Rows};
use crate::model::{Counts, Notification, NotificationId, TenantId};

/// `notifications.state` of a running one.
pub(super) const RUNNING: i64 = 0;
/// `notifications.state` of a finished one.
pub(super) const FINISHED: i64 = 1;

const INSERT: &str = "
INSERT INTO notifications (tenant, id, lane, state, created_at, expires_at, finished_at, entries,
    recipients, waiting, open_entries, open_jobs, pages_total, pages_next, pages_ended)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?8, 0, ?9, 0, 0)
ON CONFLICT DO NOTHING";

const INSERT_BODY: &str =
    "INSERT INTO notification_bodies (tenant, notification, body) VALUES (?, ?, ?)";

const INSERT_PAGES: Rows = Rows {
    columns: "tenant, notification, page, first_ordinal, entries, state, since",
    statement:
        "INSERT INTO pages (tenant, notification, page, first_ordinal, entries, state, since) SELECT
        * FROM v WHERE v.tenant IS NOT NULL",
};

const INSERT_PAGE_BODIES: Rows = Rows {
    columns: "tenant, notification, page, body",
    statement: "INSERT INTO page_bodies (tenant, notification, page, body) SELECT * FROM v WHERE v.tenant IS
        NOT NULL",
};

const SELECT_STATUS: &str = "
SELECT lane, state, created_at, expires_at, finished_at, entries, recipients, waiting,
    pages_next < pages_total, accepted, unregistered, rejected, expired, exhausted, cancelled, dead,
    no_device, unknown
FROM notifications WHERE tenant = ? AND id = ?";

const SELECT_FAILURES: &str = "
SELECT id, ordinal, user_id, device, platform, device_token, state, reason, at FROM failures
WHERE tenant = ? AND notification = ? AND id > ? ORDER BY id LIMIT ?";

const SELECT_BACKLOG: &str = "
SELECT coalesce(sum(open_entries + waiting), 0) FROM notifications
WHERE tenant = ? AND state = 0";

#[async_trait]
impl Notifications for SqliteStore {
    async fn create_notification(
        &self,
        notification: &Notification,
        pages: &[PageOfEntries],
    ) -> Result<(), Error> {
        let (tenant, id) = (&notification.tenant, &notification.id.0);
        let entries: u64 = pages.iter().map(|page| u64::from(page.entries)).sum();
        let numbered: Vec<(usize, &PageOfEntries)> = pages.iter().enumerate().collect();
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        insert(&mut tx, notification, (entries, int(pages.len() as u64))).await?;
        let bind_page = |binder: &mut Binder, (number, page): &(usize, &PageOfEntries)| {
            binder.bind(tenant.as_str()).bind(bytes(id));
            binder.bind(int(*number as u64)).bind(page.first_ordinal);
            binder.bind(page.entries);
            binder.bind(0_i64).bind(notification.created_at);
        };
        INSERT_PAGES.execute(&mut tx, &numbered, bind_page).await?;
        let bind_body = |binder: &mut Binder, (number, page): &(usize, &PageOfEntries)| {
            binder.bind(tenant.as_str()).bind(bytes(id));
            binder.bind(int(*number as u64)).bind(page.body.as_slice());
        };
        INSERT_PAGE_BODIES
            .execute(&mut tx, &numbered, bind_body)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn notification_status(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<NotificationStatus>, Error> {
        let row = sqlx::query(SELECT_STATUS)
            .bind(tenant.as_str())
            .bind(bytes(&id.0))
            .fetch_optional(&mut *self.reader().await?)
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
        let rows = sqlx::query(SELECT_FAILURES)
            .bind(tenant.as_str())
            .bind(bytes(&id.0))
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_failure).collect()
    }

    async fn backlog(&self, tenant: &TenantId) -> Result<u64, Error> {
        let sum: i64 = sqlx::query_scalar(SELECT_BACKLOG)
            .bind(tenant.as_str())
            .fetch_one(&mut *self.reader().await?)
            .await?;
        Ok(u64::try_from(sum).unwrap_or_default())
    }
}

/// Writes a notification's row and its body.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    notification: &Notification,
    (entries, pages): (u64, i64),
) -> Result<(), Error> {
    let (tenant, id) = (notification.tenant.as_str(), bytes(&notification.id.0));
    let body = serde_json::to_vec(notification).map_err(|error| Error::Data(Box::new(error)))?;
    // Nobody to send to: nothing will ever end, so it has ended.
    let (state, finished_at) = if pages == 0 {
        (FINISHED, Some(notification.created_at))
    } else {
        (RUNNING, None)
    };
    let done = sqlx::query(INSERT)
        .bind(tenant)
        .bind(id)
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
        .bind(tenant)
        .bind(id)
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

fn read_status(id: NotificationId, row: &SqliteRow) -> Result<NotificationStatus, Error> {
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
        paging: row.int(8)? != 0,
        finished_at: row.get(4)?,
    })
}

fn read_failure(row: &SqliteRow) -> Result<FailureRow, Error> {
    let row = Columns::of(row, "failures");
    Ok(FailureRow {
        id: row.int(0)?,
        ordinal: row.small(1)?,
        user_id: row.get(2)?,
        device: row.int(3)?,
        platform: row.coded_or_null(4)?,
        device_token: row.get(5)?,
        state: row.coded(6)?,
        reason: row.lossy(7)?,
        at: row.int(8)?,
    })
}
