//! Dead letters of a tenant, or of all: listed, shown, replayed at a capped rate, purged.
//! It must not know what is in them beyond the facts of their rows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clarion_auth::TenantId;
use clarion_auth::permission::operators;
use clarion_engine::model::Envelope;
use clarion_engine::store::{DeadFilter, DeadOrigin, DeadRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::{Call, TenantCall, query_error};
use crate::error::{ApiError, FieldError};
use crate::json::Bounded;

/// Rows of one page.
const PAGE_MAX: u32 = 1_000;
/// Rows of one page unless the caller says otherwise.
const PAGE_DEFAULT: u32 = 100;
/// Ids named in one request.
const IDS_MAX: usize = 1_000;

/// Which dead letters are meant.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DeadSelection {
    /// Exactly these.
    #[schema(value_type = Option<Vec<i64>>, max_items = 1_000)]
    ids: Option<Bounded<i64, IDS_MAX>>,
    /// With this machine-readable reason.
    reason: Option<String>,
    /// Dead before this instant, RFC 3339.
    before: Option<String>,
    /// All of the tenant; must be said, so that nobody means everything by leaving everything out.
    all: Option<bool>,
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadBody {
    id: i64,
    /// The tenant of the queue or routing key it came by, which need not exist; `unroutable` where the routing key names none.
    tenant_id: String,
    at: String,
    reason: String,
    detail: String,
    /// `internal` (a job), `external` (a publish request) or `unparsed`, which cannot be replayed.
    origin: &'static str,
    /// The routing key that a publish request came by.
    routing_key: Option<String>,
    /// Where a publish request is broken, as a JSON Pointer; empty where all of it is meant.
    path: Option<String>,
    notification_id: Option<String>,
    job_id: Option<String>,
    recipients: u32,
    replays: u32,
}

/// A dead letter with what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadDetail {
    dead: DeadBody,
    /// The original bytes, base64.
    body: String,
    /// What its notification says, where the bytes are a job.
    #[schema(value_type = Option<Object>)]
    notification: Option<Value>,
    /// What was published, where the bytes are a request and JSON.
    #[schema(value_type = Option<Object>)]
    request: Option<Value>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadList {
    dead: Vec<DeadBody>,
    /// Give it as `cursor` for the next page; null after the last one.
    next_cursor: Option<String>,
}

/// What a replay came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayedBody {
    replayed: u64,
    /// What cannot be replayed, and stays.
    skipped: u64,
    /// There are more than one request looks at: send it again.
    more: bool,
}

/// What a purge came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PurgedBody {
    purged: u64,
}

/// List the dead letters of a tenant.
#[utoipa::path(get, path = "/operate/tenants/{tenant}/dead", tag = "dead letters",
    params(("tenant" = String, Path), ("reason" = Option<String>, Query),
        ("before" = Option<String>, Query), ("cursor" = Option<String>, Query),
        ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = DeadList)), security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    page(&call, Some(call.tenant.clone())).await
}

/// List the dead letters of all tenants, and of those that do not exist: for the organisation `operators`.
#[utoipa::path(get, path = "/operate/dead", tag = "dead letters",
    params(("reason" = Option<String>, Query), ("before" = Option<String>, Query),
        ("cursor" = Option<String>, Query), ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = DeadList)), security(("access_token" = [])))]
pub(crate) async fn list_all(call: Call) -> Result<Answer, ApiError> {
    call.authorize_in(&operators())?;
    page(&call, None).await
}

async fn page(call: &Call, tenant: Option<TenantId>) -> Result<Answer, ApiError> {
    let (cursor, limit) = (call.cursor()?, call.limit(PAGE_DEFAULT, PAGE_MAX)?);
    let before = call.query("before").map(instant).transpose();
    let filter = DeadFilter {
        tenant,
        reason: call.query("reason").map(ToOwned::to_owned),
        before: before.map_err(|problem| query_error("before", problem))?,
        ids: None,
    };
    let rows = call.app.store.dead(&filter, cursor, limit).await?;
    let is_full = rows.len() >= limit as usize;
    let last = rows.last().filter(|_| is_full);
    let next_cursor = last.map(|row| row.id.to_string());
    let dead = rows.iter().map(DeadBody::from).collect();
    Answer::json(&DeadList { dead, next_cursor })
}

/// Show a dead letter with what it holds.
#[utoipa::path(get, path = "/operate/tenants/{tenant}/dead/{id}", tag = "dead letters",
    params(("tenant" = String, Path), ("id" = i64, Path)),
    responses((status = 200, body = DeadDetail)), security(("access_token" = [])))]
pub(crate) async fn show(call: TenantCall) -> Result<Answer, ApiError> {
    let unknown = || ApiError::not_found("dead letter");
    let id = call.path("id").parse().map_err(|_| unknown())?;
    let filter = DeadFilter {
        tenant: Some(call.tenant.clone()),
        ids: Some(vec![id]),
        ..DeadFilter::default()
    };
    let rows = call.app.store.dead(&filter, 0, 1).await?;
    let row = rows.first().ok_or_else(unknown)?;
    let jobs = Envelope::decode(&row.dead.body).map(|envelope| envelope.jobs);
    let job = jobs.ok().and_then(|jobs| jobs.into_iter().next());
    let notification = job.map(|job| serde_json::to_value(&*job.notification));
    let request = match row.dead.origin {
        DeadOrigin::External(_) => serde_json::from_slice(&row.dead.body).ok(),
        DeadOrigin::Internal | DeadOrigin::Unparsed => None,
    };
    Answer::json(&DeadDetail {
        dead: DeadBody::from(row),
        body: STANDARD.encode(&row.dead.body),
        notification: notification
            .transpose()
            .map_err(|error| ApiError::internal(&error))?,
        request,
    })
}

/// Send dead letters again, at a capped rate.
#[utoipa::path(post, path = "/operate/tenants/{tenant}/dead/replay", tag = "dead letters",
    params(("tenant" = String, Path)), request_body = DeadSelection,
    responses((status = 200, body = ReplayedBody)), security(("access_token" = [])))]
pub(crate) async fn replay(mut call: TenantCall) -> Result<Answer, ApiError> {
    let selection: DeadSelection = call.json().await?;
    let filter = selection.filter(&call)?;
    let done = call.app.intake.replay(&filter, call.now).await?;
    Answer::json(&ReplayedBody {
        replayed: done.replayed,
        skipped: done.skipped,
        more: done.more,
    })
}

/// Delete dead letters for good.
#[utoipa::path(post, path = "/operate/tenants/{tenant}/dead/purge", tag = "dead letters",
    params(("tenant" = String, Path)), request_body = DeadSelection,
    responses((status = 200, body = PurgedBody)), security(("access_token" = [])))]
pub(crate) async fn purge(mut call: TenantCall) -> Result<Answer, ApiError> {
    let selection: DeadSelection = call.json().await?;
    let filter = selection.filter(&call)?;
    let purged = call.app.store.purge(&filter).await?;
    Answer::json(&PurgedBody { purged })
}

impl DeadSelection {
    fn filter(self, call: &TenantCall) -> Result<DeadFilter, ApiError> {
        let is_narrowed = self.ids.is_some() || self.reason.is_some() || self.before.is_some();
        if is_narrowed == self.all.unwrap_or_default() {
            let problem = "give ids, reason or before; or all: true for everything";
            return Err(ApiError::field(FieldError::value(["body".into()], problem)));
        }
        let before = self.before.as_deref().map(instant).transpose();
        let refused = |problem| {
            let loc = ["body".into(), "before".into()];
            ApiError::field(FieldError::value(loc, problem))
        };
        Ok(DeadFilter {
            tenant: Some(call.tenant.clone()),
            reason: self.reason,
            before: before.map_err(refused)?,
            ids: self.ids.map(|ids| ids.0),
        })
    }
}

fn instant(text: &str) -> Result<i64, &'static str> {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| "is a time as in 2030-01-15T10:30:00Z")
}

impl From<&DeadRow> for DeadBody {
    fn from(row: &DeadRow) -> Self {
        let request = match &row.dead.origin {
            DeadOrigin::External(request) => Some(request),
            DeadOrigin::Internal | DeadOrigin::Unparsed => None,
        };
        Self {
            id: row.id,
            tenant_id: row.dead.tenant.to_string(),
            at: rfc3339(row.at),
            reason: row.dead.reason.clone(),
            detail: row.dead.detail.clone(),
            origin: row.dead.origin.as_str(),
            routing_key: request.map(|request| request.routing_key.clone()),
            path: request.map(|request| request.path.clone()),
            notification_id: row.dead.notification.map(|id| id.to_string()),
            job_id: row.dead.job.map(|id| id.to_string()),
            recipients: row.dead.recipients,
            replays: row.replays,
        }
    }
}
