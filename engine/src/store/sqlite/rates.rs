//! Leases on rates in SQLite: there is one process, and it has all of every rate.
//! It must not know how a process spends its part.

use async_trait::async_trait;
use uuid::Uuid;

use super::super::{Error, RateWish, Rates};
use super::SqliteStore;
use super::columns::{Columns, int};
use crate::datadir::Rows;
use crate::model::Millis;

const RATES: Rows = Rows {
    columns: "place, tenant",
    statement: "SELECT v.place, t.rate FROM v CROSS JOIN tenants t
        ON t.id = v.tenant AND t.suspended = 0 AND t.deleted_at IS NULL",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&RATES];

#[async_trait]
impl Rates for SqliteStore {
    async fn lease_rates(
        &self,
        _process: Uuid,
        wishes: &[RateWish],
        default: u32,
        _now: Millis,
    ) -> Result<Vec<u32>, Error> {
        let asked: Vec<(usize, &RateWish)> = wishes.iter().enumerate().collect();
        let mut reader = self.reader().await?;
        let rows = RATES
            .fetch(&mut reader, &asked, |binder, (place, wish)| {
                binder.bind(int(*place as u64));
                binder.bind(wish.tenant.as_str());
            })
            .await?;
        let mut shares = vec![0; wishes.len()];
        for row in &rows {
            let row = Columns::of(row, "tenants");
            let place: usize = row.small(0)?;
            let rate: u32 = row.small_or_null(1)?.unwrap_or(default);
            shares[place] = rate.min(wishes[place].recipients);
        }
        Ok(shares)
    }
}
