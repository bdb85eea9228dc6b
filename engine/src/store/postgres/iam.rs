//! Service IDs, IAM keys and refresh tokens in PostgreSQL.
//! It must not know the secrets themselves.

use async_trait::async_trait;
use clarion_auth::{Grants, IamKeyId, OrgId, ServiceId};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::{Error, Iam, IamKeyRecord, IamOwner, RefreshToken, Refreshed, ServiceIdRecord};
use super::PostgresStore;
use super::columns::{Coded, Columns, Id, Unreadable, corrupt};
use super::session::{read, transact};
use crate::model::Millis;

const INSERT_SERVICE: &str = "
INSERT INTO service_ids (id, org, name, description, everywhere, version, created_by, created_at,
    updated_at)
VALUES ($1, $2, $3, $4, $5::int8, $6, $7, $8, $9)
ON CONFLICT DO NOTHING";

const SELECT_SERVICE: &str = "
SELECT id, org, name, description, everywhere, version, created_by, created_at, updated_at
FROM service_ids WHERE id = $1";

const SELECT_SERVICES: &str = "SELECT id FROM service_ids WHERE org = $1 ORDER BY created_at, id";

const UPDATE_SERVICE: &str = "
UPDATE service_ids SET name = $1, description = $2, everywhere = $3::int8, version = $4, updated_at = $5
WHERE id = $6 AND version = $7 - 1";

const DELETE_SERVICE: [&str; 4] = [
    "DELETE FROM refresh_tokens WHERE iam_key IN (
        SELECT id FROM iam_keys WHERE owner_kind = 1 AND owner = $1)",
    "DELETE FROM iam_keys WHERE owner_kind = 1 AND owner = $1",
    "DELETE FROM service_grants WHERE service = $1",
    "DELETE FROM service_ids WHERE id = $1",
];

/// The columns of a key, as [`read_key`] reads them.
macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.hash, k.owner_kind, k.owner, k.org, k.name, k.description, k.is_locked, ",
            "k.is_disabled, k.version, k.expires_at, k.created_by, k.created_at, k.updated_at ",
            "FROM iam_keys k ",
            $rest
        )
    };
}

const INSERT_KEY: &str = "
INSERT INTO iam_keys (id, hash, owner_kind, owner, org, name, description, is_locked, is_disabled,
    version, expires_at, created_by, created_at, updated_at)
VALUES ($1, $2, $3::int8, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT DO NOTHING";

const UPDATE_KEY: &str = "
UPDATE iam_keys SET name = $1, description = $2, is_locked = $3, is_disabled = $4, version = $5,
    updated_at = $6
WHERE id = $7 AND version = $8 - 1";

const INSERT_REFRESH: &str = "
INSERT INTO refresh_tokens (hash, family, iam_key, expires_at) VALUES ($1, $2, $3, $4)";

const SELECT_REFRESH: &str = "
SELECT family, iam_key, used_at, expires_at FROM refresh_tokens WHERE hash = $1 FOR UPDATE";

#[async_trait]
impl Iam for PostgresStore {
    async fn create_service_id(&self, service: &ServiceIdRecord) -> Result<(), Error> {
        transact!(self, |tx| {
            let done = sqlx::query(INSERT_SERVICE)
                .bind(service.id.as_str())
                .bind(service.org.as_str())
                .bind(service.name.as_bytes())
                .bind(service.description.as_bytes())
                .bind(service.grants.everywhere.map(Coded::code))
                .bind(service.version)
                .bind(service.created_by.as_bytes())
                .bind(service.created_at)
                .bind(service.updated_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the service id exists"));
            }
            put_grants(tx, service).await?;
            Ok(())
        })
        .await
    }

    async fn service_id(&self, id: &ServiceId) -> Result<Option<ServiceIdRecord>, Error> {
        read!(self, |session| { service(session, id).await }).await
    }

    async fn service_ids(&self, org: &OrgId) -> Result<Vec<ServiceIdRecord>, Error> {
        read!(self, |session| {
            let ids: Vec<String> = sqlx::query_scalar(SELECT_SERVICES)
                .bind(org.as_str())
                .fetch_all(&mut *session)
                .await?;
            let mut services = Vec::new();
            for id in ids {
                let id = id
                    .parse()
                    .map_err(|_| corrupt("service_ids", Unreadable(0)))?;
                services.extend(service(session, &id).await?);
            }
            Ok(services)
        })
        .await
    }

    async fn update_service_id(&self, service: &ServiceIdRecord) -> Result<(), Error> {
        transact!(self, |tx| {
            let done = sqlx::query(UPDATE_SERVICE)
                .bind(service.name.as_bytes())
                .bind(service.description.as_bytes())
                .bind(service.grants.everywhere.map(Coded::code))
                .bind(service.version)
                .bind(service.updated_at)
                .bind(service.id.as_str())
                .bind(service.version)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the service id was changed meanwhile"));
            }
            put_grants(tx, service).await?;
            Ok(())
        })
        .await
    }

    async fn delete_service_id(&self, id: &ServiceId) -> Result<bool, Error> {
        transact!(self, |tx| {
            let mut deleted = 0;
            for sql in DELETE_SERVICE {
                let done = sqlx::query(sql).bind(id.as_str()).execute(&mut *tx).await?;
                deleted = done.rows_affected();
            }
            Ok(deleted > 0)
        })
        .await
    }

    async fn create_iam_key(&self, key: &IamKeyRecord) -> Result<(), Error> {
        let (kind, owner) = key.owner.columns();
        transact!(self, |tx| {
            if let IamOwner::Service(id) = &key.owner {
                let known = service(tx, id).await?;
                known.ok_or(Error::NotFound("service ID"))?;
            }
            let done = sqlx::query(INSERT_KEY)
                .bind(key.id.as_str())
                .bind(key.hash.as_slice())
                .bind(kind)
                .bind(owner)
                .bind(key.org.as_ref().map(OrgId::as_str))
                .bind(key.name.as_bytes())
                .bind(key.description.as_bytes())
                .bind(key.is_locked)
                .bind(key.is_disabled)
                .bind(key.version)
                .bind(key.expires_at)
                .bind(key.created_by.as_bytes())
                .bind(key.created_at)
                .bind(key.updated_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the IAM key exists"));
            }
            Ok(())
        })
        .await
    }

    async fn iam_key(&self, id: &IamKeyId) -> Result<Option<IamKeyRecord>, Error> {
        read!(self, |session| { iam_key(session, id.as_str()).await }).await
    }

    async fn iam_key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<IamKeyRecord>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(select_key!("WHERE k.hash = $1")).bind(hash.as_slice());
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.as_ref().map(read_key).transpose()
    }

    async fn iam_keys(&self, owner: &IamOwner) -> Result<Vec<IamKeyRecord>, Error> {
        let (kind, owner) = owner.columns();
        let sql = select_key!(
            "WHERE k.owner_kind = $1::int8 AND k.owner = $2 ORDER BY k.created_at, k.id"
        );
        let rows = read!(self, |session| {
            let query = sqlx::query(sql).bind(kind).bind(owner);
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_key).collect()
    }

    async fn update_iam_key(&self, key: &IamKeyRecord) -> Result<(), Error> {
        transact!(self, |tx| {
            let done = sqlx::query(UPDATE_KEY)
                .bind(key.name.as_bytes())
                .bind(key.description.as_bytes())
                .bind(key.is_locked)
                .bind(key.is_disabled)
                .bind(key.version)
                .bind(key.updated_at)
                .bind(key.id.as_str())
                .bind(key.version)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the IAM key was changed meanwhile"));
            }
            Ok(())
        })
        .await
    }

    async fn delete_iam_key(&self, id: &IamKeyId) -> Result<bool, Error> {
        transact!(self, |tx| {
            let Some(key) = iam_key(tx, id.as_str()).await? else {
                return Ok(false);
            };
            if key.is_locked {
                return Err(Error::Conflict("the IAM key is locked: unlock it first"));
            }
            for sql in [
                "DELETE FROM refresh_tokens WHERE iam_key = $1",
                "DELETE FROM iam_keys WHERE id = $1",
            ] {
                sqlx::query(sql).bind(id.as_str()).execute(&mut *tx).await?;
            }
            Ok(true)
        })
        .await
    }

    async fn begin_refresh(
        &self,
        family: Uuid,
        key: &IamKeyId,
        first: &RefreshToken,
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            let known = iam_key(tx, key.as_str()).await?;
            known.ok_or(Error::NotFound("IAM key"))?;
            insert_refresh(tx, family, key.as_str(), first).await?;
            Ok(())
        })
        .await
    }

    async fn rotate_refresh(
        &self,
        hash: &[u8; 32],
        next: &RefreshToken,
        now: Millis,
    ) -> Result<Refreshed, Error> {
        transact!(self, |tx| {
            let row = sqlx::query(SELECT_REFRESH)
                .bind(hash.as_slice())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(row) = row else {
                return Ok(Refreshed::Unknown);
            };
            let columns = Columns::of(&row, "refresh_tokens");
            let (family, key): (Uuid, &str) = (columns.uuid(0)?, columns.get(1)?);
            let used_at: Option<Millis> = columns.get(2)?;
            if used_at.is_some() {
                sqlx::query("DELETE FROM refresh_tokens WHERE family = $1")
                    .bind(Id(family))
                    .execute(&mut *tx)
                    .await?;
                return Ok(Refreshed::Reused);
            }
            let found = iam_key(tx, key).await?;
            let (false, Some(found)) = (columns.int(3)? <= now, found) else {
                return Ok(Refreshed::Unknown);
            };
            sqlx::query("UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2")
                .bind(now)
                .bind(hash.as_slice())
                .execute(&mut *tx)
                .await?;
            insert_refresh(tx, family, key, next).await?;
            Ok(Refreshed::Rotated(found))
        })
        .await
    }
}

async fn put_grants(connection: &mut PgConnection, service: &ServiceIdRecord) -> Result<(), Error> {
    sqlx::query("DELETE FROM service_grants WHERE service = $1")
        .bind(service.id.as_str())
        .execute(&mut *connection)
        .await?;
    for (tenant, role) in &service.grants.tenants {
        sqlx::query("INSERT INTO service_grants (service, tenant, role) VALUES ($1, $2, $3::int8)")
            .bind(service.id.as_str())
            .bind(tenant.as_str())
            .bind(role.code())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn service(
    connection: &mut PgConnection,
    id: &ServiceId,
) -> Result<Option<ServiceIdRecord>, Error> {
    let row = sqlx::query(SELECT_SERVICE)
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let granted = sqlx::query("SELECT tenant, role FROM service_grants WHERE service = $1")
        .bind(id.as_str())
        .fetch_all(connection)
        .await?;
    let mut grants = Grants::default();
    for row in &granted {
        let row = Columns::of(row, "service_grants");
        grants.tenants.insert(row.tenant(0)?, row.coded(1)?);
    }
    let row = Columns::of(&row, "service_ids");
    grants.everywhere = row.coded_or_null(4)?;
    Ok(Some(ServiceIdRecord {
        id: row.id(0)?,
        org: row.id(1)?,
        name: row.text(2)?.to_owned(),
        description: row.text(3)?.to_owned(),
        grants,
        version: row.int(5)?,
        created_by: row.text(6)?.to_owned(),
        created_at: row.int(7)?,
        updated_at: row.int(8)?,
    }))
}

async fn iam_key(connection: &mut PgConnection, id: &str) -> Result<Option<IamKeyRecord>, Error> {
    let row = sqlx::query(select_key!("WHERE k.id = $1"))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_key).transpose()
}

async fn insert_refresh(
    connection: &mut PgConnection,
    family: Uuid,
    key: &str,
    token: &RefreshToken,
) -> Result<(), Error> {
    sqlx::query(INSERT_REFRESH)
        .bind(token.hash.as_slice())
        .bind(Id(family))
        .bind(key)
        .bind(token.expires_at)
        .execute(connection)
        .await?;
    Ok(())
}

fn read_key(row: &PgRow) -> Result<IamKeyRecord, Error> {
    const TABLE: &str = "iam_keys";
    let row = Columns::of(row, TABLE);
    let owner = IamOwner::of_columns(row.int(2)?, row.get(3)?);
    let org: Option<&str> = row.get(4)?;
    Ok(IamKeyRecord {
        id: row.id(0)?,
        hash: row.array(1)?,
        owner: owner.ok_or_else(|| corrupt(TABLE, Unreadable(3)))?,
        org: org.map(|_| row.id(4)).transpose()?,
        name: row.text(5)?.to_owned(),
        description: row.text(6)?.to_owned(),
        is_locked: row.get(7)?,
        is_disabled: row.get(8)?,
        version: row.int(9)?,
        expires_at: row.get(10)?,
        created_by: row.text(11)?.to_owned(),
        created_at: row.int(12)?,
        updated_at: row.int(13)?,
    })
}
