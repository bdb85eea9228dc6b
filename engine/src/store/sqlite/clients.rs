//! Push secrets and client applications in SQLite.
//! It must not know how a secret is drawn or compared.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::clients::CLIENTS_PER_SECTION_MAX;
use super::super::{
    ClientCreated, ClientRecord, Clients, Error, PushSecrets, PushSecretsPatch, SecretAdded,
    SecretHash, Section,
};
use super::columns::{Coded, Columns};
use super::{SqliteStore, require_tenant};
use crate::model::{Millis, TenantId};

const SELECT_SECRETS: &str = "
SELECT client_secret, client_secret_at, app_secret, app_secret_at, allows_app_secret,
    verifies_client_secret, sender_id
FROM push_secrets WHERE tenant = ?";

const PUT_SECRETS: &str = "
INSERT INTO push_secrets (tenant, client_secret, client_secret_at, app_secret, app_secret_at,
    allows_app_secret, verifies_client_secret, sender_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant) DO UPDATE SET client_secret = excluded.client_secret,
    client_secret_at = excluded.client_secret_at, app_secret = excluded.app_secret,
    app_secret_at = excluded.app_secret_at, allows_app_secret = excluded.allows_app_secret,
    verifies_client_secret = excluded.verifies_client_secret, sender_id = excluded.sender_id";

const COUNT_SECTION: &str = "SELECT count(*) FROM clients WHERE tenant = ? AND section = ?";

const INSERT_CLIENT: &str = "
INSERT INTO clients (tenant, client_id, name, section, secret, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING";

const SELECT_CLIENT: &str = "
SELECT tenant, client_id, name, section, secret, created_at FROM clients
WHERE tenant = ? AND client_id = ?";

const SELECT_CLIENTS: &str = "
SELECT tenant, client_id, name, section, secret, created_at FROM clients
WHERE tenant = ? ORDER BY created_at, client_id";

const ADD_SECRET: &str = "
UPDATE clients SET secret = ? WHERE tenant = ? AND client_id = ? AND section = ? AND secret IS NULL";

const DELETE_CLIENT: &str = "DELETE FROM clients WHERE tenant = ? AND client_id = ?";

#[async_trait]
impl Clients for SqliteStore {
    async fn push_secrets(&self, tenant: &TenantId) -> Result<PushSecrets, Error> {
        select_secrets(&mut *self.reader().await?, tenant).await
    }

    async fn update_push_secrets(
        &self,
        tenant: &TenantId,
        patch: &PushSecretsPatch,
        now: Millis,
    ) -> Result<PushSecrets, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        let new = patch.applied_to(select_secrets(&mut tx, tenant).await?, now);
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
        tx.commit().await?;
        Ok(new)
    }

    async fn create_client(&self, client: &ClientRecord) -> Result<ClientCreated, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, &client.tenant).await?;
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
        tx.commit().await?;
        Ok(ClientCreated::Stored)
    }

    async fn client(
        &self,
        tenant: &TenantId,
        client_id: &str,
    ) -> Result<Option<ClientRecord>, Error> {
        select_client(&mut *self.reader().await?, tenant, client_id).await
    }

    async fn clients(&self, tenant: &TenantId) -> Result<Vec<ClientRecord>, Error> {
        let rows = sqlx::query(SELECT_CLIENTS)
            .bind(tenant.as_str())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_client).collect()
    }

    async fn add_client_secret(
        &self,
        tenant: &TenantId,
        client_id: &str,
        secret: &SecretHash,
    ) -> Result<SecretAdded, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let done = sqlx::query(ADD_SECRET)
            .bind(secret.as_slice())
            .bind(tenant.as_str())
            .bind(client_id)
            .bind(Section::Outside.code())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            tx.commit().await?;
            return Ok(SecretAdded::Stored);
        }
        let there = select_client(&mut tx, tenant, client_id).await?;
        Ok(there.map_or(SecretAdded::Unknown, |_| SecretAdded::Immutable))
    }

    async fn delete_client(&self, tenant: &TenantId, client_id: &str) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let done = sqlx::query(DELETE_CLIENT)
            .bind(tenant.as_str())
            .bind(client_id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

async fn select_secrets(
    connection: &mut SqliteConnection,
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
    connection: &mut SqliteConnection,
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

fn read_secrets(row: &SqliteRow) -> Result<PushSecrets, Error> {
    let row = Columns::of(row, "push_secrets");
    let secret = |hash: usize, at: usize| -> Result<Option<(SecretHash, Millis)>, Error> {
        let made: Option<Millis> = row.get(at)?;
        made.map(|made| Ok((row.array(hash)?, made))).transpose()
    };
    let sender_id: Option<&[u8]> = row.get(6)?;
    Ok(PushSecrets {
        client_secret: secret(0, 1)?,
        app_secret: secret(2, 3)?,
        allows_app_secret: row.get(4)?,
        verifies_client_secret: row.get(5)?,
        sender_id: sender_id.map(|bytes| String::from_utf8_lossy(bytes).into()),
    })
}

fn read_client(row: &SqliteRow) -> Result<ClientRecord, Error> {
    let row = Columns::of(row, "clients");
    let has_secret = row.get::<Option<&[u8]>>(4)?.is_some();
    Ok(ClientRecord {
        tenant: row.tenant(0)?,
        client_id: row.get(1)?,
        name: row.lossy(2)?,
        section: row.coded(3)?,
        secret: has_secret.then(|| row.array(4)).transpose()?,
        created_at: row.int(5)?,
    })
}
