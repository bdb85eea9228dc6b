//! Installations in SQLite: devices by the id that their app gave them.
//! It must not know which face calls a device by such an id.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{
    Error, Installation, Installations, PlatformCount, PutInstallation, Registration,
};
use super::columns::{Coded, Columns};
use super::tags::untag;
use super::{SqliteStore, require_tenant};
use crate::model::{Device, DeviceId, Millis, TenantId};

const BY_ID: &str = "
SELECT id FROM devices WHERE tenant = ? AND external_id = ? AND pruned_at IS NULL";

const BY_DEVICE_TOKEN: &str = "
SELECT id, external_id FROM devices WHERE tenant = ? AND device_token = ? AND pruned_at IS NULL";

const INSERT: &str = "
INSERT INTO devices (tenant, external_id, user_id, platform, environment, device_token, app_version,
    created_at, registered_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
RETURNING id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id";

const UPDATE: &str = "
UPDATE devices SET external_id = ?2, user_id = ?3, platform = ?4, environment = ?5, device_token = ?6,
    app_version = ?7, registered_at = ?8, suspect_at = NULL
WHERE tenant = ?1 AND id = ?9
RETURNING id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id";

const SELECT_BY_ID: &str = "
SELECT d.id, d.user_id, d.platform, d.environment, d.device_token, d.app_version, d.created_at,
    d.registered_at, d.last_accepted_at, d.external_id
FROM (SELECT DISTINCT value FROM json_each(?2)) AS v CROSS JOIN devices d
    ON d.tenant = ?1 AND d.external_id = v.value AND d.pruned_at IS NULL
ORDER BY d.external_id";

const SELECT: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id
FROM devices INDEXED BY devices_by_external_id
WHERE tenant = ? AND external_id > ? AND pruned_at IS NULL ORDER BY external_id LIMIT ?";

const SELECT_OF_USER: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id
FROM devices INDEXED BY devices_by_user
WHERE tenant = ? AND external_id > ? AND user_id = ?4 AND pruned_at IS NULL
ORDER BY external_id LIMIT ?3";

const COUNT: &str = "
SELECT platform, count(*), count(*) FILTER (WHERE created_at >= ?2)
FROM devices INDEXED BY devices_by_external_id
WHERE tenant = ?1 AND external_id > '' AND pruned_at IS NULL AND (?3 IS NULL OR user_id = ?3)
GROUP BY platform ORDER BY platform";

const DELETE: &str = "DELETE FROM devices WHERE tenant = ? AND id = ?";

#[async_trait]
impl Installations for SqliteStore {
    async fn put_installation(
        &self,
        tenant: &TenantId,
        external_id: &str,
        registration: &Registration,
        now: Millis,
    ) -> Result<PutInstallation, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        let known = find(&mut tx, tenant, external_id).await?;
        let holder = sqlx::query(BY_DEVICE_TOKEN)
            .bind(tenant.as_str())
            .bind(&*registration.device_token)
            .fetch_optional(&mut *tx)
            .await?;
        let holder: Option<(DeviceId, bool)> = match &holder {
            None => None,
            Some(row) => {
                let row = Columns::of(row, "devices");
                Some((row.int(0)?, row.get::<Option<&str>>(1)?.is_some()))
            }
        };
        // The device token's holder is this one, becomes this one, or goes.
        let kept = match (known, holder) {
            (None, Some((holder, false))) => Some(holder),
            (known, Some((holder, _))) if known != Some(holder) => {
                remove(&mut tx, tenant, holder).await?;
                known
            }
            (known, _) => known,
        };
        let row = sqlx::query(if kept.is_some() { UPDATE } else { INSERT })
            .bind(tenant.as_str())
            .bind(external_id)
            .bind(&*registration.user_id)
            .bind(registration.platform.code())
            .bind(registration.environment.code())
            .bind(&*registration.device_token)
            .bind(registration.app_version.as_deref())
            .bind(now)
            .bind(kept)
            .fetch_one(&mut *tx)
            .await?;
        let installation = read(&row)?;
        tx.commit().await?;
        Ok(PutInstallation {
            installation,
            created: known.is_none(),
        })
    }

    async fn installations_by_id(
        &self,
        tenant: &TenantId,
        external_ids: &[Box<str>],
    ) -> Result<Vec<Installation>, Error> {
        let rows = sqlx::query(SELECT_BY_ID)
            .bind(tenant.as_str())
            .bind(serde_json::json!(external_ids).to_string())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read).collect()
    }

    async fn installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Installation>, Error> {
        let query = sqlx::query(if user_id.is_some() {
            SELECT_OF_USER
        } else {
            SELECT
        });
        let mut query = query.bind(tenant.as_str()).bind(after).bind(limit);
        if let Some(user_id) = user_id {
            query = query.bind(user_id);
        }
        let rows = query.fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(read).collect()
    }

    async fn count_installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        since: Millis,
    ) -> Result<Vec<PlatformCount>, Error> {
        let rows = sqlx::query(COUNT)
            .bind(tenant.as_str())
            .bind(since)
            .bind(user_id)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        let read = |row| {
            let row = Columns::of(row, "devices");
            Ok(PlatformCount {
                platform: row.coded(0)?,
                devices: row.small(1)?,
                registered: row.small(2)?,
            })
        };
        rows.iter().map(read).collect()
    }

    async fn remove_installation(
        &self,
        tenant: &TenantId,
        external_id: &str,
    ) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let Some(device) = find(&mut tx, tenant, external_id).await? else {
            return Ok(false);
        };
        remove(&mut tx, tenant, device).await?;
        tx.commit().await?;
        Ok(true)
    }
}

async fn find(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    external_id: &str,
) -> Result<Option<DeviceId>, Error> {
    Ok(sqlx::query_scalar(BY_ID)
        .bind(tenant.as_str())
        .bind(external_id)
        .fetch_optional(connection)
        .await?)
}

/// Removes a device and its subscriptions.
async fn remove(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    device: DeviceId,
) -> Result<(), Error> {
    untag(connection, tenant, device).await?;
    sqlx::query(DELETE)
        .bind(tenant.as_str())
        .bind(device)
        .execute(connection)
        .await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Installation, Error> {
    let row = Columns::of(row, "devices");
    let app_version: Option<&str> = row.get(5)?;
    Ok(Installation {
        external_id: row.get::<&str>(9)?.into(),
        device: Device {
            id: row.int(0)?,
            user_id: row.get::<&str>(1)?.into(),
            platform: row.coded(2)?,
            environment: row.coded(3)?,
            device_token: row.get::<&str>(4)?.into(),
            app_version: app_version.map(Into::into),
            created_at: row.int(6)?,
            registered_at: row.int(7)?,
            last_accepted_at: row.get(8)?,
        },
    })
}
