//! A tenant's limits as they are in effect, and how much of it is waiting.
//! It must not know how limits are kept.

use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::call::TenantCall;
use crate::error::ApiError;

/// Limits in effect: the tenant's own, or the configured defaults.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EffectiveLimits {
    /// Recipients a second.
    rate: u32,
    /// Recipients at once.
    burst: u32,
    /// Recipients queued and waiting.
    backlog: u64,
    /// Weight in the round robin.
    weight: u32,
    /// Retries of unanswered requests.
    ambiguous_retries: u8,
    /// Recipients in pages and waiting rows now; what is ready in the queue is not counted.
    waiting: u64,
    suspended: bool,
}

/// Read a tenant's limits in effect.
#[utoipa::path(get, path = "/operate/tenants/{tenant}/limits", tag = "limits",
    params(("tenant" = String, Path)), responses((status = 200, body = EffectiveLimits)),
    security(("access_token" = [])))]
pub(crate) async fn read(mut call: TenantCall) -> Result<Answer, ApiError> {
    let tenant = call.row().await?;
    let waiting = call.app.store.backlog(&call.tenant).await?;
    let (own, usual) = (tenant.limits, call.app.config.limits);
    Answer::json(&EffectiveLimits {
        rate: own.rate.unwrap_or(usual.rate),
        burst: own.burst.unwrap_or(usual.burst),
        backlog: own.backlog.unwrap_or(usual.backlog),
        weight: own.weight.unwrap_or(1),
        ambiguous_retries: own.ambiguous_retries.unwrap_or(usual.ambiguous_retries),
        waiting,
        suspended: tenant.suspended,
    })
}
