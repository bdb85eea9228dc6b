//! Pages that are stuck on their way in PostgreSQL: found, and locked for one process to hand them out again.
//! It must not know how long a page may take.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::super::turns::Choice;
use super::super::{Error, StalePages};
use super::columns::{Columns, Id, column, int};
use super::pages::PageKey;
use crate::model::{JobId, Millis, NotificationId};

// The states stand in the text, so that the index over just these states is found.
const RESERVED_LONG_AGO: &str = "
SELECT tenant, notification, page, first_ordinal FROM pages
WHERE state = 1 AND since < $1 ORDER BY since LIMIT $2";

const FED_LONG_AGO: &str = "
SELECT tenant, notification, page, first_ordinal FROM pages
WHERE state = 2 AND since < $1 ORDER BY since LIMIT $2";

const LAST_PARTS: &str = "
SELECT v.place, max(p.at)
FROM unnest($1::int8[], $2::text[], $3::uuid[], $4::uuid[]) AS v (place, tenant, notification, job)
JOIN record_parts p ON p.tenant = v.tenant AND p.notification = v.notification AND p.job = v.job
GROUP BY v.place";

// A page that somebody else is handing out again, or that ends right now, is passed over. What is still as it
// was found is. `CASE` hides from the planner that an index over pages on their way would do: it must go by the
// keys.
const LOCK_STALE: &str = "
SELECT v.place FROM unnest($1::int8[], $2::text[], $3::uuid[], $4::int8[])
    AS v (place, tenant, notification, page)
JOIN pages g ON g.tenant = v.tenant AND g.notification = v.notification AND g.page = v.page
WHERE CASE g.state WHEN 1 THEN g.since < $5 WHEN 2 THEN g.since < $6 ELSE false END
ORDER BY v.place FOR NO KEY UPDATE OF g SKIP LOCKED";

const TOUCH: &str = "
UPDATE pages AS g SET since = v.since
FROM unnest($1::text[], $2::uuid[], $3::int8[], $4::int8[]) AS v (tenant, notification, page, since)
WHERE g.tenant = v.tenant AND g.notification = v.notification AND g.page = v.page";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    RESERVED_LONG_AGO,
    FED_LONG_AGO,
    LAST_PARTS,
    LOCK_STALE,
    TOUCH,
];

/// Pages that were reserved or fed long ago and came to nothing since; not locked yet.
pub(super) async fn find(
    connection: &mut PgConnection,
    stale: StalePages,
    max: u32,
    now: Millis,
) -> Result<Vec<Choice>, Error> {
    let reserved = stale_rows(connection, (RESERVED_LONG_AGO, stale.reserved_before), max).await?;
    let mut chosen: Vec<Choice> = reserved.into_iter().map(|(choice, _)| choice).collect();
    let fed = stale_rows(connection, (FED_LONG_AGO, stale.fed_before), max).await?;
    if fed.is_empty() {
        return Ok(chosen);
    }
    let last_parts = last_parts(connection, &fed).await?;
    let mut alive: Vec<(PageKey<'_>, Millis)> = Vec::new();
    for (place, (choice, _)) in fed.iter().enumerate() {
        match last_parts.get(&place) {
            // Somebody is at it: look again when that is as long ago.
            Some(at) if *at >= stale.fed_before => alive.push((choice.key(), (*at).min(now))),
            _ if chosen.len() < max as usize => chosen.push(choice.clone()),
            _ => break,
        }
    }
    touch(connection, &alive, stale).await?;
    Ok(chosen)
}

/// Pages with their first jobs.
async fn stale_rows(
    connection: &mut PgConnection,
    (sql, before): (&'static str, Millis),
    max: u32,
) -> Result<Vec<(Choice, JobId)>, Error> {
    let rows = sqlx::query(sql)
        .bind(before)
        .bind(i64::from(max))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row, "pages");
            let choice = Choice {
                tenant: row.tenant(0)?,
                notification: NotificationId(row.uuid(1)?),
                page: row.small(2)?,
                recheck: true,
                is_open: false,
            };
            let job = JobId::first(choice.notification, row.small(3)?);
            Ok((choice, job))
        })
        .collect()
}

/// When the first job of each of these pages last wrote something, where it did.
async fn last_parts(
    connection: &mut PgConnection,
    pages: &[(Choice, JobId)],
) -> Result<HashMap<usize, Millis>, Error> {
    let rows = sqlx::query(LAST_PARTS)
        .bind((0..int(pages.len() as u64)).collect::<Vec<i64>>())
        .bind(column(pages, |(choice, _)| choice.tenant.as_str()))
        .bind(column(pages, |(choice, _)| Id(choice.notification.0)))
        .bind(column(pages, |(_, job)| Id(job.0)))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row, "record_parts");
            Ok((row.small(0)?, row.int(1)?))
        })
        .collect()
}

/// Locks what nobody else has locked of these pages and what is still stale; returns their places.
async fn lock(
    connection: &mut PgConnection,
    pages: &[PageKey<'_>],
    stale: StalePages,
) -> Result<Vec<usize>, Error> {
    let rows = sqlx::query(LOCK_STALE)
        .bind((0..int(pages.len() as u64)).collect::<Vec<i64>>())
        .bind(column(pages, |(tenant, _, _)| tenant.as_str()))
        .bind(column(pages, |(_, id, _)| Id(id.0)))
        .bind(column(pages, |(_, _, page)| i64::from(*page)))
        .bind(stale.reserved_before)
        .bind(stale.fed_before)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Columns::of(row, "pages").small(0))
        .collect()
}

/// Of the pages found stale, those that are this transaction's to hand out.
pub(super) async fn lock_found(
    connection: &mut PgConnection,
    found: Vec<Choice>,
    stale: StalePages,
) -> Result<Vec<Choice>, Error> {
    if found.is_empty() {
        return Ok(found);
    }
    let places = lock(connection, &column(&found, Choice::key), stale).await?;
    Ok(places
        .into_iter()
        .map(|place| found[place].clone())
        .collect())
}

/// Makes pages younger that somebody is at.
async fn touch(
    connection: &mut PgConnection,
    alive: &[(PageKey<'_>, Millis)],
    stale: StalePages,
) -> Result<(), Error> {
    if alive.is_empty() {
        return Ok(());
    }
    let places = lock(connection, &column(alive, |(key, _)| *key), stale).await?;
    let mine: Vec<_> = places.into_iter().map(|place| alive[place]).collect();
    sqlx::query(TOUCH)
        .bind(column(&mine, |((tenant, _, _), _)| tenant.as_str()))
        .bind(column(&mine, |((_, id, _), _)| Id(id.0)))
        .bind(column(&mine, |((_, _, page), _)| i64::from(*page)))
        .bind(column(&mine, |(_, since)| *since))
        .execute(connection)
        .await?;
    Ok(())
}
