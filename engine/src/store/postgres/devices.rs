//! Devices in PostgreSQL: registration, resolving users, pruning.
//! It must not know what is sent to a device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{
    Devices, Error, Prune, PruneCandidate, Registration, ResolvedDevice, Settlement, UserCursor,
};
use super::columns::{Coded, Columns, column, int};
use super::session::{read, transact};
use super::tags::untag;
use super::{PostgresStore, require_tenant};
use crate::model::{Device, DeviceId, Millis, Platform, TenantId};

// In the order of the device tokens, as everywhere that several devices are locked.
const REGISTER: &str = "
INSERT INTO devices (tenant, user_id, platform, environment, device_token, app_version, created_at,
    registered_at)
SELECT $1, v.user_id, v.platform, v.environment, v.device_token, v.app_version, $7, $7
FROM unnest($2::bytea[], $3::int8[], $4::int8[], $5::bytea[], $6::bytea[])
    AS v (user_id, platform, environment, device_token, app_version)
ORDER BY v.device_token
ON CONFLICT (tenant, sha256(device_token)) WHERE pruned_at IS NULL DO UPDATE SET
    user_id = excluded.user_id, platform = excluded.platform, environment = excluded.environment,
    app_version = excluded.app_version, registered_at = excluded.registered_at, suspect_at = NULL
RETURNING device_token, id, created_at, last_accepted_at";

const SELECT_OF_TENANT: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at
FROM devices WHERE tenant = $1 AND id > $2 AND pruned_at IS NULL ORDER BY id LIMIT $3";

const SELECT_OF_USER: &str = "
SELECT id, user_id, platform, environment, device_token, app_version, created_at, registered_at,
    last_accepted_at
FROM devices WHERE tenant = $1 AND id > $2 AND user_id = $4 AND pruned_at IS NULL ORDER BY id LIMIT $3";

const UNREGISTER: &str = "
DELETE FROM devices WHERE tenant = $1 AND sha256(device_token) = sha256($2) AND device_token = $2
    AND user_id = $3 AND pruned_at IS NULL RETURNING id";

// The limit keeps the users in the lead: one look for each of them, never one at all devices of the tenant.
const HAVE_DEVICES: &str = "
SELECT v.place - 1 FROM unnest($2::bytea[]) WITH ORDINALITY AS v (user_id, place)
CROSS JOIN LATERAL (SELECT 1 FROM devices d WHERE d.tenant = $1 AND d.user_id = v.user_id
    AND d.pruned_at IS NULL LIMIT 1) AS d";

const RESOLVE: &str = "
SELECT d.id, d.user_id, d.platform, d.environment, d.device_token, d.app_version, d.created_at,
    d.registered_at, d.last_accepted_at, v.place - 1
FROM unnest($2::bytea[], $3::int8[]) WITH ORDINALITY AS v (user_id, after, place)
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.user_id = v.user_id
    AND d.id > v.after AND d.pruned_at IS NULL ORDER BY d.id LIMIT $4) AS d
ORDER BY v.place, d.id LIMIT $4";

const SELECT_CANDIDATES: &str = "
SELECT tenant, device, platform, dead_since, reason, noted_at FROM prune_candidates
WHERE tenant = $1 ORDER BY noted_at, device LIMIT $2";

const TAKE_CANDIDATES: &str = "
DELETE FROM prune_candidates WHERE tenant = $1 AND platform = $2::int8
RETURNING device, dead_since, reason";

#[async_trait]
impl Devices for PostgresStore {
    async fn register(
        &self,
        tenant: &TenantId,
        devices: &[Registration],
        now: Millis,
    ) -> Result<Vec<Device>, Error> {
        // Of two registrations of one device token the later counts, for both.
        let last: HashMap<&str, &Registration> = devices
            .iter()
            .map(|device| (&*device.device_token, device))
            .collect();
        let kept: Vec<&Registration> = last.values().copied().collect();
        let kept = kept.as_slice();
        let rows = transact!(self, |tx| {
            require_tenant(tx, tenant).await?;
            let query = sqlx::query(REGISTER)
                .bind(tenant.as_str())
                .bind(column(kept, |device| device.user_id.as_bytes()))
                .bind(column(kept, |device| device.platform.code()))
                .bind(column(kept, |device| device.environment.code()))
                .bind(column(kept, |device| device.device_token.as_bytes()))
                .bind(column(kept, |device| {
                    device.app_version.as_deref().map(str::as_bytes)
                }))
                .bind(now);
            Ok(query.fetch_all(&mut *tx).await?)
        })
        .await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let row = Columns::of(row, "devices");
            let device_token = row.text(0)?;
            let Some(registration) = last.get(device_token) else {
                continue;
            };
            known.insert(device_token, registered(registration, &row, now)?);
        }
        let answer = |device: &Registration| known.get(&*device.device_token).cloned();
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
        let sql = match user_id {
            None => SELECT_OF_TENANT,
            Some(_) => SELECT_OF_USER,
        };
        let rows = read!(self, |session| {
            let mut query = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(after)
                .bind(i64::from(limit));
            if let Some(user_id) = user_id {
                query = query.bind(user_id.as_bytes());
            }
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_device).collect()
    }

    async fn unregister(
        &self,
        tenant: &TenantId,
        user_id: &str,
        device_token: &str,
    ) -> Result<bool, Error> {
        transact!(self, |tx| {
            let gone: Option<DeviceId> = sqlx::query_scalar(UNREGISTER)
                .bind(tenant.as_str())
                .bind(device_token.as_bytes())
                .bind(user_id.as_bytes())
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(device) = gone {
                untag(tx, tenant, device).await?;
            }
            Ok(gone.is_some())
        })
        .await
    }

    async fn have_devices(
        &self,
        tenant: &TenantId,
        users: &[Box<str>],
    ) -> Result<Vec<bool>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(HAVE_DEVICES)
                .bind(tenant.as_str())
                .bind(column(users, |user| user.as_bytes()));
            Ok(query.fetch_all(session).await?)
        })
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
        let rows = read!(self, |session| {
            let query = sqlx::query(RESOLVE)
                .bind(tenant.as_str())
                .bind(column(users, |user| user.user_id.as_bytes()))
                .bind(column(users, |user| user.after))
                .bind(int(limit as u64));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ResolvedDevice {
                    user: Columns::of(row, "devices").small(9)?,
                    device: read_device(row)?,
                })
            })
            .collect()
    }

    async fn prune_candidates(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<PruneCandidate>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_CANDIDATES)
                .bind(tenant.as_str())
                .bind(i64::from(limit));
            Ok(query.fetch_all(session).await?)
        })
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
        transact!(self, |tx| {
            let rows = sqlx::query(TAKE_CANDIDATES)
                .bind(tenant.as_str())
                .bind(platform.code())
                .fetch_all(&mut *tx)
                .await?;
            if !release {
                return Ok(rows.len() as u64);
            }
            let mut gone = Vec::with_capacity(rows.len());
            for row in &rows {
                let row = Columns::of(row, "prune_candidates");
                gone.push(Gone {
                    tenant: tenant.as_str(),
                    device: row.int(0)?,
                    dead_since: row.int(1)?,
                    reason: row.get(2)?,
                });
            }
            let devices: BTreeSet<_> = gone.iter().map(|g| (g.tenant, g.device)).collect();
            lock(tx, &devices.into_iter().collect::<Vec<_>>()).await?;
            prune(tx, &gone, now).await
        })
        .await
    }
}

fn registered(
    registration: &Registration,
    row: &Columns<'_>,
    registered_at: Millis,
) -> Result<Device, Error> {
    Ok(Device {
        id: row.int(1)?,
        user_id: registration.user_id.clone(),
        platform: registration.platform,
        environment: registration.environment,
        device_token: registration.device_token.clone(),
        app_version: registration.app_version.clone(),
        created_at: row.int(2)?,
        registered_at,
        last_accepted_at: row.get(3)?,
    })
}

fn read_device(row: &PgRow) -> Result<Device, Error> {
    let row = Columns::of(row, "devices");
    Ok(Device {
        id: row.int(0)?,
        user_id: row.text(1)?.into(),
        platform: row.coded(2)?,
        environment: row.coded(3)?,
        device_token: row.text(4)?.into(),
        app_version: row.text_or_null(5)?.map(Into::into),
        created_at: row.int(6)?,
        registered_at: row.int(7)?,
        last_accepted_at: row.get(8)?,
    })
}

fn read_candidate(row: &PgRow) -> Result<PruneCandidate, Error> {
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

const NOTE_CANDIDATES: &str = "
INSERT INTO prune_candidates AS c (tenant, platform, device, dead_since, reason, noted_at)
SELECT v.tenant, v.platform, v.device, v.dead_since, v.reason, $6
FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[])
    AS v (tenant, platform, device, dead_since, reason)
ORDER BY v.tenant COLLATE \"C\", v.platform, v.device
ON CONFLICT (tenant, platform, device) DO UPDATE SET
    dead_since = greatest(c.dead_since, excluded.dead_since)";

// In the order of the device tokens, as they are registered.
const LOCK: &str = "
SELECT d.id FROM unnest($1::text[], $2::int8[]) AS v (tenant, device)
JOIN devices d ON d.tenant = v.tenant AND d.id = v.device
ORDER BY d.tenant, d.device_token FOR NO KEY UPDATE OF d";

// `coalesce` hides from the planner that an index over unpruned devices alone would do: it must go by the keys.
const PRUNE: &str = "
WITH gone AS (UPDATE devices AS d SET pruned_at = $5, prune_reason = v.reason
    FROM unnest($1::text[], $2::int8[], $3::int8[], $4::bytea[])
        AS v (tenant, device, dead_since, reason)
    WHERE d.tenant = v.tenant AND d.id = v.device AND d.registered_at <= v.dead_since
        AND coalesce(d.pruned_at, 0) = 0 RETURNING d.tenant, d.id),
untagged AS (DELETE FROM subscriptions AS s USING gone
    WHERE s.tenant = gone.tenant AND s.device + 0 = gone.id)
SELECT count(*) FROM gone";

const MARK_SUSPECT: &str = "
UPDATE devices AS d SET suspect_at = coalesce(d.suspect_at, $3)
FROM unnest($1::text[], $2::int8[]) AS v (tenant, device)
WHERE d.tenant = v.tenant AND d.id = v.device";

const MARK_ACCEPTED: &str = "
UPDATE devices AS d SET last_accepted_at = $3 FROM unnest($1::text[], $2::int8[]) AS v (tenant, device)
WHERE d.tenant = v.tenant AND d.id = v.device";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    REGISTER,
    UNREGISTER,
    SELECT_OF_USER,
    HAVE_DEVICES,
    RESOLVE,
    NOTE_CANDIDATES,
    LOCK,
    PRUNE,
    MARK_SUSPECT,
    MARK_ACCEPTED,
];

/// A device of a tenant.
pub(super) type Key<'a> = (&'a str, DeviceId);

/// A device that the provider called dead.
struct Gone<'a> {
    tenant: &'a str,
    device: DeviceId,
    dead_since: Millis,
    reason: &'a [u8],
}

/// Writes what settlements say about devices: dead ones are pruned, or noted where the brake is on; what the
/// provider took is noted, and whose device token looks wrong.
pub(super) async fn apply(
    connection: &mut PgConnection,
    written: &[&Settlement],
    now: Millis,
) -> Result<(), Error> {
    // Each device once: an update takes only one of several values for a row. The youngest word counts.
    let mut frozen: BTreeMap<(&str, i64, DeviceId), &Prune> = BTreeMap::new();
    let mut gone: BTreeMap<Key<'_>, &Prune> = BTreeMap::new();
    for settlement in written {
        let tenant = settlement.key.tenant.as_str();
        for prune in settlement.prunes.iter().filter(|prune| prune.device != 0) {
            let known = if prune.frozen {
                frozen
                    .entry((tenant, prune.platform.code(), prune.device))
                    .or_insert(prune)
            } else {
                gone.entry((tenant, prune.device)).or_insert(prune)
            };
            if prune.dead_since > known.dead_since {
                *known = prune;
            }
        }
    }
    let suspects = keys(written, |settlement| &settlement.suspects);
    let accepted = keys(written, |settlement| &settlement.accepted);
    let frozen: Vec<_> = frozen.into_iter().collect();
    note(connection, &frozen, now).await?;
    let touched: BTreeSet<Key<'_>> = gone
        .keys()
        .chain(&suspects)
        .chain(&accepted)
        .copied()
        .collect();
    if touched.is_empty() {
        return Ok(());
    }
    lock(connection, &touched.into_iter().collect::<Vec<_>>()).await?;
    let gone: Vec<Gone<'_>> = gone
        .into_iter()
        .map(|((tenant, device), prune)| Gone {
            tenant,
            device,
            dead_since: prune.dead_since,
            reason: prune.reason.as_bytes(),
        })
        .collect();
    prune(connection, &gone, now).await?;
    mark(connection, (MARK_SUSPECT, &suspects), now).await?;
    mark(connection, (MARK_ACCEPTED, &accepted), now).await
}

/// The registered devices of a list in these settlements, each once.
fn keys<'a>(
    written: &[&'a Settlement],
    list: impl Fn(&'a Settlement) -> &'a Vec<DeviceId>,
) -> Vec<Key<'a>> {
    let mut keys = BTreeSet::new();
    for settlement in written {
        let devices = list(settlement).iter().filter(|device| **device != 0);
        keys.extend(devices.map(|device| (settlement.key.tenant.as_str(), *device)));
    }
    keys.into_iter().collect()
}

/// Keeps dead devices as candidates.
async fn note(
    connection: &mut PgConnection,
    frozen: &[((&str, i64, DeviceId), &Prune)],
    now: Millis,
) -> Result<(), Error> {
    if frozen.is_empty() {
        return Ok(());
    }
    sqlx::query(NOTE_CANDIDATES)
        .bind(column(frozen, |((tenant, _, _), _)| *tenant))
        .bind(column(frozen, |((_, platform, _), _)| *platform))
        .bind(column(frozen, |((_, _, device), _)| *device))
        .bind(column(frozen, |(_, prune)| prune.dead_since))
        .bind(column(frozen, |(_, prune)| prune.reason.as_bytes()))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks devices, so that several statements may change them.
pub(super) async fn lock(connection: &mut PgConnection, devices: &[Key<'_>]) -> Result<(), Error> {
    sqlx::query(LOCK)
        .bind(column(devices, |(tenant, _)| *tenant))
        .bind(column(devices, |(_, device)| *device))
        .execute(connection)
        .await?;
    Ok(())
}

/// Prunes those that have not registered since. Returns how many.
async fn prune(
    connection: &mut PgConnection,
    gone: &[Gone<'_>],
    now: Millis,
) -> Result<u64, Error> {
    if gone.is_empty() {
        return Ok(0);
    }
    let pruned: i64 = sqlx::query_scalar(PRUNE)
        .bind(column(gone, |gone| gone.tenant))
        .bind(column(gone, |gone| gone.device))
        .bind(column(gone, |gone| gone.dead_since))
        .bind(column(gone, |gone| gone.reason))
        .bind(now)
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(pruned).unwrap_or_default())
}

async fn mark(
    connection: &mut PgConnection,
    (sql, devices): (&'static str, &[Key<'_>]),
    now: Millis,
) -> Result<(), Error> {
    if devices.is_empty() {
        return Ok(());
    }
    sqlx::query(sql)
        .bind(column(devices, |(tenant, _)| *tenant))
        .bind(column(devices, |(_, device)| *device))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}
