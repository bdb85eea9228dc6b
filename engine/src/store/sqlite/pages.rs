//! Pages in SQLite: reserving them in turn, marking them fed, ending them.
//! It must not know how a page becomes a message.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{Error, Pages, ReservedPage, Settlement, StalePages};
use super::SqliteStore;
use super::columns::{Columns, bytes};
use crate::datadir::Rows;
use crate::model::{JobId, Millis, Notification, NotificationId, TenantId, decode_entries};

/// `pages.state` of a page that is an engine's to publish.
const RESERVED: i64 = 1;
/// `pages.state` of a published page.
const FED: i64 = 2;

const SELECT_STALE: &str = "
SELECT tenant, notification, page, first_ordinal FROM pages
WHERE state = ? AND since < ? ORDER BY since LIMIT ?";

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
SELECT id, pages_next, min(pages_total - pages_next, ?2 - (pages_next - pages_ended))
FROM notifications
WHERE tenant = ?1 AND pages_next < pages_total AND pages_next - pages_ended < ?2
ORDER BY pages_next - pages_ended, id LIMIT ?3";

const ADVANCE: &str = "
UPDATE notifications SET pages_next = ?3 WHERE tenant = ?1 AND id = ?2";

const RESERVE: Rows = Rows {
    head: "WITH mine (tenant, notification, page, now) AS (",
    width: 4,
    tail:
        ") UPDATE pages SET state = 1, since = mine.now FROM mine WHERE pages.tenant = mine.tenant
        AND pages.notification = mine.notification AND pages.page = mine.page AND pages.state <> 3",
};

const MARK_FED: Rows = Rows {
    head: "WITH mine (tenant, notification, page, now) AS (",
    width: 4,
    tail:
        ") UPDATE pages SET state = 2, since = mine.now FROM mine WHERE pages.tenant = mine.tenant
        AND pages.notification = mine.notification AND pages.page = mine.page AND pages.state = 1",
};

const END: Rows = Rows {
    head: "WITH gone (tenant, notification, page, now) AS (",
    width: 4,
    tail:
        ") UPDATE pages SET state = 3, since = gone.now FROM gone WHERE pages.tenant = gone.tenant
        AND pages.notification = gone.notification AND pages.page = gone.page",
};

const DELETE_BODIES: Rows = Rows {
    head: "DELETE FROM page_bodies WHERE (tenant, notification, page) IN (",
    width: 3,
    tail: ")",
};

const SELECT_PAGE_BODY: &str =
    "SELECT body FROM page_bodies WHERE tenant = ? AND notification = ? AND page = ?";

const SELECT_BODY: &str =
    "SELECT body FROM notification_bodies WHERE tenant = ? AND notification = ?";

/// A page to hand out.
#[derive(Clone, Debug)]
struct Choice {
    tenant: TenantId,
    notification: NotificationId,
    page: u32,
    recheck: bool,
}

#[async_trait]
impl Pages for SqliteStore {
    async fn reserve_pages(
        &self,
        ahead: u32,
        max: u32,
        stale: StalePages,
        now: Millis,
    ) -> Result<Vec<ReservedPage>, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut chosen = stale_pages(&mut tx, stale, max, now).await?;
        let left = max.saturating_sub(u32::try_from(chosen.len()).unwrap_or(u32::MAX));
        let after = self.turn(|turns| turns.pages.clone());
        let fresh = fresh_pages(&mut tx, ahead, left, &after).await?;
        let last_served = fresh.last().map(|choice| choice.tenant.as_str().to_owned());
        chosen.extend(fresh);
        if chosen.is_empty() {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        mark(&mut tx, &RESERVE, &chosen, now).await?;
        let pages = read_pages(&mut tx, chosen).await?;
        tx.commit().await?;
        if let Some(tenant) = last_served {
            self.turn(|turns| turns.pages = tenant);
        }
        Ok(pages)
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
                binder.bind(tenant.as_str()).bind(bytes(&id.0));
                binder.bind(*page).bind(now);
            })
            .await?;
        Ok(tx.commit().await?)
    }
}

/// Ends the pages whose first job closed. Their bodies are not needed again.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    let ended: Vec<(&Settlement, u32)> = written
        .iter()
        .filter(|settlement| settlement.part.end)
        .filter_map(|settlement| Some((*settlement, settlement.page?)))
        .collect();
    END.execute(connection, &ended, |binder, (settlement, page)| {
        let key = &settlement.key;
        binder.bind(key.tenant.as_str());
        binder.bind(bytes(&key.notification.0)).bind(*page);
        binder.bind(now);
    })
    .await?;
    DELETE_BODIES
        .execute(connection, &ended, |binder, (settlement, page)| {
            let key = &settlement.key;
            binder.bind(key.tenant.as_str());
            binder.bind(bytes(&key.notification.0)).bind(*page);
        })
        .await?;
    Ok(())
}

/// Pages that were reserved or fed long ago and came to nothing since.
async fn stale_pages(
    connection: &mut SqliteConnection,
    stale: StalePages,
    max: u32,
    now: Millis,
) -> Result<Vec<Choice>, Error> {
    let mut chosen = Vec::new();
    for row in stale_rows(connection, (RESERVED, stale.reserved_before), max).await? {
        chosen.push(read_choice(&row)?);
    }
    for row in stale_rows(connection, (FED, stale.fed_before), max).await? {
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
    (state, before): (i64, Millis),
    max: u32,
) -> Result<Vec<SqliteRow>, Error> {
    Ok(sqlx::query(SELECT_STALE)
        .bind(state)
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
            .fetch_all(&mut *connection)
            .await?;
        queues.push_back((tenant, read_rooms(&rows)?));
    }
    let chosen = deal(queues, max);
    let mut next: HashMap<(&TenantId, NotificationId), u32> = HashMap::new();
    for choice in &chosen {
        let of = next
            .entry((&choice.tenant, choice.notification))
            .or_default();
        *of = (*of).max(choice.page + 1);
    }
    for ((tenant, id), page) in next {
        sqlx::query(ADVANCE)
            .bind(tenant.as_str())
            .bind(bytes(&id.0))
            .bind(page)
            .execute(&mut *connection)
            .await?;
    }
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

/// A notification with pages to reserve: the next one, and how many.
struct Room {
    notification: NotificationId,
    next: u32,
    pages: u32,
}

fn read_rooms(rows: &[SqliteRow]) -> Result<VecDeque<Room>, Error> {
    rows.iter()
        .map(|row| {
            let row = Columns::of(row, "notifications");
            Ok(Room {
                notification: NotificationId(row.uuid(0)?),
                next: row.small(1)?,
                pages: row.small(2)?,
            })
        })
        .collect()
}

/// One page of each tenant in turn, and within a tenant of each notification in turn, until `max` are dealt.
fn deal(mut tenants: VecDeque<(TenantId, VecDeque<Room>)>, max: u32) -> Vec<Choice> {
    let mut dealt = Vec::new();
    while dealt.len() < max as usize {
        let Some((tenant, mut rooms)) = tenants.pop_front() else {
            break;
        };
        let Some(mut room) = rooms.pop_front() else {
            continue;
        };
        dealt.push(Choice {
            tenant: tenant.clone(),
            notification: room.notification,
            page: room.next,
            recheck: false,
        });
        (room.next, room.pages) = (room.next + 1, room.pages - 1);
        if room.pages > 0 {
            rooms.push_back(room);
        }
        tenants.push_back((tenant, rooms));
    }
    dealt
}

async fn mark(
    connection: &mut SqliteConnection,
    statement: &Rows,
    chosen: &[Choice],
    now: Millis,
) -> Result<(), Error> {
    statement
        .execute(connection, chosen, |binder, choice| {
            binder.bind(choice.tenant.as_str());
            binder.bind(bytes(&choice.notification.0));
            binder.bind(choice.page).bind(now);
        })
        .await?;
    Ok(())
}

async fn read_pages(
    connection: &mut SqliteConnection,
    chosen: Vec<Choice>,
) -> Result<Vec<ReservedPage>, Error> {
    let mut notifications: HashMap<(TenantId, NotificationId), Arc<Notification>> = HashMap::new();
    let mut pages = Vec::with_capacity(chosen.len());
    for choice in chosen {
        let body = sqlx::query(SELECT_PAGE_BODY)
            .bind(choice.tenant.as_str())
            .bind(bytes(&choice.notification.0))
            .bind(i64::from(choice.page))
            .fetch_one(&mut *connection)
            .await?;
        let body: &[u8] = Columns::of(&body, "page_bodies").get(0)?;
        let entries = decode_entries(body).map_err(|error| corrupt("page_bodies", error))?;
        let key = (choice.tenant.clone(), choice.notification);
        let notification = match notifications.get(&key) {
            Some(known) => Arc::clone(known),
            None => {
                let read = Arc::new(read_notification(connection, &key).await?);
                notifications.insert(key, Arc::clone(&read));
                read
            }
        };
        pages.push(ReservedPage {
            notification,
            page: choice.page,
            entries,
            recheck: choice.recheck,
        });
    }
    Ok(pages)
}

async fn read_notification(
    connection: &mut SqliteConnection,
    (tenant, id): &(TenantId, NotificationId),
) -> Result<Notification, Error> {
    let row = sqlx::query(SELECT_BODY)
        .bind(tenant.as_str())
        .bind(bytes(&id.0))
        .fetch_one(connection)
        .await?;
    let body: &[u8] = Columns::of(&row, "notification_bodies").get(0)?;
    serde_json::from_slice(body).map_err(|error| corrupt("notification_bodies", error))
}

fn corrupt(table: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Corrupt {
        table,
        source: Box::new(source),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn pages_are_dealt_to_tenants_in_turn_and_to_their_notifications_in_turn() {
        let room = |id: u128, next, pages| Room {
            notification: NotificationId(Uuid::from_u128(id)),
            next,
            pages,
        };
        let tenants = VecDeque::from([
            (
                "a".parse().unwrap(),
                VecDeque::from([room(1, 3, 9), room(2, 0, 1)]),
            ),
            ("b".parse().unwrap(), VecDeque::from([room(3, 5, 1)])),
        ]);
        let dealt: Vec<(String, u128, u32)> = deal(tenants, 5)
            .into_iter()
            .map(|c| (c.tenant.to_string(), c.notification.0.as_u128(), c.page))
            .collect();
        let expected = [
            ("a", 1, 3),
            ("b", 3, 5),
            ("a", 2, 0),
            ("a", 1, 4),
            ("a", 1, 5),
        ];
        let expected: Vec<(String, u128, u32)> = expected
            .into_iter()
            .map(|(tenant, id, page)| (tenant.to_owned(), id, page))
            .collect();
        assert_eq!(dealt, expected);
    }
}
