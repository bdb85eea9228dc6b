//! Installations in PostgreSQL: devices by the id that their app gave them.
//! It must not know which face calls a device by such an id.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256, digest};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{
    Error, Installation, Installations, PlatformCount, PutInstallation, Registration,
};
use super::columns::{Coded, Columns, column};
use super::devices::{Key, lock};
use super::session::{read, transact};
use super::tags::untag;
use super::{PostgresStore, require_tenant};
use crate::model::{Device, DeviceId, Millis, TenantId};

/// How often a registration is tried that another one of the same device token or id comes before.
const ATTEMPTS: u32 = 4;

// Those who put the same installation or device token take turns, whether or not there is a row yet.
const TAKE_TURN: &str =
    "SELECT pg_advisory_xact_lock($1) IS NULL, pg_advisory_xact_lock($2) IS NULL";

const BY_ID: &str = "
SELECT id, external_id FROM devices
WHERE tenant = $1 AND external_id = $2 AND pruned_at IS NULL";

const BY_DEVICE_TOKEN: &str = "
SELECT id, external_id FROM devices
WHERE tenant = $1 AND sha256(device_token) = $2 AND pruned_at IS NULL";

const INSERT: &str = "
INSERT INTO devices (tenant, external_id, user_id, platform, environment, device_token, app_version,
    created_at, registered_at)
VALUES ($1, $2, $3, $4::int8, $5::int8, $6, $7, $8, $8)
RETURNING id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id";

const UPDATE: &str = "
UPDATE devices SET external_id = $2, user_id = $3, platform = $4::int8, environment = $5::int8,
    device_token = $6, app_version = $7, registered_at = $8, suspect_at = NULL
WHERE tenant = $1 AND id = $9
RETURNING id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id";

const SELECT_BY_ID: &str = "
SELECT d.id, d.user_id, d.platform, d.environment, d.device_token, d.app_version, d.created_at,
    d.registered_at, d.last_accepted_at, d.external_id
FROM (SELECT DISTINCT u.external_id FROM unnest($2::bytea[]) AS u (external_id)) AS v
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.external_id = v.external_id
    AND d.pruned_at IS NULL LIMIT 1) AS d
ORDER BY d.external_id";

const SELECT: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id
FROM devices WHERE tenant = $1 AND external_id > $2 AND pruned_at IS NULL
ORDER BY external_id LIMIT $3";

const SELECT_OF_USER: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at, external_id
FROM devices WHERE tenant = $1 AND external_id > $2 AND user_id = $4 AND pruned_at IS NULL
ORDER BY external_id LIMIT $3";

const COUNT: &str = "
SELECT platform, count(*), count(*) FILTER (WHERE created_at >= $2)
FROM devices WHERE tenant = $1 AND external_id > '' AND pruned_at IS NULL
    AND ($3::bytea IS NULL OR user_id = $3)
GROUP BY platform ORDER BY platform";

const REMOVE: &str = "
DELETE FROM devices WHERE tenant = $1 AND external_id = $2 AND pruned_at IS NULL RETURNING id";

const DELETE: &str = "DELETE FROM devices WHERE tenant = $1 AND id = $2";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    BY_ID,
    BY_DEVICE_TOKEN,
    UPDATE,
    SELECT_BY_ID,
    SELECT,
    SELECT_OF_USER,
    COUNT,
    REMOVE,
    DELETE,
];

#[async_trait]
impl Installations for PostgresStore {
    async fn put_installation(
        &self,
        tenant: &TenantId,
        external_id: &str,
        registration: &Registration,
        now: Millis,
    ) -> Result<PutInstallation, Error> {
        let mut attempts = 1;
        loop {
            let answer = transact!(self, |tx| {
                put(tx, tenant, (external_id, registration), now).await
            });
            match answer.await {
                // Another one came first and is seen now.
                Err(Error::Data(_) | Error::Conflict(_)) if attempts < ATTEMPTS => attempts += 1,
                answer => return answer,
            }
        }
    }

    async fn installations_by_id(
        &self,
        tenant: &TenantId,
        external_ids: &[Box<str>],
    ) -> Result<Vec<Installation>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_BY_ID)
                .bind(tenant.as_str())
                .bind(column(external_ids, |id| id.as_bytes()));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_installation).collect()
    }

    async fn installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Installation>, Error> {
        let sql = if user_id.is_some() {
            SELECT_OF_USER
        } else {
            SELECT
        };
        let rows = read!(self, |session| {
            let mut query = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(after.as_bytes())
                .bind(i64::from(limit));
            if let Some(user_id) = user_id {
                query = query.bind(user_id.as_bytes());
            }
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_installation).collect()
    }

    async fn count_installations(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        since: Millis,
    ) -> Result<Vec<PlatformCount>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(COUNT)
                .bind(tenant.as_str())
                .bind(since)
                .bind(user_id.map(str::as_bytes));
            Ok(query.fetch_all(session).await?)
        })
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
        transact!(self, |tx| {
            let gone: Option<DeviceId> = sqlx::query_scalar(REMOVE)
                .bind(tenant.as_str())
                .bind(external_id.as_bytes())
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(device) = gone {
                untag(tx, tenant, device).await?;
            }
            Ok(gone.is_some())
        })
        .await
    }
}

/// A number for a tenant's id or device token.
fn turn(tenant: &TenantId, kind: u8, key: &str) -> i64 {
    let mut all = Context::new(&SHA256);
    all.update(tenant.as_str().as_bytes());
    all.update(&[0, kind]);
    all.update(key.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&all.finish().as_ref()[..8]);
    i64::from_be_bytes(number)
}

/// The installation's device, and the device token's holder with whether it has an id.
type Known = (Option<DeviceId>, Option<(DeviceId, bool)>);

async fn find(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (external_id, device_token): (&str, &str),
) -> Result<Known, Error> {
    let mut found = [None, None];
    let digest = digest(&SHA256, device_token.as_bytes());
    let asked = [
        (BY_ID, external_id.as_bytes()),
        (BY_DEVICE_TOKEN, digest.as_ref()),
    ];
    for (found, (sql, key)) in found.iter_mut().zip(asked) {
        let row = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(key)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = &row {
            let row = Columns::of(row, "devices");
            *found = Some((row.int(0)?, row.text_or_null(1)?.is_some()));
        }
    }
    let [known, holder] = found;
    Ok((known.map(|(device, _)| device), holder))
}

async fn put(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (external_id, registration): (&str, &Registration),
    now: Millis,
) -> Result<PutInstallation, Error> {
    require_tenant(connection, tenant).await?;
    let (id, device_token) = (external_id, &*registration.device_token);
    let mut turns = [turn(tenant, 0, id), turn(tenant, 1, device_token)];
    turns.sort_unstable();
    sqlx::query(TAKE_TURN)
        .bind(turns[0])
        .bind(turns[1])
        .execute(&mut *connection)
        .await?;
    let found = find(connection, tenant, (id, device_token)).await?;
    let devices: BTreeSet<Key<'_>> = [found.0, found.1.map(|(device, _)| device)]
        .into_iter()
        .flatten()
        .map(|device| (tenant.as_str(), device))
        .collect();
    lock(connection, &devices.into_iter().collect::<Vec<_>>()).await?;
    if find(connection, tenant, (id, device_token)).await? != found {
        return Err(Error::Conflict("the device was registered meanwhile"));
    }
    let (known, holder) = found;
    // The device token's holder is this one, becomes this one, or goes.
    let kept = match (known, holder) {
        (None, Some((holder, false))) => Some(holder),
        (known, Some((holder, _))) if known != Some(holder) => {
            untag(connection, tenant, holder).await?;
            sqlx::query(DELETE)
                .bind(tenant.as_str())
                .bind(holder)
                .execute(&mut *connection)
                .await?;
            known
        }
        (known, _) => known,
    };
    let query = sqlx::query(if kept.is_some() { UPDATE } else { INSERT })
        .bind(tenant.as_str())
        .bind(external_id.as_bytes())
        .bind(registration.user_id.as_bytes())
        .bind(registration.platform.code())
        .bind(registration.environment.code())
        .bind(registration.device_token.as_bytes())
        .bind(registration.app_version.as_deref().map(str::as_bytes))
        .bind(now);
    let query = match kept {
        Some(device) => query.bind(device),
        None => query,
    };
    let row = query.fetch_one(connection).await?;
    Ok(PutInstallation {
        installation: read_installation(&row)?,
        created: known.is_none(),
    })
}

fn read_installation(row: &PgRow) -> Result<Installation, Error> {
    let row = Columns::of(row, "devices");
    Ok(Installation {
        external_id: row.text(9)?.into(),
        device: Device {
            id: row.int(0)?,
            user_id: row.text(1)?.into(),
            platform: row.coded(2)?,
            environment: row.coded(3)?,
            device_token: row.text(4)?.into(),
            app_version: row.text_or_null(5)?.map(Into::into),
            created_at: row.int(6)?,
            registered_at: row.int(7)?,
            last_accepted_at: row.get(8)?,
        },
    })
}
