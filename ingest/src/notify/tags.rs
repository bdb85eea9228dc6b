//! `…/tags` and `…/devices/{token}/tags`: the catalogue of a tenant's tags, and which of them a device subscribes to.
//! It must not know what is sent to a tag.

use clarion_engine::intake::request::unreadable;
use clarion_engine::intake::{check_device_token, check_tag, check_user_id};
use clarion_engine::limits::DEVICE_TAGS_MAX;
use clarion_engine::model::{Device, DeviceId, Platform};
use clarion_engine::store::{SubscriptionFilter, Tag};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::{TenantCall, query_error};
use crate::error::{ApiError, FieldError, Step};
use crate::json::Bounded;

/// Tags of one page of a list.
const PAGE_MAX: u32 = 1_000;
/// Longest description of a tag, bytes.
const DESCRIPTION_MAX: usize = 1_024;
/// Devices of a user that are looked at for one device token.
const DEVICES_PER_PAGE: u32 = 1_000;

/// What a tag is for.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PutTagRequest {
    /// Stays as it is when absent.
    #[schema(value_type = Option<String>, max_length = 1_024)]
    description: Option<String>,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagBody {
    name: String,
    description: String,
    created_at: String,
    /// Last change of its description.
    updated_at: String,
}

/// A page of tags, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagList {
    tags: Vec<TagBody>,
    /// Give it as `cursor` for the next page; null after the last one.
    next_cursor: Option<String>,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedTag {
    deleted: bool,
}

/// The tags that a device subscribes to.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PutDeviceTagsRequest {
    /// Exactly these from now on; new ones come into the catalogue.
    #[schema(value_type = Vec<String>, max_items = 100)]
    tags: Bounded<Box<str>, DEVICE_TAGS_MAX>,
}

/// The tags that a device subscribes to, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceTags {
    tags: Vec<String>,
}

/// List the tags of the tenant.
#[utoipa::path(get, path = "/tenants/{tenant}/tags", tag = "tags",
    params(("tenant" = String, Path),
        ("cursor" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = TagList)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let limit = call.limit(PAGE_MAX, PAGE_MAX)?;
    let after = call.query("cursor").unwrap_or_default();
    let tags = call.app.store.tags(&call.tenant, after, limit).await?;
    let is_full = tags.len() >= limit as usize;
    let last = tags.last().filter(|_| is_full);
    let next_cursor = last.map(|tag| tag.name.to_string());
    let tags = tags.into_iter().map(TagBody::from).collect();
    Answer::json(&TagList { tags, next_cursor })
}

/// Create a tag, or change its description.
#[utoipa::path(put, path = "/tenants/{tenant}/tags/{tag}", tag = "tags",
    params(("tenant" = String, Path), ("tag" = String, Path, max_length = 128)),
    request_body = PutTagRequest, responses((status = 200, body = TagBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn put(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PutTagRequest = call.json().await?;
    let name = name(&call)?;
    if let Some(description) = &request.description
        && description.len() > DESCRIPTION_MAX
    {
        let loc = ["body".into(), "description".into()];
        return Err(ApiError::field(FieldError::value(
            loc,
            "has at most 1024 bytes",
        )));
    }
    let description = request.description.as_deref();
    let store = &call.app.store;
    let (tag, _) = store
        .put_tag(&call.tenant, &name, description, call.now)
        .await?;
    Answer::json(&TagBody::from(tag))
}

/// Delete a tag, with all subscriptions to it.
#[utoipa::path(delete, path = "/tenants/{tenant}/tags/{tag}", tag = "tags",
    params(("tenant" = String, Path), ("tag" = String, Path, max_length = 128)),
    responses((status = 200, body = DeletedTag)),
    security(("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let name = name(&call)?;
    if !call.app.store.delete_tag(&call.tenant, &name).await? {
        return Err(ApiError::not_found("tag"));
    }
    Answer::json(&DeletedTag { deleted: true })
}

/// List the tags that a user's device subscribes to.
#[utoipa::path(get, path = "/tenants/{tenant}/devices/{token}/tags", tag = "tags",
    params(("tenant" = String, Path), ("token" = String, Path), ("user_id" = String, Query)),
    responses((status = 200, body = DeviceTags)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn of_device(call: TenantCall) -> Result<Answer, ApiError> {
    let device = device(&call).await?.id;
    Answer::json(&tags_of(&call, device).await?)
}

/// Set the tags that a user's device subscribes to.
#[utoipa::path(put, path = "/tenants/{tenant}/devices/{token}/tags", tag = "tags",
    params(("tenant" = String, Path), ("token" = String, Path), ("user_id" = String, Query)),
    request_body = PutDeviceTagsRequest, responses((status = 200, body = DeviceTags)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn put_of_device(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PutDeviceTagsRequest = call.json().await?;
    check_tags(&request.tags.0, &["body".into()])?;
    let device = device(&call).await?.id;
    let wanted = [(device, request.tags.0)];
    call.app
        .store
        .retag(&call.tenant, &wanted, call.now)
        .await?;
    Answer::json(&tags_of(&call, device).await?)
}

/// Refuses names that are none; `at` is where the list `tags` stands.
pub(super) fn check_tags(tags: &[Box<str>], at: &[Step]) -> Result<(), ApiError> {
    for (index, tag) in tags.iter().enumerate() {
        if let Err(problem) = check_tag(tag) {
            let loc = at.iter().cloned().chain(["tags".into(), index.into()]);
            return Err(ApiError::field(FieldError::value(loc, problem)));
        }
    }
    Ok(())
}

/// The tag of the path.
fn name(call: &TenantCall) -> Result<String, ApiError> {
    let name = call.path("tag");
    check_tag(name).map_err(|problem| {
        ApiError::field(FieldError::value(["path".into(), "tag".into()], problem))
    })?;
    Ok(name.to_owned())
}

/// The device of the path, if it belongs to the user of the query.
async fn device(call: &TenantCall) -> Result<Device, ApiError> {
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
    // Apple's are kept in lower case, whatever case the caller writes.
    let stored = check_device_token(Platform::Ios, device_token).unwrap_or_default();
    let mut after: DeviceId = 0;
    loop {
        let store = &call.app.store;
        let devices = store
            .devices(&call.tenant, Some(user_id), after, DEVICES_PER_PAGE)
            .await?;
        let is_last = devices.len() < DEVICES_PER_PAGE as usize;
        after = devices.last().map_or(after, |device| device.id);
        let is_meant = |device: &Device| {
            *device.device_token == *device_token
                || (device.platform.is_apple() && device.device_token == stored)
        };
        match devices.into_iter().find(is_meant) {
            Some(device) => return Ok(device),
            None if is_last => return Err(ApiError::not_found("device of this user")),
            None => {}
        }
    }
}

async fn tags_of(call: &TenantCall, device: DeviceId) -> Result<DeviceTags, ApiError> {
    let filter = SubscriptionFilter {
        device: Some(device),
        ..SubscriptionFilter::default()
    };
    let (mut tags, mut after): (Vec<String>, i64) = (Vec::new(), 0);
    loop {
        let found = call
            .app
            .store
            .subscriptions(&call.tenant, filter, after, PAGE_MAX)
            .await?;
        let is_last = found.len() < PAGE_MAX as usize;
        after = found.last().map_or(after, |subscription| subscription.id);
        tags.extend(
            found
                .into_iter()
                .map(|subscription| subscription.tag.into()),
        );
        if is_last {
            tags.sort_unstable();
            return Ok(DeviceTags { tags });
        }
    }
}

impl From<Tag> for TagBody {
    fn from(tag: Tag) -> Self {
        Self {
            name: tag.name.into(),
            description: tag.description.into(),
            created_at: rfc3339(tag.created_at),
            updated_at: rfc3339(tag.updated_at),
        }
    }
}
