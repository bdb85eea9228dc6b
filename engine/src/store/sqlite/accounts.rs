//! Tenants and provider credentials in SQLite.
//! It must not know what a sealed credential holds.

use async_trait::async_trait;
use clarion_auth::OrgId;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{Accounts, CredentialRecord, Error, Tenant, TenantLimits, TenantPatch};
use super::columns::{Coded, Columns, int};
use super::{SqliteStore, require_tenant};
use crate::model::{Millis, TenantId};

/// The columns of a tenant, as [`read_tenant`] reads them.
macro_rules! select_tenant {
    ($rest:literal) => {
        concat!(
            "SELECT id, org, bundle_id, use_sandbox, rate, burst, backlog, weight, ",
            "ambiguous_retries, suspended, created_by, created_at, updated_at, deleted_at ",
            "FROM tenants ",
            $rest
        )
    };
}
pub(super) use select_tenant;

const INSERT_TENANT: &str = "
INSERT INTO tenants (id, org, bundle_id, use_sandbox, rate, burst, backlog, weight,
    ambiguous_retries, suspended, created_by, created_at, updated_at, version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING";

const UPDATE_TENANT: &str = "
UPDATE tenants SET bundle_id = ?, use_sandbox = ?, rate = ?, burst = ?, backlog = ?, weight = ?,
    ambiguous_retries = ?, suspended = ?, updated_at = ?, version = ?
WHERE id = ?";

const DELETE_TENANT: &str = "
UPDATE tenants SET deleted_at = ?2, updated_at = ?2, version = ?3
WHERE id = ?1 AND deleted_at IS NULL";

const PUT_CREDENTIAL: &str = "
INSERT INTO credentials (tenant, credential_id, kind, environment, version, public, sealed, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, credential_id) DO UPDATE SET kind = excluded.kind,
    environment = excluded.environment, version = excluded.version, public = excluded.public,
    sealed = excluded.sealed, created_at = excluded.created_at, deleted_at = NULL
WHERE credentials.version + 1 = excluded.version";

const NEXT_CREDENTIAL_VERSION: &str = "
SELECT coalesce(max(version), 0) + 1 FROM credentials WHERE tenant = ? AND credential_id = ?";

const DELETE_CREDENTIAL: &str = "
UPDATE credentials SET deleted_at = ?, sealed = x'', public = '{}'
WHERE tenant = ? AND credential_id = ? AND deleted_at IS NULL";

const SELECT_CREDENTIALS: &str = "
SELECT tenant, credential_id, kind, environment, version, public, sealed, created_at
FROM credentials WHERE tenant = ? AND deleted_at IS NULL ORDER BY credential_id";

#[async_trait]
impl Accounts for SqliteStore {
    async fn create_tenant(
        &self,
        tenant: &Tenant,
        credentials: &[CredentialRecord],
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let version = raise_version(&mut tx).await?;
        insert_tenant(&mut tx, tenant, version).await?;
        for record in credentials {
            put_credential(&mut tx, record).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Error> {
        let mut reader = self.reader().await?;
        live_tenant(&mut reader, tenant).await
    }

    async fn tenants(&self, orgs: Option<&[OrgId]>) -> Result<Vec<Tenant>, Error> {
        let all = select_tenant!("WHERE deleted_at IS NULL ORDER BY created_at, id");
        let some = select_tenant!(
            "WHERE deleted_at IS NULL AND org IN (SELECT value FROM json_each(?)) \
             ORDER BY created_at, id"
        );
        let query = match orgs {
            None => sqlx::query(all),
            Some(orgs) => {
                let names: Vec<&str> = orgs.iter().map(OrgId::as_str).collect();
                sqlx::query(some).bind(serde_json::json!(names).to_string())
            }
        };
        let rows = query.fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(read_tenant).collect()
    }

    async fn update_tenant(
        &self,
        tenant: &TenantId,
        patch: &TenantPatch,
        now: Millis,
    ) -> Result<Tenant, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let old = live_tenant(&mut tx, tenant).await?;
        let new = patch.applied_to(old.ok_or(Error::NotFound("tenant"))?, now);
        let version = raise_version(&mut tx).await?;
        let limits = new.limits;
        sqlx::query(UPDATE_TENANT)
            .bind(new.bundle_id.as_deref())
            .bind(new.use_sandbox)
            .bind(limits.rate)
            .bind(limits.burst)
            .bind(limits.backlog.map(int))
            .bind(limits.weight)
            .bind(limits.ambiguous_retries)
            .bind(new.suspended)
            .bind(now)
            .bind(version)
            .bind(tenant.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(new)
    }

    async fn delete_tenant(&self, tenant: &TenantId, now: Millis) -> Result<bool, Error> {
        let was_there = {
            let mut writer = self.writer().await;
            let mut tx = writer.begin().await?;
            let version = raise_version(&mut tx).await?;
            let done = sqlx::query(DELETE_TENANT)
                .bind(tenant.as_str())
                .bind(now)
                .bind(version)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() > 0 {
                for sql in [
                    "DELETE FROM api_keys WHERE tenant = ?",
                    "DELETE FROM api_key_usage WHERE tenant = ?",
                    "DELETE FROM credentials WHERE tenant = ?",
                    "DELETE FROM push_secrets WHERE tenant = ?",
                    "DELETE FROM clients WHERE tenant = ?",
                ] {
                    sqlx::query(sql)
                        .bind(tenant.as_str())
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await?;
                true
            } else {
                tx.rollback().await?;
                false
            }
        };
        if was_there {
            self.purge_tenant(tenant, now).await?;
        }
        Ok(was_there)
    }

    async fn put_credential(&self, record: &CredentialRecord) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, &record.tenant).await?;
        put_credential(&mut tx, record).await?;
        note_change(&mut tx, &record.tenant).await?;
        Ok(tx.commit().await?)
    }

    async fn next_credential_version(
        &self,
        tenant: &TenantId,
        credential_id: &str,
    ) -> Result<i64, Error> {
        let mut reader = self.reader().await?;
        next_credential_version(&mut reader, tenant, credential_id).await
    }

    async fn delete_credential(
        &self,
        tenant: &TenantId,
        credential_id: &str,
        now: Millis,
    ) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let done = sqlx::query(DELETE_CREDENTIAL)
            .bind(now)
            .bind(tenant.as_str())
            .bind(credential_id)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        note_change(&mut tx, tenant).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn credentials(&self, tenant: &TenantId) -> Result<Vec<CredentialRecord>, Error> {
        let rows = sqlx::query(SELECT_CREDENTIALS)
            .bind(tenant.as_str())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_credential).collect()
    }
}

/// Raises the control version and returns it.
async fn raise_version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    let sql = "UPDATE control SET version = version + 1 RETURNING version";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// Raises the control version for a tenant's sake.
async fn note_change(connection: &mut SqliteConnection, tenant: &TenantId) -> Result<(), Error> {
    let version = raise_version(connection).await?;
    sqlx::query("UPDATE tenants SET version = ? WHERE id = ?")
        .bind(version)
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_tenant(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    version: i64,
) -> Result<(), Error> {
    let limits = tenant.limits;
    let done = sqlx::query(INSERT_TENANT)
        .bind(tenant.id.as_str())
        .bind(tenant.org.as_str())
        .bind(tenant.bundle_id.as_deref())
        .bind(tenant.use_sandbox)
        .bind(limits.rate)
        .bind(limits.burst)
        .bind(limits.backlog.map(int))
        .bind(limits.weight)
        .bind(limits.ambiguous_retries)
        .bind(tenant.suspended)
        .bind(tenant.created_by.as_str())
        .bind(tenant.created_at)
        .bind(tenant.updated_at)
        .bind(version)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Conflict("the tenant id exists"));
    }
    Ok(())
}

async fn live_tenant(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
) -> Result<Option<Tenant>, Error> {
    let row = sqlx::query(select_tenant!("WHERE id = ? AND deleted_at IS NULL"))
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_tenant).transpose()
}

async fn next_credential_version(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    credential_id: &str,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(NEXT_CREDENTIAL_VERSION)
        .bind(tenant.as_str())
        .bind(credential_id)
        .fetch_one(connection)
        .await?)
}

async fn put_credential(
    connection: &mut SqliteConnection,
    record: &CredentialRecord,
) -> Result<(), Error> {
    let conflict = Error::Conflict("another replacement of the credential won");
    let next = next_credential_version(connection, &record.tenant, &record.credential_id).await?;
    if record.version != next {
        return Err(conflict);
    }
    let done = sqlx::query(PUT_CREDENTIAL)
        .bind(record.tenant.as_str())
        .bind(record.credential_id.as_str())
        .bind(record.kind.code())
        .bind(record.environment.code())
        .bind(record.version)
        .bind(record.public.as_str())
        .bind(record.sealed.as_slice())
        .bind(record.created_at)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(conflict);
    }
    Ok(())
}

pub(super) fn read_tenant(row: &SqliteRow) -> Result<Tenant, Error> {
    let row = Columns::of(row, "tenants");
    Ok(Tenant {
        id: row.tenant(0)?,
        org: row.id(1)?,
        bundle_id: row.get(2)?,
        use_sandbox: row.get(3)?,
        limits: TenantLimits {
            rate: row.small_or_null(4)?,
            burst: row.small_or_null(5)?,
            backlog: row.small_or_null(6)?,
            weight: row.small_or_null(7)?,
            ambiguous_retries: row.small_or_null(8)?,
        },
        suspended: row.get(9)?,
        created_by: row.get(10)?,
        created_at: row.int(11)?,
        updated_at: row.int(12)?,
        deleted_at: row.get(13)?,
    })
}

fn read_credential(row: &SqliteRow) -> Result<CredentialRecord, Error> {
    let row = Columns::of(row, "credentials");
    Ok(CredentialRecord {
        tenant: row.tenant(0)?,
        credential_id: row.get(1)?,
        kind: row.coded(2)?,
        environment: row.coded(3)?,
        version: row.int(4)?,
        public: row.get(5)?,
        sealed: row.get(6)?,
        created_at: row.int(7)?,
    })
}
