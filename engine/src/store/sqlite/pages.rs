//! Pages in SQLite: reserving them in turn, marking them fed, ending them.
//! It must not know how a page becomes a message.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::selections::PAGES_OPEN;
use super::super::turns::{Choice, Room, deal_pages, in_all};
use super::super::{Error, JobKey, Pages, ReservedPage, Settlement, StalePages};
use super::columns::{Columns, bytes, int};
use super::{SqliteStore, selections};
use crate::datadir::{Batch, Binder, Rows};
use crate::model::{JobId, Millis, Notification, NotificationId, TenantId, decode_entries};

// The states stand in the text, so that the index over just these states is found.
const RESERVED_LONG_AGO: &str = "
SELECT tenant, notification, page, first_ordinal FROM pages
WHERE state = 1 AND since < ? ORDER BY since LIMIT ?";

const FED_LONG_AGO: &str = "
SELECT tenant, notification, page, first_ordinal FROM pages
WHERE state = 2 AND since < ? ORDER BY since LIMIT ?";

const LAST_PART: &str = "
SELECT max(at) FROM record_parts WHERE tenant = ? AND notification = ? AND job = ?";

// Tenants with a page to reserve, from the one after whom it is the turn on. The index is walked from tenant
// to tenant.
const TENANTS_TO_FEED: &str = "
WITH RECURSIVE walk (tenant) AS (
    SELECT min(tenant) FROM notifications WHERE pages_next < pages_total AND tenant > ?1
    UNION ALL
    SELECT (SELECT min(n.tenant) FROM notifications n
        WHERE n.pages_next < n.pages_total AND n.tenant > walk.tenant)
    FROM walk WHERE walk.tenant <= ?2
)
SELECT tenant FROM walk WHERE tenant IS NOT NULL AND tenant <= ?2
    AND EXISTS (SELECT 1 FROM notifications n WHERE n.tenant = walk.tenant
        AND n.pages_next < n.pages_total AND n.pages_next - n.pages_ended < ?3)
LIMIT ?4";

const NOTIFICATIONS_TO_FEED: &str = "
SELECT id, pages_next, min(pages_total - pages_next, ?2 - (pages_next - pages_ended)),
    pages_total = ?4
FROM notifications
WHERE tenant = ?1 AND pages_next < pages_total AND pages_next - pages_ended < ?2
ORDER BY pages_next - pages_ended, id LIMIT ?3";

const ADVANCE: Rows = Rows {
    columns: "tenant, id, next",
    statement: "UPDATE notifications AS n SET pages_next = v.next FROM v
        WHERE n.tenant = v.tenant AND n.id = v.id",
};

const RESERVE: Rows = Rows {
    columns: "tenant, notification, page, now",
    statement: "UPDATE pages SET state = 1, since = v.now FROM v WHERE pages.tenant = v.tenant AND
        pages.notification = v.notification AND pages.page = v.page AND pages.state <> 3",
};

const MARK_FED: Rows = Rows {
    columns: "tenant, notification, page, now",
    statement: "UPDATE pages SET state = 2, since = v.now FROM v WHERE pages.tenant = v.tenant AND
        pages.notification = v.notification AND pages.page = v.page AND pages.state = 1",
};

const END: Rows = Rows {
    columns: "tenant, notification, page, now",
    statement: "UPDATE pages SET state = 3, since = v.now FROM v WHERE pages.tenant = v.tenant AND
        pages.notification = v.notification AND pages.page = v.page",
};

const DELETE_BODIES: Rows = Rows {
    columns: "tenant, notification, page",
    statement:
        "DELETE FROM page_bodies WHERE rowid IN (SELECT b.rowid FROM v CROSS JOIN page_bodies b
        ON b.tenant = v.tenant AND b.notification = v.notification AND b.page = v.page)",
};

const SELECT_PAGES: Rows = Rows {
    columns: "place, tenant, notification, page",
    statement: "SELECT v.place, b.body FROM v CROSS JOIN page_bodies b
        ON b.tenant = v.tenant AND b.notification = v.notification AND b.page = v.page",
};

const SELECT_NOTIFICATIONS: Rows = Rows {
    columns: "tenant, notification",
    statement: "SELECT b.body FROM v CROSS JOIN notification_bodies b
        ON b.tenant = v.tenant AND b.notification = v.notification",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[
    &ADVANCE,
    &RESERVE,
    &MARK_FED,
    &END,
    &DELETE_BODIES,
    &SELECT_PAGES,
    &SELECT_NOTIFICATIONS,
];

#[cfg(test)]
pub(super) const STALE: [&str; 2] = [RESERVED_LONG_AGO, FED_LONG_AGO];

#[async_trait]
impl Pages for SqliteStore {
    async fn reserve_pages(
        &self,
        ahead: u32,
        max: u32,
        stale: StalePages,
        now: Millis,
    ) -> Result<Vec<ReservedPage>, Error> {
        loop {
            let (pages, is_done) = self.reserve_once(ahead, max, stale, now).await?;
            if is_done || !pages.is_empty() {
                return Ok(pages);
            }
        }
    }

    async fn mark_fed(
        &self,
        pages: &[(TenantId, NotificationId, u32)],
        now: Millis,
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        MARK_FED
            .execute(&mut tx, pages, |binder, (tenant, id, page)| {
                bind_page(binder, (tenant, *id, *page));
                binder.bind(now);
            })
            .await?;
        Ok(tx.commit().await?)
    }
}

impl SqliteStore {
    /// One transaction of a reservation. Without pages there may be some yet, unless it is done: of the devices that a
    /// selection was offered none may have fitted.
    async fn reserve_once(
        &self,
        ahead: u32,
        max: u32,
        stale: StalePages,
        now: Millis,
    ) -> Result<(Vec<ReservedPage>, bool), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut chosen = stale_pages(&mut tx, stale, max, now).await?;
        let left = max.saturating_sub(u32::try_from(chosen.len()).unwrap_or(u32::MAX));
        let after = self.turn(|turns| turns.pages.clone());
        let fresh = fresh_pages(&mut tx, ahead, left, &after).await?;
        let last_served = fresh.last().map(|choice| choice.tenant.as_str().to_owned());
        let is_done = fresh.is_empty();
        chosen.extend(write_open(&mut tx, fresh, now).await?);
        if chosen.is_empty() && is_done {
            tx.rollback().await?;
            return Ok((Vec::new(), true));
        }
        mark(&mut tx, &RESERVE, &chosen, now).await?;
        let pages = read_pages(&mut tx, &chosen).await?;
        tx.commit().await?;
        if let Some(tenant) = last_served {
            self.turn(|turns| turns.pages = tenant);
        }
        Ok((pages, is_done))
    }
}

/// Writes the pages of selections that were chosen; of these, those remain that have somebody on them.
async fn write_open(
    connection: &mut SqliteConnection,
    chosen: Vec<Choice>,
    now: Millis,
) -> Result<Vec<Choice>, Error> {
    let (open, mut written): (Vec<Choice>, Vec<Choice>) =
        chosen.into_iter().partition(|choice| choice.is_open);
    for (choice, pages) in in_all(&open) {
        let key = (&choice.tenant, choice.notification);
        written.extend(selections::write_pages(connection, key, pages, now).await?);
    }
    Ok(written)
}

/// Ends the pages whose first job closed. Their bodies are not needed again.
pub(super) fn end(batch: &mut Batch, written: &[&Settlement], now: Millis) {
    let ended: Vec<(&JobKey, u32)> = written
        .iter()
        .filter(|settlement| settlement.part.end)
        .filter_map(|settlement| Some((&settlement.key, settlement.page?)))
        .collect();
    batch.add(&END, &ended, |binder, (key, page)| {
        bind_page(binder, (&key.tenant, key.notification, *page));
        binder.bind(now);
    });
    batch.add(&DELETE_BODIES, &ended, |binder, (key, page)| {
        bind_page(binder, (&key.tenant, key.notification, *page));
    });
}

fn bind_page(binder: &mut Binder, (tenant, id, page): (&TenantId, NotificationId, u32)) {
    binder.bind(tenant.as_str()).bind(bytes(&id.0)).bind(page);
}

/// Pages that were reserved or fed long ago and came to nothing since.
async fn stale_pages(
    connection: &mut SqliteConnection,
    stale: StalePages,
    max: u32,
    now: Millis,
) -> Result<Vec<Choice>, Error> {
    let mut chosen = Vec::new();
    for row in stale_rows(connection, (RESERVED_LONG_AGO, stale.reserved_before), max).await? {
        chosen.push(read_choice(&row)?);
    }
    for row in stale_rows(connection, (FED_LONG_AGO, stale.fed_before), max).await? {
        let choice = read_choice(&row)?;
        let first_ordinal = Columns::of(&row, "pages").small(3)?;
        let job = JobId::first(choice.notification, first_ordinal);
        let last_part: Option<Millis> = sqlx::query_scalar(LAST_PART)
            .bind(choice.tenant.as_str())
            .bind(bytes(&choice.notification.0))
            .bind(bytes(&job.0))
            .fetch_one(&mut *connection)
            .await?;
        match last_part {
            // Somebody is at it: look again when that is as long ago.
            Some(at) if at >= stale.fed_before => touch(connection, &choice, at.min(now)).await?,
            _ if chosen.len() < max as usize => chosen.push(choice),
            _ => break,
        }
    }
    Ok(chosen)
}

async fn stale_rows(
    connection: &mut SqliteConnection,
    (sql, before): (&'static str, Millis),
    max: u32,
) -> Result<Vec<SqliteRow>, Error> {
    Ok(sqlx::query(sql)
        .bind(before)
        .bind(max)
        .fetch_all(connection)
        .await?)
}

async fn touch(
    connection: &mut SqliteConnection,
    choice: &Choice,
    since: Millis,
) -> Result<(), Error> {
    let sql = "UPDATE pages SET since = ? WHERE tenant = ? AND notification = ? AND page = ?";
    sqlx::query(sql)
        .bind(since)
        .bind(choice.tenant.as_str())
        .bind(bytes(&choice.notification.0))
        .bind(choice.page)
        .execute(connection)
        .await?;
    Ok(())
}

fn read_choice(row: &SqliteRow) -> Result<Choice, Error> {
    let row = Columns::of(row, "pages");
    Ok(Choice {
        tenant: row.tenant(0)?,
        notification: NotificationId(row.uuid(1)?),
        page: row.small(2)?,
        recheck: true,
        is_open: false,
    })
}

/// Chooses pages that nobody has had, the tenants in turn after `after`, and advances their notifications.
async fn fresh_pages(
    connection: &mut SqliteConnection,
    ahead: u32,
    max: u32,
    after: &str,
) -> Result<Vec<Choice>, Error> {
    /// No tenant id is greater.
    const LAST: &str = "~";
    if max == 0 {
        return Ok(Vec::new());
    }
    let mut tenants = tenants_to_feed(connection, (after, LAST), ahead, max).await?;
    let left = max.saturating_sub(u32::try_from(tenants.len()).unwrap_or(u32::MAX));
    if left > 0 {
        tenants.extend(tenants_to_feed(connection, ("", after), ahead, left).await?);
    }
    let mut queues = VecDeque::with_capacity(tenants.len());
    for tenant in tenants {
        let rows = sqlx::query(NOTIFICATIONS_TO_FEED)
            .bind(tenant.as_str())
            .bind(ahead)
            .bind(max)
            .bind(PAGES_OPEN)
            .fetch_all(&mut *connection)
            .await?;
        queues.push_back((tenant, read_rooms(&rows)?));
    }
    let chosen = deal_pages(queues, max);
    let mut next: HashMap<(&TenantId, NotificationId), u32> = HashMap::new();
    for choice in chosen.iter().filter(|choice| !choice.is_open) {
        let of = next
            .entry((&choice.tenant, choice.notification))
            .or_default();
        *of = (*of).max(choice.page + 1);
    }
    let next: Vec<_> = next.into_iter().collect();
    ADVANCE
        .execute(connection, &next, |binder, ((tenant, id), page)| {
            bind_page(binder, (tenant, *id, *page));
        })
        .await?;
    Ok(chosen)
}

async fn tenants_to_feed(
    connection: &mut SqliteConnection,
    (after, up_to): (&str, &str),
    ahead: u32,
    max: u32,
) -> Result<Vec<TenantId>, Error> {
    let rows = sqlx::query(TENANTS_TO_FEED)
        .bind(after)
        .bind(up_to)
        .bind(ahead)
        .bind(max)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Columns::of(row, "notifications").tenant(0))
        .collect()
}

fn read_rooms(rows: &[SqliteRow]) -> Result<VecDeque<Room>, Error> {
    rows.iter()
        .map(|row| {
            let row = Columns::of(row, "notifications");
            Ok(Room {
                notification: NotificationId(row.uuid(0)?),
                next: row.small(1)?,
                pages: row.small(2)?,
                is_open: row.int(3)? != 0,
            })
        })
        .collect()
}

async fn mark(
    connection: &mut SqliteConnection,
    statement: &Rows,
    chosen: &[Choice],
    now: Millis,
) -> Result<(), Error> {
    statement
        .execute(connection, chosen, |binder, choice| {
            bind_page(binder, choice.key());
            binder.bind(now);
        })
        .await?;
    Ok(())
}

async fn read_pages(
    connection: &mut SqliteConnection,
    chosen: &[Choice],
) -> Result<Vec<ReservedPage>, Error> {
    let notifications = read_notifications(connection, chosen).await?;
    let numbered: Vec<(usize, &Choice)> = chosen.iter().enumerate().collect();
    let rows = SELECT_PAGES
        .fetch(connection, &numbered, |binder, (place, choice)| {
            binder.bind(int(*place as u64));
            bind_page(binder, choice.key());
        })
        .await?;
    let mut bodies = vec![None; chosen.len()];
    for row in &rows {
        let row = Columns::of(row, "page_bodies");
        bodies[row.small::<usize>(0)?] = Some(row.get::<&[u8]>(1)?);
    }
    let mut pages = Vec::with_capacity(chosen.len());
    for (choice, body) in chosen.iter().zip(bodies) {
        let key = (choice.tenant.clone(), choice.notification);
        // No body: the page has ended. One that cannot be read must not keep everybody's from being fed.
        let (Some(body), Some(notification)) = (body, notifications.get(&key)) else {
            continue;
        };
        match decode_entries(body) {
            Ok(entries) => pages.push(ReservedPage {
                notification: Arc::clone(notification),
                page: choice.page,
                entries,
                recheck: choice.recheck,
            }),
            Err(error) => {
                let (notification, page) = (choice.notification, choice.page);
                tracing::error!(%error, %notification, page, "a page cannot be read: not sent");
            }
        }
    }
    Ok(pages)
}

type Notifications = HashMap<(TenantId, NotificationId), Arc<Notification>>;

async fn read_notifications(
    connection: &mut SqliteConnection,
    chosen: &[Choice],
) -> Result<Notifications, Error> {
    let keys: BTreeSet<(&TenantId, NotificationId)> = chosen
        .iter()
        .map(|choice| (&choice.tenant, choice.notification))
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let rows = SELECT_NOTIFICATIONS
        .fetch(connection, &keys, |binder, (tenant, id)| {
            binder.bind(tenant.as_str()).bind(bytes(&id.0));
        })
        .await?;
    let mut notifications = Notifications::with_capacity(rows.len());
    for row in &rows {
        let body: &[u8] = Columns::of(row, "notification_bodies").get(0)?;
        match serde_json::from_slice::<Notification>(body) {
            Ok(read) => {
                notifications.insert((read.tenant.clone(), read.id), Arc::new(read));
            }
            Err(error) => tracing::error!(%error, "a notification cannot be read: not sent"),
        }
    }
    Ok(notifications)
}
