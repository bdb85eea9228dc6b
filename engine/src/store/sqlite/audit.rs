//! The audit log in SQLite.
//! It must not know who may read it.

use async_trait::async_trait;
use clarion_auth::{OrgId, TenantId};
use sqlx::sqlite::SqliteRow;

use super::super::{Audit, AuditEntry, AuditRow, Error};
use super::SqliteStore;
use super::columns::Columns;

const INSERT: &str = "
INSERT INTO audit (org, at, actor, credential, source, operation, tenant, target, status, request_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const SELECT: &str = "
SELECT id, at, actor, credential, source, operation, tenant, target, status, request_id
FROM audit WHERE org = ? AND id < ? ORDER BY id DESC LIMIT ?";

#[async_trait]
impl Audit for SqliteStore {
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        sqlx::query(INSERT)
            .bind(entry.org.as_str())
            .bind(entry.at)
            .bind(entry.actor.as_str())
            .bind(entry.credential)
            .bind(entry.source.as_deref())
            .bind(entry.operation)
            .bind(entry.tenant.as_ref().map(TenantId::as_str))
            .bind(entry.target.as_str())
            .bind(entry.status)
            .bind(entry.request_id.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn audit(&self, org: &OrgId, before: i64, limit: u32) -> Result<Vec<AuditRow>, Error> {
        let rows = sqlx::query(SELECT)
            .bind(org.as_str())
            .bind(before)
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_row).collect()
    }
}

fn read_row(row: &SqliteRow) -> Result<AuditRow, Error> {
    let row = Columns::of(row, "audit");
    let tenant: Option<&str> = row.get(6)?;
    Ok(AuditRow {
        id: row.int(0)?,
        at: row.int(1)?,
        actor: row.get(2)?,
        credential: row.get(3)?,
        source: row.get(4)?,
        operation: row.get(5)?,
        tenant: tenant.map(|_| row.tenant(6)).transpose()?,
        target: row.get(7)?,
        status: row.small(8)?,
        request_id: row.get(9)?,
    })
}
