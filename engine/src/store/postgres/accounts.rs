//! Tenants and provider credentials in PostgreSQL.
//! It must not know what a sealed credential holds.

use async_trait::async_trait;
use clarion_auth::OrgId;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{Accounts, CredentialRecord, Error, Tenant, TenantLimits, TenantPatch};
use super::columns::{Coded, Columns, column, int};
use super::session::{read, transact};
use super::{PostgresStore, require_tenant, revocations};
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
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::int8, $10, $11, $12, $13, $14)
ON CONFLICT DO NOTHING";

const UPDATE_TENANT: &str = "
UPDATE tenants SET bundle_id = $1, use_sandbox = $2, rate = $3, burst = $4, backlog = $5, weight = $6,
    ambiguous_retries = $7::int8, suspended = $8, updated_at = $9, version = $10
WHERE id = $11";

const DELETE_TENANT: &str = "
UPDATE tenants SET deleted_at = $2, updated_at = $2, version = $3
WHERE id = $1 AND deleted_at IS NULL";

const PUT_CREDENTIAL: &str = "
INSERT INTO credentials AS c (tenant, credential_id, kind, environment, version, public, sealed,
    created_at)
VALUES ($1, $2, $3::int8, $4::int8, $5, $6, $7, $8)
ON CONFLICT (tenant, credential_id) DO UPDATE SET kind = excluded.kind,
    environment = excluded.environment, version = excluded.version, public = excluded.public,
    sealed = excluded.sealed, created_at = excluded.created_at, deleted_at = NULL
WHERE c.version + 1 = excluded.version";

const NEXT_CREDENTIAL_VERSION: &str = "
SELECT coalesce(max(version), 0) + 1 FROM credentials WHERE tenant = $1 AND credential_id = $2";

const DELETE_CREDENTIAL: &str = "
UPDATE credentials SET deleted_at = $1, sealed = '', public = '{}'
WHERE tenant = $2 AND credential_id = $3 AND deleted_at IS NULL";

const SELECT_CREDENTIALS: &str = "
SELECT tenant, credential_id, kind, environment, version, public, sealed, created_at
FROM credentials WHERE tenant = $1 AND deleted_at IS NULL ORDER BY credential_id";

// Whoever changes what an engine obeys raises the version first and holds it until its commit: changes are
// made one after the other, and nobody reads a version whose change is not there yet.
#[async_trait]
impl Accounts for PostgresStore {
    async fn create_tenant(
        &self,
        tenant: &Tenant,
        credentials: &[CredentialRecord],
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            let version = raise_version(tx).await?;
            insert_tenant(tx, tenant, version).await?;
            for record in credentials {
                put_credential(tx, record).await?;
            }
            Ok(())
        })
        .await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Error> {
        read!(self, |session| { live_tenant(session, tenant).await }).await
    }

    async fn tenants(&self, orgs: Option<&[OrgId]>) -> Result<Vec<Tenant>, Error> {
        let all = select_tenant!("WHERE deleted_at IS NULL ORDER BY created_at, id");
        let some = select_tenant!(
            "WHERE deleted_at IS NULL AND org = ANY($1::text[]) ORDER BY created_at, id"
        );
        let rows = read!(self, |session| {
            let query = match orgs {
                None => sqlx::query(all),
                Some(orgs) => sqlx::query(some).bind(column(orgs, OrgId::as_str)),
            };
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_tenant).collect()
    }

    async fn update_tenant(
        &self,
        tenant: &TenantId,
        patch: &TenantPatch,
        now: Millis,
    ) -> Result<Tenant, Error> {
        transact!(self, |tx| {
            let version = raise_version(tx).await?;
            let old = live_tenant(tx, tenant).await?;
            let new = patch.applied_to(old.ok_or(Error::NotFound("tenant"))?, now);
            update_tenant(tx, &new, version).await?;
            Ok(new)
        })
        .await
    }

    async fn delete_tenant(&self, tenant: &TenantId, now: Millis) -> Result<bool, Error> {
        let was_there = transact!(self, |tx| { delete_tenant(tx, tenant, now).await }).await?;
        if was_there {
            self.purge_tenant(tenant, now).await?;
        }
        Ok(was_there)
    }

    async fn put_credential(&self, record: &CredentialRecord) -> Result<(), Error> {
        transact!(self, |tx| {
            let version = raise_version(tx).await?;
            require_tenant(tx, &record.tenant).await?;
            put_credential(tx, record).await?;
            note_change(tx, &record.tenant, version).await
        })
        .await
    }

    async fn next_credential_version(
        &self,
        tenant: &TenantId,
        credential_id: &str,
    ) -> Result<i64, Error> {
        read!(self, |session| {
            next_credential_version(session, tenant, credential_id).await
        })
        .await
    }

    async fn delete_credential(
        &self,
        tenant: &TenantId,
        credential_id: &str,
        now: Millis,
    ) -> Result<bool, Error> {
        transact!(self, |tx| {
            let version = raise_version(tx).await?;
            let done = sqlx::query(DELETE_CREDENTIAL)
                .bind(now)
                .bind(tenant.as_str())
                .bind(credential_id)
                .execute(&mut *tx)
                .await?;
            let was_there = done.rows_affected() > 0;
            if was_there {
                note_change(tx, tenant, version).await?;
            }
            Ok(was_there)
        })
        .await
    }

    async fn credentials(&self, tenant: &TenantId) -> Result<Vec<CredentialRecord>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_CREDENTIALS).bind(tenant.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_credential).collect()
    }
}

/// Raises the control version and returns it.
async fn raise_version(connection: &mut PgConnection) -> Result<i64, Error> {
    let sql = "UPDATE control SET version = version + 1 RETURNING version";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// Notes that a tenant changed with this version.
async fn note_change(
    connection: &mut PgConnection,
    tenant: &TenantId,
    version: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE tenants SET version = $1 WHERE id = $2")
        .bind(version)
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_tenant(
    connection: &mut PgConnection,
    tenant: &Tenant,
    version: i64,
) -> Result<(), Error> {
    let limits = tenant.limits;
    let done = sqlx::query(INSERT_TENANT)
        .bind(tenant.id.as_str())
        .bind(tenant.org.as_str())
        .bind(tenant.bundle_id.as_deref().map(str::as_bytes))
        .bind(tenant.use_sandbox)
        .bind(limits.rate.map(i64::from))
        .bind(limits.burst.map(i64::from))
        .bind(limits.backlog.map(int))
        .bind(limits.weight.map(i64::from))
        .bind(limits.ambiguous_retries.map(i64::from))
        .bind(tenant.suspended)
        .bind(tenant.created_by.as_bytes())
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
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<Option<Tenant>, Error> {
    let row = sqlx::query(select_tenant!("WHERE id = $1 AND deleted_at IS NULL"))
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_tenant).transpose()
}

async fn update_tenant(
    connection: &mut PgConnection,
    new: &Tenant,
    version: i64,
) -> Result<(), Error> {
    let limits = new.limits;
    sqlx::query(UPDATE_TENANT)
        .bind(new.bundle_id.as_deref().map(str::as_bytes))
        .bind(new.use_sandbox)
        .bind(limits.rate.map(i64::from))
        .bind(limits.burst.map(i64::from))
        .bind(limits.backlog.map(int))
        .bind(limits.weight.map(i64::from))
        .bind(limits.ambiguous_retries.map(i64::from))
        .bind(new.suspended)
        .bind(new.updated_at)
        .bind(version)
        .bind(new.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn delete_tenant(
    connection: &mut PgConnection,
    tenant: &TenantId,
    now: Millis,
) -> Result<bool, Error> {
    let version = raise_version(connection).await?;
    let done = sqlx::query(DELETE_TENANT)
        .bind(tenant.as_str())
        .bind(now)
        .bind(version)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    revocations::tell_tenant(&mut *connection, tenant).await?;
    for sql in [
        "DELETE FROM api_keys WHERE tenant = $1",
        "DELETE FROM api_key_usage WHERE tenant = $1",
        "DELETE FROM credentials WHERE tenant = $1",
        "DELETE FROM push_secrets WHERE tenant = $1",
        "DELETE FROM clients WHERE tenant = $1",
    ] {
        sqlx::query(sql)
            .bind(tenant.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(true)
}

async fn next_credential_version(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
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
        .bind(record.public.as_bytes())
        .bind(record.sealed.as_slice())
        .bind(record.created_at)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(conflict);
    }
    Ok(())
}

pub(super) fn read_tenant(row: &PgRow) -> Result<Tenant, Error> {
    let row = Columns::of(row, "tenants");
    Ok(Tenant {
        id: row.tenant(0)?,
        org: row.id(1)?,
        bundle_id: row.text_or_null(2)?.map(str::to_owned),
        use_sandbox: row.get(3)?,
        limits: TenantLimits {
            rate: row.small_or_null(4)?,
            burst: row.small_or_null(5)?,
            backlog: row.small_or_null(6)?,
            weight: row.small_or_null(7)?,
            ambiguous_retries: row.small_or_null(8)?,
        },
        suspended: row.get(9)?,
        created_by: row.text(10)?.to_owned(),
        created_at: row.int(11)?,
        updated_at: row.int(12)?,
        deleted_at: row.get(13)?,
    })
}

fn read_credential(row: &PgRow) -> Result<CredentialRecord, Error> {
    let row = Columns::of(row, "credentials");
    Ok(CredentialRecord {
        tenant: row.tenant(0)?,
        credential_id: row.get(1)?,
        kind: row.coded(2)?,
        environment: row.coded(3)?,
        version: row.int(4)?,
        public: row.text(5)?.to_owned(),
        sealed: row.get(6)?,
        created_at: row.int(7)?,
    })
}
