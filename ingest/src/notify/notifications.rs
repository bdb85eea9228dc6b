//! `…/notifications/{id}`: where a notification stands, and which device tokens failed.
//! It must not know how counts come about.

use clarion_engine::intake::Status;
use clarion_engine::model::{FinalState, NotificationId, Platform};
use clarion_engine::store::{FailureRow, NotificationState, NotificationStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::ApiError;

/// Failures of one page.
const PAGE_MAX: u32 = 1_000;
/// Failures of one page unless the caller says otherwise.
const PAGE_DEFAULT: u32 = 100;

/// Where a notification stands.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct NotificationBody {
    id: String,
    /// `queued` (nothing recorded yet), `running` or `finished`.
    state: &'static str,
    /// `transactional` or `bulk`; null while it is queued.
    lane: Option<&'static str>,
    created_at: String,
    expires_at: Option<String>,
    finished_at: Option<String>,
    /// Entries accepted: users or device tokens.
    entries: u64,
    /// Devices that these came to so far.
    recipients: u64,
    /// The provider took it. Whether the device showed it, nobody can know.
    accepted: u64,
    /// The device token is dead.
    unregistered: u64,
    /// The provider refused it for good.
    rejected: u64,
    /// Its time was over before it could be sent.
    expired: u64,
    /// All attempts were used up.
    exhausted: u64,
    /// Cancelled, or the tenant is gone.
    cancelled: u64,
    /// In a dead letter.
    dead: u64,
    /// Users without a device.
    no_device: u64,
    /// Sent at most once, and no answer came.
    unknown: u64,
    /// Waiting for a retry, a limit, a pause or a schedule.
    waiting: u64,
    /// More recipients are still to be read from the audience.
    paging: bool,
}

/// One failed recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureBody {
    /// The place of its entry in the request, from 0.
    entry: u32,
    user_id: Option<String>,
    #[schema(value_type = Option<String>)]
    platform: Option<Platform>,
    /// The device token.
    token: Option<String>,
    /// How it ended.
    state: &'static str,
    /// The provider's word, or ours.
    reason: String,
    at: String,
}

/// A page of failures.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureList {
    failures: Vec<FailureBody>,
    /// Give it as `cursor` for the next page; null after the last one.
    next_cursor: Option<String>,
}

/// Where a notification stands.
#[utoipa::path(get, path = "/tenants/{tenant}/notifications/{id}", tag = "notifications",
    params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = NotificationBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn status(call: TenantCall) -> Result<Answer, ApiError> {
    let (_, status) = known(&call).await?;
    Answer::json(&match status {
        Status::Queued { id, accepted_at } => NotificationBody {
            id: id.to_string(),
            state: "queued",
            created_at: rfc3339(accepted_at),
            ..NotificationBody::default()
        },
        Status::Recorded(status) => NotificationBody::from(&status),
    })
}

/// Which recipients failed, and why.
#[utoipa::path(get, path = "/tenants/{tenant}/notifications/{id}/failures", tag = "notifications",
    params(("tenant" = String, Path), ("id" = String, Path),
        ("cursor" = Option<String>, Query), ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = FailureList)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn failures(call: TenantCall) -> Result<Answer, ApiError> {
    let (cursor, limit) = (call.cursor()?, call.limit(PAGE_DEFAULT, PAGE_MAX)?);
    let (id, _) = known(&call).await?;
    let rows = call
        .app
        .store
        .failures(&call.tenant, id, cursor, limit)
        .await?;
    let is_full = rows.len() >= limit as usize;
    let last = rows.last().filter(|_| is_full);
    let next_cursor = last.map(|row| row.id.to_string());
    let failures = rows.into_iter().map(FailureBody::from).collect();
    Answer::json(&FailureList {
        failures,
        next_cursor,
    })
}

async fn known(call: &TenantCall) -> Result<(NotificationId, Status), ApiError> {
    let unknown = || ApiError::not_found("notification");
    let id = call
        .path("id")
        .parse()
        .map(NotificationId)
        .map_err(|_| unknown())?;
    let status = call.app.intake.status(&call.tenant, id).await?;
    Ok((id, status.ok_or_else(unknown)?))
}

impl From<&NotificationStatus> for NotificationBody {
    fn from(status: &NotificationStatus) -> Self {
        let count = |state| status.counts.get(state);
        Self {
            id: status.id.to_string(),
            state: match status.state {
                NotificationState::Running => "running",
                NotificationState::Finished => "finished",
            },
            lane: Some(status.lane.as_str()),
            created_at: rfc3339(status.created_at),
            expires_at: Some(rfc3339(status.expires_at)),
            finished_at: status.finished_at.map(rfc3339),
            entries: status.entries,
            recipients: status.recipients,
            accepted: count(FinalState::Accepted),
            unregistered: count(FinalState::Unregistered),
            rejected: count(FinalState::Rejected),
            expired: count(FinalState::Expired),
            exhausted: count(FinalState::Exhausted),
            cancelled: count(FinalState::Cancelled),
            dead: count(FinalState::Dead),
            no_device: count(FinalState::NoDevice),
            unknown: count(FinalState::Unknown),
            waiting: status.waiting,
            paging: status.paging,
        }
    }
}

impl From<FailureRow> for FailureBody {
    fn from(row: FailureRow) -> Self {
        Self {
            entry: row.ordinal,
            user_id: row.user_id,
            platform: row.platform,
            token: row.device_token,
            state: row.state.as_str(),
            reason: row.reason,
            at: rfc3339(row.at),
        }
    }
}
