//! `…/devices`: registration (one or many), lists, unregistration.
//! It must not know how a user's devices are found when something is sent.

use std::collections::BTreeMap;

use clarion_engine::intake::request::{default_environment, environment_of, unreadable};
use clarion_engine::intake::{DeviceTokenError, check_device_token, check_user_id};
use clarion_engine::limits::{DEVICE_TAGS_MAX, REGISTRATIONS_MAX};
use clarion_engine::model::{Device, DeviceId, Environment, Platform};
use clarion_engine::store::Registration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tags::check_tags;
use crate::answer::{Answer, rfc3339};
use crate::call::{TenantCall, query_error};
use crate::error::{ApiError, FieldError, Kind, Step};
use crate::json::{self, Bounded, Object};

/// Devices of one page of a list.
const PAGE_MAX: u32 = 1_000;
/// Longest version of an app, bytes.
const APP_VERSION_MAX: usize = 64;

/// A device to be registered.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RegisterDeviceRequest {
    /// To whom it belongs from now on.
    #[schema(value_type = String, example = "user-123", max_length = 256)]
    user_id: Box<str>,
    /// The device token, as the app received it.
    #[schema(value_type = String, max_length = 4096)]
    token: Box<str>,
    /// `ios`, `watchos` or `android`.
    #[schema(value_type = String, example = "ios")]
    platform: Platform,
    #[schema(value_type = Option<String>, max_length = 64)]
    app_version: Option<Box<str>>,
    /// `production` or `sandbox`, for Apple; the tenant's default when absent.
    #[schema(value_type = Option<String>, example = "production")]
    environment: Option<Environment>,
    /// The device subscribes to exactly these tags from now on; it keeps those that it has when absent.
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    tags: Option<Bounded<Box<str>, DEVICE_TAGS_MAX>>,
}

/// A device as it registers, with the tags that it asks for.
type Wanted = (Registration, Option<Vec<Box<str>>>);

/// Devices to be registered, all or none.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RegisterDevicesRequest {
    /// At most 10,000.
    #[schema(value_type = Vec<RegisterDeviceRequest>, max_items = 10_000)]
    devices: Bounded<Object<RegisterDeviceRequest>, REGISTRATIONS_MAX>,
}

/// A registered device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceBody {
    /// The device token; Apple's in lower case.
    token: String,
    user_id: String,
    #[schema(value_type = String, example = "ios")]
    platform: Platform,
    #[schema(value_type = String, example = "production")]
    environment: Environment,
    app_version: Option<String>,
    created_at: String,
    /// Its last registration.
    updated_at: String,
}

/// How many devices were registered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegisteredDevices {
    registered: usize,
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceList {
    devices: Vec<DeviceBody>,
    /// Give it as `cursor` for the next page; null after the last one.
    next_cursor: Option<String>,
}

/// The answer to an unregistration.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnregisteredDevice {
    deleted: bool,
}

/// Register a device; one that is known moves to its new user.
#[utoipa::path(post, path = "/tenants/{tenant}/devices", tag = "devices",
    params(("tenant" = String, Path)), request_body = RegisterDeviceRequest,
    responses((status = 200, body = DeviceBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn register(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: RegisterDeviceRequest = call.json().await?;
    let default = default_environment(call.row().await?.use_sandbox);
    let wanted = request.check(None, default)?;
    let device = register_all(&call, vec![wanted]).await?.into_iter().next();
    let device = device.ok_or_else(|| ApiError::not_found("device"))?;
    Answer::json(&DeviceBody::from(device))
}

/// Registers devices, all or none; then their tags follow. Whoever sees that fail sends the same again.
async fn register_all(call: &TenantCall, wanted: Vec<Wanted>) -> Result<Vec<Device>, ApiError> {
    let (registrations, tags): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let (store, tenant) = (&call.app.store, &call.tenant);
    let devices = store.register(tenant, &registrations, call.now).await?;
    // Of two registrations of one device token the later counts.
    let asked = devices.iter().map(|device| device.id).zip(tags);
    let asked: BTreeMap<DeviceId, Vec<Box<str>>> = asked
        .filter_map(|(device, tags)| Some((device, tags?)))
        .collect();
    if !asked.is_empty() {
        let asked: Vec<_> = asked.into_iter().collect();
        store.retag(tenant, &asked, call.now).await?;
    }
    Ok(devices)
}

/// Register many devices, all or none.
#[utoipa::path(post, path = "/tenants/{tenant}/devices/bulk", tag = "devices",
    params(("tenant" = String, Path)), request_body = RegisterDevicesRequest,
    responses((status = 200, body = RegisteredDevices)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn register_bulk(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.bulk_body().await?;
    let request: RegisterDevicesRequest = json::read(&held.bytes)?;
    let default = default_environment(call.row().await?.use_sandbox);
    let devices = request.devices.0.into_iter().enumerate();
    let devices = devices.map(|(index, Object(device))| device.check(Some(index), default));
    let wanted = devices.collect::<Result<Vec<_>, _>>()?;
    let registered = wanted.len();
    if wanted.is_empty() {
        let loc = ["body".into(), "devices".into()];
        return Err(ApiError::field(FieldError::value(
            loc,
            "give at least one device",
        )));
    }
    register_all(&call, wanted).await?;
    Answer::json(&RegisteredDevices { registered })
}

/// List the devices of a user, or of the tenant.
#[utoipa::path(get, path = "/tenants/{tenant}/devices", tag = "devices",
    params(("tenant" = String, Path), ("user_id" = Option<String>, Query),
        ("cursor" = Option<String>, Query), ("limit" = Option<u32>, Query, maximum = 1_000)),
    responses((status = 200, body = DeviceList)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let user_id = call.query("user_id");
    if let Some(Err(problem)) = user_id.map(check_user_id) {
        return Err(query_error("user_id", problem));
    }
    let (cursor, limit) = (call.cursor()?, call.limit(PAGE_MAX, PAGE_MAX)?);
    let devices = call
        .app
        .store
        .devices(&call.tenant, user_id, cursor, limit)
        .await?;
    let is_full = devices.len() >= limit as usize;
    let last = devices.last().filter(|_| is_full);
    let next_cursor = last.map(|device| device.id.to_string());
    let devices = devices.into_iter().map(DeviceBody::from).collect();
    Answer::json(&DeviceList {
        devices,
        next_cursor,
    })
}

/// Unregister a user's device.
#[utoipa::path(delete, path = "/tenants/{tenant}/devices/{token}", tag = "devices",
    params(("tenant" = String, Path), ("token" = String, Path), ("user_id" = String, Query)),
    responses((status = 200, body = UnregisteredDevice)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn unregister(call: TenantCall) -> Result<Answer, ApiError> {
    let Some(user_id) = call.query("user_id") else {
        let loc = ["query".into(), "user_id".into()];
        return Err(ApiError::field(FieldError::missing(loc)));
    };
    check_user_id(user_id).map_err(|problem| query_error("user_id", problem))?;
    let device_token = call.path("token");
    if let Some(problem) = unreadable(device_token) {
        let loc = ["path".into(), "token".into()];
        return Err(ApiError::field(FieldError::value(loc, problem)));
    }
    let store = &call.app.store;
    let mut deleted = store
        .unregister(&call.tenant, user_id, device_token)
        .await?;
    if let (false, Ok(stored)) = (deleted, check_device_token(Platform::Ios, device_token)) {
        // Apple's are kept in lower case, whatever case the caller writes.
        deleted = store.unregister(&call.tenant, user_id, &stored).await?;
    }
    if !deleted {
        return Err(ApiError::not_found("device of this user"));
    }
    Answer::json(&UnregisteredDevice { deleted })
}

impl RegisterDeviceRequest {
    /// `index` is its place in a list.
    fn check(self, index: Option<usize>, default: Environment) -> Result<Wanted, ApiError> {
        let mut at = vec![Step::from("body")];
        if let Some(index) = index {
            at.extend(["devices".into(), index.into()]);
        }
        let refused = |field: &'static str, problem: &'static str| {
            let loc = at.iter().cloned().chain([field.into()]);
            ApiError::field(FieldError::value(loc, problem))
        };
        check_user_id(&self.user_id).map_err(|problem| refused("user_id", problem))?;
        if let Some(problem) = unreadable(&self.token) {
            return Err(refused("token", problem));
        }
        if let Some(version) = &self.app_version
            && (version.len() > APP_VERSION_MAX || version.chars().any(char::is_control))
        {
            let problem = "has at most 64 bytes and no control characters";
            return Err(refused("app_version", problem));
        }
        let tags = self.tags.map(|Bounded(tags)| tags);
        check_tags(tags.as_deref().unwrap_or_default(), &at)?;
        let device_token = check_device_token(self.platform, &self.token)
            .map_err(|error| bad_device_token(index, error))?;
        let registration = Registration {
            user_id: self.user_id,
            platform: self.platform,
            environment: environment_of(self.platform, self.environment, default),
            device_token,
            app_version: self.app_version,
        };
        Ok((registration, tags))
    }
}

/// A text that is not a device token of its platform: 400, as documented.
fn bad_device_token(index: Option<usize>, error: DeviceTokenError) -> ApiError {
    let detail = match index {
        Some(index) => format!("invalid token format: devices.{index}: {error}"),
        None => format!("invalid token format: {error}"),
    };
    ApiError::new(Kind::BadValue, detail)
}

impl From<Device> for DeviceBody {
    fn from(device: Device) -> Self {
        Self {
            token: device.device_token.into(),
            user_id: device.user_id.into(),
            platform: device.platform,
            environment: device.environment,
            app_version: device.app_version.map(Into::into),
            created_at: rfc3339(device.created_at),
            updated_at: rfc3339(device.registered_at),
        }
    }
}
