//! Idempotency rows in SQLite.
//! It must not know what a request or an answer says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::super::idempotency::TAKEOVER_AFTER;
use super::super::{Begun, Error, Idempotency, StoredAnswer};
use super::SqliteStore;
use super::columns::{Columns, bytes};
use crate::model::{Millis, NotificationId, TenantId};

/// Requests in progress beyond which those that nobody will finish any more are looked for.
const RUNNING_MANY: usize = 4_096;

/// Requests in progress of this process, with the instants they began. A row in progress that is not among them was left by a
/// process that is dead, as the lock of the data directory proves: nobody needs to wait for it.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<(TenantId, String), Millis>>);

impl Running {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<(TenantId, String), Millis>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, tenant: &TenantId, key: &str, now: Millis) {
        let patience = i64::try_from(TAKEOVER_AFTER.as_millis()).unwrap_or(i64::MAX);
        self.with(|running| {
            if running.len() >= RUNNING_MANY {
                running.retain(|_, began| now.saturating_sub(*began) < patience);
            }
            running.insert((tenant.clone(), key.to_owned()), now);
        });
    }

    fn has(&self, tenant: &TenantId, key: &str) -> bool {
        self.with(|running| running.contains_key(&(tenant.clone(), key.to_owned())))
    }

    fn end(&self, tenant: &TenantId, key: &str) {
        self.with(|running| running.remove(&(tenant.clone(), key.to_owned())));
    }
}

const INSERT: &str = "
INSERT INTO idempotency (tenant, key, fingerprint, notification, started_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING";

const SELECT: &str = "
SELECT fingerprint, notification, started_at, status, body FROM idempotency
WHERE tenant = ? AND key = ?";

const TAKE_OVER: &str = "UPDATE idempotency SET started_at = ? WHERE tenant = ? AND key = ?";

const FINISH: &str = "UPDATE idempotency SET status = ?, body = ? WHERE tenant = ? AND key = ?";

const FORGET: &str = "DELETE FROM idempotency WHERE tenant = ? AND key = ? AND status IS NULL";

#[async_trait]
impl Idempotency for SqliteStore {
    async fn begin(
        &self,
        tenant: &TenantId,
        key: &str,
        fingerprint: &[u8; 32],
        notification: NotificationId,
        now: Millis,
    ) -> Result<Begun, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let inserted = sqlx::query(INSERT)
            .bind(tenant.as_str())
            .bind(key)
            .bind(fingerprint.as_slice())
            .bind(bytes(&notification.0))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        if inserted.rows_affected() > 0 {
            self.running.begin(tenant, key, now);
            tx.commit().await?;
            return Ok(Begun::Started {
                notification,
                recheck: false,
            });
        }
        let row = sqlx::query(SELECT)
            .bind(tenant.as_str())
            .bind(key)
            .fetch_one(&mut *tx)
            .await?;
        let row = Columns::of(&row, "idempotency");
        if row.get::<&[u8]>(0)? != fingerprint {
            return Ok(Begun::OtherRequest);
        }
        if let Some(status) = row.small_or_null(3)? {
            let body = row.get::<Option<Vec<u8>>>(4)?.unwrap_or_default();
            return Ok(Begun::Done(StoredAnswer { status, body }));
        }
        let patience = i64::try_from(TAKEOVER_AFTER.as_millis()).unwrap_or(i64::MAX);
        if now.saturating_sub(row.int(2)?) < patience && self.running.has(tenant, key) {
            return Ok(Begun::Running);
        }
        self.running.begin(tenant, key, now);
        sqlx::query(TAKE_OVER)
            .bind(now)
            .bind(tenant.as_str())
            .bind(key)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Begun::Started {
            notification: NotificationId(row.uuid(1)?),
            recheck: true,
        })
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        key: &str,
        answer: &StoredAnswer,
        _now: Millis,
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        sqlx::query(FINISH)
            .bind(answer.status)
            .bind(answer.body.as_slice())
            .bind(tenant.as_str())
            .bind(key)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.running.end(tenant, key);
        Ok(())
    }

    async fn forget(&self, tenant: &TenantId, key: &str) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        sqlx::query(FORGET)
            .bind(tenant.as_str())
            .bind(key)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.running.end(tenant, key);
        Ok(())
    }
}
