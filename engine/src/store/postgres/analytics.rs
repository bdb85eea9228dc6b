//! Daily counts in PostgreSQL: one row per tenant, day and process, so that no process waits for another's commit.
//! It must not know what a count means.

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::analytics::ended;
use super::super::{Analytics, DailyCounts, Day, Error, Settlement, day_of};
use super::PostgresStore;
use super::columns::{Columns, Id, column, int};
use super::session::read;
use crate::model::{Counts, Millis, TenantId};

const ADD: &str = "
INSERT INTO daily_counts AS c (tenant, day, process, accepted, unregistered, rejected, expired, exhausted,
    cancelled, dead, no_device, unknown)
SELECT v.tenant, $2::int8, $3::uuid, v.accepted, v.unregistered, v.rejected, v.expired, v.exhausted,
    v.cancelled, v.dead, v.no_device, v.unknown
FROM unnest($1::text[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[],
    $10::int8[], $11::int8[], $12::int8[])
    AS v (tenant, accepted, unregistered, rejected, expired, exhausted, cancelled, dead, no_device, unknown)
ORDER BY v.tenant COLLATE \"C\"
ON CONFLICT (tenant, day, process) DO UPDATE SET
    accepted = c.accepted + excluded.accepted, unregistered = c.unregistered + excluded.unregistered,
    rejected = c.rejected + excluded.rejected, expired = c.expired + excluded.expired,
    exhausted = c.exhausted + excluded.exhausted, cancelled = c.cancelled + excluded.cancelled,
    dead = c.dead + excluded.dead, no_device = c.no_device + excluded.no_device,
    unknown = c.unknown + excluded.unknown";

const SELECT: &str = "
SELECT day, sum(accepted)::int8, sum(unregistered)::int8, sum(rejected)::int8, sum(expired)::int8,
    sum(exhausted)::int8, sum(cancelled)::int8, sum(dead)::int8, sum(no_device)::int8, sum(unknown)::int8
FROM daily_counts WHERE tenant = $1 AND day >= $2 AND day <= $3 GROUP BY day ORDER BY day";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[ADD, SELECT];

#[async_trait]
impl Analytics for PostgresStore {
    async fn daily_counts(
        &self,
        tenant: &TenantId,
        first: Day,
        last: Day,
    ) -> Result<Vec<DailyCounts>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT)
                .bind(tenant.as_str())
                .bind(first)
                .bind(last);
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        let read = |row| {
            let row = Columns::of(row, "daily_counts");
            let mut counts = Counts::default();
            for (state, count) in counts.0.iter_mut().enumerate() {
                *count = row.small(state + 1)?;
            }
            let day = row.int(0)?;
            Ok(DailyCounts { day, counts })
        };
        rows.iter().map(read).collect()
    }
}

/// Adds what ended to the day's counts, in this process's rows.
pub(super) async fn count(
    connection: &mut PgConnection,
    written: &[&Settlement],
    (process, now): (Uuid, Millis),
) -> Result<(), Error> {
    let ended = ended(written);
    if ended.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(ADD)
        .bind(column(&ended, |(tenant, _)| *tenant))
        .bind(day_of(now))
        .bind(Id(process));
    for state in 0..9 {
        query = query.bind(column(&ended, |(_, counts)| int(counts.0[state])));
    }
    query.execute(connection).await?;
    Ok(())
}
