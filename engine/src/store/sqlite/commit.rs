//! What a group of settlements writes besides their parts: counts, ends of pages, failures, devices, what
//! waits, what died, what is told. It must not know of fencing: it sees only settlements whose part was taken.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::super::changes::{Change, changes};
use super::super::{Error, Failure, JobKey, Settlement, WaitingRow};
use super::columns::{Coded, bytes, int};
use super::devices::{DeadDevice, mark, prune};
use super::{analytics, dead, outbox, pages, waiting};
use crate::datadir::{Batch, Rows};
use crate::model::{DeviceId, Millis, TenantId};

// A notification that was published directly gets its row here: one page, which its first job closes. A row
// that had to be swept before a late child ended has no page at all and just this one job.
const ENSURE: Rows = Rows {
    columns:
        "tenant, id, lane, created_at, expires_at, entries, open_entries, open_jobs, pages_total,
        pages_next, state, recipients, waiting, pages_ended",
    statement:
        "INSERT INTO notifications (tenant, id, lane, created_at, expires_at, entries, open_entries,
        open_jobs, pages_total, pages_next, state, recipients, waiting, pages_ended) SELECT * FROM v
        WHERE v.tenant IS NOT NULL ON CONFLICT DO NOTHING",
};

const ADD: Rows = Rows {
    columns: "tenant, id, now, recipients, waiting, open_entries, open_jobs, pages_ended, accepted,
        unregistered, rejected, expired, exhausted, cancelled, dead, no_device, unknown",
    statement:
        "UPDATE notifications AS n SET recipients = n.recipients + v.recipients, waiting = n.waiting
        + v.waiting, open_entries = max(0, n.open_entries + v.open_entries), open_jobs = n.open_jobs
        + v.open_jobs, pages_ended = n.pages_ended + v.pages_ended, accepted = n.accepted +
        v.accepted, unregistered = n.unregistered + v.unregistered, rejected = n.rejected +
        v.rejected, expired = n.expired + v.expired, exhausted = n.exhausted + v.exhausted,
        cancelled = n.cancelled + v.cancelled, dead = n.dead + v.dead, no_device = n.no_device +
        v.no_device, unknown = n.unknown + v.unknown, state = n.pages_ended + v.pages_ended >=
        n.pages_total AND n.open_jobs + v.open_jobs <= 0, finished_at = CASE WHEN n.pages_ended +
        v.pages_ended >= n.pages_total AND n.open_jobs + v.open_jobs <= 0 THEN
        coalesce(n.finished_at, v.now) END FROM v WHERE n.tenant = v.tenant AND n.id = v.id",
};

const INSERT_FAILURES: Rows = Rows {
    columns: "tenant, notification, ordinal, user_id, device, platform, device_token, state, reason, at",
    statement: "INSERT INTO failures (tenant, notification, ordinal, user_id, device, platform,
        device_token, state, reason, at) SELECT * FROM v WHERE v.tenant IS NOT NULL",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&ENSURE, &ADD, &INSERT_FAILURES];

/// Writes all that follows the parts of these settlements.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    // What every group writes goes together; the rest is seldom.
    let mut batch = Batch::default();
    count(&mut batch, written, now);
    analytics::count(&mut batch, written, now);
    pages::end(&mut batch, written, now);
    batch.execute(connection).await?;
    let failures: Vec<(&JobKey, &Failure)> = written
        .iter()
        .flat_map(|settlement| settlement.failures.iter().map(|f| (&settlement.key, f)))
        .collect();
    insert_failures(connection, &failures, now).await?;
    let dead_devices: Vec<DeadDevice<'_>> = written
        .iter()
        .flat_map(|settlement| {
            settlement
                .prunes
                .iter()
                .map(|p| (&settlement.key.tenant, p))
        })
        .collect();
    prune(connection, &dead_devices, now).await?;
    for (tenant, devices) in &mut by_tenant(written, |settlement| &settlement.suspects) {
        mark(connection, (tenant, devices), true, now).await?;
    }
    for (tenant, devices) in &mut by_tenant(written, |settlement| &settlement.accepted) {
        mark(connection, (tenant, devices), false, now).await?;
    }
    let rows: Vec<&WaitingRow> = written.iter().flat_map(|s| &s.waiting).collect();
    waiting::insert(connection, &rows).await?;
    for row in written.iter().filter_map(|s| s.dead.as_ref()) {
        dead::insert(connection, row, now).await?;
    }
    outbox::insert(connection, written, now).await
}

fn by_tenant<'a>(
    written: &[&'a Settlement],
    devices: impl Fn(&'a Settlement) -> &'a Vec<DeviceId>,
) -> HashMap<&'a TenantId, Vec<DeviceId>> {
    let mut of: HashMap<&TenantId, Vec<DeviceId>> = HashMap::new();
    for settlement in written {
        let listed = devices(settlement);
        if !listed.is_empty() {
            of.entry(&settlement.key.tenant).or_default().extend(listed);
        }
    }
    of
}

fn count(batch: &mut Batch, written: &[&Settlement], now: Millis) {
    let changes = changes(written);
    batch.add(&ENSURE, &changes, |binder, change: &Change<'_>| {
        let sample = change.sample;
        let is_first = sample.page.is_some();
        binder.bind(sample.key.tenant.as_str());
        binder.bind(bytes(&sample.key.notification.0));
        binder.bind(sample.lane.code());
        binder.bind(sample.created_at).bind(sample.expires_at);
        binder.bind(sample.entries);
        binder.bind(if is_first { sample.entries } else { 0 });
        binder.bind(!is_first).bind(is_first).bind(is_first);
        binder.bind(0_i64).bind(0_i64).bind(0_i64).bind(0_i64);
    });
    batch.add(&ADD, &changes, |binder, change| {
        binder.bind(change.sample.key.tenant.as_str());
        binder.bind(bytes(&change.sample.key.notification.0));
        binder.bind(now).bind(change.recipients);
        binder.bind(change.waiting).bind(change.open_entries);
        binder.bind(change.open_jobs).bind(change.pages_ended);
        for number in change.counts.0 {
            binder.bind(int(number));
        }
    });
}

async fn insert_failures(
    connection: &mut SqliteConnection,
    failures: &[(&JobKey, &Failure)],
    now: Millis,
) -> Result<(), Error> {
    INSERT_FAILURES
        .execute(connection, failures, |binder, (key, failure)| {
            binder.bind(key.tenant.as_str());
            binder.bind(bytes(&key.notification.0));
            binder.bind(failure.ordinal);
            binder.bind(failure.user_id.as_deref());
            binder.bind(failure.device);
            binder.bind(failure.platform.map(Coded::code));
            binder.bind(failure.device_token.as_deref());
            binder.bind(failure.state.code());
            binder.bind(failure.reason.as_bytes()).bind(now);
        })
        .await?;
    Ok(())
}
