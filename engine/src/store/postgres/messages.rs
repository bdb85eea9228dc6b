//! Push messages and delivery receipts in PostgreSQL.
//! It must not know what a message says.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::super::messages::{DAY, days_of};
use super::super::{
    DeliveryReceipt, Error, Message, MessageCursor, MessageDay, Messages, Seen, SeenCounts,
};
use super::columns::{Coded, Columns, Id, column};
use super::session::{read, transact};
use super::{PostgresStore, require_tenant};
use crate::model::{MessageId, Millis, NotificationId, TenantId};

const INSERT: &str = "
INSERT INTO messages (tenant, id, notification, alert, url, body, created_at)
SELECT $1, v.id, v.notification, v.alert, v.url, v.body, v.created_at
FROM unnest($2::text[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[], $7::int8[])
    AS v (id, notification, alert, url, body, created_at)
ON CONFLICT DO NOTHING";

const SELECT: &str = "
SELECT tenant, id, notification, alert, url, body, created_at FROM messages
WHERE tenant = $1 AND id = $2";

const SELECT_PAGE: &str = "
SELECT tenant, id, notification, alert, url, body, created_at FROM messages
WHERE tenant = $1 AND (created_at, id) < ($2::int8, $3::text)
ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5";

const DELETE: &str = "DELETE FROM messages WHERE tenant = $1 AND id = $2";

const DELETE_RECEIPTS: &str = "DELETE FROM message_receipts WHERE tenant = $1 AND message = $2";

// Kept from being deleted meanwhile, so that no receipt outlives its message.
const EXISTS: &str = "SELECT 1 FROM messages WHERE tenant = $1 AND id = $2 FOR SHARE";

const PUT_RECEIPT: &str = "
INSERT INTO message_receipts (tenant, message, device, seen, at) VALUES ($1, $2, $3, $4::int8, $5)
ON CONFLICT DO NOTHING";

const SELECT_RECEIPTS: &str = "
SELECT device, seen, at FROM message_receipts
WHERE tenant = $1 AND message = $2 AND (device, seen) > ($3::bytea, $4::int2)
ORDER BY device, seen LIMIT $5";

const SELECT_RECEIPTS_OF_DEVICE: &str = "
SELECT device, seen, at FROM message_receipts
WHERE tenant = $1 AND message = $2 AND device = $3 ORDER BY seen LIMIT $4";

const COUNT_RECEIPTS: &str = "
SELECT seen, count(*) FROM message_receipts WHERE tenant = $1 AND message = $2 GROUP BY seen";

const MESSAGES_BY_DAY: &str = "
SELECT created_at / $3, count(*) FROM messages WHERE tenant = $1 AND created_at >= $2 GROUP BY 1";

const RECEIPTS_BY_DAY: &str = "
SELECT at / $3, seen, count(*) FROM message_receipts WHERE tenant = $1 AND at >= $2 GROUP BY 1, 2";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    SELECT,
    SELECT_PAGE,
    DELETE,
    EXISTS,
    SELECT_RECEIPTS,
    SELECT_RECEIPTS_OF_DEVICE,
    COUNT_RECEIPTS,
    MESSAGES_BY_DAY,
    RECEIPTS_BY_DAY,
];

#[async_trait]
impl Messages for PostgresStore {
    async fn create_messages(&self, tenant: &TenantId, messages: &[Message]) -> Result<(), Error> {
        transact!(self, |tx| {
            require_tenant(tx, tenant).await?;
            let done = sqlx::query(INSERT)
                .bind(tenant.as_str())
                .bind(column(messages, |m| m.id.as_str()))
                .bind(column(messages, |m| Id(m.notification.0)))
                .bind(column(messages, |m| m.alert.as_deref().map(str::as_bytes)))
                .bind(column(messages, |m| m.url.as_deref().map(str::as_bytes)))
                .bind(column(messages, |m| m.body.as_slice()))
                .bind(column(messages, |m| m.created_at))
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() < messages.len() as u64 {
                return Err(Error::Conflict("the message id exists"));
            }
            Ok(())
        })
        .await
    }

    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(SELECT).bind(tenant.as_str()).bind(id.as_str());
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.as_ref().map(read_message).transpose()
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        after: Option<MessageCursor>,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<Message>, Error> {
        let after = after.as_ref();
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_PAGE)
                .bind(tenant.as_str())
                .bind(after.map_or(i64::MAX, |(at, _)| *at))
                .bind(after.map_or("", |(_, id)| id.as_str()))
                .bind(i64::from(limit))
                .bind(i64::from(skip));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_message).collect()
    }

    async fn count_messages(&self, tenant: &TenantId) -> Result<u64, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query("SELECT count(*) FROM messages WHERE tenant = $1");
            Ok(query.bind(tenant.as_str()).fetch_one(session).await?)
        })
        .await?;
        Columns::of(&row, "messages").small(0)
    }

    async fn delete_message(&self, tenant: &TenantId, id: MessageId) -> Result<bool, Error> {
        transact!(self, |tx| {
            let mut was_there = false;
            // The message first: whoever writes a receipt holds it.
            for (sql, is_message) in [(DELETE, true), (DELETE_RECEIPTS, false)] {
                let done = sqlx::query(sql)
                    .bind(tenant.as_str())
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                was_there |= is_message && done.rows_affected() > 0;
            }
            Ok(was_there)
        })
        .await
    }

    async fn put_receipt(
        &self,
        tenant: &TenantId,
        id: MessageId,
        receipt: &DeliveryReceipt,
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            let known: Option<i32> = sqlx::query_scalar(EXISTS)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            known.ok_or(Error::NotFound("message"))?;
            sqlx::query(PUT_RECEIPT)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .bind(receipt.device.as_bytes())
                .bind(receipt.seen.code())
                .bind(receipt.at)
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn receipts(
        &self,
        tenant: &TenantId,
        id: MessageId,
        device: Option<&str>,
        after: Option<(&str, Seen)>,
        limit: u32,
    ) -> Result<Vec<DeliveryReceipt>, Error> {
        let (place, seen) = after.map_or(("", -1), |(device, seen)| (device, seen.code()));
        let rows = read!(self, |session| {
            let query = match device {
                Some(device) => sqlx::query(SELECT_RECEIPTS_OF_DEVICE)
                    .bind(tenant.as_str())
                    .bind(id.as_str())
                    .bind(device.as_bytes()),
                None => sqlx::query(SELECT_RECEIPTS)
                    .bind(tenant.as_str())
                    .bind(id.as_str())
                    .bind(place.as_bytes())
                    .bind(i16::try_from(seen).unwrap_or(i16::MAX)),
            };
            Ok(query.bind(i64::from(limit)).fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_receipt).collect()
    }

    async fn count_receipts(&self, tenant: &TenantId, id: MessageId) -> Result<SeenCounts, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(COUNT_RECEIPTS)
                .bind(tenant.as_str())
                .bind(id.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        let mut counts = SeenCounts::default();
        for row in &rows {
            let row = Columns::of(row, "message_receipts");
            counts.add(row.coded(0)?, row.small(1)?);
        }
        Ok(counts)
    }

    async fn message_days(
        &self,
        tenant: &TenantId,
        since: Millis,
    ) -> Result<Vec<MessageDay>, Error> {
        let (messages, reports) = read!(self, |session| {
            let query = sqlx::query(MESSAGES_BY_DAY).bind(tenant.as_str());
            let messages = query.bind(since).bind(DAY).fetch_all(&mut *session).await?;
            let query = sqlx::query(RECEIPTS_BY_DAY).bind(tenant.as_str());
            let reports = query.bind(since).bind(DAY).fetch_all(session).await?;
            Ok((messages, reports))
        })
        .await?;
        let messages = messages.iter().map(|row| {
            let row = Columns::of(row, "messages");
            Ok((row.int(0)?, row.small(1)?))
        });
        let reports = reports.iter().map(|row| {
            let row = Columns::of(row, "message_receipts");
            Ok((row.int(0)?, row.coded(1)?, row.small(2)?))
        });
        let messages = messages.collect::<Result<Vec<_>, Error>>()?;
        Ok(days_of(
            &messages,
            &reports.collect::<Result<Vec<_>, Error>>()?,
        ))
    }
}

fn read_message(row: &PgRow) -> Result<Message, Error> {
    let row = Columns::of(row, "messages");
    Ok(Message {
        tenant: row.tenant(0)?,
        id: row.id(1)?,
        notification: NotificationId(row.uuid(2)?),
        alert: row.text_or_null(3)?.map(Into::into),
        url: row.text_or_null(4)?.map(Into::into),
        body: row.get(5)?,
        created_at: row.int(6)?,
    })
}

fn read_receipt(row: &PgRow) -> Result<DeliveryReceipt, Error> {
    let row = Columns::of(row, "message_receipts");
    Ok(DeliveryReceipt {
        device: row.text(0)?.into(),
        seen: row.coded(1)?,
        at: row.int(2)?,
    })
}
