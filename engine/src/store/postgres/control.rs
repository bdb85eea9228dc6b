//! The control version, the clock and the upkeep in PostgreSQL.
//! It must not know who obeys.

use std::time::Duration;

use async_trait::async_trait;

use super::super::{Control, ControlState, Error, Suspension, SweepHorizon};
use super::PostgresStore;
use super::accounts::{read_tenant, select_tenant};
use super::columns::Columns;
use super::session::{read, transact};
use crate::model::Millis;

/// A store that does not take a write within this time is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

const SELECT_CHANGED: &str = select_tenant!("WHERE version > $1 ORDER BY version, id");

const SELECT_STOPPED: &str = "
SELECT id, deleted_at IS NOT NULL FROM tenants WHERE suspended OR deleted_at IS NOT NULL
ORDER BY id";

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

// Any number that no other application locks; one process sweeps at a time, the others have nothing to do.
const SWEEPING: &str = "SELECT pg_try_advisory_xact_lock(x'636c6172696f6e01'::bigint)";

#[async_trait]
impl Control for PostgresStore {
    async fn control(&self, after: i64) -> Result<ControlState, Error> {
        read!(self, |session| {
            // The version first: what it speaks of was committed with it or before, and is seen by the rest.
            let version: i64 = sqlx::query_scalar("SELECT version FROM control")
                .fetch_one(&mut *session)
                .await?;
            let mut state = ControlState {
                version,
                ..ControlState::default()
            };
            if version == after {
                return Ok(state);
            }
            let rows = sqlx::query(SELECT_CHANGED)
                .bind(after)
                .fetch_all(&mut *session)
                .await?;
            state.changed = rows.iter().map(read_tenant).collect::<Result<_, _>>()?;
            let rows = sqlx::query(SELECT_STOPPED).fetch_all(&mut *session).await?;
            for row in &rows {
                let row = Columns::of(row, "tenants");
                let why = if row.get(1)? {
                    Suspension::Deleted
                } else {
                    Suspension::Suspended
                };
                state.stopped.push((row.tenant(0)?, why));
            }
            Ok(state)
        })
        .await
    }

    async fn clock(&self) -> Result<Millis, Error> {
        read!(self, |session| {
            Ok(sqlx::query_scalar(CLOCK).fetch_one(session).await?)
        })
        .await
    }

    async fn sweep(&self, horizon: &SweepHorizon, batch: u32) -> Result<u64, Error> {
        let now = self.clock().await?;
        let purged = self.purge_some(batch, now).await?;
        let swept = transact!(self, |tx| {
            let is_mine: bool = sqlx::query_scalar(SWEEPING).fetch_one(&mut *tx).await?;
            if is_mine {
                super::purge::sweep(tx, horizon, batch).await
            } else {
                Ok(0)
            }
        })
        .await?;
        Ok(purged + swept)
    }

    async fn is_ready(&self) -> bool {
        let beat = transact!(self, |tx| {
            let sql = "UPDATE heartbeat SET beats = beats + 1";
            sqlx::query(sql).execute(&mut *tx).await?;
            Ok(())
        });
        matches!(tokio::time::timeout(READY_WITHIN, beat).await, Ok(Ok(())))
    }

    async fn close(&self) {
        self.sessions.close().await;
    }
}
