//! Selections in PostgreSQL: stored with a description, and paged from the devices that fit it.
//! It must not know whose turn a page is.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::selections::{PAGES_OPEN, entries, scan};
use super::super::turns::Choice;
use super::super::{Error, Selections};
use super::columns::{Columns, Id, column, int};
use super::notifications::insert;
use super::session::{read, transact};
use super::{PostgresStore, require_tenant};
use crate::limits::JOB_ENTRIES_MAX;
use crate::model::{
    Address, Candidate, DeviceId, Millis, Notification, NotificationId, SelectedPage, Selection,
    TenantId, encode_entries,
};

// The newest device of the tenant: a registration that has not committed is later, whatever its id.
const LAST_DEVICE: &str = "
SELECT max(id) FROM devices WHERE tenant = $1 AND id > 0";

const INSERT: &str = "
INSERT INTO selections (tenant, notification, after, up_to, body) VALUES ($1, $2, 0, $3, $4)";

const COUNT_OPEN: &str = "SELECT count(*) FROM selections WHERE tenant = $1";

// The notification is locked: nobody else is at it.
const SELECT: &str = "
SELECT s.after, s.up_to, s.body, n.entries, n.pages_next
FROM selections s JOIN notifications n ON n.tenant = s.tenant AND n.id = s.notification
WHERE s.tenant = $1 AND s.notification = $2";

const OF_ALL: &str = "
SELECT id, platform, environment, device_token, app_version
FROM devices WHERE tenant = $1 AND id > $2 AND id <= $3 AND pruned_at IS NULL ORDER BY id LIMIT $4";

// The subscribers of each tag in their order, as many as could be needed; then the first of all.
const OF_TAGS: &str = "
SELECT s.device, d.platform, d.environment, d.device_token, d.app_version
FROM (SELECT DISTINCT k.device FROM unnest($5::bytea[]) AS t (tag)
    CROSS JOIN LATERAL (SELECT b.device FROM subscriptions b
        WHERE b.tenant = $1 AND b.tag = t.tag AND b.device > $2 AND b.device <= $3
        ORDER BY b.device LIMIT $4) AS k
    ORDER BY k.device LIMIT $4) AS s
LEFT JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.id = s.device
    AND d.pruned_at IS NULL LIMIT 1) AS d ON true
ORDER BY s.device";

const INSERT_PAGE: &str = "
WITH body AS (INSERT INTO page_bodies (tenant, notification, page, body) VALUES ($1, $2, $3, $6))
INSERT INTO pages (tenant, notification, page, first_ordinal, entries, state, since)
VALUES ($1, $2, $3, $4, $5, 0, $7)";

const ADVANCE: &str = "
UPDATE notifications SET entries = entries + $3, open_entries = open_entries + $3,
    pages_next = pages_next + 1
WHERE tenant = $1 AND id = $2";

// With the last page it is known how many there are, and all of them may have ended already.
const END: &str = "
UPDATE notifications SET pages_total = pages_next,
    state = (pages_ended >= pages_next AND open_jobs <= 0)::int,
    finished_at = CASE WHEN pages_ended >= pages_next AND open_jobs <= 0 THEN $3::int8 END
WHERE tenant = $1 AND id = $2";

const MOVE: &str = "UPDATE selections SET after = $3 WHERE tenant = $1 AND notification = $2";

const CLOSE: &str = "DELETE FROM selections WHERE tenant = $1 AND notification = $2";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[SELECT, OF_ALL, OF_TAGS, ADVANCE, END, MOVE, CLOSE];

#[async_trait]
impl Selections for PostgresStore {
    async fn create_selection(
        &self,
        notification: &Notification,
        selection: &Selection,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(selection).map_err(|error| Error::Data(Box::new(error)))?;
        let body = body.as_slice();
        transact!(self, |tx| {
            let tenant = &notification.tenant;
            require_tenant(tx, tenant).await?;
            let last: Option<DeviceId> = sqlx::query_scalar(LAST_DEVICE)
                .bind(tenant.as_str())
                .fetch_one(&mut *tx)
                .await?;
            let pages = last.map_or(0, |_| PAGES_OPEN);
            insert(tx, notification, (0, pages)).await?;
            if let Some(last) = last {
                sqlx::query(INSERT)
                    .bind(tenant.as_str())
                    .bind(Id(notification.id.0))
                    .bind(last)
                    .bind(body)
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(())
        })
        .await
    }

    async fn open_selections(&self, tenant: &TenantId) -> Result<u64, Error> {
        let count: i64 = read!(self, |session| {
            let query = sqlx::query_scalar(COUNT_OPEN).bind(tenant.as_str());
            Ok(query.fetch_one(session).await?)
        })
        .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// A selection as it stands.
struct Open<'a> {
    tenant: &'a TenantId,
    notification: NotificationId,
    selection: Selection,
    after: DeviceId,
    up_to: DeviceId,
    next_ordinal: u32,
    next_page: u32,
}

/// Writes up to `pages` pages of a selection from the devices that come next, as it is their turn; its notification is locked.
/// Returns those that there are: fewer where devices do not fit or there are no more.
pub(super) async fn write_pages(
    connection: &mut PgConnection,
    (tenant, notification): (&TenantId, NotificationId),
    pages: u32,
    now: Millis,
) -> Result<Vec<Choice>, Error> {
    let mut written = Vec::new();
    let mut open = read_open(connection, tenant, notification).await?;
    let Some(open) = &mut open else {
        // It must not keep everybody's from being fed.
        tracing::error!(%notification, "a selection cannot be read: it ends here");
        end(connection, (tenant, notification), now).await?;
        return Ok(written);
    };
    for _ in 0..pages {
        let asked = scan(&open.selection);
        let found = candidates(connection, open, asked).await?;
        let page = open
            .selection
            .cut(found, (open.after, asked), JOB_ENTRIES_MAX);
        let (is_last, is_empty) = (page.is_last, page.addresses.is_empty());
        let number = open.next_page;
        write_page(connection, open, page, now).await?;
        if !is_empty {
            written.push(Choice {
                tenant: tenant.clone(),
                notification,
                page: number,
                recheck: false,
                is_open: true,
            });
        }
        if is_last {
            break;
        }
    }
    Ok(written)
}

async fn read_open<'a>(
    connection: &mut PgConnection,
    tenant: &'a TenantId,
    notification: NotificationId,
) -> Result<Option<Open<'a>>, Error> {
    let row = sqlx::query(SELECT)
        .bind(tenant.as_str())
        .bind(Id(notification.0))
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Columns::of(&row, "selections");
    let Ok(selection) = serde_json::from_slice(row.get(2)?) else {
        return Ok(None);
    };
    Ok(Some(Open {
        tenant,
        notification,
        selection,
        after: row.int(0)?,
        up_to: row.int(1)?,
        next_ordinal: row.small(3)?,
        next_page: row.small(4)?,
    }))
}

async fn candidates(
    connection: &mut PgConnection,
    open: &Open<'_>,
    asked: usize,
) -> Result<Vec<Candidate>, Error> {
    let tags = &open.selection.tags;
    let mut query = sqlx::query(if tags.is_empty() { OF_ALL } else { OF_TAGS })
        .bind(open.tenant.as_str())
        .bind(open.after)
        .bind(open.up_to)
        .bind(int(asked as u64));
    if !tags.is_empty() {
        query = query.bind(column(tags, |tag| tag.as_bytes()));
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(candidate).collect()
}

fn candidate(row: &PgRow) -> Result<Candidate, Error> {
    let row = Columns::of(row, "devices");
    let device = row.int(0)?;
    let found = match row.text_or_null(3)? {
        None => None,
        Some(device_token) => {
            let address = Address {
                device,
                platform: row.coded(1)?,
                environment: row.coded(2)?,
                device_token: device_token.into(),
            };
            Some((address, row.text_or_null(4)?.map(Into::into)))
        }
    };
    Ok(Candidate { device, found })
}

async fn write_page(
    connection: &mut PgConnection,
    open: &mut Open<'_>,
    page: SelectedPage,
    now: Millis,
) -> Result<(), Error> {
    let (after, is_last) = (page.after, page.is_last);
    let entries = entries(page, open.next_ordinal);
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let (tenant, id) = (open.tenant.as_str(), Id(open.notification.0));
    if count > 0 {
        sqlx::query(INSERT_PAGE)
            .bind(tenant)
            .bind(id)
            .bind(i64::from(open.next_page))
            .bind(i64::from(open.next_ordinal))
            .bind(i64::from(count))
            .bind(encode_entries(&entries))
            .bind(now)
            .execute(&mut *connection)
            .await?;
        sqlx::query(ADVANCE)
            .bind(tenant)
            .bind(id)
            .bind(i64::from(count))
            .execute(&mut *connection)
            .await?;
        open.next_page += 1;
    }
    if is_last {
        end(connection, (open.tenant, open.notification), now).await?;
    } else {
        sqlx::query(MOVE)
            .bind(tenant)
            .bind(id)
            .bind(after)
            .execute(connection)
            .await?;
    }
    (open.after, open.next_ordinal) = (after, open.next_ordinal + count);
    Ok(())
}

/// No page follows those that there are.
async fn end(
    connection: &mut PgConnection,
    (tenant, notification): (&TenantId, NotificationId),
    now: Millis,
) -> Result<(), Error> {
    sqlx::query(END)
        .bind(tenant.as_str())
        .bind(Id(notification.0))
        .bind(now)
        .execute(&mut *connection)
        .await?;
    sqlx::query(CLOSE)
        .bind(tenant.as_str())
        .bind(Id(notification.0))
        .execute(connection)
        .await?;
    Ok(())
}
