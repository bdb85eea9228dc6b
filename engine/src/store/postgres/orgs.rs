//! Organisations and their members in PostgreSQL.
//! It must not know what a role allows.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::{OrgId, PrincipalId, Role};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::{Error, Member, Org, Orgs};
use super::PostgresStore;
use super::columns::{Coded, Columns, column};
use super::session::{read, transact};
use crate::model::Millis;

const INSERT_ORG: &str = "
INSERT INTO organisations (id, name, created_by, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING";

const SELECT_ORG: &str = "SELECT id, name, created_by, created_at FROM organisations WHERE id = $1";

const SELECT_ORGS: &str = "
SELECT id, name, created_by, created_at FROM organisations
WHERE id = ANY($1::text[]) ORDER BY id";

const SELECT_ROLES: &str = "SELECT org, role FROM members WHERE subject = $1";

const SELECT_MEMBERS: &str = "
SELECT org, subject, role, added_by, added_at FROM members WHERE org = $1 ORDER BY subject";

const PUT_MEMBER: &str = "
INSERT INTO members AS m (org, subject, role, added_by, added_at) VALUES ($1, $2, $3::int8, $4, $5)
ON CONFLICT (org, subject) DO UPDATE SET role = excluded.role, added_by = excluded.added_by,
    added_at = excluded.added_at
WHERE m.role <> 2";

const HAS_TENANTS: &str = "
SELECT EXISTS (SELECT 1 FROM tenants WHERE org = $1 AND deleted_at IS NULL)";

const DELETE_PARTS: [&str; 5] = [
    "DELETE FROM refresh_tokens WHERE iam_key IN (
        SELECT k.id FROM service_ids s JOIN iam_keys k ON k.owner_kind = 1 AND k.owner = s.id
        WHERE s.org = $1)",
    "DELETE FROM iam_keys WHERE owner_kind = 1 AND owner IN (SELECT id FROM service_ids WHERE org = $1)",
    "DELETE FROM service_grants WHERE service IN (SELECT id FROM service_ids WHERE org = $1)",
    "DELETE FROM service_ids WHERE org = $1",
    "DELETE FROM members WHERE org = $1",
];

const IS_THE_OWNER: Error =
    Error::Conflict("the owner keeps its role until it hands the organisation over");

#[async_trait]
impl Orgs for PostgresStore {
    async fn create_org(&self, org: &Org, owner: &PrincipalId) -> Result<(), Error> {
        transact!(self, |tx| {
            let done = sqlx::query(INSERT_ORG)
                .bind(org.id.as_str())
                .bind(org.name.as_bytes())
                .bind(org.created_by.as_bytes())
                .bind(org.created_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::Conflict("the organisation id exists"));
            }
            let by = (org.created_by.as_str(), org.created_at);
            put(tx, (&org.id, owner), Role::Owner, by).await?;
            Ok(())
        })
        .await
    }

    async fn org(&self, org: &OrgId) -> Result<Option<Org>, Error> {
        let row = read!(self, |session| {
            let query = sqlx::query(SELECT_ORG).bind(org.as_str());
            Ok(query.fetch_optional(session).await?)
        })
        .await?;
        row.as_ref().map(read_org).transpose()
    }

    async fn orgs(&self, orgs: &[OrgId]) -> Result<Vec<Org>, Error> {
        let names = column(orgs, OrgId::as_str);
        let names = &names;
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_ORGS).bind(names);
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_org).collect()
    }

    async fn roles_of(&self, subject: &PrincipalId) -> Result<BTreeMap<OrgId, Role>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_ROLES).bind(subject.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        let read = |row| {
            let row = Columns::of(row, "members");
            Ok((row.id(0)?, row.coded(1)?))
        };
        rows.iter().map(read).collect()
    }

    async fn members(&self, org: &OrgId) -> Result<Vec<Member>, Error> {
        let rows = read!(self, |session| {
            let query = sqlx::query(SELECT_MEMBERS).bind(org.as_str());
            Ok(query.fetch_all(session).await?)
        })
        .await?;
        rows.iter().map(read_member).collect()
    }

    async fn put_member(&self, member: &Member) -> Result<(), Error> {
        if member.role == Role::Owner {
            return Err(IS_THE_OWNER);
        }
        transact!(self, |tx| {
            require_org(tx, &member.org).await?;
            let by = (member.added_by.as_str(), member.added_at);
            put(tx, (&member.org, &member.subject), member.role, by).await?;
            Ok(())
        })
        .await
    }

    async fn transfer_org(
        &self,
        org: &OrgId,
        owner: &PrincipalId,
        by: &str,
        now: Millis,
    ) -> Result<(), Error> {
        transact!(self, |tx| {
            require_org(tx, org).await?;
            // Demoted first: there is one owner at any instant.
            let demote = "UPDATE members SET role = $1::int8, added_by = $2, added_at = $3 \
                          WHERE org = $4 AND role = 2";
            sqlx::query(demote)
                .bind(Role::Admin.code())
                .bind(by.as_bytes())
                .bind(now)
                .bind(org.as_str())
                .execute(&mut *tx)
                .await?;
            let promote =
                "UPDATE members SET role = 2, added_by = $1, added_at = $2 WHERE org = $3 AND subject = $4";
            let done = sqlx::query(promote)
                .bind(by.as_bytes())
                .bind(now)
                .bind(org.as_str())
                .bind(owner.as_str())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::NotFound("member"));
            }
            Ok(())
        })
        .await
    }

    async fn remove_member(&self, org: &OrgId, subject: &PrincipalId) -> Result<bool, Error> {
        transact!(self, |tx| {
            let role: Option<i16> =
                sqlx::query_scalar("SELECT role FROM members WHERE org = $1 AND subject = $2")
                    .bind(org.as_str())
                    .bind(subject.as_str())
                    .fetch_optional(&mut *tx)
                    .await?;
            if role.map(i64::from) == Some(Role::Owner.code()) {
                return Err(IS_THE_OWNER);
            }
            sqlx::query("DELETE FROM members WHERE org = $1 AND subject = $2 AND role <> 2")
                .bind(org.as_str())
                .bind(subject.as_str())
                .execute(&mut *tx)
                .await?;
            Ok(role.is_some())
        })
        .await
    }

    async fn delete_org(&self, org: &OrgId) -> Result<bool, Error> {
        transact!(self, |tx| {
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
            let done = sqlx::query("DELETE FROM organisations WHERE id = $1")
                .bind(org.as_str())
                .execute(&mut *tx)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}

async fn require_org(connection: &mut PgConnection, org: &OrgId) -> Result<(), Error> {
    let row = sqlx::query(SELECT_ORG).bind(org.as_str());
    let row = row.fetch_optional(connection).await?;
    row.map(|_| ()).ok_or(Error::NotFound("organisation"))
}

async fn put(
    connection: &mut PgConnection,
    (org, subject): (&OrgId, &PrincipalId),
    role: Role,
    (by, at): (&str, Millis),
) -> Result<(), Error> {
    let done = sqlx::query(PUT_MEMBER)
        .bind(org.as_str())
        .bind(subject.as_str())
        .bind(role.code())
        .bind(by.as_bytes())
        .bind(at)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(IS_THE_OWNER);
    }
    Ok(())
}

fn read_org(row: &PgRow) -> Result<Org, Error> {
    let row = Columns::of(row, "organisations");
    Ok(Org {
        id: row.id(0)?,
        name: row.text(1)?.to_owned(),
        created_by: row.text(2)?.to_owned(),
        created_at: row.int(3)?,
    })
}

fn read_member(row: &PgRow) -> Result<Member, Error> {
    let row = Columns::of(row, "members");
    Ok(Member {
        org: row.id(0)?,
        subject: row.id(1)?,
        role: row.coded(2)?,
        added_by: row.text(3)?.to_owned(),
        added_at: row.int(4)?,
    })
}
