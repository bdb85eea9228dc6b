//! Organisations and their members in SQLite.
//! It must not know what a role allows.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::{OrgId, PrincipalId, Role};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::super::{Error, Member, Org, Orgs};
use super::SqliteStore;
use super::columns::{Coded, Columns};
use crate::model::Millis;

const INSERT_ORG: &str = "
INSERT INTO organisations (id, name, created_by, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT DO NOTHING";

const SELECT_ORG: &str = "SELECT id, name, created_by, created_at FROM organisations WHERE id = ?";

const SELECT_ORGS: &str = "
SELECT id, name, created_by, created_at FROM organisations
WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id";

const SELECT_ROLES: &str = "SELECT org, role FROM members WHERE subject = ?";

const SELECT_MEMBERS: &str = "
SELECT org, subject, role, added_by, added_at FROM members WHERE org = ? ORDER BY subject";

const PUT_MEMBER: &str = "
INSERT INTO members (org, subject, role, added_by, added_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (org, subject) DO UPDATE SET role = excluded.role, added_by = excluded.added_by,
    added_at = excluded.added_at
WHERE members.role <> 2";

const HAS_TENANTS: &str = "
SELECT EXISTS (SELECT 1 FROM tenants WHERE org = ? AND deleted_at IS NULL)";

const DELETE_PARTS: [&str; 5] = [
    "DELETE FROM refresh_tokens WHERE iam_key IN (
        SELECT k.id FROM service_ids s CROSS JOIN iam_keys k ON k.owner_kind = 1 AND k.owner = s.id
        WHERE s.org = ?)",
    "DELETE FROM iam_keys WHERE owner_kind = 1 AND owner IN (SELECT id FROM service_ids WHERE org = ?)",
    "DELETE FROM service_grants WHERE service IN (SELECT id FROM service_ids WHERE org = ?)",
    "DELETE FROM service_ids WHERE org = ?",
    "DELETE FROM members WHERE org = ?",
];

const IS_THE_OWNER: Error =
    Error::Conflict("the owner keeps its role until it hands the organisation over");

#[async_trait]
impl Orgs for SqliteStore {
    async fn create_org(&self, org: &Org, owner: &PrincipalId) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let done = sqlx::query(INSERT_ORG)
            .bind(org.id.as_str())
            .bind(org.name.as_str())
            .bind(org.created_by.as_str())
            .bind(org.created_at)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict("the organisation id exists"));
        }
        let by = (org.created_by.as_str(), org.created_at);
        put(&mut tx, (&org.id, owner), Role::Owner, by).await?;
        Ok(tx.commit().await?)
    }

    async fn org(&self, org: &OrgId) -> Result<Option<Org>, Error> {
        let row = sqlx::query(SELECT_ORG)
            .bind(org.as_str())
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.as_ref().map(read_org).transpose()
    }

    async fn orgs(&self, orgs: &[OrgId]) -> Result<Vec<Org>, Error> {
        let names: Vec<&str> = orgs.iter().map(OrgId::as_str).collect();
        let rows = sqlx::query(SELECT_ORGS)
            .bind(serde_json::json!(names).to_string())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_org).collect()
    }

    async fn roles_of(&self, subject: &PrincipalId) -> Result<BTreeMap<OrgId, Role>, Error> {
        let rows = sqlx::query(SELECT_ROLES)
            .bind(subject.as_str())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        let read = |row| {
            let row = Columns::of(row, "members");
            Ok((row.id(0)?, row.coded(1)?))
        };
        rows.iter().map(read).collect()
    }

    async fn members(&self, org: &OrgId) -> Result<Vec<Member>, Error> {
        let rows = sqlx::query(SELECT_MEMBERS)
            .bind(org.as_str())
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_member).collect()
    }

    async fn put_member(&self, member: &Member) -> Result<(), Error> {
        if member.role == Role::Owner {
            return Err(IS_THE_OWNER);
        }
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_org(&mut tx, &member.org).await?;
        let by = (member.added_by.as_str(), member.added_at);
        put(&mut tx, (&member.org, &member.subject), member.role, by).await?;
        Ok(tx.commit().await?)
    }

    async fn transfer_org(
        &self,
        org: &OrgId,
        owner: &PrincipalId,
        by: &str,
        now: Millis,
    ) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        require_org(&mut tx, org).await?;
        // Demoted first: there is one owner at any instant.
        let demote =
            "UPDATE members SET role = ?, added_by = ?, added_at = ? WHERE org = ? AND role = 2";
        sqlx::query(demote)
            .bind(Role::Admin.code())
            .bind(by)
            .bind(now)
            .bind(org.as_str())
            .execute(&mut *tx)
            .await?;
        let promote =
            "UPDATE members SET role = 2, added_by = ?, added_at = ? WHERE org = ? AND subject = ?";
        let done = sqlx::query(promote)
            .bind(by)
            .bind(now)
            .bind(org.as_str())
            .bind(owner.as_str())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Error::NotFound("member"));
        }
        Ok(tx.commit().await?)
    }

    async fn remove_member(&self, org: &OrgId, subject: &PrincipalId) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let role: Option<i64> =
            sqlx::query_scalar("SELECT role FROM members WHERE org = ? AND subject = ?")
                .bind(org.as_str())
                .bind(subject.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        if role == Some(Role::Owner.code()) {
            return Err(IS_THE_OWNER);
        }
        sqlx::query("DELETE FROM members WHERE org = ? AND subject = ? AND role <> 2")
            .bind(org.as_str())
            .bind(subject.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(role.is_some())
    }

    async fn delete_org(&self, org: &OrgId) -> Result<bool, Error> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin().await?;
        let has_tenants: bool = sqlx::query_scalar(HAS_TENANTS)
            .bind(org.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if has_tenants {
            return Err(Error::Conflict("the organisation still has tenants"));
        }
        for sql in DELETE_PARTS {
            sqlx::query(sql)
                .bind(org.as_str())
                .execute(&mut *tx)
                .await?;
        }
        let done = sqlx::query("DELETE FROM organisations WHERE id = ?")
            .bind(org.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

async fn require_org(connection: &mut SqliteConnection, org: &OrgId) -> Result<(), Error> {
    let row = sqlx::query(SELECT_ORG).bind(org.as_str());
    let row = row.fetch_optional(connection).await?;
    row.map(|_| ()).ok_or(Error::NotFound("organisation"))
}

async fn put(
    connection: &mut SqliteConnection,
    (org, subject): (&OrgId, &PrincipalId),
    role: Role,
    (by, at): (&str, Millis),
) -> Result<(), Error> {
    let done = sqlx::query(PUT_MEMBER)
        .bind(org.as_str())
        .bind(subject.as_str())
        .bind(role.code())
        .bind(by)
        .bind(at)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(IS_THE_OWNER);
    }
    Ok(())
}

fn read_org(row: &SqliteRow) -> Result<Org, Error> {
    let row = Columns::of(row, "organisations");
    Ok(Org {
        id: row.id(0)?,
        name: row.get(1)?,
        created_by: row.get(2)?,
        created_at: row.int(3)?,
    })
}

fn read_member(row: &SqliteRow) -> Result<Member, Error> {
    let row = Columns::of(row, "members");
    Ok(Member {
        org: row.id(0)?,
        subject: row.id(1)?,
        role: row.coded(2)?,
        added_by: row.get(3)?,
        added_at: row.int(4)?,
    })
}
