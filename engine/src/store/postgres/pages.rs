//! Pages in PostgreSQL: reserving them in turn, marking them fed, ending them.
//! It must not know how a page becomes a message.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::selections::PAGES_OPEN;
use super::super::turns::{Choice, Room, deal_pages, in_all};
use super::super::{Error, JobKey, Pages, ReservedPage, Settlement, StalePages};
use super::columns::{Columns, Id, column, int};
use super::session::transact;
use super::{PostgresStore, selections, stale};
use crate::model::{Millis, Notification, NotificationId, TenantId, decode_entries};

// Tenants with a page to reserve, from the one after whom it is the turn on. The index is walked from tenant
// to tenant.
const TENANTS_TO_FEED: &str = "
WITH RECURSIVE walk (tenant) AS (
    SELECT min(tenant) FROM notifications WHERE pages_next < pages_total AND tenant > $1
    UNION ALL
    SELECT (SELECT min(n.tenant) FROM notifications n
        WHERE n.pages_next < n.pages_total AND n.tenant > walk.tenant)
    FROM walk WHERE walk.tenant <= $2
)
SELECT walk.tenant FROM walk
CROSS JOIN LATERAL (SELECT 1 FROM notifications n WHERE n.tenant = walk.tenant
    AND n.pages_next < n.pages_total AND n.pages_next - n.pages_ended < $3 LIMIT 1) AS n
WHERE walk.tenant <= $2 LIMIT $4";

const NOTIFICATIONS_TO_FEED: &str = "
SELECT t.tenant, n.id, n.pages_next, least(n.pages_total - n.pages_next,
    $2 - (n.pages_next - n.pages_ended)), n.pages_total = $4
FROM unnest($1::text[]) WITH ORDINALITY AS t (tenant, turn)
CROSS JOIN LATERAL (SELECT * FROM notifications n
    WHERE n.tenant = t.tenant AND n.pages_next < n.pages_total
        AND n.pages_next - n.pages_ended < $2
    ORDER BY n.pages_next - n.pages_ended, n.id LIMIT $3) AS n
ORDER BY t.turn, n.pages_next - n.pages_ended, n.id";

// In the order of the keys, as a commit locks them. Another feeder's reservation is waited for, and what it
// left is read.
const LOCK_NOTIFICATIONS: &str = "
SELECT n.tenant, n.id, n.pages_next, least(n.pages_total - n.pages_next,
    $3 - (n.pages_next - n.pages_ended)), n.pages_total = $4
FROM unnest($1::text[], $2::uuid[]) AS v (tenant, id)
JOIN notifications n ON n.tenant = v.tenant AND n.id = v.id
WHERE n.pages_next < n.pages_total AND n.pages_next - n.pages_ended < $3
ORDER BY n.tenant, n.id FOR NO KEY UPDATE OF n";

const ADVANCE: &str = "
UPDATE notifications AS n SET pages_next = v.next
FROM unnest($1::text[], $2::uuid[], $3::int8[]) AS v (tenant, id, next)
WHERE n.tenant = v.tenant AND n.id = v.id";

const RESERVE: &str = "
UPDATE pages AS g SET state = 1, since = $4
FROM unnest($1::text[], $2::uuid[], $3::int8[]) AS v (tenant, notification, page)
WHERE g.tenant = v.tenant AND g.notification = v.notification AND g.page = v.page AND g.state <> 3";

// In the order of the keys: the engine may be ending pages that the feeder marks. The sum hides from the planner that an
// index over pages on their way would do: it must go by the keys.
const MARK_FED: &str = "
UPDATE pages AS g SET state = 2, since = $4
FROM (SELECT l.tenant, l.notification, l.page
    FROM unnest($1::text[], $2::uuid[], $3::int8[]) AS u (tenant, notification, page)
    JOIN pages l ON l.tenant = u.tenant AND l.notification = u.notification AND l.page = u.page
    WHERE l.state + 0 = 1
    ORDER BY l.tenant, l.notification, l.page FOR NO KEY UPDATE OF l) AS v
WHERE g.tenant = v.tenant AND g.notification = v.notification AND g.page = v.page";

const END: &str = "
WITH u AS (SELECT * FROM unnest($1::text[], $2::uuid[], $3::int8[]) AS u (tenant, notification, page)),
bodies AS (DELETE FROM page_bodies AS b USING u
    WHERE b.tenant = u.tenant AND b.notification = u.notification AND b.page = u.page)
UPDATE pages AS g SET state = 3, since = $4
FROM (SELECT l.tenant, l.notification, l.page FROM u
    JOIN pages l ON l.tenant = u.tenant AND l.notification = u.notification AND l.page = u.page
    ORDER BY l.tenant, l.notification, l.page FOR NO KEY UPDATE OF l) AS v
WHERE g.tenant = v.tenant AND g.notification = v.notification AND g.page = v.page";

const SELECT_PAGES: &str = "
SELECT v.place, b.body
FROM unnest($1::int8[], $2::text[], $3::uuid[], $4::int8[]) AS v (place, tenant, notification, page)
JOIN page_bodies b ON b.tenant = v.tenant AND b.notification = v.notification AND b.page = v.page";

const SELECT_NOTIFICATIONS: &str = "
SELECT b.body FROM unnest($1::text[], $2::uuid[]) AS v (tenant, notification)
JOIN notification_bodies b ON b.tenant = v.tenant AND b.notification = v.notification";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    TENANTS_TO_FEED,
    NOTIFICATIONS_TO_FEED,
    LOCK_NOTIFICATIONS,
    ADVANCE,
    RESERVE,
    MARK_FED,
    END,
    SELECT_PAGES,
    SELECT_NOTIFICATIONS,
];

#[async_trait]
impl Pages for PostgresStore {
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
        let pages = column(pages, |(tenant, id, page)| (tenant, *id, *page));
        let pages = pages.as_slice();
        transact!(self, |tx| { mark(tx, MARK_FED, pages, now).await }).await
    }
}

impl PostgresStore {
    /// One transaction of a reservation. Without pages there may be some yet, unless it is done: of the devices that a
    /// selection was offered none may have fitted.
    async fn reserve_once(
        &self,
        ahead: u32,
        max: u32,
        stale: StalePages,
        now: Millis,
    ) -> Result<(Vec<ReservedPage>, bool), Error> {
        let after = self.turn(|turns| turns.pages.clone());
        let after = after.as_str();
        let (pages, last_served) = transact!(self, |tx| {
            // Notifications are locked before pages, as a commit does.
            let stuck = stale::find(tx, stale, max, now).await?;
            let left = max.saturating_sub(u32::try_from(stuck.len()).unwrap_or(u32::MAX));
            let fresh = fresh_pages(tx, ahead, left, after).await?;
            let last_served = fresh.last().map(|choice| choice.tenant.as_str().to_owned());
            let mut chosen = stale::lock_found(tx, stuck, stale).await?;
            chosen.extend(write_open(tx, fresh, now).await?);
            if chosen.is_empty() {
                return Ok((Vec::new(), last_served));
            }
            mark(tx, RESERVE, &column(&chosen, Choice::key), now).await?;
            Ok((read_pages(tx, &chosen).await?, last_served))
        })
        .await?;
        let is_done = last_served.is_none();
        if let Some(tenant) = last_served {
            self.turn(|turns| turns.pages = tenant);
        }
        Ok((pages, is_done))
    }
}

/// Writes the pages of selections that were chosen; of these, those remain that have somebody on them.
async fn write_open(
    connection: &mut PgConnection,
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

/// A page of a notification of a tenant.
pub(super) type PageKey<'a> = (&'a TenantId, NotificationId, u32);

/// Ends the pages whose first job closed. Their bodies are not needed again.
pub(super) async fn end(
    connection: &mut PgConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    let ended: Vec<(&JobKey, u32)> = written
        .iter()
        .filter(|settlement| settlement.part.end)
        .filter_map(|settlement| Some((&settlement.key, settlement.page?)))
        .collect();
    let ended = column(&ended, |(key, page)| (&key.tenant, key.notification, *page));
    if ended.is_empty() {
        return Ok(());
    }
    mark(connection, END, &ended, now).await
}

async fn mark(
    connection: &mut PgConnection,
    sql: &'static str,
    pages: &[PageKey<'_>],
    now: Millis,
) -> Result<(), Error> {
    sqlx::query(sql)
        .bind(column(pages, |(tenant, _, _)| tenant.as_str()))
        .bind(column(pages, |(_, id, _)| Id(id.0)))
        .bind(column(pages, |(_, _, page)| i64::from(*page)))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Chooses pages that nobody has had, the tenants in turn after `after`, and advances their notifications.
async fn fresh_pages(
    connection: &mut PgConnection,
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
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let found = notifications_to_feed(connection, &tenants, ahead, max).await?;
    let wanted = deal_pages(queues(&tenants, found), max);
    // Only what is dealt is locked, and dealt again as it is now.
    let locked = lock_notifications(connection, &wanted, ahead).await?;
    let order: Vec<(TenantId, NotificationId)> = {
        let mut seen = BTreeSet::new();
        let keys = wanted
            .iter()
            .map(|choice| (choice.tenant.clone(), choice.notification));
        keys.filter(|key| seen.insert(key.clone())).collect()
    };
    let chosen = deal_pages(queues(&tenants, in_order(order, locked)), max);
    advance(connection, &chosen).await?;
    Ok(chosen)
}

/// What a notification has to reserve: the next page, how many, and whether it is a selection.
type ToReserve = (u32, u32, bool);
type Found = ((TenantId, NotificationId), ToReserve);

fn in_order(
    order: Vec<(TenantId, NotificationId)>,
    mut rooms: BTreeMap<(TenantId, NotificationId), ToReserve>,
) -> Vec<Found> {
    let found = order.into_iter().map(|key| (rooms.remove(&key), key));
    found.filter_map(|(room, key)| Some((key, room?))).collect()
}

/// The notifications of each tenant, the tenants in their order.
fn queues(tenants: &[TenantId], found: Vec<Found>) -> VecDeque<(TenantId, VecDeque<Room>)> {
    let mut of: HashMap<TenantId, VecDeque<Room>> = HashMap::with_capacity(tenants.len());
    for ((tenant, notification), (next, pages, is_open)) in found {
        of.entry(tenant).or_default().push_back(Room {
            notification,
            next,
            pages,
            is_open,
        });
    }
    let queue = |tenant: &TenantId| Some((tenant.clone(), of.remove(tenant)?));
    tenants.iter().filter_map(queue).collect()
}

async fn tenants_to_feed(
    connection: &mut PgConnection,
    (after, up_to): (&str, &str),
    ahead: u32,
    max: u32,
) -> Result<Vec<TenantId>, Error> {
    let rows = sqlx::query(TENANTS_TO_FEED)
        .bind(after)
        .bind(up_to)
        .bind(i64::from(ahead))
        .bind(i64::from(max))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Columns::of(row, "notifications").tenant(0))
        .collect()
}

async fn notifications_to_feed(
    connection: &mut PgConnection,
    tenants: &[TenantId],
    ahead: u32,
    max: u32,
) -> Result<Vec<Found>, Error> {
    let rows = sqlx::query(NOTIFICATIONS_TO_FEED)
        .bind(column(tenants, |tenant| tenant.as_str()))
        .bind(i64::from(ahead))
        .bind(i64::from(max))
        .bind(PAGES_OPEN)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_found).collect()
}

async fn lock_notifications(
    connection: &mut PgConnection,
    wanted: &[Choice],
    ahead: u32,
) -> Result<BTreeMap<(TenantId, NotificationId), ToReserve>, Error> {
    let keys: BTreeSet<(&str, Uuid)> = wanted
        .iter()
        .map(|choice| (choice.tenant.as_str(), choice.notification.0))
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let rows = sqlx::query(LOCK_NOTIFICATIONS)
        .bind(column(&keys, |(tenant, _)| *tenant))
        .bind(column(&keys, |(_, id)| Id(*id)))
        .bind(i64::from(ahead))
        .bind(PAGES_OPEN)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_found).collect()
}

fn read_found(row: &sqlx::postgres::PgRow) -> Result<Found, Error> {
    let row = Columns::of(row, "notifications");
    let key = (row.tenant(0)?, NotificationId(row.uuid(1)?));
    Ok((key, (row.small(2)?, row.small(3)?, row.get(4)?)))
}

async fn advance(connection: &mut PgConnection, chosen: &[Choice]) -> Result<(), Error> {
    let mut next: BTreeMap<(&str, Uuid), u32> = BTreeMap::new();
    for choice in chosen.iter().filter(|choice| !choice.is_open) {
        let of = next
            .entry((choice.tenant.as_str(), choice.notification.0))
            .or_default();
        *of = (*of).max(choice.page + 1);
    }
    let next: Vec<_> = next.into_iter().collect();
    sqlx::query(ADVANCE)
        .bind(column(&next, |((tenant, _), _)| *tenant))
        .bind(column(&next, |((_, id), _)| Id(*id)))
        .bind(column(&next, |(_, page)| i64::from(*page)))
        .execute(connection)
        .await?;
    Ok(())
}

async fn read_pages(
    connection: &mut PgConnection,
    chosen: &[Choice],
) -> Result<Vec<ReservedPage>, Error> {
    let notifications = read_notifications(connection, chosen).await?;
    let rows = sqlx::query(SELECT_PAGES)
        .bind((0..int(chosen.len() as u64)).collect::<Vec<i64>>())
        .bind(column(chosen, |choice| choice.tenant.as_str()))
        .bind(column(chosen, |choice| Id(choice.notification.0)))
        .bind(column(chosen, |choice| i64::from(choice.page)))
        .fetch_all(connection)
        .await?;
    let mut bodies = vec![None; chosen.len()];
    for row in &rows {
        let row = Columns::of(row, "page_bodies");
        bodies[row.small::<usize>(0)?] = Some(row.get::<&[u8]>(1)?);
    }
    let read = chosen.iter().zip(bodies).filter_map(|(choice, body)| {
        // No body: the page has ended. One that cannot be read must not keep everybody's from being fed.
        let notification = notifications.get(&(choice.tenant.clone(), choice.notification))?;
        match decode_entries(body?) {
            Ok(entries) => Some(ReservedPage {
                notification: Arc::clone(notification),
                page: choice.page,
                entries,
                recheck: choice.recheck,
            }),
            Err(error) => {
                let (notification, page) = (choice.notification, choice.page);
                tracing::error!(%error, %notification, page, "a page cannot be read: not sent");
                None
            }
        }
    });
    Ok(read.collect())
}

type Notifications = HashMap<(TenantId, NotificationId), Arc<Notification>>;

async fn read_notifications(
    connection: &mut PgConnection,
    chosen: &[Choice],
) -> Result<Notifications, Error> {
    let keys: BTreeSet<(&str, Uuid)> = chosen
        .iter()
        .map(|choice| (choice.tenant.as_str(), choice.notification.0))
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let rows = sqlx::query(SELECT_NOTIFICATIONS)
        .bind(column(&keys, |(tenant, _)| *tenant))
        .bind(column(&keys, |(_, id)| Id(*id)))
        .fetch_all(connection)
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
