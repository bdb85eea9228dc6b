//! Push messages and delivery receipts in SQLite.
//! It must not know what a message says.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::super::messages::{DAY, days_of};
use super::super::{
    DeliveryReceipt, Error, Message, MessageCursor, MessageDay, Messages, Seen, SeenCounts,
};
use super::columns::{Coded, Columns, bytes};
use super::{SqliteStore, require_tenant};
use crate::model::{MessageId, Millis, NotificationId, TenantId};

const INSERT: &str = "
INSERT INTO messages (tenant, id, notification, alert, url, body, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";

const SELECT: &str = "
SELECT tenant, id, notification, alert, url, body, created_at FROM messages
WHERE tenant = ? AND id = ?";

pub(super) const SELECT_PAGE: &str = "
SELECT tenant, id, notification, alert, url, body, created_at FROM messages
WHERE tenant = ? AND (created_at, id) < (?, ?) ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?";

const DELETE: &str = "DELETE FROM messages WHERE tenant = ? AND id = ?";

const DELETE_RECEIPTS: &str = "DELETE FROM message_receipts WHERE tenant = ? AND message = ?";

const EXISTS: &str = "SELECT 1 FROM messages WHERE tenant = ? AND id = ?";

const PUT_RECEIPT: &str = "
INSERT INTO message_receipts (tenant, message, device, seen, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING";

pub(super) const SELECT_RECEIPTS: &str = "
SELECT device, seen, at FROM message_receipts
WHERE tenant = ? AND message = ? AND (device, seen) > (?, ?) ORDER BY device, seen LIMIT ?";

pub(super) const SELECT_RECEIPTS_OF_DEVICE: &str = "
SELECT device, seen, at FROM message_receipts
WHERE tenant = ? AND message = ? AND device = ? ORDER BY seen LIMIT ?";

pub(super) const COUNT_RECEIPTS: &str = "
SELECT seen, count(*) FROM message_receipts WHERE tenant = ? AND message = ? GROUP BY seen";

pub(super) const MESSAGES_BY_DAY: &str = "
SELECT created_at / ?3, count(*) FROM messages WHERE tenant = ?1 AND created_at >= ?2 GROUP BY 1";

pub(super) const RECEIPTS_BY_DAY: &str = "
SELECT at / ?3, seen, count(*) FROM message_receipts WHERE tenant = ?1 AND at >= ?2 GROUP BY 1, 2";

#[async_trait]
impl Messages for SqliteStore {
    async fn create_messages(&self, tenant: &TenantId, messages: &[Message]) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_tenant(&mut tx, tenant).await?;
        for message in messages {
            let done = sqlx::query(INSERT)
                .bind(tenant.as_str())
                .bind(message.id.as_str())
                .bind(bytes(&message.notification.0))
                .bind(message.alert.as_deref().map(str::as_bytes))
                .bind(message.url.as_deref().map(str::as_bytes))
                .bind(message.body.as_slice())
                .bind(message.created_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the message id exists"));
            }
        }
        Ok(tx.commit().await?)
    }

    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error> {
        let row = sqlx::query(SELECT)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(&mut *self.reader().await?)
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
        let rows = sqlx::query(SELECT_PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or(i64::MAX, |(at, _)| at))
            .bind(after.as_ref().map_or("", |(_, id)| id.as_str()))
            .bind(limit)
            .bind(skip)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_message).collect()
    }

    async fn count_messages(&self, tenant: &TenantId) -> Result<u64, Error> {
        let row = sqlx::query("SELECT count(*) FROM messages WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_one(&mut *self.reader().await?)
            .await?;
        Columns::of(&row, "messages").small(0)
    }

    async fn delete_message(&self, tenant: &TenantId, id: MessageId) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let mut was_there = false;
        for sql in [DELETE_RECEIPTS, DELETE] {
            let done = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
            was_there = done.rows_affected() > 0;
        }
        tx.commit().await?;
        Ok(was_there)
    }

    async fn put_receipt(
        &self,
        tenant: &TenantId,
        id: MessageId,
        receipt: &DeliveryReceipt,
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let known: Option<i64> = sqlx::query_scalar(EXISTS)
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
        Ok(tx.commit().await?)
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
        let query = match device {
            Some(device) => sqlx::query(SELECT_RECEIPTS_OF_DEVICE)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .bind(device.as_bytes()),
            None => sqlx::query(SELECT_RECEIPTS)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .bind(place.as_bytes())
                .bind(seen),
        };
        let rows = query
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_receipt).collect()
    }

    async fn count_receipts(&self, tenant: &TenantId, id: MessageId) -> Result<SeenCounts, Error> {
        let rows = sqlx::query(COUNT_RECEIPTS)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_all(&mut *self.reader().await?)
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
        let mut reader = self.reader().await?;
        let mut counted = Vec::new();
        for sql in [MESSAGES_BY_DAY, RECEIPTS_BY_DAY] {
            let query = sqlx::query(sql).bind(tenant.as_str()).bind(since).bind(DAY);
            counted.push(query.fetch_all(&mut *reader).await?);
        }
        let [messages, reports] = [&counted[0], &counted[1]];
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

fn read_message(row: &SqliteRow) -> Result<Message, Error> {
    let row = Columns::of(row, "messages");
    let text = |column| -> Result<Option<Box<str>>, Error> {
        let bytes: Option<&[u8]> = row.get(column)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into()))
    };
    Ok(Message {
        tenant: row.tenant(0)?,
        id: row.id(1)?,
        notification: NotificationId(row.uuid(2)?),
        alert: text(3)?,
        url: text(4)?,
        body: row.get(5)?,
        created_at: row.int(6)?,
    })
}

fn read_receipt(row: &SqliteRow) -> Result<DeliveryReceipt, Error> {
    let row = Columns::of(row, "message_receipts");
    Ok(DeliveryReceipt {
        device: row.lossy(0)?.into(),
        seen: row.coded(1)?,
        at: row.int(2)?,
    })
}
