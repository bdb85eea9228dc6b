//! API keys of tenants in SQLite.
//! It must not know the keys themselves.

use async_trait::async_trait;
use clarion_auth::{KeyId, Scopes};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{ApiKeyPatch, ApiKeyRecord, ApiKeys, Error, KeyUse, Usage};
use super::columns::{Columns, Unreadable, corrupt, int};
use super::{SqliteStore, require_tenant};
use crate::model::{Millis, TenantId};

/// The columns of a key, as [`read_key`] reads them.
macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT k.tenant, k.key_id, k.is_test, k.hash, k.name, k.scopes, k.rate, k.expires_at, ",
            "k.created_by, k.created_at, k.last_used_at FROM api_keys k ",
            $rest
        )
    };
}

const INSERT_KEY: &str = "
INSERT INTO api_keys (tenant, key_id, is_test, hash, name, scopes, rate, expires_at, created_by,
    created_at, last_used_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING";

const SELECT_KEY: &str =
    select_key!("JOIN tenants t ON t.id = k.tenant AND t.deleted_at IS NULL WHERE k.key_id = ?");

const SELECT_KEYS: &str = select_key!("WHERE k.tenant = ? ORDER BY k.created_at, k.key_id");

const SELECT_OWN_KEY: &str = select_key!("WHERE k.tenant = ? AND k.key_id = ?");

const UPDATE_KEY: &str = "
UPDATE api_keys SET name = ?, scopes = ?, rate = ? WHERE tenant = ? AND key_id = ?";

const END_KEY: &str = "
UPDATE api_keys SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE tenant = ?2 AND key_id = ?3";

const TOUCH_KEY: &str = "
UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE tenant = ? AND key_id = ?";

const ADD_USAGE: &str = "
INSERT INTO api_key_usage (tenant, key_id, day, operation, calls) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls";

const SELECT_USAGE: &str = "
SELECT key_id, day, operation, calls FROM api_key_usage WHERE tenant = ? AND day >= ?
ORDER BY key_id, day, operation";

const DELETE_KEY: [&str; 2] = [
    "DELETE FROM api_key_usage WHERE tenant = ? AND key_id = ?",
    "DELETE FROM api_keys WHERE tenant = ? AND key_id = ?",
];

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn create_api_key(&self, key: &ApiKeyRecord) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, &key.tenant).await?;
        insert(&mut tx, key).await?;
        Ok(tx.commit().await?)
    }

    async fn api_key(&self, key_id: &KeyId) -> Result<Option<ApiKeyRecord>, Error> {
        let row = sqlx::query(SELECT_KEY)
            .bind(key_id.as_str())
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.as_ref().map(read_key).transpose()
    }

    async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyRecord>, Error> {
        let rows = sqlx::query(SELECT_KEYS)
            .bind(tenant.as_str())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_key).collect()
    }

    async fn update_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        patch: &ApiKeyPatch,
    ) -> Result<ApiKeyRecord, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let new = patch.applied_to(own_key(&mut tx, tenant, key_id).await?);
        sqlx::query(UPDATE_KEY)
            .bind(new.name.as_str())
            .bind(new.scopes.bits())
            .bind(new.rate)
            .bind(tenant.as_str())
            .bind(key_id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(new)
    }

    async fn rotate_api_key(
        &self,
        old: &KeyId,
        new: &ApiKeyRecord,
        old_until: Millis,
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        own_key(&mut tx, &new.tenant, old).await?;
        insert(&mut tx, new).await?;
        sqlx::query(END_KEY)
            .bind(old_until)
            .bind(new.tenant.as_str())
            .bind(old.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn delete_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        _now: Millis,
    ) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut deleted = 0;
        for sql in DELETE_KEY {
            let done = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(key_id.as_str())
                .execute(&mut *tx)
                .await?;
            deleted = done.rows_affected();
        }
        tx.commit().await?;
        Ok(deleted > 0)
    }

    async fn note_key_uses(&self, uses: &[KeyUse]) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        for used in uses {
            let done = sqlx::query(TOUCH_KEY)
                .bind(used.last_at)
                .bind(used.tenant.as_str())
                .bind(used.key_id.as_str())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                continue;
            }
            sqlx::query(ADD_USAGE)
                .bind(used.tenant.as_str())
                .bind(used.key_id.as_str())
                .bind(used.day)
                .bind(used.operation)
                .bind(int(used.calls))
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn key_usage(&self, tenant: &TenantId, since: i64) -> Result<Vec<Usage>, Error> {
        let rows = sqlx::query(SELECT_USAGE)
            .bind(tenant.as_str())
            .bind(since)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_usage).collect()
    }
}

async fn insert(connection: &mut SqliteConnection, key: &ApiKeyRecord) -> Result<(), Error> {
    let done = sqlx::query(INSERT_KEY)
        .bind(key.tenant.as_str())
        .bind(key.key_id.as_str())
        .bind(key.is_test)
        .bind(key.hash.as_slice())
        .bind(key.name.as_str())
        .bind(key.scopes.bits())
        .bind(key.rate)
        .bind(key.expires_at)
        .bind(key.created_by.as_str())
        .bind(key.created_at)
        .bind(key.last_used_at)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Conflict("the key id exists"));
    }
    Ok(())
}

async fn own_key(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key_id: &KeyId,
) -> Result<ApiKeyRecord, Error> {
    let row = sqlx::query(SELECT_OWN_KEY)
        .bind(tenant.as_str())
        .bind(key_id.as_str())
        .fetch_optional(connection)
        .await?;
    read_key(row.as_ref().ok_or(Error::NotFound("API key"))?)
}

fn read_key(row: &SqliteRow) -> Result<ApiKeyRecord, Error> {
    const TABLE: &str = "api_keys";
    let row = Columns::of(row, TABLE);
    Ok(ApiKeyRecord {
        tenant: row.tenant(0)?,
        key_id: row.id(1)?,
        is_test: row.get(2)?,
        hash: row.array(3)?,
        name: row.get(4)?,
        scopes: Scopes::from_bits(row.small(5)?).ok_or_else(|| corrupt(TABLE, Unreadable(5)))?,
        rate: row.small_or_null(6)?,
        expires_at: row.get(7)?,
        created_by: row.get(8)?,
        created_at: row.int(9)?,
        last_used_at: row.get(10)?,
    })
}

fn read_usage(row: &SqliteRow) -> Result<Usage, Error> {
    let row = Columns::of(row, "api_key_usage");
    Ok(Usage {
        key_id: row.id(0)?,
        day: row.int(1)?,
        operation: row.get(2)?,
        calls: row.small(3)?,
    })
}
