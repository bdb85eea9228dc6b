//! Tags and subscriptions in PostgreSQL.
//! It must not know what is sent to a tag.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{Error, Subscribed, Subscription, SubscriptionFilter, Tag, TagAndDevice, Tags};
use super::columns::{Columns, column};
use super::session::{read, transact};
use super::{PostgresStore, require_tenant};
use crate::model::{DeviceId, Millis, TenantId};

/// Subscriptions that deleting a tag removes in one transaction.
const DELETE_BATCH: u32 = 5_000;

const PUT_TAG: &str = "
INSERT INTO tags AS t (tenant, name, description, created_at, updated_at)
VALUES ($1, $2, coalesce($3::bytea, ''::bytea), $4, $4)
ON CONFLICT (tenant, name) DO UPDATE SET
    updated_at = CASE WHEN $3 IS NULL THEN t.updated_at ELSE excluded.updated_at END,
    description = coalesce($3, t.description)
RETURNING name, description, created_at, updated_at, xmax = 0";

const SELECT_TAG: &str = "
SELECT name, description, created_at, updated_at FROM tags WHERE tenant = $1 AND name = $2";

const SELECT_TAGS: &str = "
SELECT name, description, created_at, updated_at FROM tags
WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3";

const ADD_TAGS: &str = "
INSERT INTO tags (tenant, name, description, created_at, updated_at)
SELECT $1::text, v.name, ''::bytea, $3::int8, $3::int8 FROM unnest($2::bytea[]) AS v (name)
ORDER BY v.name ON CONFLICT (tenant, name) DO NOTHING";

// Against those who subscribe to it meanwhile.
const LOCK_TAG: &str = "SELECT 1 FROM tags WHERE tenant = $1 AND name = $2 FOR UPDATE";

const DELETE_SOME: &str = "
DELETE FROM subscriptions WHERE ctid = ANY(ARRAY(SELECT ctid FROM subscriptions
    WHERE tenant = $1 AND tag = $2 ORDER BY device LIMIT $3 FOR UPDATE))";

const DELETE_TAG: &str = "DELETE FROM tags WHERE tenant = $1 AND name = $2";

// A tag and a device that somebody subscribes to are kept from going meanwhile.
const SHARE_TAGS: &str = "
SELECT t.name FROM unnest($1::text[], $2::bytea[]) AS v (tenant, name)
JOIN tags t ON t.tenant = v.tenant AND t.name = v.name ORDER BY t.name FOR KEY SHARE OF t";

const SHARE_DEVICES: &str = "
SELECT d.id, d.pruned_at FROM unnest($1::text[], $2::int8[]) AS v (tenant, device)
JOIN devices d ON d.tenant = v.tenant AND d.id = v.device ORDER BY d.device_token FOR SHARE OF d";

const SUBSCRIBE: &str = "
INSERT INTO subscriptions (tenant, tag, device, created_at)
SELECT DISTINCT $1::text, v.tag, v.device, $4::int8 FROM unnest($2::bytea[], $3::int8[]) AS v (tag, device)
ORDER BY v.tag, v.device
ON CONFLICT (tenant, tag, device) DO NOTHING RETURNING tag, device, id";

const LOOK: &str = "
SELECT s.tag, s.device, s.id FROM unnest($1::text[], $2::bytea[], $3::int8[]) AS v (tenant, tag, device)
JOIN subscriptions s ON s.tenant = v.tenant AND s.tag = v.tag AND s.device = v.device";

const UNSUBSCRIBE: &str = "
DELETE FROM subscriptions AS s USING (SELECT l.tenant, l.tag, l.device
    FROM unnest($1::text[], $2::bytea[], $3::int8[]) AS u (tenant, tag, device)
    JOIN subscriptions l ON l.tenant = u.tenant AND l.tag = u.tag AND l.device = u.device
    ORDER BY l.tag, l.device FOR UPDATE OF l) AS v
WHERE s.tenant = v.tenant AND s.tag = v.tag AND s.device = v.device RETURNING s.tag, s.device, s.id";

const TAGS_OF_DEVICES: &str = "
SELECT s.tag, s.device, s.id FROM unnest($2::int8[]) AS v (device)
CROSS JOIN LATERAL (SELECT * FROM subscriptions s WHERE s.tenant = $1 AND s.device + 0 = v.device
    ORDER BY s.id LIMIT 1000000) AS s";

const UNTAG: &str = "DELETE FROM subscriptions WHERE tenant = $1 AND device + 0 = $2";

const SUBSCRIPTIONS: &str = "
SELECT s.id, s.tag, s.device, d.external_id, d.user_id, s.created_at
FROM (SELECT * FROM subscriptions s WHERE s.tenant = $1 AND s.id > $2 ORDER BY s.id LIMIT $3) AS s
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.id = s.device LIMIT 1) AS d
ORDER BY s.id";

const SUBSCRIPTIONS_TO: &str = "
SELECT s.id, s.tag, s.device, d.external_id, d.user_id, s.created_at
FROM (SELECT * FROM subscriptions s WHERE s.tenant = $1 AND sha256(s.tag) = sha256($4)
    AND s.tag = $4 AND s.id > $2
    ORDER BY s.id LIMIT $3) AS s
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.id = s.device LIMIT 1) AS d
ORDER BY s.id";

const SUBSCRIPTIONS_OF: &str = "
SELECT s.id, s.tag, s.device, d.external_id, d.user_id, s.created_at
FROM (SELECT * FROM subscriptions s WHERE s.tenant = $1 AND s.device + 0 = $4 AND s.id > $2
    ORDER BY s.id LIMIT $3) AS s
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.id = s.device LIMIT 1) AS d
ORDER BY s.id";

const SUBSCRIPTION: &str = "
SELECT s.id, s.tag, s.device, d.external_id, d.user_id, s.created_at
FROM subscriptions s
CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.tenant = $1 AND d.id = s.device LIMIT 1) AS d
WHERE s.tenant = $1 AND s.tag = $4 AND s.device = $5 AND s.id > $2 LIMIT $3";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    SELECT_TAG,
    SELECT_TAGS,
    ADD_TAGS,
    DELETE_SOME,
    SHARE_TAGS,
    SHARE_DEVICES,
    SUBSCRIBE,
    LOOK,
    UNSUBSCRIBE,
    TAGS_OF_DEVICES,
    UNTAG,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_TO,
    SUBSCRIPTIONS_OF,
    SUBSCRIPTION,
];

#[async_trait]
impl Tags for PostgresStore {
    async fn put_tag(
        &self,
        tenant: &TenantId,
        name: &str,
        description: Option<&str>,
        now: Millis,
    ) -> Result<(Tag, bool), Error> {
        transact!(self, |tx| {
            require_tenant(tx, tenant).await?;
            let row = sqlx::query(PUT_TAG)
                .bind(tenant.as_str())
                .bind(name.as_bytes())
                .bind(description.map(str::as_bytes))
                .bind(now)
                .fetch_one(&mut *tx)
                .await?;
            Ok((read_tag(&row)?, Columns::of(&row, "tags").get(4)?))
        })
        .await
    }

    async fn tag(&self, tenant: &TenantId, name: &str) -> Result<Option<Tag>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(SELECT_TAG)
                .bind(tenant.as_str())
                .bind(name.as_bytes());
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.as_ref().map(read_tag).transpose()
    }

    async fn tags(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Tag>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_TAGS)
                .bind(tenant.as_str())
                .bind(after.as_bytes())
                .bind(i64::from(limit));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_tag).collect()
    }

    async fn delete_tag(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        loop {
            let was_there = transact!(self, |tx| { delete_some(tx, tenant, name).await }).await?;
            if let Some(was_there) = was_there {
                return Ok(was_there);
            }
        }
    }

    async fn subscribe(
        &self,
        tenant: &TenantId,
        wishes: &[TagAndDevice],
        now: Millis,
    ) -> Result<Vec<Subscribed>, Error> {
        transact!(self, |tx| {
            let (tags, devices) = share(tx, tenant, wishes).await?;
            let able: Vec<TagAndDevice> = wishes
                .iter()
                .filter(|(tag, device)| tags.contains(tag) && devices.contains(device))
                .cloned()
                .collect();
            let mut new = pairs(&insert(tx, tenant, &able, now).await?)?;
            let known = change(tx, LOOK, tenant, &able).await?;
            let known: std::collections::HashMap<TagAndDevice, i64> =
                known.iter().map(read_pair).collect::<Result<_, _>>()?;
            let answer = |wish: &TagAndDevice| match known.get(wish) {
                Some(id) if new.remove(wish) => Subscribed::New(*id),
                Some(id) => Subscribed::Existed(*id),
                None if tags.contains(&wish.0) => Subscribed::NoDevice,
                None => Subscribed::NoTag,
            };
            Ok(wishes.iter().map(answer).collect())
        })
        .await
    }

    async fn unsubscribe(
        &self,
        tenant: &TenantId,
        wishes: &[TagAndDevice],
    ) -> Result<Vec<bool>, Error> {
        let rows = transact!(self, |tx| { change(tx, UNSUBSCRIBE, tenant, wishes).await });
        let mut gone = pairs(&rows.await?)?;
        Ok(wishes.iter().map(|wish| gone.remove(wish)).collect())
    }

    async fn retag(
        &self,
        tenant: &TenantId,
        devices: &[(DeviceId, Vec<Box<str>>)],
        now: Millis,
    ) -> Result<(), Error> {
        let wanted: BTreeSet<TagAndDevice> = devices
            .iter()
            .flat_map(|(device, tags)| tags.iter().map(|tag| (tag.clone(), *device)))
            .collect();
        let (ids, wanted) = (column(devices, |(device, _)| *device), &wanted);
        let ids = ids.as_slice();
        transact!(self, |tx| {
            let names: BTreeSet<&[u8]> = wanted.iter().map(|(tag, _)| tag.as_bytes()).collect();
            sqlx::query(ADD_TAGS)
                .bind(tenant.as_str())
                .bind(names.into_iter().collect::<Vec<_>>())
                .bind(now)
                .execute(&mut *tx)
                .await?;
            let asked: Vec<TagAndDevice> = wanted.iter().cloned().collect();
            share(tx, tenant, &asked).await?;
            let found = share_devices(tx, tenant, ids).await?;
            if ids.iter().any(|device| !found.contains(device)) {
                return Err(Error::NotFound("device"));
            }
            let rows = sqlx::query(TAGS_OF_DEVICES)
                .bind(tenant.as_str())
                .bind(ids)
                .fetch_all(&mut *tx)
                .await?;
            let gone: Vec<TagAndDevice> = pairs(&rows)?
                .into_iter()
                .filter(|pair| !wanted.contains(pair))
                .collect();
            change(tx, UNSUBSCRIBE, tenant, &gone).await?;
            insert(tx, tenant, &asked, now).await?;
            Ok(())
        })
        .await
    }

    async fn subscriptions(
        &self,
        tenant: &TenantId,
        filter: SubscriptionFilter<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Subscription>, Error> {
        let rows = read!(self, |session| {
            let sql = match (filter.tag, filter.device) {
                (None, None) => SUBSCRIPTIONS,
                (Some(_), None) => SUBSCRIPTIONS_TO,
                (None, Some(_)) => SUBSCRIPTIONS_OF,
                (Some(_), Some(_)) => SUBSCRIPTION,
            };
            let mut query = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(after)
                .bind(i64::from(limit));
            if let Some(tag) = filter.tag {
                query = query.bind(tag.as_bytes());
            }
            if let Some(device) = filter.device {
                query = query.bind(device);
            }
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_subscription).collect()
    }
}

/// Deletes some subscriptions to a tag, and with the last of them the tag; then it says whether there was one.
async fn delete_some(
    connection: &mut PgConnection,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<bool>, Error> {
    sqlx::query(LOCK_TAG)
        .bind(tenant.as_str())
        .bind(name.as_bytes())
        .execute(&mut *connection)
        .await?;
    let deleted = sqlx::query(DELETE_SOME)
        .bind(tenant.as_str())
        .bind(name.as_bytes())
        .bind(i64::from(DELETE_BATCH))
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if deleted >= u64::from(DELETE_BATCH) {
        return Ok(None);
    }
    let done = sqlx::query(DELETE_TAG)
        .bind(tenant.as_str())
        .bind(name.as_bytes())
        .execute(connection)
        .await?;
    Ok(Some(done.rows_affected() > 0))
}

/// Which of these tags and devices there are, kept from going while the transaction lasts.
async fn share(
    connection: &mut PgConnection,
    tenant: &TenantId,
    wishes: &[TagAndDevice],
) -> Result<(HashSet<Box<str>>, HashSet<DeviceId>), Error> {
    let names: BTreeSet<&[u8]> = wishes.iter().map(|(tag, _)| tag.as_bytes()).collect();
    let rows = sqlx::query(SHARE_TAGS)
        .bind(vec![tenant.as_str(); names.len()])
        .bind(names.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let name = |row| Ok(Columns::of(row, "tags").text(0)?.into());
    let tags = rows.iter().map(name).collect::<Result<_, Error>>()?;
    let devices: BTreeSet<DeviceId> = wishes.iter().map(|(_, device)| *device).collect();
    let devices: Vec<DeviceId> = devices.into_iter().collect();
    Ok((tags, share_devices(connection, tenant, &devices).await?))
}

async fn share_devices(
    connection: &mut PgConnection,
    tenant: &TenantId,
    devices: &[DeviceId],
) -> Result<HashSet<DeviceId>, Error> {
    // Which are pruned is looked at here: a condition would have the planner walk all devices for a few.
    let found: Vec<(DeviceId, Option<Millis>)> = sqlx::query_as(SHARE_DEVICES)
        .bind(vec![tenant.as_str(); devices.len()])
        .bind(devices)
        .fetch_all(connection)
        .await?;
    let there = found
        .into_iter()
        .filter(|(_, pruned_at)| pruned_at.is_none());
    Ok(there.map(|(device, _)| device).collect())
}

async fn insert(
    connection: &mut PgConnection,
    tenant: &TenantId,
    wishes: &[TagAndDevice],
    now: Millis,
) -> Result<Vec<PgRow>, Error> {
    Ok(sqlx::query(SUBSCRIBE)
        .bind(tenant.as_str())
        .bind(column(wishes, |(tag, _)| tag.as_bytes()))
        .bind(column(wishes, |(_, device)| *device))
        .bind(now)
        .fetch_all(connection)
        .await?)
}

async fn change(
    connection: &mut PgConnection,
    sql: &'static str,
    tenant: &TenantId,
    wishes: &[TagAndDevice],
) -> Result<Vec<PgRow>, Error> {
    Ok(sqlx::query(sql)
        .bind(vec![tenant.as_str(); wishes.len()])
        .bind(column(wishes, |(tag, _)| tag.as_bytes()))
        .bind(column(wishes, |(_, device)| *device))
        .fetch_all(connection)
        .await?)
}

/// Ends all subscriptions of a device.
pub(super) async fn untag(
    connection: &mut PgConnection,
    tenant: &TenantId,
    device: DeviceId,
) -> Result<(), Error> {
    sqlx::query(UNTAG)
        .bind(tenant.as_str())
        .bind(device)
        .execute(connection)
        .await?;
    Ok(())
}

/// A tag, a device and the id of the subscription.
fn read_pair(row: &PgRow) -> Result<(TagAndDevice, i64), Error> {
    let row = Columns::of(row, "subscriptions");
    Ok(((row.text(0)?.into(), row.int(1)?), row.int(2)?))
}

fn pairs(rows: &[PgRow]) -> Result<HashSet<TagAndDevice>, Error> {
    rows.iter().map(|row| Ok(read_pair(row)?.0)).collect()
}

fn read_tag(row: &PgRow) -> Result<Tag, Error> {
    let row = Columns::of(row, "tags");
    Ok(Tag {
        name: row.text(0)?.into(),
        description: row.text(1)?.into(),
        created_at: row.int(2)?,
        updated_at: row.int(3)?,
    })
}

fn read_subscription(row: &PgRow) -> Result<Subscription, Error> {
    let row = Columns::of(row, "subscriptions");
    Ok(Subscription {
        id: row.int(0)?,
        tag: row.text(1)?.into(),
        device: row.int(2)?,
        external_id: row.text_or_null(3)?.map(Into::into),
        user_id: row.text(4)?.into(),
        created_at: row.int(5)?,
    })
}
