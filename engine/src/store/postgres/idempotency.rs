//! Idempotency rows in PostgreSQL.
//! It must not know what a request or an answer says.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::super::idempotency::TAKEOVER_AFTER;
use super::super::{Begun, Error, Idempotency, StoredAnswer};
use super::PostgresStore;
use super::columns::{Columns, Id};
use super::session::transact;
use crate::model::{Millis, NotificationId, TenantId};

/// How often a key is looked at that is forgotten between two looks.
const LOOKS: u32 = 4;

// Waits for whoever inserts the same key at the same time.
const INSERT: &str = "
INSERT INTO idempotency (tenant, key, fingerprint, notification, started_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING";

// Locked, so that of two that find a request abandoned only one takes it over.
const SELECT: &str = "
SELECT fingerprint, notification, started_at, status, body FROM idempotency
WHERE tenant = $1 AND key = $2 FOR NO KEY UPDATE";

const TAKE_OVER: &str = "UPDATE idempotency SET started_at = $1 WHERE tenant = $2 AND key = $3";

const FINISH: &str = "UPDATE idempotency SET status = $1, body = $2 WHERE tenant = $3 AND key = $4";

const FORGET: &str = "DELETE FROM idempotency WHERE tenant = $1 AND key = $2 AND status IS NULL";

#[async_trait]
impl Idempotency for PostgresStore {
    async fn begin(
        &self,
        tenant: &TenantId,
        key: &str,
        fingerprint: &[u8; 32],
        notification: NotificationId,
        now: Millis,
    ) -> Result<Begun, Error> {
        transact!(self, |tx| {
            for _ in 0..LOOKS {
                let inserted = sqlx::query(INSERT)
                    .bind(tenant.as_str())
                    .bind(key.as_bytes())
                    .bind(fingerprint.as_slice())
                    .bind(Id(notification.0))
                    .bind(now)
                    .execute(&mut *tx)
                    .await?;
                if inserted.rows_affected() > 0 {
                    return Ok(Begun::Started {
                        notification,
                        recheck: false,
                    });
                }
                if let Some(begun) = meet(tx, (tenant, key), fingerprint, now).await? {
                    return Ok(begun);
                }
            }
            Ok(Begun::Running)
        })
        .await
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        key: &str,
        answer: &StoredAnswer,
        _now: Millis,
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            sqlx::query(FINISH)
                .bind(i32::from(answer.status))
                .bind(answer.body.as_slice())
                .bind(tenant.as_str())
                .bind(key.as_bytes())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn forget(&self, tenant: &TenantId, key: &str) -> Result<(), Error> {
        transact!(self, |tx| {
            sqlx::query(FORGET)
                .bind(tenant.as_str())
                .bind(key.as_bytes())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }
}

/// What a request meets whose key is there; `None` when it is gone again.
async fn meet(
    connection: &mut PgConnection,
    (tenant, key): (&TenantId, &str),
    fingerprint: &[u8; 32],
    now: Millis,
) -> Result<Option<Begun>, Error> {
    let row = sqlx::query(SELECT)
        .bind(tenant.as_str())
        .bind(key.as_bytes())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Columns::of(&row, "idempotency");
    if row.get::<&[u8]>(0)? != fingerprint {
        return Ok(Some(Begun::OtherRequest));
    }
    if let Some(status) = row.small_or_null(3)? {
        let body = row.get::<Option<Vec<u8>>>(4)?.unwrap_or_default();
        return Ok(Some(Begun::Done(StoredAnswer { status, body })));
    }
    let patience = i64::try_from(TAKEOVER_AFTER.as_millis()).unwrap_or(i64::MAX);
    if now.saturating_sub(row.int(2)?) < patience {
        return Ok(Some(Begun::Running));
    }
    sqlx::query(TAKE_OVER)
        .bind(now)
        .bind(tenant.as_str())
        .bind(key.as_bytes())
        .execute(connection)
        .await?;
    Ok(Some(Begun::Started {
        notification: NotificationId(row.uuid(1)?),
        recheck: true,
    }))
}
