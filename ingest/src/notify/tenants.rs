//! `/tenants`: an app of an organisation, with its limits.
//! It must not know what limits do, nor what provider credentials are made of.

use clarion_auth::ids::IdError;
use clarion_auth::principal::Principal;
use clarion_auth::{OrgId, TenantId};
use clarion_engine::intake::request::default_environment;
use clarion_engine::store::{CredentialKind, CredentialRecord, Tenant, TenantLimits, TenantPatch};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::credentials::{self, AppleUpload, Upload};
use crate::answer::{Answer, rfc3339};
use crate::call::{Call, TenantCall, query_error};
use crate::error::{ApiError, FieldError, Step};
use crate::fresh;
use crate::json::{Member, Object};

/// Longest bundle id, bytes.
const BUNDLE_ID_MAX: usize = 255;
/// Largest weight in the round robin.
const WEIGHT_MAX: u32 = 100;
/// Most retries of an unanswered request.
const AMBIGUOUS_RETRIES_MAX: u8 = 3;
/// Most recipients a second, at once.
const RATE_MAX: u32 = 1_000_000;

/// A tenant to be created.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateTenantRequest {
    /// The organisation that will own it.
    org_id: String,
    /// Apple's bundle id: the default topic.
    #[schema(max_length = 255)]
    bundle_id: Option<String>,
    /// Apple's team id; goes with `key_id` and `private_key`.
    team_id: Option<String>,
    /// Apple's key id.
    key_id: Option<String>,
    /// The text of the `.p8` file.
    private_key: Option<String>,
    /// Whether Apple's device tokens are of the sandbox unless they say otherwise; true by default.
    use_sandbox: Option<bool>,
    /// Google's service account, as downloaded.
    #[schema(value_type = Option<Object>)]
    fcm: Option<Member<serde_json::Map<String, serde_json::Value>>>,
}

/// Changes to a tenant; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PatchTenantRequest {
    #[schema(max_length = 255)]
    bundle_id: Option<String>,
    use_sandbox: Option<bool>,
    #[schema(value_type = Option<PatchLimits>)]
    limits: Option<Object<PatchLimits>>,
}

/// New limits; null returns to the configured default.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct PatchLimits {
    /// Recipients a second.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate: Option<Option<u32>>,
    /// Recipients at once.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    burst: Option<Option<u32>>,
    /// Recipients queued and waiting.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    backlog: Option<Option<u64>>,
    /// Weight in the round robin.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 100)]
    weight: Option<Option<u32>>,
    /// Retries of unanswered requests.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u8>, maximum = 3)]
    ambiguous_retries: Option<Option<u8>>,
}

/// A tenant's own limits; null means the configured default.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitsBody {
    rate: Option<u32>,
    burst: Option<u32>,
    backlog: Option<u64>,
    weight: Option<u32>,
    ambiguous_retries: Option<u8>,
}

/// A tenant, under the names of both path generations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantBody {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// The same as `tenant_id`.
    #[schema(value_type = String)]
    app_id: TenantId,
    #[schema(value_type = String)]
    org_id: OrgId,
    bundle_id: Option<String>,
    team_id: Option<String>,
    key_id: Option<String>,
    use_sandbox: bool,
    /// It has a provider credential.
    push_enabled: bool,
    /// Always false: Clarion sends no mail.
    email_enabled: bool,
    limits: LimitsBody,
    suspended: bool,
    created_at: String,
    created_by: String,
    updated_at: String,
}

/// The tenants of the caller's organisations, under the names of both path generations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantList {
    tenants: Vec<TenantBody>,
}

/// The same for the `/apps` generation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigList {
    configs: Vec<TenantBody>,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedTenant {
    deleted: bool,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

/// Create a tenant, with its provider credentials if they are given.
#[utoipa::path(post, path = "/tenants", tag = "tenants", request_body = CreateTenantRequest,
    responses((status = 200, body = TenantBody)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: Call) -> Result<Answer, ApiError> {
    call.refuse_never()?;
    let request: CreateTenantRequest = call.json().await?;
    let invalid = |field: &'static str, problem: String| {
        ApiError::field(FieldError::value(["body".into(), field.into()], problem))
    };
    let org: OrgId = request
        .org_id
        .parse()
        .map_err(|error: IdError| invalid("org_id", error.to_string()))?;
    call.authorize_in(&org)?;
    check_bundle_id(request.bundle_id.as_deref())?;
    let id = fresh::uuid(call.now)?.to_string();
    let id: TenantId = id
        .parse()
        .map_err(|error: IdError| ApiError::internal(&error))?;
    let use_sandbox = request.use_sandbox.unwrap_or(true);
    let bundle_id = request.bundle_id.clone();
    let uploads = uploads(request, use_sandbox)?;
    let credentials = credentials::seal_new(&call, &id, &uploads)?;
    let tenant = Tenant {
        id,
        org,
        bundle_id,
        use_sandbox,
        limits: TenantLimits::default(),
        suspended: false,
        created_by: call.principal.to_string(),
        created_at: call.now,
        updated_at: call.now,
        deleted_at: None,
    };
    call.app.store.create_tenant(&tenant, &credentials).await?;
    let id = tenant.id.clone();
    Ok(Answer::json(&TenantBody::new(tenant, &credentials))?.made("tenant", &id))
}

/// List the tenants of the caller's organisations, or of one of them.
#[utoipa::path(get, path = "/tenants", tag = "tenants",
    params(("org_id" = Option<String>, Query)),
    responses((status = 200, body = TenantList)), security(("access_token" = [])))]
pub(crate) async fn list(call: Call) -> Result<Answer, ApiError> {
    Answer::json(&TenantList {
        tenants: listed(&call).await?,
    })
}

/// List the tenants of the caller's organisations, or of one of them.
#[utoipa::path(get, path = "/apps", tag = "tenants",
    params(("org_id" = Option<String>, Query)),
    responses((status = 200, body = ConfigList)), security(("access_token" = [])))]
pub(crate) async fn list_configs(call: Call) -> Result<Answer, ApiError> {
    Answer::json(&ConfigList {
        configs: listed(&call).await?,
    })
}

async fn listed(call: &Call) -> Result<Vec<TenantBody>, ApiError> {
    let orgs = match call.query("org_id") {
        None => {
            call.authorize_everywhere()?;
            match &call.principal {
                Principal::Person { orgs, .. } => orgs.keys().cloned().collect(),
                _ => Vec::new(),
            }
        }
        Some(text) => {
            call.refuse_never()?;
            let parsed = text.parse::<OrgId>();
            let org = parsed.map_err(|error| query_error("org_id", error.to_string()))?;
            call.authorize_in(&org)?;
            vec![org]
        }
    };
    let mut bodies = Vec::new();
    for tenant in call.app.store.tenants(Some(&orgs)).await? {
        let credentials = call.app.store.credentials(&tenant.id).await?;
        bodies.push(TenantBody::new(tenant, &credentials));
    }
    Ok(bodies)
}

/// Read a tenant.
#[utoipa::path(get, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path)), responses((status = 200, body = TenantBody)),
    security(("access_token" = [])))]
pub(crate) async fn read(mut call: TenantCall) -> Result<Answer, ApiError> {
    let credentials = call.app.store.credentials(&call.tenant).await?;
    Answer::json(&TenantBody::new(call.row().await?, &credentials))
}

/// Change a tenant's bundle id, environment or limits.
#[utoipa::path(patch, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path)), request_body = PatchTenantRequest,
    responses((status = 200, body = TenantBody)), security(("access_token" = [])))]
pub(crate) async fn patch(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PatchTenantRequest = call.json().await?;
    check_bundle_id(request.bundle_id.as_deref())?;
    let limits = request.limits.unwrap_or_default().0;
    limits.check()?;
    let patch = TenantPatch {
        bundle_id: request.bundle_id,
        use_sandbox: request.use_sandbox,
        rate: limits.rate,
        burst: limits.burst,
        backlog: limits.backlog,
        weight: limits.weight,
        ambiguous_retries: limits.ambiguous_retries,
        suspended: None,
    };
    let store = &call.app.store;
    let tenant = store.update_tenant(&call.tenant, &patch, call.now).await?;
    call.app.intake.tenant_changed(&call.tenant);
    (call.app.control_obeyed)().await;
    let credentials = store.credentials(&call.tenant).await?;
    Answer::json(&TenantBody::new(tenant, &credentials))
}

/// Delete a tenant with its keys, credentials and devices; what is queued of it ends as cancelled.
#[utoipa::path(delete, path = "/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path)), responses((status = 200, body = DeletedTenant)),
    security(("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let deleted = call.app.store.delete_tenant(&call.tenant, call.now).await?;
    call.app.intake.tenant_changed(&call.tenant);
    // Processes that take requests, and engines.
    let keys = call.app.keys.revoke_tenant(&call.tenant);
    tokio::join!(keys, (call.app.control_obeyed)());
    if !deleted {
        return Err(ApiError::not_found("tenant"));
    }
    let tenant_id = call.tenant.clone();
    Answer::json(&DeletedTenant { deleted, tenant_id })
}

/// The credentials in a request that creates a tenant.
fn uploads(request: CreateTenantRequest, use_sandbox: bool) -> Result<Vec<Upload>, ApiError> {
    let mut uploads = Vec::new();
    let apple = AppleUpload {
        team_id: request.team_id,
        key_id: request.key_id,
        private_key: request.private_key,
        ..AppleUpload::default()
    };
    if !apple.is_empty() {
        uploads.push(apple.into_upload(default_environment(use_sandbox))?);
    }
    if let Some(file) = request.fcm {
        uploads.push(credentials::google(file.0)?);
    }
    Ok(uploads)
}

impl TenantBody {
    fn new(tenant: Tenant, credentials: &[CredentialRecord]) -> Self {
        let key = credentials
            .iter()
            .find(|record| record.kind == CredentialKind::ApnsKey);
        let fact = |name| key.and_then(|record| credentials::public_fact(record, name));
        Self {
            tenant_id: tenant.id.clone(),
            app_id: tenant.id,
            org_id: tenant.org,
            bundle_id: tenant.bundle_id,
            team_id: fact("team_id"),
            key_id: fact("key_id"),
            use_sandbox: tenant.use_sandbox,
            push_enabled: !credentials.is_empty(),
            email_enabled: false,
            limits: tenant.limits.into(),
            suspended: tenant.suspended,
            created_at: rfc3339(tenant.created_at),
            created_by: tenant.created_by,
            updated_at: rfc3339(tenant.updated_at),
        }
    }
}

impl From<TenantLimits> for LimitsBody {
    fn from(limits: TenantLimits) -> Self {
        Self {
            rate: limits.rate,
            burst: limits.burst,
            backlog: limits.backlog,
            weight: limits.weight,
            ambiguous_retries: limits.ambiguous_retries,
        }
    }
}

impl PatchLimits {
    fn check(&self) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        let mut check = |field: &'static str, value: Option<u64>, from: u64, to: u64| {
            if value.is_some_and(|value| !(from..=to).contains(&value)) {
                let loc: [Step; 3] = ["body".into(), "limits".into(), field.into()];
                errors.push(FieldError::value(
                    loc,
                    format!("is a number from {from} to {to}"),
                ));
            }
        };
        let wide = |value: Option<Option<u32>>| value.flatten().map(u64::from);
        check("rate", wide(self.rate), 1, RATE_MAX.into());
        check("burst", wide(self.burst), 1, RATE_MAX.into());
        check(
            "backlog",
            self.backlog.flatten(),
            1,
            i64::MAX.unsigned_abs(),
        );
        check("weight", wide(self.weight), 1, WEIGHT_MAX.into());
        let retries = self.ambiguous_retries.flatten().map(u64::from);
        check(
            "ambiguous_retries",
            retries,
            0,
            AMBIGUOUS_RETRIES_MAX.into(),
        );
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::fields(errors))
        }
    }
}

/// Keeps "null" apart from "not there".
pub(super) fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn check_bundle_id(bundle_id: Option<&str>) -> Result<(), ApiError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_good = |text: &str| (1..=BUNDLE_ID_MAX).contains(&text.len()) && text.bytes().all(fits);
    if bundle_id.is_none_or(is_good) {
        return Ok(());
    }
    let loc = ["body".into(), "bundle_id".into()];
    let problem = "has 1 to 255 letters, digits, '.', '-' and '_'";
    Err(ApiError::field(FieldError::value(loc, problem)))
}
