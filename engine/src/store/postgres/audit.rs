//! The audit log in PostgreSQL.
//! It must not know who may read it.

use async_trait::async_trait;
use clarion_auth::{OrgId, TenantId};
use sqlx::postgres::PgRow;

use super::super::{Audit, AuditEntry, AuditRow, Error};
use super::PostgresStore;
use super::columns::Columns;
use super::session::{read, transact};

const INSERT: &str = "
INSERT INTO audit (org, at, actor, credential, source, operation, tenant, target, status, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const SELECT: &str = "
SELECT id, at, actor, credential, source, operation, tenant, target, status, request_id
FROM audit WHERE org = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

#[async_trait]
impl Audit for PostgresStore {
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), Error> {
        transact!(self, |tx| {
            sqlx::query(INSERT)
                .bind(entry.org.as_str())
                .bind(entry.at)
                .bind(entry.actor.as_bytes())
                .bind(entry.credential)
                .bind(entry.source.as_deref())
                .bind(entry.operation)
                .bind(entry.tenant.as_ref().map(TenantId::as_str))
                .bind(entry.target.as_bytes())
                .bind(i64::from(entry.status))
                .bind(entry.request_id.as_str())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn audit(&self, org: &OrgId, before: i64, limit: u32) -> Result<Vec<AuditRow>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT)
                .bind(org.as_str())
                .bind(before)
                .bind(i64::from(limit));
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_row).collect()
    }
}

fn read_row(row: &PgRow) -> Result<AuditRow, Error> {
    let row = Columns::of(row, "audit");
    let tenant: Option<&str> = row.get(6)?;
    Ok(AuditRow {
        id: row.int(0)?,
        at: row.int(1)?,
        actor: row.text(2)?.to_owned(),
        credential: row.get(3)?,
        source: row.get(4)?,
        operation: row.get(5)?,
        tenant: tenant.map(|_| row.tenant(6)).transpose()?,
        target: row.text(7)?.to_owned(),
        status: row.small(8)?,
        request_id: row.get(9)?,
    })
}
