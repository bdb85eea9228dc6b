//! Push secrets and client applications in PostgreSQL.
//! It must not know how a secret is drawn or compared.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::clients::CLIENTS_PER_SECTION_MAX;
use super::super::{
    ClientCreated, ClientRecord, Clients, Error, PushSecrets, PushSecretsPatch, SecretAdded,
    SecretHash, Section,
};
use super::PostgresStore;
use super::columns::{Coded, Columns};
use super::session::{read, transact};
use crate::model::{Millis, TenantId};

// Held against others that change the same tenant's, so that they are counted and patched one after the other.
const HOLD_TENANT: &str =
    "SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE";

const SELECT_SECRETS: &str = "
SELECT client_secret, client_secret_at, app_secret, app_secret_at, allows_app_secret,
    verifies_client_secret, sender_id
FROM push_secrets WHERE tenant = $1";

const PUT_SECRETS: &str = "
INSERT INTO push_secrets (tenant, client_secret, client_secret_at, app_secret, app_secret_at,
    allows_app_secret, verifies_client_secret, sender_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant) DO UPDATE SET client_secret = excluded.client_secret,
    client_secret_at = excluded.client_secret_at, app_secret = excluded.app_secret,
    app_secret_at = excluded.app_secret_at, allows_app_secret = excluded.allows_app_secret,
    verifies_client_secret = excluded.verifies_client_secret, sender_id = excluded.sender_id";

const COUNT_SECTION: &str = "SELECT count(*) FROM clients WHERE tenant = $1 AND section = $2::int8";

const INSERT_CLIENT: &str = "
INSERT INTO clients (tenant, client_id, name, section, secret, created_at)
VALUES ($1, $2, $3, $4::int8, $5, $6) ON CONFLICT DO NOTHING";

const SELECT_CLIENT: &str = "
SELECT tenant, client_id, name, section, secret, created_at FROM clients
WHERE tenant = $1 AND client_id = $2";

const SELECT_CLIENTS: &str = "
SELECT tenant, client_id, name, section, secret, created_at FROM clients
WHERE tenant = $1 ORDER BY created_at, client_id";

const ADD_SECRET: &str = "
UPDATE clients SET secret = $1
WHERE tenant = $2 AND client_id = $3 AND section = $4::int8 AND secret IS NULL";

const DELETE_CLIENT: &str = "DELETE FROM clients WHERE tenant = $1 AND client_id = $2";

#[async_trait]
impl Clients for PostgresStore {
    async fn push_secrets(&self, tenant: &TenantId) -> Result<PushSecrets, Error> {
        read!(self, |session| { select_secrets(session, tenant).await }).await
    }

    async fn update_push_secrets(
        &self,
        tenant: &TenantId,
        patch: &PushSecretsPatch,
        now: Millis,
    ) -> Result<PushSecrets, Error> {
        transact!(self, |tx| {
            hold_tenant(tx, tenant).await?;
            let new = patch.applied_to(select_secrets(tx, tenant).await?, now);
            let (client, app) = (new.client_secret.as_ref(), new.app_secret.as_ref());
            sqlx::query(PUT_SECRETS)
                .bind(tenant.as_str())
                .bind(client.map(|(hash, _)| hash.as_slice()))
                .bind(client.map(|(_, at)| *at))
                .bind(app.map(|(hash, _)| hash.as_slice()))
                .bind(app.map(|(_, at)| *at))
                .bind(new.allows_app_secret)
                .bind(new.verifies_client_secret)
                .bind(new.sender_id.as_deref().map(str::as_bytes))
                .execute(&mut *tx)
                .await?;
            Ok(new)
        })
        .await
    }

    async fn create_client(&self, client: &ClientRecord) -> Result<ClientCreated, Error> {
        transact!(self, |tx| {
            hold_tenant(tx, &client.tenant).await?;
            let there = sqlx::query(COUNT_SECTION)
                .bind(client.tenant.as_str())
                .bind(client.section.code())
                .fetch_one(&mut *tx)
                .await?;
            if Columns::of(&there, "clients").small::<usize>(0)? >= CLIENTS_PER_SECTION_MAX {
                return Ok(ClientCreated::Full);
            }
            let done = sqlx::query(INSERT_CLIENT)
                .bind(client.tenant.as_str())
                .bind(client.client_id.as_str())
                .bind(client.name.as_bytes())
                .bind(client.section.code())
                .bind(client.secret.as_ref().map(SecretHash::as_slice))
                .bind(client.created_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the client id exists"));
            }
            Ok(ClientCreated::Stored)
        })
        .await
    }

    async fn client(
        &self,
        tenant: &TenantId,
        client_id: &str,
    ) -> Result<Option<ClientRecord>, Error> {
        read!(self, |session| {
            select_client(session, tenant, client_id).await
        })
        .await
    }

    async fn clients(&self, tenant: &TenantId) -> Result<Vec<ClientRecord>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_CLIENTS).bind(tenant.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_client).collect()
    }

    async fn add_client_secret(
        &self,
        tenant: &TenantId,
        client_id: &str,
        secret: &SecretHash,
    ) -> Result<SecretAdded, Error> {
        transact!(self, |tx| {
            let done = sqlx::query(ADD_SECRET)
                .bind(secret.as_slice())
                .bind(tenant.as_str())
                .bind(client_id)
                .bind(Section::Outside.code())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() > 0 {
                return Ok(SecretAdded::Stored);
            }
            let there = select_client(tx, tenant, client_id).await?;
            Ok(there.map_or(SecretAdded::Unknown, |_| SecretAdded::Immutable))
        })
        .await
    }

    async fn delete_client(&self, tenant: &TenantId, client_id: &str) -> Result<bool, Error> {
        transact!(self, |tx| {
            let done = sqlx::query(DELETE_CLIENT)
                .bind(tenant.as_str())
                .bind(client_id)
                .execute(&mut *tx)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}

async fn hold_tenant(connection: &mut PgConnection, tenant: &TenantId) -> Result<(), Error> {
    let found: Option<i32> = sqlx::query_scalar(HOLD_TENANT)
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    found.map(|_| ()).ok_or(Error::NotFound("tenant"))
}

async fn select_secrets(
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<PushSecrets, Error> {
    let row = sqlx::query(SELECT_SECRETS)
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    let secrets = row.as_ref().map(read_secrets).transpose()?;
    Ok(secrets.unwrap_or_default())
}

async fn select_client(
    connection: &mut PgConnection,
    tenant: &TenantId,
    client_id: &str,
) -> Result<Option<ClientRecord>, Error> {
    let row = sqlx::query(SELECT_CLIENT)
        .bind(tenant.as_str())
        .bind(client_id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_client).transpose()
}

fn read_secrets(row: &PgRow) -> Result<PushSecrets, Error> {
    let row = Columns::of(row, "push_secrets");
    let secret = |hash: usize, at: usize| -> Result<Option<(SecretHash, Millis)>, Error> {
        let made = row.int_or_null(at)?;
        made.map(|made| Ok((row.array(hash)?, made))).transpose()
    };
    Ok(PushSecrets {
        client_secret: secret(0, 1)?,
        app_secret: secret(2, 3)?,
        allows_app_secret: row.get(4)?,
        verifies_client_secret: row.get(5)?,
        sender_id: row.text_or_null(6)?.map(Into::into),
    })
}

fn read_client(row: &PgRow) -> Result<ClientRecord, Error> {
    let row = Columns::of(row, "clients");
    let has_secret = row.get::<Option<&[u8]>>(4)?.is_some();
    Ok(ClientRecord {
        tenant: row.tenant(0)?,
        client_id: row.get(1)?,
        name: row.text(2)?.to_owned(),
        section: row.coded(3)?,
        secret: has_secret.then(|| row.array(4)).transpose()?,
        created_at: row.int(5)?,
    })
}
