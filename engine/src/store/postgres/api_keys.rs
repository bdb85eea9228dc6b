//! API keys of tenants in PostgreSQL.
//! It must not know the keys themselves.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::{KeyId, Scopes};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{ApiKeyPatch, ApiKeyRecord, ApiKeys, Error, KeyUse, Usage};
use super::columns::{Columns, Unreadable, column, corrupt, int};
use super::session::{read, transact};
use super::{PostgresStore, require_tenant, revocations};
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
VALUES ($1, $2, $3, $4, $5, $6::int8, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING";

const SELECT_KEY: &str =
    select_key!("JOIN tenants t ON t.id = k.tenant AND t.deleted_at IS NULL WHERE k.key_id = $1");

const SELECT_KEYS: &str = select_key!("WHERE k.tenant = $1 ORDER BY k.created_at, k.key_id");

const SELECT_OWN_KEY: &str = select_key!("WHERE k.tenant = $1 AND k.key_id = $2");

const UPDATE_KEY: &str = "
UPDATE api_keys SET name = $1, scopes = $2::int8, rate = $3 WHERE tenant = $4 AND key_id = $5";

const END_KEY: &str = "
UPDATE api_keys SET expires_at = least(expires_at, $1) WHERE tenant = $2 AND key_id = $3";

// Locked in the order of the keys: another process may be noting the same ones.
const TOUCH_KEYS: &str = "
UPDATE api_keys AS k SET last_used_at = greatest(k.last_used_at, v.at)
FROM (SELECT l.tenant, l.key_id, u.at
    FROM unnest($1::text[], $2::text[], $3::int8[]) AS u (tenant, key_id, at)
    JOIN api_keys l ON l.tenant = u.tenant AND l.key_id = u.key_id
    ORDER BY l.tenant, l.key_id FOR NO KEY UPDATE OF l) AS v
WHERE k.tenant = v.tenant AND k.key_id = v.key_id";

const ADD_USAGE: &str = "
INSERT INTO api_key_usage AS a (tenant, key_id, day, operation, calls)
SELECT u.tenant, u.key_id, u.day, u.operation, u.calls
FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::int8[])
    AS u (tenant, key_id, day, operation, calls)
JOIN api_keys l ON l.tenant = u.tenant AND l.key_id = u.key_id
ORDER BY u.tenant, u.key_id, u.day, u.operation
ON CONFLICT (tenant, key_id, day, operation) DO UPDATE SET calls = a.calls + excluded.calls";

const SELECT_USAGE: &str = "
SELECT key_id, day, operation, calls FROM api_key_usage WHERE tenant = $1 AND day >= $2
ORDER BY key_id, day, operation";

const DELETE_KEY: [&str; 2] = [
    "DELETE FROM api_key_usage WHERE tenant = $1 AND key_id = $2",
    "DELETE FROM api_keys WHERE tenant = $1 AND key_id = $2",
];

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn create_api_key(&self, key: &ApiKeyRecord) -> Result<(), Error> {
        transact!(self, |tx| {
            require_tenant(tx, &key.tenant).await?;
            insert(tx, key).await?;
            Ok(())
        })
        .await
    }

    async fn api_key(&self, key_id: &KeyId) -> Result<Option<ApiKeyRecord>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(SELECT_KEY).bind(key_id.as_str());
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.as_ref().map(read_key).transpose()
    }

    async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyRecord>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_KEYS).bind(tenant.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_key).collect()
    }

    async fn update_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        patch: &ApiKeyPatch,
    ) -> Result<ApiKeyRecord, Error> {
        transact!(self, |tx| {
            let new = patch.applied_to(own_key(tx, tenant, key_id).await?);
            sqlx::query(UPDATE_KEY)
                .bind(new.name.as_bytes())
                .bind(i64::from(new.scopes.bits()))
                .bind(new.rate.map(i64::from))
                .bind(tenant.as_str())
                .bind(key_id.as_str())
                .execute(&mut *tx)
                .await?;
            revocations::tell_key(tx, key_id).await?;
            Ok(new)
        })
        .await
    }

    async fn rotate_api_key(
        &self,
        old: &KeyId,
        new: &ApiKeyRecord,
        old_until: Millis,
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            own_key(tx, &new.tenant, old).await?;
            insert(tx, new).await?;
            sqlx::query(END_KEY)
                .bind(old_until)
                .bind(new.tenant.as_str())
                .bind(old.as_str())
                .execute(&mut *tx)
                .await?;
            revocations::tell_key(tx, old).await?;
            Ok(())
        })
        .await
    }

    async fn delete_api_key(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        _now: Millis,
    ) -> Result<bool, Error> {
        transact!(self, |tx| {
            let mut deleted = 0;
            for sql in DELETE_KEY {
                let done = sqlx::query(sql)
                    .bind(tenant.as_str())
                    .bind(key_id.as_str())
                    .execute(&mut *tx)
                    .await?;
                deleted = done.rows_affected();
            }
            revocations::tell_key(tx, key_id).await?;
            Ok(deleted > 0)
        })
        .await
    }

    async fn note_key_uses(&self, uses: &[KeyUse]) -> Result<(), Error> {
        // Each once: a statement takes only one of several values for a row.
        let mut last: BTreeMap<(&str, &str), Millis> = BTreeMap::new();
        let mut counts: BTreeMap<(&str, &str, i64, &str), u64> = BTreeMap::new();
        for used in uses {
            let (tenant, key_id) = (used.tenant.as_str(), used.key_id.as_str());
            let at = last.entry((tenant, key_id)).or_insert(used.last_at);
            *at = (*at).max(used.last_at);
            *counts
                .entry((tenant, key_id, used.day, used.operation))
                .or_default() += used.calls;
        }
        let last: Vec<_> = last.into_iter().collect();
        let counts: Vec<_> = counts.into_iter().collect();
        let (last, counts) = (last.as_slice(), counts.as_slice());
        transact!(self, |tx| {
            sqlx::query(TOUCH_KEYS)
                .bind(column(last, |(key, _)| key.0))
                .bind(column(last, |(key, _)| key.1))
                .bind(column(last, |(_, at)| *at))
                .execute(&mut *tx)
                .await?;
            sqlx::query(ADD_USAGE)
                .bind(column(counts, |(of, _)| of.0))
                .bind(column(counts, |(of, _)| of.1))
                .bind(column(counts, |(of, _)| of.2))
                .bind(column(counts, |(of, _)| of.3))
                .bind(column(counts, |(_, calls)| int(*calls)))
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn key_usage(&self, tenant: &TenantId, since: i64) -> Result<Vec<Usage>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_USAGE).bind(tenant.as_str()).bind(since);
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_usage).collect()
    }
}

async fn insert(connection: &mut PgConnection, key: &ApiKeyRecord) -> Result<(), Error> {
    let done = sqlx::query(INSERT_KEY)
        .bind(key.tenant.as_str())
        .bind(key.key_id.as_str())
        .bind(key.is_test)
        .bind(key.hash.as_slice())
        .bind(key.name.as_bytes())
        .bind(i64::from(key.scopes.bits()))
        .bind(key.rate.map(i64::from))
        .bind(key.expires_at)
        .bind(key.created_by.as_bytes())
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
    connection: &mut PgConnection,
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

fn read_key(row: &PgRow) -> Result<ApiKeyRecord, Error> {
    const TABLE: &str = "api_keys";
    let row = Columns::of(row, TABLE);
    Ok(ApiKeyRecord {
        tenant: row.tenant(0)?,
        key_id: row.id(1)?,
        is_test: row.get(2)?,
        hash: row.array(3)?,
        name: row.text(4)?.to_owned(),
        scopes: Scopes::from_bits(row.small(5)?).ok_or_else(|| corrupt(TABLE, Unreadable(5)))?,
        rate: row.small_or_null(6)?,
        expires_at: row.get(7)?,
        created_by: row.text(8)?.to_owned(),
        created_at: row.int(9)?,
        last_used_at: row.get(10)?,
    })
}

fn read_usage(row: &PgRow) -> Result<Usage, Error> {
    let row = Columns::of(row, "api_key_usage");
    Ok(Usage {
        key_id: row.id(0)?,
        day: row.int(1)?,
        operation: row.get(2)?,
        calls: row.small(3)?,
    })
}
