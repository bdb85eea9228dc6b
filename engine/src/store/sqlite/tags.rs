//! Tags and subscriptions in SQLite.
//! It must not know what is sent to a tag.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::{Error, Subscribed, Subscription, SubscriptionFilter, Tag, TagAndDevice, Tags};
use super::columns::{Columns, int};
use super::{SqliteStore, require_tenant};
use crate::datadir::{Binder, Rows};
use crate::model::{DeviceId, Millis, TenantId};

/// Subscriptions that deleting a tag removes in one transaction.
const DELETE_BATCH: u32 = 5_000;

const PUT_TAG: &str = "
INSERT INTO tags (tenant, name, description, created_at, updated_at)
VALUES (?1, ?2, coalesce(?3, ''), ?4, ?4)
ON CONFLICT DO UPDATE SET
    updated_at = CASE WHEN ?3 IS NULL THEN updated_at ELSE excluded.updated_at END,
    description = coalesce(?3, description)
RETURNING name, description, created_at, updated_at";

const SELECT_TAG: &str = "
SELECT name, description, created_at, updated_at FROM tags WHERE tenant = ? AND name = ?";

const SELECT_TAGS: &str = "
SELECT name, description, created_at, updated_at FROM tags
WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?";

const ADD_TAGS: Rows = Rows {
    columns: "tenant, name, description, created_at, updated_at",
    statement: "INSERT INTO tags (tenant, name, description, created_at, updated_at)
        SELECT * FROM v WHERE v.tenant IS NOT NULL ON CONFLICT DO NOTHING",
};

const DELETE_SOME: &str = "
DELETE FROM subscriptions WHERE id IN (
    SELECT id FROM subscriptions INDEXED BY subscriptions_by_tag
    WHERE tenant = ?1 AND tag = ?2 LIMIT ?3)";

const DELETE_TAG: &str = "DELETE FROM tags WHERE tenant = ? AND name = ?";

const SUBSCRIBE: Rows = Rows {
    columns: "tenant, tag, device, now",
    statement: "INSERT INTO subscriptions (tenant, tag, device, created_at)
        SELECT v.tenant, v.tag, v.device, v.now FROM v
        CROSS JOIN tags t ON t.tenant = v.tenant AND t.name = v.tag
        CROSS JOIN devices d ON d.id = v.device AND d.tenant = v.tenant AND d.pruned_at IS NULL
        WHERE true ON CONFLICT DO NOTHING RETURNING tag, device",
};

const LOOK: Rows = Rows {
    columns: "place, tenant, tag, device",
    statement: "SELECT v.place, s.id, t.name IS NOT NULL FROM v
        LEFT JOIN subscriptions s ON s.tenant = v.tenant AND s.tag = v.tag AND s.device = v.device
        LEFT JOIN tags t ON t.tenant = v.tenant AND t.name = v.tag
        WHERE v.place IS NOT NULL",
};

const UNSUBSCRIBE: Rows = Rows {
    columns: "tenant, tag, device",
    statement: "DELETE FROM subscriptions WHERE id IN (
        SELECT s.id FROM v CROSS JOIN subscriptions s
            ON s.tenant = v.tenant AND s.tag = v.tag AND s.device = v.device)
        RETURNING tag, device",
};

const UNKNOWN_DEVICES: Rows = Rows {
    columns: "tenant, device",
    statement: "SELECT v.device FROM v WHERE v.tenant IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM devices d
        WHERE d.id = v.device AND d.tenant = v.tenant AND d.pruned_at IS NULL)",
};

const TAGS_OF_DEVICES: Rows = Rows {
    columns: "tenant, device",
    statement:
        "SELECT s.tag, s.device FROM v CROSS JOIN subscriptions s INDEXED BY subscriptions_by_device
        ON s.tenant = v.tenant AND s.device = v.device",
};

const UNTAG: &str = "DELETE FROM subscriptions WHERE tenant = ? AND device = ?";

const UNTAG_PRUNED: Rows = Rows {
    columns: "tenant, device",
    statement: "DELETE FROM subscriptions WHERE id IN (SELECT s.id FROM v
        CROSS JOIN devices d ON d.id = v.device AND d.tenant = v.tenant AND d.pruned_at IS NOT NULL
        CROSS JOIN subscriptions s INDEXED BY subscriptions_by_device
            ON s.tenant = v.tenant AND s.device = v.device)",
};

const SELECT_SUBSCRIPTIONS: &str = "
SELECT s.id, s.tag, s.device, d.external_id, d.user_id, s.created_at
FROM subscriptions s CROSS JOIN devices d ON d.id = s.device AND d.tenant = s.tenant
WHERE s.tenant = ?1 AND s.id > ?2";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[
    &ADD_TAGS,
    &SUBSCRIBE,
    &LOOK,
    &UNSUBSCRIBE,
    &UNKNOWN_DEVICES,
    &TAGS_OF_DEVICES,
    &UNTAG_PRUNED,
];

/// The other statements whose plans are looked at.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let plain = [SELECT_TAG, SELECT_TAGS, DELETE_SOME, DELETE_TAG, UNTAG];
    let mut all = plain.map(str::to_owned).to_vec();
    for tag in [None, Some("t")] {
        for device in [None, Some(1)] {
            all.push(select_subscriptions(SubscriptionFilter { tag, device }));
        }
    }
    all
}

fn select_subscriptions(filter: SubscriptionFilter<'_>) -> String {
    let tag = filter.tag.map_or("", |_| " AND s.tag = ?4");
    let device = filter.device.map_or("", |_| " AND s.device = ?5");
    format!("{SELECT_SUBSCRIPTIONS}{tag}{device} ORDER BY s.id LIMIT ?3")
}

#[async_trait]
impl Tags for SqliteStore {
    async fn put_tag(
        &self,
        tenant: &TenantId,
        name: &str,
        description: Option<&str>,
        now: Millis,
    ) -> Result<(Tag, bool), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        let known = sqlx::query(SELECT_TAG)
            .bind(tenant.as_str())
            .bind(name)
            .fetch_optional(&mut *tx)
            .await?;
        let row = sqlx::query(PUT_TAG)
            .bind(tenant.as_str())
            .bind(name)
            .bind(description)
            .bind(now)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok((read_tag(&row)?, known.is_none()))
    }

    async fn tag(&self, tenant: &TenantId, name: &str) -> Result<Option<Tag>, Error> {
        let row = sqlx::query(SELECT_TAG)
            .bind(tenant.as_str())
            .bind(name)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.as_ref().map(read_tag).transpose()
    }

    async fn tags(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Tag>, Error> {
        let rows = sqlx::query(SELECT_TAGS)
            .bind(tenant.as_str())
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_tag).collect()
    }

    async fn delete_tag(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        loop {
            let mut writer = self.writer().await;
            let mut tx = writer.begin().await?;
            let deleted = sqlx::query(DELETE_SOME)
                .bind(tenant.as_str())
                .bind(name)
                .bind(DELETE_BATCH)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            let mut was_there = None;
            if deleted < u64::from(DELETE_BATCH) {
                let done = sqlx::query(DELETE_TAG)
                    .bind(tenant.as_str())
                    .bind(name)
                    .execute(&mut *tx)
                    .await?;
                was_there = Some(done.rows_affected() > 0);
            }
            tx.commit().await?;
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
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let rows = insert(&mut tx, tenant, wishes, now).await?;
        let mut new = pairs(&rows)?;
        let numbered: Vec<(usize, &TagAndDevice)> = wishes.iter().enumerate().collect();
        let rows = LOOK
            .fetch(&mut tx, &numbered, |binder, (place, (tag, device))| {
                binder.bind(int(*place as u64)).bind(tenant.as_str());
                binder.bind(&**tag).bind(*device);
            })
            .await?;
        tx.commit().await?;
        let mut found = vec![(None, false); wishes.len()];
        for row in &rows {
            let row = Columns::of(row, "subscriptions");
            found[row.small::<usize>(0)?] = (row.get::<Option<i64>>(1)?, row.int(2)? != 0);
        }
        let answer = |(wish, found): (&TagAndDevice, (Option<i64>, bool))| match found {
            (Some(id), _) if new.remove(wish) => Subscribed::New(id),
            (Some(id), _) => Subscribed::Existed(id),
            (None, true) => Subscribed::NoDevice,
            (None, false) => Subscribed::NoTag,
        };
        Ok(wishes.iter().zip(found).map(answer).collect())
    }

    async fn unsubscribe(
        &self,
        tenant: &TenantId,
        wishes: &[TagAndDevice],
    ) -> Result<Vec<bool>, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut gone = pairs(&delete(&mut tx, tenant, wishes).await?)?;
        tx.commit().await?;
        Ok(wishes.iter().map(|wish| gone.remove(wish)).collect())
    }

    async fn retag(
        &self,
        tenant: &TenantId,
        devices: &[(DeviceId, Vec<Box<str>>)],
        now: Millis,
    ) -> Result<(), Error> {
        let bind = |binder: &mut Binder, (device, _): &(DeviceId, Vec<Box<str>>)| {
            binder.bind(tenant.as_str()).bind(*device);
        };
        let wanted: BTreeSet<TagAndDevice> = devices
            .iter()
            .flat_map(|(device, tags)| tags.iter().map(|tag| (tag.clone(), *device)))
            .collect();
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let unknown = UNKNOWN_DEVICES.fetch(&mut tx, devices, bind).await?;
        if !unknown.is_empty() {
            return Err(Error::NotFound("device"));
        }
        let has = pairs(&TAGS_OF_DEVICES.fetch(&mut tx, devices, bind).await?)?;
        let gone: Vec<TagAndDevice> = has
            .iter()
            .filter(|pair| !wanted.contains(*pair))
            .cloned()
            .collect();
        let new: Vec<TagAndDevice> = wanted
            .into_iter()
            .filter(|pair| !has.contains(pair))
            .collect();
        delete(&mut tx, tenant, &gone).await?;
        let names: BTreeSet<&str> = new.iter().map(|(tag, _)| &**tag).collect();
        let names: Vec<&str> = names.into_iter().collect();
        ADD_TAGS
            .execute(&mut tx, &names, |binder, name| {
                binder.bind(tenant.as_str()).bind(*name).bind("");
                binder.bind(now).bind(now);
            })
            .await?;
        insert(&mut tx, tenant, &new, now).await?;
        Ok(tx.commit().await?)
    }

    async fn subscriptions(
        &self,
        tenant: &TenantId,
        filter: SubscriptionFilter<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Subscription>, Error> {
        let rows = sqlx::query(AssertSqlSafe(select_subscriptions(filter)))
            .bind(tenant.as_str())
            .bind(after)
            .bind(limit)
            .bind(filter.tag)
            .bind(filter.device)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_subscription).collect()
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    wishes: &[TagAndDevice],
    now: Millis,
) -> Result<Vec<SqliteRow>, Error> {
    let rows = SUBSCRIBE.fetch(connection, wishes, |binder, (tag, device)| {
        binder.bind(tenant.as_str()).bind(&**tag).bind(*device);
        binder.bind(now);
    });
    Ok(rows.await?)
}

async fn delete(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    wishes: &[TagAndDevice],
) -> Result<Vec<SqliteRow>, Error> {
    let rows = UNSUBSCRIBE.fetch(connection, wishes, |binder, (tag, device)| {
        binder.bind(tenant.as_str()).bind(&**tag).bind(*device);
    });
    Ok(rows.await?)
}

/// Ends all subscriptions of a device.
pub(super) async fn untag(
    connection: &mut SqliteConnection,
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

/// Ends all subscriptions of those of these devices that are pruned.
pub(super) async fn untag_pruned(
    connection: &mut SqliteConnection,
    devices: &[(&TenantId, DeviceId)],
) -> Result<(), Error> {
    let bind = |binder: &mut Binder, (tenant, device): &(&TenantId, DeviceId)| {
        binder.bind(tenant.as_str()).bind(*device);
    };
    Ok(UNTAG_PRUNED.execute(connection, devices, bind).await?)
}

/// Tags and devices from the first two columns.
fn pairs(rows: &[SqliteRow]) -> Result<HashSet<TagAndDevice>, Error> {
    let pair = |row| {
        let row = Columns::of(row, "subscriptions");
        Ok((row.get::<&str>(0)?.into(), row.int(1)?))
    };
    rows.iter().map(pair).collect()
}

fn read_tag(row: &SqliteRow) -> Result<Tag, Error> {
    let row = Columns::of(row, "tags");
    Ok(Tag {
        name: row.get::<&str>(0)?.into(),
        description: row.get::<&str>(1)?.into(),
        created_at: row.int(2)?,
        updated_at: row.int(3)?,
    })
}

fn read_subscription(row: &SqliteRow) -> Result<Subscription, Error> {
    let row = Columns::of(row, "subscriptions");
    let external_id: Option<&str> = row.get(3)?;
    Ok(Subscription {
        id: row.int(0)?,
        tag: row.get::<&str>(1)?.into(),
        device: row.int(2)?,
        external_id: external_id.map(Into::into),
        user_id: row.get::<&str>(4)?.into(),
        created_at: row.int(5)?,
    })
}
