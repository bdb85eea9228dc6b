//! What a group of settlements writes besides their parts: counts, ends of pages, failures, devices, what
//! waits, what died, what is told. It must not know of fencing: it sees only settlements whose part was taken.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::changes::{Change, changes};
use super::super::{Error, Failure, JobKey, Settlement, WaitingRow};
use super::columns::{Coded, Id, column, int};
use super::notifications::{FINISHED, RUNNING};
use super::{analytics, dead, devices, outbox, pages, waiting};
use crate::model::Millis;

// A notification that was published directly gets its row here: one page, which its first job closes. A row
// that had to be swept before a late child ended has no page at all and just this one job. What is offered
// holds both, the row at its birth and the change; where a row is there already, the birth is taken off
// again: entries that are open (those of the one page) and jobs that are open (the one job, without a page).
//
// Rows are locked in the order of the keys. What is numbered after it (failures) is then in order within each
// notification.
const COUNT: &str = "
INSERT INTO notifications AS n (tenant, id, lane, created_at, expires_at, entries, pages_total, pages_next,
    open_entries, open_jobs, recipients, waiting, pages_ended, state, finished_at, accepted, unregistered,
    rejected, expired, exhausted, cancelled, dead, no_device, unknown)
SELECT v.tenant, v.id, v.lane, v.created_at, v.expires_at, v.entries, v.pages_total, v.pages_total,
    v.open_entries, v.open_jobs, v.recipients, v.waiting, v.pages_ended, v.state,
    CASE WHEN v.state = 1 THEN $23::int8 END, v.accepted, v.unregistered, v.rejected, v.expired, v.exhausted,
    v.cancelled, v.dead, v.no_device, v.unknown
FROM unnest($1::text[], $2::uuid[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
    $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::int8[], $15::int8[],
    $16::int8[], $17::int8[], $18::int8[], $19::int8[], $20::int8[], $21::int8[], $22::int8[])
    AS v (tenant, id, lane, created_at, expires_at, entries, pages_total, open_entries, open_jobs,
    recipients, waiting, pages_ended, state, accepted, unregistered, rejected, expired, exhausted,
    cancelled, dead, no_device, unknown)
ORDER BY v.tenant COLLATE \"C\", v.id
ON CONFLICT (tenant, id) DO UPDATE SET
    recipients = n.recipients + excluded.recipients,
    waiting = n.waiting + excluded.waiting,
    open_entries = greatest(0, n.open_entries + excluded.open_entries
        - excluded.pages_total * excluded.entries),
    open_jobs = n.open_jobs + excluded.open_jobs - 1 + excluded.pages_total,
    pages_ended = n.pages_ended + excluded.pages_ended,
    accepted = n.accepted + excluded.accepted,
    unregistered = n.unregistered + excluded.unregistered,
    rejected = n.rejected + excluded.rejected,
    expired = n.expired + excluded.expired,
    exhausted = n.exhausted + excluded.exhausted,
    cancelled = n.cancelled + excluded.cancelled,
    dead = n.dead + excluded.dead,
    no_device = n.no_device + excluded.no_device,
    unknown = n.unknown + excluded.unknown,
    state = (n.pages_ended + excluded.pages_ended >= n.pages_total
        AND n.open_jobs + excluded.open_jobs - 1 + excluded.pages_total <= 0)::int,
    finished_at = CASE WHEN n.pages_ended + excluded.pages_ended >= n.pages_total
        AND n.open_jobs + excluded.open_jobs - 1 + excluded.pages_total <= 0
        THEN coalesce(n.finished_at, $23) END";

const INSERT_FAILURES: &str = "
INSERT INTO failures (tenant, notification, ordinal, user_id, device, platform, device_token, state,
    reason, at)
SELECT v.*, $10 FROM unnest($1::text[], $2::uuid[], $3::int8[], $4::bytea[], $5::int8[], $6::int8[],
    $7::bytea[], $8::int8[], $9::bytea[]) AS v";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[COUNT, INSERT_FAILURES];

/// Writes all that follows the parts of these settlements.
pub(super) async fn apply(
    connection: &mut PgConnection,
    written: &[&Settlement],
    (process, now): (Uuid, Millis),
) -> Result<(), Error> {
    count(connection, written, now).await?;
    pages::end(connection, written, now).await?;
    let failures: Vec<(&JobKey, &Failure)> = written
        .iter()
        .flat_map(|settlement| settlement.failures.iter().map(|f| (&settlement.key, f)))
        .collect();
    insert_failures(connection, &failures, now).await?;
    devices::apply(connection, written, now).await?;
    let rows: Vec<&WaitingRow> = written.iter().flat_map(|s| &s.waiting).collect();
    waiting::insert(connection, &rows).await?;
    for row in written.iter().filter_map(|s| s.dead.as_ref()) {
        dead::insert(connection, row, now).await?;
    }
    analytics::count(connection, written, (process, now)).await?;
    outbox::insert(connection, written, now).await
}

/// What [`COUNT`] offers of one notification.
struct Offer<'a> {
    change: Change<'a>,
    /// The pages of a row that is born here: one or none.
    pages_total: i64,
    open_entries: i64,
    open_jobs: i64,
    state: i64,
}

impl<'a> Offer<'a> {
    fn new(change: Change<'a>) -> Self {
        let is_first = change.sample.page.is_some();
        let entries = i64::from(change.sample.entries);
        let (pages_total, born_entries, born_jobs) =
            if is_first { (1, entries, 0) } else { (0, 0, 1) };
        let open_jobs = born_jobs + change.open_jobs;
        let is_finished = change.pages_ended >= pages_total && open_jobs <= 0;
        Self {
            pages_total,
            open_entries: born_entries + change.open_entries,
            open_jobs,
            state: if is_finished { FINISHED } else { RUNNING },
            change,
        }
    }
}

async fn count(
    connection: &mut PgConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    let offers: Vec<Offer<'_>> = changes(written).into_iter().map(Offer::new).collect();
    let mut query = sqlx::query(COUNT)
        .bind(column(&offers, |o| o.change.sample.key.tenant.as_str()))
        .bind(column(&offers, |o| Id(o.change.sample.key.notification.0)))
        .bind(column(&offers, |o| o.change.sample.lane.code()))
        .bind(column(&offers, |o| o.change.sample.created_at))
        .bind(column(&offers, |o| o.change.sample.expires_at))
        .bind(column(&offers, |o| i64::from(o.change.sample.entries)))
        .bind(column(&offers, |o| o.pages_total))
        .bind(column(&offers, |o| o.open_entries))
        .bind(column(&offers, |o| o.open_jobs))
        .bind(column(&offers, |o| o.change.recipients))
        .bind(column(&offers, |o| o.change.waiting))
        .bind(column(&offers, |o| o.change.pages_ended))
        .bind(column(&offers, |o| o.state));
    for state in 0..9 {
        query = query.bind(column(&offers, |o| int(o.change.counts.0[state])));
    }
    query.bind(now).execute(connection).await?;
    Ok(())
}

async fn insert_failures(
    connection: &mut PgConnection,
    failures: &[(&JobKey, &Failure)],
    now: Millis,
) -> Result<(), Error> {
    if failures.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_FAILURES)
        .bind(column(failures, |(key, _)| key.tenant.as_str()))
        .bind(column(failures, |(key, _)| Id(key.notification.0)))
        .bind(column(failures, |(_, f)| i64::from(f.ordinal)))
        .bind(column(failures, |(_, f)| {
            f.user_id.as_deref().map(str::as_bytes)
        }))
        .bind(column(failures, |(_, f)| f.device))
        .bind(column(failures, |(_, f)| f.platform.map(Coded::code)))
        .bind(column(failures, |(_, f)| {
            f.device_token.as_deref().map(str::as_bytes)
        }))
        .bind(column(failures, |(_, f)| f.state.code()))
        .bind(column(failures, |(_, f)| f.reason.as_bytes()))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}
