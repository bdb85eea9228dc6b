//! `…/devices`: what IBM's client SDKs register, under ids of their own choice.
//! It must not know how a device is addressed when something is sent.

use clarion_auth::permission::Operation;
use clarion_engine::intake::request::{default_environment, environment_of, unreadable};
use clarion_engine::intake::{check_device_token, check_user_id};
use clarion_engine::model::{Device, Environment, Platform};
use clarion_engine::store::{Installation, Registration};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticate::BUSY;
use super::page::{Asked, PageInfo, SIZE_MAX, href};
use super::reports::{DAY, days};
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind, Success};

/// Longest id of a device, bytes.
const DEVICE_ID_MAX: usize = 256;
/// What a device of nobody in particular is said to belong to: clients compare with this word.
const ANONYMOUS: &str = "anonymous";
/// What is said of every other platform.
pub(super) const PLATFORMS: &str = "is A (Apple) or G (Google): Clarion delivers to Apple's and Google's \
                                    push services, not to browsers";

/// A device as its app registers it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceRequest {
    /// Chosen by the app; on `PUT` the one of the path, or left out.
    #[schema(value_type = Option<String>, max_length = 256)]
    device_id: Option<Box<str>>,
    /// `A` (Apple) or `G` (Google).
    #[schema(value_type = String, example = "A")]
    platform: Box<str>,
    /// The device token, as the app received it.
    #[schema(value_type = String, max_length = 4096)]
    token: Box<str>,
    /// To whom it belongs; then `clientSecret` is needed.
    #[schema(value_type = Option<String>, max_length = 256)]
    user_id: Option<Box<str>>,
}

/// A registered device.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushDevice {
    device_id: String,
    /// `anonymous` when it belongs to nobody in particular.
    user_id: String,
    /// `A` or `G`.
    platform: &'static str,
    token: String,
    created_mode: &'static str,
    created_time: String,
    last_updated_time: String,
    href: String,
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushDeviceList {
    devices: Vec<PushDevice>,
    page_info: PageInfo,
}

/// Register a device. With `userId` this needs the header `clientSecret` (or another credential), without it nothing.
#[utoipa::path(post, path = "/imfpush/v1/apps/{applicationId}/devices", tag = "IBM devices",
    params(("applicationId" = String, Path)), request_body = DeviceRequest,
    responses((status = 201, body = PushDevice)),
    security((), ("client_secret" = []), ("app_secret" = []), ("client_id" = [], "client_pair_secret" = []),
        ("access_token" = [])))]
pub(crate) async fn create(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: DeviceRequest = call.json().await?;
    let Some(device_id) = request.device_id.clone() else {
        let loc = ["body".into(), "deviceId".into()];
        return Err(ApiError::field(FieldError::missing(loc)));
    };
    let device = put(&mut call, &device_id, request).await?;
    Ok(Answer::json(&device)?.with_status(Success::Created))
}

/// Read one device. This never answers 401: published clients could not tell.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/devices/{deviceId}", tag = "IBM devices",
    params(("applicationId" = String, Path), ("deviceId" = String, Path)),
    responses((status = 200, body = PushDevice)),
    security((), ("client_secret" = []), ("app_secret" = []), ("access_token" = []), ("api_key" = [])))]
pub(crate) async fn read(call: TenantCall) -> Result<Answer, ApiError> {
    let busy = |error: ApiError| match error.kind() {
        // Published clients call no callback after a 503.
        Kind::Unavailable => error.turned(Kind::Internal).code(BUSY),
        _ => error,
    };
    let installation = find(&call, call.path("deviceId")).await.map_err(busy)?;
    Answer::json(&PushDevice::of(&call, installation))
}

/// Replace what is known of a device: without `userId` it belongs to nobody in particular afterwards.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/devices/{deviceId}", tag = "IBM devices",
    params(("applicationId" = String, Path), ("deviceId" = String, Path)),
    request_body = DeviceRequest, responses((status = 200, body = PushDevice)),
    security((), ("client_secret" = []), ("app_secret" = []), ("access_token" = [])))]
pub(crate) async fn update(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: DeviceRequest = call.json().await?;
    let device_id = call.path("deviceId").to_owned();
    let names = request.device_id.as_deref();
    if names.is_some_and(|names| names != device_id) {
        return Err(wrong("deviceId", "is another than the one of the path"));
    }
    find(&call, &device_id).await?;
    let device = put(&mut call, &device_id, request).await?;
    Answer::json(&device)
}

/// Unregister a device.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/devices/{deviceId}", tag = "IBM devices",
    params(("applicationId" = String, Path), ("deviceId" = String, Path)),
    responses((status = 204)),
    security((), ("client_secret" = []), ("app_secret" = []), ("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let device_id = known_text(call.path("deviceId"))?;
    let store = &call.app.store;
    if !store.remove_installation(&call.tenant, device_id).await? {
        return Err(unknown());
    }
    Ok(Answer::silent())
}

/// List the devices that have an id of their app's choice.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/devices", tag = "IBM devices",
    params(("applicationId" = String, Path), ("userId" = Option<String>, Query),
        ("offset" = Option<u32>, Query, maximum = 100_000), ("size" = Option<u32>, Query, maximum = 500),
        ("after" = Option<String>, Query, description = "from `pageInfo.next` of an earlier answer")),
    responses((status = 200, body = PushDeviceList)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    if call.query("filter").is_some() {
        let says = "filter is not supported: list by userId, or read one device";
        return Err(ApiError::new(Kind::BadValue, says).code("FPWSE0007E"));
    }
    let user_id = call.query("userId");
    if user_id.is_some_and(|user_id| check_user_id(user_id).is_err()) {
        let says = "userId has 1 to 256 bytes and no control characters";
        return Err(ApiError::new(Kind::BadValue, says).code("FPWSE0007E"));
    }
    let user_id = user_id.map(|user_id| if user_id == ANONYMOUS { "" } else { user_id });
    let asked = Asked::of(&call)?;
    let after = skip(&call, user_id, &asked).await?;
    let found = match after {
        Some(after) => {
            let store = &call.app.store;
            store
                .installations(&call.tenant, user_id, &after, asked.size)
                .await?
        }
        None => Vec::new(),
    };
    let counts = call
        .app
        .store
        .count_installations(&call.tenant, user_id, 0)
        .await?;
    let total = counts.iter().map(|count| count.devices).sum();
    let last = found.last().map(|last| last.external_id.to_string());
    let path = match call.query("userId") {
        Some(user_id) => {
            let user_id = super::page::encoded(user_id);
            href(&call.tenant, &format!("devices?userId={user_id}"))
        }
        None => href(&call.tenant, "devices"),
    };
    let page_info = PageInfo::of(&path, &asked, (found.len(), last), Some(total));
    let devices = found.into_iter().map(|one| PushDevice::of(&call, one));
    Answer::json(&PushDeviceList {
        devices: devices.collect(),
        page_info,
    })
}

/// How many devices there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceReport {
    /// How many days back `registered` counts.
    days: i64,
    devices: u64,
    registered: u64,
    report: Vec<PlatformReport>,
}

/// Devices of a platform.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlatformReport {
    /// `A` or `G`.
    platform: &'static str,
    /// Registered now.
    devices: u64,
    /// Of these, first registered within the days.
    registered: u64,
}

/// Count the devices by platform.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/devices/report", tag = "IBM devices",
    params(("applicationId" = String, Path), ("days" = Option<i64>, Query, minimum = 1, maximum = 90)),
    responses((status = 200, body = DeviceReport)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn report(call: TenantCall) -> Result<Answer, ApiError> {
    let days = days(&call)?;
    let since = call.now.saturating_sub(days * DAY);
    let counts = call
        .app
        .store
        .count_installations(&call.tenant, None, since)
        .await?;
    let mut report = ["A", "G"].map(|platform| PlatformReport {
        platform,
        devices: 0,
        registered: 0,
    });
    for count in &counts {
        let mut lines = report.iter_mut();
        if let Some(line) = lines.find(|line| line.platform == letter(count.platform)) {
            line.devices += count.devices;
            line.registered += count.registered;
        }
    }
    Answer::json(&DeviceReport {
        days,
        devices: report.iter().map(|line| line.devices).sum(),
        registered: report.iter().map(|line| line.registered).sum(),
        report: report.into(),
    })
}

/// The device after which a page begins; `None` when the list ends before it.
async fn skip(
    call: &TenantCall,
    user_id: Option<&str>,
    asked: &Asked,
) -> Result<Option<Box<str>>, ApiError> {
    let mut after: Box<str> = asked.after.as_deref().unwrap_or_default().into();
    let mut left = asked.skip();
    while left > 0 {
        let store = &call.app.store;
        let size = left.min(SIZE_MAX);
        let page = store
            .installations(&call.tenant, user_id, &after, size)
            .await?;
        let Some(last) = page.last().filter(|_| page.len() == size as usize) else {
            return Ok(None);
        };
        after = last.external_id.clone();
        left -= size;
    }
    Ok(Some(after))
}

/// The registered device of an id.
pub(super) async fn find(call: &TenantCall, device_id: &str) -> Result<Installation, ApiError> {
    let device_id: Box<str> = known_text(device_id)?.into();
    let store = &call.app.store;
    let found = store
        .installations_by_id(&call.tenant, &[device_id])
        .await?;
    found.into_iter().next().ok_or_else(unknown)
}

async fn put(
    call: &mut TenantCall,
    device_id: &str,
    request: DeviceRequest,
) -> Result<PushDevice, ApiError> {
    let user_id = request.user_id.as_deref();
    let user_id = user_id.filter(|user_id| !user_id.is_empty() && *user_id != ANONYMOUS);
    if user_id.is_some() {
        call.allows(Operation::RegisterUserDevice)?;
    }
    let default = default_environment(call.row().await?.use_sandbox);
    let registration = registration(device_id, user_id, &request, default)?;
    let store = &call.app.store;
    let put = store
        .put_installation(&call.tenant, device_id, &registration, call.now)
        .await?;
    Ok(PushDevice::of(call, put.installation))
}

fn registration(
    device_id: &str,
    user_id: Option<&str>,
    request: &DeviceRequest,
    default: Environment,
) -> Result<Registration, ApiError> {
    if known_text(device_id).is_err() {
        return Err(wrong(
            "deviceId",
            "has 1 to 256 bytes and no control characters",
        ));
    }
    if let Some(Err(problem)) = user_id.map(check_user_id) {
        return Err(wrong("userId", problem));
    }
    let Some(platform) = platform_of(&request.platform) else {
        return Err(wrong("platform", PLATFORMS));
    };
    if let Some(problem) = unreadable(&request.token) {
        return Err(wrong("token", problem));
    }
    let device_token = check_device_token(platform, &request.token)
        .map_err(|error| ApiError::new(Kind::BadValue, format!("body.token: {error}")))?;
    Ok(Registration {
        user_id: user_id.unwrap_or_default().into(),
        platform,
        environment: environment_of(platform, None, default),
        device_token,
        app_version: None,
    })
}

/// The platform of IBM's letter.
pub(super) fn platform_of(letter: &str) -> Option<Platform> {
    match letter {
        "A" | "a" => Some(Platform::Ios),
        "G" | "g" => Some(Platform::Android),
        _ => None,
    }
}

/// IBM's letter of a platform.
pub(super) fn letter(platform: Platform) -> &'static str {
    if platform.is_apple() { "A" } else { "G" }
}

/// A text that may be a device's id; any other names no device.
fn known_text(device_id: &str) -> Result<&str, ApiError> {
    let fits =
        (1..=DEVICE_ID_MAX).contains(&device_id.len()) && !device_id.chars().any(char::is_control);
    if fits { Ok(device_id) } else { Err(unknown()) }
}

fn unknown() -> ApiError {
    ApiError::new(
        Kind::NotFound,
        "Not Found - Targeted resource 'device' does not exist. Check the 'deviceId' parameter",
    )
}

fn wrong(field: &'static str, problem: &'static str) -> ApiError {
    ApiError::field(FieldError::value(["body".into(), field.into()], problem))
}

impl PushDevice {
    fn of(call: &TenantCall, installation: Installation) -> Self {
        let Device {
            user_id,
            platform,
            device_token,
            created_at,
            registered_at,
            ..
        } = installation.device;
        let device_id = String::from(installation.external_id);
        let place = format!("devices/{}", super::page::encoded(&device_id));
        Self {
            href: href(&call.tenant, &place),
            device_id,
            user_id: match &*user_id {
                "" => ANONYMOUS.to_owned(),
                _ => user_id.into(),
            },
            platform: letter(platform),
            token: device_token.into(),
            created_mode: "API",
            created_time: rfc3339(created_at),
            last_updated_time: rfc3339(registered_at),
        }
    }
}
