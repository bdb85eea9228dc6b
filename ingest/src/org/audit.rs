//! `/orgs/{org}/audit`: who did what, latest first.
//! It must not know how rows come to be there.

use clarion_engine::store::AuditRow;
use serde::Serialize;
use utoipa::ToSchema;

use super::org_of;
use crate::answer::{Answer, rfc3339};
use crate::call::Call;
use crate::error::ApiError;

/// Rows of a page: when nothing is said, and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// One administrative call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntryBody {
    at: String,
    /// A person's id, a key's public id, a service's or a client's id.
    #[schema(example = "ada@example.com")]
    actor: String,
    /// What was shown: `access_token`, `api_key`, `service_id`, `client`, `app_secret`.
    #[schema(example = "access_token")]
    credential: String,
    /// The address that it came from: a proxy's, where there is one.
    #[schema(example = "192.0.2.7")]
    source: Option<String>,
    /// What was asked for.
    #[schema(example = "delete_api_key")]
    operation: String,
    tenant_id: Option<String>,
    /// What else it was about, as `name=value`.
    #[schema(example = "key_id=key_Ab3dEf9z")]
    target: String,
    /// The status of the answer: refused calls are noted too.
    status: u16,
    request_id: String,
}

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<AuditEntryBody>,
    /// Send it as `cursor` for earlier entries; null on the last page.
    next_cursor: Option<String>,
}

/// List what people and tools did in an organisation, latest first.
#[utoipa::path(get, operation_id = "list_audit",
    path = "/orgs/{org}/audit", tag = "organisations",
    params(("org" = String, Path), ("cursor" = Option<String>, Query),
        ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = AuditPage)), security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    let org = org_of(&call)?;
    call.authorize_in(&org)?;
    let limit = call.limit(PAGE_DEFAULT, PAGE_MAX)?;
    let before = match call.cursor()? {
        0 => i64::MAX,
        cursor => cursor,
    };
    let rows = call.app.store.audit(&org, before, limit).await?;
    let is_full = rows.len() >= limit as usize;
    let last = rows
        .last()
        .filter(|_| is_full)
        .map(|row| row.id.to_string());
    Answer::json(&AuditPage {
        entries: rows.into_iter().map(AuditEntryBody::from).collect(),
        next_cursor: last,
    })
}

impl From<AuditRow> for AuditEntryBody {
    fn from(row: AuditRow) -> Self {
        Self {
            at: rfc3339(row.at),
            actor: row.actor,
            credential: row.credential,
            source: row.source,
            operation: row.operation,
            tenant_id: row.tenant.map(|tenant| tenant.to_string()),
            target: row.target,
            status: row.status,
            request_id: row.request_id,
        }
    }
}
