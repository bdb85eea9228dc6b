//! Leases on rates in PostgreSQL: one row a tenant with all that hold a part of its rate, so that one statement
//! reads, decides and writes. It must not know how a process spends its part.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::super::{Error, RateWish, Rates};
use super::PostgresStore;
use super::columns::{Columns, Id, column};
use super::session::read;
use crate::limits::{RATE_LEASE, RATE_TURN};
use crate::model::Millis;

// A row that is there is locked before it is read, in the order of the tenants. `o` are the others whose
// leases have not lapsed, with what each could claim: what it holds, or its fair share if it wishes for more.
// What they leave is mine; my fair share is mine before what they could claim beyond theirs, but never what
// they hold.
const LEASE: &str = "
INSERT INTO rate_leases AS r (tenant, rate, processes, wished, granted, until)
SELECT v.tenant, t.rate, ARRAY[$3::uuid], ARRAY[v.wished], ARRAY[least(v.wished, t.rate)], ARRAY[$6::int8]
FROM unnest($1::text[], $2::int8[]) AS v (tenant, wished)
CROSS JOIN LATERAL (SELECT coalesce(t.rate, $4::int8) AS rate FROM tenants t
    WHERE t.id = v.tenant AND NOT t.suspended AND t.deleted_at IS NULL) AS t
ORDER BY v.tenant COLLATE \"C\"
ON CONFLICT (tenant) DO UPDATE SET rate = excluded.rate,
    (processes, wished, granted, until) = (
    WITH live AS (
        SELECT o.process, o.wished, o.granted, o.until
        FROM unnest(r.processes, r.wished, r.granted, r.until) AS o (process, wished, granted, until)
        WHERE o.process <> $3 AND o.until > $5
        UNION ALL
        SELECT $3, excluded.wished[1], 0, $6::int8 WHERE excluded.wished[1] > 0
    ), fair AS (
        SELECT l.*, excluded.rate / count(*) OVER () + CASE
            WHEN (row_number() OVER (ORDER BY l.process) + $7::int8) % count(*) OVER ()
                < excluded.rate % count(*) OVER () THEN 1 ELSE 0 END AS fair
        FROM live l
    ), others AS (
        SELECT coalesce(sum(f.granted), 0)::int8 AS held,
            coalesce(sum(greatest(f.granted, least(f.wished, f.fair))), 0)::int8 AS claimed
        FROM fair f WHERE f.process <> $3
    ), shares AS (
        SELECT f.process, f.wished, f.until, CASE WHEN f.process <> $3 THEN f.granted
            ELSE greatest(0, least(f.wished, excluded.rate - o.held,
                greatest(excluded.rate - o.claimed, f.fair))) END AS granted
        FROM fair f CROSS JOIN others o
    )
    SELECT coalesce(array_agg(s.process), '{}'), coalesce(array_agg(s.wished), '{}'),
        coalesce(array_agg(s.granted), '{}'), coalesce(array_agg(s.until), '{}')
    FROM shares s)
RETURNING r.tenant, coalesce(r.granted[array_position(r.processes, $3)], 0)";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[LEASE];

#[async_trait]
impl Rates for PostgresStore {
    async fn lease_rates(
        &self,
        process: Uuid,
        wishes: &[RateWish],
        default: u32,
        now: Millis,
    ) -> Result<Vec<u32>, Error> {
        let lease = i64::try_from(RATE_LEASE.as_millis()).unwrap_or(i64::MAX);
        let turn = i64::try_from(RATE_TURN.as_millis()).unwrap_or(i64::MAX);
        // No transaction around it: a process that stops here must not keep the others from renewing.
        let rows = read!(self, |session| {
            let query = sqlx::query(LEASE)
                .bind(column(wishes, |wish| wish.tenant.as_str()))
                .bind(column(wishes, |wish| i64::from(wish.recipients)))
                .bind(Id(process))
                .bind(i64::from(default))
                .bind(now)
                .bind(now.saturating_add(lease))
                .bind(now / turn);
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        let mut granted: HashMap<&str, u32> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let row = Columns::of(row, "rate_leases");
            granted.insert(row.get(0)?, row.small(1)?);
        }
        let share = |wish: &RateWish| granted.get(wish.tenant.as_str()).copied();
        Ok(wishes
            .iter()
            .map(|wish| share(wish).unwrap_or_default())
            .collect())
    }
}
