//! Devices whose pruning the brake holds back: listed, and released or discarded by a person.
//! It must not know when the brake goes on.

use clarion_engine::model::Platform;
use clarion_engine::store::PruneCandidate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::ApiError;

/// Candidates listed at once.
const LISTED_MAX: u32 = 1_000;

/// Which brake is meant.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PruneDecision {
    /// `ios`, `watchos` or `android`.
    #[schema(value_type = String, example = "ios")]
    platform: Platform,
}

/// A device that the provider called dead and that is kept for now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PruneCandidateBody {
    device_id: i64,
    #[schema(value_type = String, example = "ios")]
    platform: Platform,
    reason: String,
    dead_since: String,
    noted_at: String,
}

/// The oldest candidates.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PruneCandidateList {
    candidates: Vec<PruneCandidateBody>,
}

/// How many candidates a decision was about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettledPrunes {
    settled: u64,
}

/// List the devices that the brake keeps, oldest first.
#[utoipa::path(get, path = "/operate/tenants/{tenant}/prunes", tag = "prune brake",
    params(("tenant" = String, Path), ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = PruneCandidateList)), security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let limit = call.limit(LISTED_MAX, LISTED_MAX)?;
    let rows = call.app.store.prune_candidates(&call.tenant, limit).await?;
    let candidates = rows.into_iter().map(PruneCandidateBody::from).collect();
    Answer::json(&PruneCandidateList { candidates })
}

/// Prune the candidates of a platform and take the brake off.
#[utoipa::path(post, path = "/operate/tenants/{tenant}/prunes/release", tag = "prune brake",
    params(("tenant" = String, Path)), request_body = PruneDecision,
    responses((status = 200, body = SettledPrunes)), security(("access_token" = [])))]
pub(crate) async fn release(call: TenantCall) -> Result<Answer, ApiError> {
    settle(call, true).await
}

/// Forget the candidates of a platform and take the brake off.
#[utoipa::path(post, path = "/operate/tenants/{tenant}/prunes/discard", tag = "prune brake",
    params(("tenant" = String, Path)), request_body = PruneDecision,
    responses((status = 200, body = SettledPrunes)), security(("access_token" = [])))]
pub(crate) async fn discard(call: TenantCall) -> Result<Answer, ApiError> {
    settle(call, false).await
}

async fn settle(mut call: TenantCall, release: bool) -> Result<Answer, ApiError> {
    let PruneDecision { platform } = call.json().await?;
    let store = &call.app.store;
    let settled = store
        .settle_prune_candidates(&call.tenant, platform, release, call.now)
        .await?;
    (call.app.release_brake)(call.tenant.clone(), platform).await;
    Answer::json(&SettledPrunes { settled })
}

impl From<PruneCandidate> for PruneCandidateBody {
    fn from(row: PruneCandidate) -> Self {
        Self {
            device_id: row.device,
            platform: row.platform,
            reason: row.reason,
            dead_since: rfc3339(row.dead_since),
            noted_at: rfc3339(row.noted_at),
        }
    }
}
