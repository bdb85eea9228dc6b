//! Daily counts in SQLite: one row per tenant and day.
//! It must not know what a count means.

use async_trait::async_trait;

use super::super::analytics::ended;
use super::super::{Analytics, DailyCounts, Day, Error, Settlement, day_of};
use super::SqliteStore;
use super::columns::{Columns, int};
use crate::datadir::{Batch, Rows};
use crate::model::{Counts, Millis, TenantId};

const ADD: Rows = Rows {
    columns: "tenant, day, accepted, unregistered, rejected, expired, exhausted, cancelled, dead,
        no_device, unknown",
    statement: "INSERT INTO daily_counts AS c (tenant, day, accepted, unregistered, rejected, expired,
        exhausted, cancelled, dead, no_device, unknown) SELECT * FROM v WHERE v.tenant IS NOT NULL
        ON CONFLICT DO UPDATE SET accepted = c.accepted + excluded.accepted,
        unregistered = c.unregistered + excluded.unregistered, rejected = c.rejected + excluded.rejected,
        expired = c.expired + excluded.expired, exhausted = c.exhausted + excluded.exhausted,
        cancelled = c.cancelled + excluded.cancelled, dead = c.dead + excluded.dead,
        no_device = c.no_device + excluded.no_device, unknown = c.unknown + excluded.unknown",
};

const SELECT: &str = "
SELECT day, accepted, unregistered, rejected, expired, exhausted, cancelled, dead, no_device, unknown
FROM daily_counts WHERE tenant = ? AND day >= ? AND day <= ? ORDER BY day";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&ADD];

#[async_trait]
impl Analytics for SqliteStore {
    async fn daily_counts(
        &self,
        tenant: &TenantId,
        first: Day,
        last: Day,
    ) -> Result<Vec<DailyCounts>, Error> {
        let rows = sqlx::query(SELECT)
            .bind(tenant.as_str())
            .bind(first)
            .bind(last)
            .fetch_all(&mut *self.reader().await?)
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

/// Adds what ended to the day's counts.
pub(super) fn count(batch: &mut Batch, written: &[&Settlement], now: Millis) {
    batch.add(&ADD, &ended(written), |binder, (tenant, counts)| {
        binder.bind(*tenant).bind(day_of(now));
        for count in counts.0 {
            binder.bind(int(count));
        }
    });
}
