//! The control version, the clock and the upkeep in SQLite.
//! It must not know who obeys.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, SqliteConnection};

use super::super::{Control, ControlState, Error, Suspension, SweepHorizon};
use super::SqliteStore;
use super::accounts::{read_tenant, select_tenant};
use super::columns::Columns;
use crate::datadir::clock;
use crate::model::Millis;

/// A store that does not take a write within this time is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

const SELECT_CHANGED: &str = select_tenant!("WHERE version > ? ORDER BY version, id");

const SELECT_STOPPED: &str = "
SELECT id, deleted_at IS NOT NULL FROM tenants WHERE suspended = 1 OR deleted_at IS NOT NULL
ORDER BY id";

#[async_trait]
impl Control for SqliteStore {
    async fn control(&self, after: i64) -> Result<ControlState, Error> {
        let mut reader = self.reader().await?;
        // A transaction: version, changes and stops of one instant.
        let mut tx = reader.begin().await?;
        let version: i64 = sqlx::query_scalar("SELECT version FROM control")
            .fetch_one(&mut *tx)
            .await?;
        let mut state = ControlState {
            version,
            ..ControlState::default()
        };
        if version == after {
            tx.rollback().await?;
            return Ok(state);
        }
        let rows = sqlx::query(SELECT_CHANGED)
            .bind(after)
            .fetch_all(&mut *tx)
            .await?;
        state.changed = rows.iter().map(read_tenant).collect::<Result<_, _>>()?;
        let rows = sqlx::query(SELECT_STOPPED).fetch_all(&mut *tx).await?;
        for row in &rows {
            let row = Columns::of(row, "tenants");
            let why = if row.get(1)? {
                Suspension::Deleted
            } else {
                Suspension::Suspended
            };
            state.stopped.push((row.tenant(0)?, why));
        }
        tx.rollback().await?;
        Ok(state)
    }

    async fn clock(&self) -> Result<Millis, Error> {
        let mut reader = self.reader().await?;
        Ok(clock(&mut reader).await?)
    }

    async fn sweep(&self, horizon: &SweepHorizon, batch: u32) -> Result<u64, Error> {
        let now = self.clock().await?;
        let mut swept = self.purge_some(batch, now).await?;
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        swept += super::purge::sweep(&mut tx, horizon, batch).await?;
        tx.commit().await?;
        Ok(swept)
    }

    async fn is_ready(&self) -> bool {
        let beat = async {
            let mut writer = self.writer().await;
            let mut tx = writer.begin().await?;
            beat(&mut tx).await?;
            Ok::<(), Error>(tx.commit().await?)
        };
        matches!(tokio::time::timeout(READY_WITHIN, beat).await, Ok(Ok(())))
    }

    async fn close(&self) {
        if let Some(checkpoints) = self.checkpoints.lock().await.take() {
            checkpoints.close().await;
        }
        let connection = self.writer().await.0.take();
        self.readers.close().await;
        if let Some(connection) = connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; nothing is lost");
        }
    }
}

async fn beat(connection: &mut SqliteConnection) -> Result<(), Error> {
    let sql = "UPDATE control SET heartbeat = heartbeat + 1";
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}
