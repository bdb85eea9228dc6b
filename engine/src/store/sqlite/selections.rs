//! Selections in SQLite: stored with a description, and paged from the devices that fit it.
//! It must not know whose turn a page is.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::selections::{PAGES_OPEN, entries, scan};
use super::super::turns::Choice;
use super::super::{Error, Selections};
use super::columns::{Coded, Columns, Unreadable, bytes, corrupt, int};
use super::notifications::insert;
use super::{SqliteStore, require_tenant};
use crate::limits::JOB_ENTRIES_MAX;
use crate::model::{
    Address, Candidate, DeviceId, Environment, Millis, Notification, NotificationId, Platform,
    SelectedPage, Selection, TenantId, encode_entries,
};

// By the index alone: the newest device of the tenant.
const LAST_DEVICE: &str = "
SELECT max(id) FROM devices INDEXED BY devices_of_tenant
WHERE tenant = ? AND id > 0 AND pruned_at IS NULL";

const INSERT: &str =
    "INSERT INTO selections (tenant, notification, after, up_to, body) VALUES (?, ?, 0, ?, ?)";

const COUNT_OPEN: &str = "SELECT count(*) FROM selections WHERE tenant = ?";

const SELECT: &str = "
SELECT s.after, s.up_to, s.body, n.entries, n.pages_next
FROM selections s CROSS JOIN notifications n ON n.tenant = s.tenant AND n.id = s.notification
WHERE s.tenant = ? AND s.notification = ?";

// All devices come in one value, because a row of many values costs more to hand from thread to thread than to find.
const OF_ALL: &str = "
SELECT json_group_array(json_array(id, platform, environment, device_token, app_version)) FROM (
    SELECT id, platform, environment, device_token, app_version
    FROM devices INDEXED BY devices_of_tenant
    WHERE tenant = ?1 AND id > ?2 AND id <= ?3 AND pruned_at IS NULL ORDER BY id LIMIT ?4)";

// The subscribers of each tag in their order, as many as could be needed; then the first of all.
const OF_TAGS: [&str; 3] = [
    "SELECT json_group_array(json_array(device, platform, environment, device_token, app_version)) FROM (
        SELECT n.device, d.platform, d.environment, d.device_token, d.app_version FROM (",
    "SELECT device FROM (SELECT device FROM subscriptions INDEXED BY subscriptions_by_tag
        WHERE tenant = ?1 AND tag = ? AND device > ?2 AND device <= ?3 ORDER BY device LIMIT ?4)",
    " ORDER BY 1 LIMIT ?4) n
        LEFT JOIN devices d ON d.id = n.device AND d.tenant = ?1 AND d.pruned_at IS NULL
        ORDER BY n.device)",
];

const INSERT_PAGE: &str = "
INSERT INTO pages (tenant, notification, page, first_ordinal, entries, state, since)
VALUES (?, ?, ?, ?, ?, 0, ?)";

const INSERT_PAGE_BODY: &str =
    "INSERT INTO page_bodies (tenant, notification, page, body) VALUES (?, ?, ?, ?)";

const ADVANCE: &str = "
UPDATE notifications SET entries = entries + ?3, open_entries = open_entries + ?3,
    pages_next = pages_next + ?4
WHERE tenant = ?1 AND id = ?2";

// With the last page it is known how many there are, and all of them may have ended already.
const END: &str = "
UPDATE notifications SET pages_total = pages_next,
    state = pages_ended >= pages_next AND open_jobs <= 0,
    finished_at = CASE WHEN pages_ended >= pages_next AND open_jobs <= 0 THEN ?3 END
WHERE tenant = ?1 AND id = ?2";

const MOVE: &str = "UPDATE selections SET after = ? WHERE tenant = ? AND notification = ?";

const CLOSE: &str = "DELETE FROM selections WHERE tenant = ? AND notification = ?";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let plain = [LAST_DEVICE, SELECT, OF_ALL, ADVANCE, END, MOVE, CLOSE];
    let mut statements: Vec<String> = plain.map(str::to_owned).to_vec();
    statements.push(of_tags(3));
    statements
}

/// [`OF_TAGS`] for as many tags.
fn of_tags(tags: usize) -> String {
    let [head, tag, tail] = OF_TAGS;
    let each: Vec<String> = (0..tags)
        .map(|index| tag.replace("tag = ?", &format!("tag = ?{}", index + 5)))
        .collect();
    format!("{head}{}{tail}", each.join(" UNION "))
}

#[async_trait]
impl Selections for SqliteStore {
    async fn create_selection(
        &self,
        notification: &Notification,
        selection: &Selection,
    ) -> Result<(), Error> {
        let (tenant, id) = (&notification.tenant, &notification.id.0);
        let body = serde_json::to_vec(selection).map_err(|error| Error::Data(Box::new(error)))?;
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        let last: Option<DeviceId> = sqlx::query_scalar(LAST_DEVICE)
            .bind(tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let pages = last.map_or(0, |_| PAGES_OPEN);
        insert(&mut tx, notification, (0, pages)).await?;
        if let Some(last) = last {
            sqlx::query(INSERT)
                .bind(tenant.as_str())
                .bind(bytes(id))
                .bind(last)
                .bind(body)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn open_selections(&self, tenant: &TenantId) -> Result<u64, Error> {
        let count: i64 = sqlx::query_scalar(COUNT_OPEN)
            .bind(tenant.as_str())
            .fetch_one(&mut *self.reader().await?)
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

/// Writes up to `pages` pages of a selection from the devices that come next, as it is their turn. Returns those that there
/// are: fewer where devices do not fit or there are no more.
pub(super) async fn write_pages(
    connection: &mut SqliteConnection,
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
    connection: &mut SqliteConnection,
    tenant: &'a TenantId,
    notification: NotificationId,
) -> Result<Option<Open<'a>>, Error> {
    let row = sqlx::query(SELECT)
        .bind(tenant.as_str())
        .bind(bytes(&notification.0))
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

/// One device as [`OF_ALL`] and [`OF_TAGS`] return it; without the rest when it has gone.
type Found = (
    DeviceId,
    Option<i64>,
    Option<i64>,
    Option<Box<str>>,
    Option<Box<str>>,
);

async fn candidates(
    connection: &mut SqliteConnection,
    open: &Open<'_>,
    asked: usize,
) -> Result<Vec<Candidate>, Error> {
    let tags = &open.selection.tags;
    let sql = if tags.is_empty() {
        OF_ALL.to_owned()
    } else {
        of_tags(tags.len())
    };
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(open.tenant.as_str())
        .bind(open.after)
        .bind(open.up_to)
        .bind(int(asked as u64));
    for tag in tags {
        query = query.bind(&**tag);
    }
    let json: String = query.fetch_one(connection).await?;
    let found: Vec<Found> = serde_json::from_str(&json).map_err(|e| corrupt("devices", e))?;
    found.into_iter().map(candidate).collect()
}

fn candidate(found: Found) -> Result<Candidate, Error> {
    let (device, platform, environment, device_token, app_version) = found;
    let unreadable = || corrupt("devices", Unreadable(0));
    let found = match (platform, environment, device_token) {
        (Some(platform), Some(environment), Some(device_token)) => {
            let address = Address {
                device,
                platform: Platform::of(platform).ok_or_else(unreadable)?,
                environment: Environment::of(environment).ok_or_else(unreadable)?,
                device_token,
            };
            Some((address, app_version))
        }
        _ => None,
    };
    Ok(Candidate { device, found })
}

async fn write_page(
    connection: &mut SqliteConnection,
    open: &mut Open<'_>,
    page: SelectedPage,
    now: Millis,
) -> Result<(), Error> {
    let (after, is_last) = (page.after, page.is_last);
    let entries = entries(page, open.next_ordinal);
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let (tenant, id) = (open.tenant.as_str(), bytes(&open.notification.0));
    if count > 0 {
        sqlx::query(INSERT_PAGE)
            .bind(tenant)
            .bind(id)
            .bind(open.next_page)
            .bind(open.next_ordinal)
            .bind(count)
            .bind(now)
            .execute(&mut *connection)
            .await?;
        sqlx::query(INSERT_PAGE_BODY)
            .bind(tenant)
            .bind(id)
            .bind(open.next_page)
            .bind(encode_entries(&entries))
            .execute(&mut *connection)
            .await?;
    }
    let pages = u32::from(count > 0);
    if pages > 0 {
        sqlx::query(ADVANCE)
            .bind(tenant)
            .bind(id)
            .bind(count)
            .bind(pages)
            .execute(&mut *connection)
            .await?;
    }
    if is_last {
        end(connection, (open.tenant, open.notification), now).await?;
    } else {
        sqlx::query(MOVE)
            .bind(after)
            .bind(tenant)
            .bind(id)
            .execute(connection)
            .await?;
    }
    (open.after, open.next_page) = (after, open.next_page + pages);
    open.next_ordinal += count;
    Ok(())
}

/// No page follows those that there are.
async fn end(
    connection: &mut SqliteConnection,
    (tenant, notification): (&TenantId, NotificationId),
    now: Millis,
) -> Result<(), Error> {
    sqlx::query(END)
        .bind(tenant.as_str())
        .bind(bytes(&notification.0))
        .bind(now)
        .execute(&mut *connection)
        .await?;
    sqlx::query(CLOSE)
        .bind(tenant.as_str())
        .bind(bytes(&notification.0))
        .execute(connection)
        .await?;
    Ok(())
}
