//! Devices in SQLite: registration, resolving users, pruning.
//! It must not know what is sent to a device.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{Devices, Error, PruneCandidate, Registration, ResolvedDevice, UserCursor};
use super::columns::{Coded, Columns, Unreadable, corrupt, int};
use super::tags::{untag, untag_pruned};
use super::{SqliteStore, require_tenant};
use crate::datadir::{Binder, Rows};
use crate::model::{Device, DeviceId, Environment, Millis, Platform, TenantId};

const REGISTER: Rows = Rows {
    columns: "tenant, user_id, platform, environment, device_token, app_version, created_at, registered_at",
    statement:
        "INSERT INTO devices (tenant, user_id, platform, environment, device_token, app_version,
        created_at, registered_at) SELECT * FROM v WHERE v.tenant IS NOT NULL ON CONFLICT (tenant,
        device_token) WHERE pruned_at IS NULL DO UPDATE SET user_id = excluded.user_id, platform =
        excluded.platform, environment = excluded.environment, app_version = excluded.app_version,
        registered_at = excluded.registered_at, suspect_at = NULL RETURNING device_token, id,
        created_at, last_accepted_at",
};

const SELECT_OF_TENANT: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at
FROM devices WHERE tenant = ? AND id > ? AND pruned_at IS NULL ORDER BY id LIMIT ?";

const SELECT_OF_USER: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at
FROM devices WHERE tenant = ? AND user_id = ? AND id > ? AND pruned_at IS NULL ORDER BY id LIMIT ?";

const UNREGISTER: &str = "
DELETE FROM devices WHERE tenant = ? AND device_token = ? AND user_id = ? AND pruned_at IS NULL
RETURNING id";

const HAVE_DEVICES: Rows = Rows {
    columns: "place, user_id",
    statement: "SELECT place FROM v WHERE EXISTS (SELECT 1 FROM devices d WHERE d.tenant = ? AND d.user_id =
        v.user_id AND d.pruned_at IS NULL)",
};

// CROSS JOIN: the users lead, and the index finds the devices of each. All devices come in one value, because
// a row of nine values costs more to hand from thread to thread than to find.
const RESOLVE: Rows = Rows {
    columns: "place, user_id, after",
    statement: "SELECT json_group_array(json_array(place, id, platform, environment, device_token,
            app_version, created_at, registered_at, last_accepted_at))
        FROM (SELECT v.place, d.id, d.platform, d.environment, d.device_token, d.app_version,
                d.created_at, d.registered_at, d.last_accepted_at
            FROM v CROSS JOIN devices d
            WHERE d.tenant = ? AND d.user_id = v.user_id AND d.id > v.after
                AND d.pruned_at IS NULL
            ORDER BY v.place, d.id LIMIT ?)",
};

/// One device as [`RESOLVE`] returns it.
type Resolved = (
    usize,
    DeviceId,
    i64,
    i64,
    Box<str>,
    Option<Box<str>>,
    Millis,
    Millis,
    Option<Millis>,
);

const SELECT_CANDIDATES: &str = "
SELECT tenant, device, platform, dead_since, reason, noted_at FROM prune_candidates
WHERE tenant = ? ORDER BY noted_at, device LIMIT ?";

const RELEASE_CANDIDATES: &str = "
UPDATE devices SET pruned_at = ?3, prune_reason = c.reason FROM prune_candidates c
WHERE c.tenant = ?1 AND c.platform = ?2 AND devices.id = c.device AND devices.tenant = c.tenant
    AND devices.registered_at <= c.dead_since AND devices.pruned_at IS NULL";

const FORGET_CANDIDATES: &str = "
DELETE FROM prune_candidates WHERE tenant = ? AND platform = ? RETURNING device";

#[async_trait]
impl Devices for SqliteStore {
    async fn register(
        &self,
        tenant: &TenantId,
        devices: &[Registration],
        now: Millis,
    ) -> Result<Vec<Device>, Error> {
        // Of two registrations of one device token the later counts, for both.
        let mut last: HashMap<&str, usize> = HashMap::with_capacity(devices.len());
        for (place, device) in devices.iter().enumerate() {
            last.insert(&device.device_token, place);
        }
        let kept: Vec<&Registration> = devices
            .iter()
            .enumerate()
            .filter(|(place, device)| last.get(&*device.device_token) == Some(place))
            .map(|(_, device)| device)
            .collect();
        let bind = |binder: &mut Binder, device: &&Registration| {
            binder.bind(tenant.as_str()).bind(&*device.user_id);
            binder.bind(device.platform.code());
            binder.bind(device.environment.code());
            binder.bind(&*device.device_token);
            binder.bind(device.app_version.as_deref());
            binder.bind(now).bind(now);
        };
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        let rows = REGISTER.fetch(&mut tx, &kept, bind).await?;
        tx.commit().await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let row = Columns::of(row, "devices");
            let facts: (i64, Millis, Option<Millis>) = (row.int(1)?, row.int(2)?, row.get(3)?);
            known.insert(row.get::<&str>(0)?, facts);
        }
        let answer = |device: &Registration| {
            let registered = &devices[*last.get(&*device.device_token)?];
            let (id, created_at, last_accepted_at) = *known.get(&*device.device_token)?;
            Some(registered_device(
                registered,
                id,
                (created_at, now, last_accepted_at),
            ))
        };
        let answers: Option<Vec<Device>> = devices.iter().map(answer).collect();
        answers.ok_or(Error::NotFound("a device that was just registered"))
    }

    async fn devices(
        &self,
        tenant: &TenantId,
        user_id: Option<&str>,
        after: DeviceId,
        limit: u32,
    ) -> Result<Vec<Device>, Error> {
        let query = match user_id {
            None => sqlx::query(SELECT_OF_TENANT).bind(tenant.as_str()),
            Some(user_id) => sqlx::query(SELECT_OF_USER)
                .bind(tenant.as_str())
                .bind(user_id),
        };
        let rows = query
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_device).collect()
    }

    async fn unregister(
        &self,
        tenant: &TenantId,
        user_id: &str,
        device_token: &str,
    ) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let gone: Option<DeviceId> = sqlx::query_scalar(UNREGISTER)
            .bind(tenant.as_str())
            .bind(device_token)
            .bind(user_id)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(device) = gone {
            untag(&mut tx, tenant, device).await?;
        }
        tx.commit().await?;
        Ok(gone.is_some())
    }

    async fn have_devices(
        &self,
        tenant: &TenantId,
        users: &[Box<str>],
    ) -> Result<Vec<bool>, Error> {
        let asked: Vec<(usize, &str)> = users.iter().map(|user| &**user).enumerate().collect();
        let bind = |binder: &mut Binder, (place, user): &(usize, &str)| {
            binder.bind(int(*place as u64)).bind(*user);
        };
        let tail = |binder: &mut Binder| {
            binder.bind(tenant.as_str());
        };
        let mut reader = self.reader().await?;
        let rows = HAVE_DEVICES
            .fetch_once(&mut reader, &asked, bind, tail)
            .await?;
        let mut answers = vec![false; users.len()];
        for row in &rows {
            let place: usize = Columns::of(row, "devices").small(0)?;
            answers[place] = true;
        }
        Ok(answers)
    }

    async fn resolve(
        &self,
        tenant: &TenantId,
        users: &[UserCursor],
        limit: usize,
    ) -> Result<Vec<ResolvedDevice>, Error> {
        let asked: Vec<(usize, &UserCursor)> = users.iter().enumerate().collect();
        let bind = |binder: &mut Binder, (place, user): &(usize, &UserCursor)| {
            binder.bind(int(*place as u64)).bind(&*user.user_id);
            binder.bind(user.after);
        };
        let tail = |binder: &mut Binder| {
            binder.bind(tenant.as_str()).bind(int(limit as u64));
        };
        let mut reader = self.reader().await?;
        let rows = RESOLVE.fetch_once(&mut reader, &asked, bind, tail).await?;
        let row = rows.first().ok_or(Error::NotFound("an answer"))?;
        let json: &str = Columns::of(row, "devices").get(0)?;
        let found: Vec<Resolved> = serde_json::from_str(json).map_err(|e| corrupt("devices", e))?;
        let mut found: Vec<ResolvedDevice> = found
            .into_iter()
            .map(|device| resolved_device(device, users))
            .collect::<Result<_, _>>()?;
        found.sort_unstable_by_key(|found| (found.user, found.device.id));
        Ok(found)
    }

    async fn prune_candidates(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<PruneCandidate>, Error> {
        let rows = sqlx::query(SELECT_CANDIDATES)
            .bind(tenant.as_str())
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_candidate).collect()
    }

    async fn settle_prune_candidates(
        &self,
        tenant: &TenantId,
        platform: Platform,
        release: bool,
        now: Millis,
    ) -> Result<u64, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut settled = 0;
        if release {
            settled = sqlx::query(RELEASE_CANDIDATES)
                .bind(tenant.as_str())
                .bind(platform.code())
                .bind(now)
                .execute(&mut *tx)
                .await?
                .rows_affected();
        }
        let forgotten: Vec<DeviceId> = sqlx::query_scalar(FORGET_CANDIDATES)
            .bind(tenant.as_str())
            .bind(platform.code())
            .fetch_all(&mut *tx)
            .await?;
        if settled > 0 {
            let gone: Vec<_> = forgotten.iter().map(|device| (tenant, *device)).collect();
            untag_pruned(&mut tx, &gone).await?;
        }
        tx.commit().await?;
        Ok(if release {
            settled
        } else {
            forgotten.len() as u64
        })
    }
}

fn registered_device(
    registration: &Registration,
    id: DeviceId,
    (created_at, registered_at, last_accepted_at): (Millis, Millis, Option<Millis>),
) -> Device {
    Device {
        id,
        user_id: registration.user_id.clone(),
        platform: registration.platform,
        environment: registration.environment,
        device_token: registration.device_token.clone(),
        app_version: registration.app_version.clone(),
        created_at,
        registered_at,
        last_accepted_at,
    }
}

fn resolved_device(found: Resolved, users: &[UserCursor]) -> Result<ResolvedDevice, Error> {
    let (user, id, platform, environment, device_token, app_version, at, registered_at, last) =
        found;
    let unreadable = || corrupt("devices", Unreadable(user));
    Ok(ResolvedDevice {
        user,
        device: Device {
            id,
            user_id: users.get(user).ok_or_else(unreadable)?.user_id.clone(),
            platform: Platform::of(platform).ok_or_else(unreadable)?,
            environment: Environment::of(environment).ok_or_else(unreadable)?,
            device_token,
            app_version,
            created_at: at,
            registered_at,
            last_accepted_at: last,
        },
    })
}

fn read_device(row: &SqliteRow) -> Result<Device, Error> {
    let row = Columns::of(row, "devices");
    let app_version: Option<&str> = row.get(5)?;
    Ok(Device {
        id: row.int(0)?,
        user_id: row.get::<&str>(1)?.into(),
        platform: row.coded(2)?,
        environment: row.coded(3)?,
        device_token: row.get::<&str>(4)?.into(),
        app_version: app_version.map(Into::into),
        created_at: row.int(6)?,
        registered_at: row.int(7)?,
        last_accepted_at: row.get(8)?,
    })
}

fn read_candidate(row: &SqliteRow) -> Result<PruneCandidate, Error> {
    let row = Columns::of(row, "prune_candidates");
    Ok(PruneCandidate {
        tenant: row.tenant(0)?,
        device: row.int(1)?,
        platform: row.coded(2)?,
        dead_since: row.int(3)?,
        reason: row.lossy(4)?,
        noted_at: row.int(5)?,
    })
}

// What a commit writes about devices.

/// A device that the provider called dead, with its tenant.
pub(super) type DeadDevice<'a> = (&'a TenantId, &'a super::super::Prune);

const PRUNE: Rows = Rows {
    columns: "tenant, device, dead_since, reason, now",
    statement:
        "UPDATE devices SET pruned_at = v.now, prune_reason = v.reason FROM v WHERE devices.id =
        v.device AND devices.tenant = v.tenant AND devices.registered_at <= v.dead_since AND
        devices.pruned_at IS NULL",
};

const NOTE_CANDIDATES: Rows = Rows {
    columns: "tenant, platform, device, dead_since, reason, noted_at",
    statement: "INSERT INTO prune_candidates (tenant, platform, device, dead_since, reason, noted_at) SELECT
        * FROM v WHERE v.tenant IS NOT NULL ON CONFLICT DO UPDATE SET dead_since = max(dead_since,
        excluded.dead_since)",
};

const MARK_SUSPECT: &str = "
UPDATE devices SET suspect_at = ?1 WHERE id IN (SELECT value FROM json_each(?3)) AND tenant = ?2
    AND suspect_at IS NULL AND pruned_at IS NULL";

const MARK_ACCEPTED: &str = "
UPDATE devices SET last_accepted_at = ?1 WHERE id IN (SELECT value FROM json_each(?3))
    AND tenant = ?2";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] =
    &[&REGISTER, &HAVE_DEVICES, &RESOLVE, &PRUNE, &NOTE_CANDIDATES];

/// Prunes dead devices, or notes them where the brake is on.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    dead: &[DeadDevice<'_>],
    now: Millis,
) -> Result<(), Error> {
    let registered = |(_, prune): &&DeadDevice<'_>| prune.device != 0;
    let (frozen, gone): (Vec<&DeadDevice<'_>>, Vec<&DeadDevice<'_>>) = dead
        .iter()
        .filter(registered)
        .partition(|(_, prune)| prune.frozen);
    PRUNE
        .execute(connection, &gone, |binder, (tenant, prune)| {
            binder.bind(tenant.as_str()).bind(prune.device);
            binder.bind(prune.dead_since).bind(prune.reason.as_bytes());
            binder.bind(now);
        })
        .await?;
    let pruned: Vec<_> = gone
        .iter()
        .map(|(tenant, prune)| (*tenant, prune.device))
        .collect();
    untag_pruned(connection, &pruned).await?;
    NOTE_CANDIDATES
        .execute(connection, &frozen, |binder, (tenant, prune)| {
            binder.bind(tenant.as_str()).bind(prune.platform.code());
            binder.bind(prune.device).bind(prune.dead_since);
            binder.bind(prune.reason.as_bytes()).bind(now);
        })
        .await?;
    Ok(())
}

/// Notes when the provider last took a push for these devices of one tenant, or that their device tokens look
/// wrong.
pub(super) async fn mark(
    connection: &mut SqliteConnection,
    (tenant, devices): (&TenantId, &mut Vec<DeviceId>),
    suspect: bool,
    now: Millis,
) -> Result<(), Error> {
    devices.retain(|device| *device != 0);
    devices.sort_unstable();
    devices.dedup();
    if devices.is_empty() {
        return Ok(());
    }
    let sql = if suspect { MARK_SUSPECT } else { MARK_ACCEPTED };
    sqlx::query(sql)
        .bind(now)
        .bind(tenant.as_str())
        .bind(serde_json::json!(devices).to_string())
        .execute(connection)
        .await?;
    Ok(())
}
