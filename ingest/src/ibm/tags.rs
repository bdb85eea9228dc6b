//! `…/tags`: the catalogue of what devices may subscribe to.
//! It must not know who subscribes.

use clarion_engine::store::Tag;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::{Asked, PageInfo, SIZE_MAX, encoded, href};
use super::target::{EVERYBODY, missing};
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind, Success};

/// Longest name of a tag, bytes.
const NAME_MAX: usize = 128;
/// Longest description of a tag, bytes.
const DESCRIPTION_MAX: usize = 1_024;

/// A tag to be created.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateTagRequest {
    #[schema(value_type = String, max_length = 128)]
    name: Box<str>,
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<Box<str>>,
}

/// A tag's new description.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChangeTagRequest {
    /// The one of the path, or left out.
    #[schema(value_type = Option<String>)]
    name: Option<Box<str>>,
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<Box<str>>,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TagLine {
    name: String,
    description: String,
    uri: String,
    created_time: String,
    last_updated_time: String,
    created_mode: &'static str,
    href: String,
}

/// A page of tags, by name.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TagLines {
    tags: Vec<TagLine>,
    page_info: PageInfo,
}

/// Create a tag.
#[utoipa::path(post, path = "/imfpush/v1/apps/{applicationId}/tags", tag = "IBM tags",
    params(("applicationId" = String, Path)), request_body = CreateTagRequest,
    responses((status = 201, body = TagLine)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn create(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: CreateTagRequest = call.json().await?;
    check(&request.name, request.description.as_deref())?;
    let store = &call.app.store;
    if store.tag(&call.tenant, &request.name).await?.is_some() {
        return Err(ApiError::new(
            Kind::Conflict,
            "Conflict - a tag of this name exists",
        ));
    }
    let description = request.description.unwrap_or_default();
    let put = store.put_tag(&call.tenant, &request.name, Some(&description), call.now);
    let (tag, _) = put.await?;
    Ok(Answer::json(&TagLine::of(&call, tag))?.with_status(Success::Created))
}

/// Change a tag's description.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/tags/{tagName}", tag = "IBM tags",
    params(("applicationId" = String, Path), ("tagName" = String, Path)),
    request_body = ChangeTagRequest, responses((status = 200, body = TagLine)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn change(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: ChangeTagRequest = call.json().await?;
    let name = find(&call).await?.name;
    if request.name.is_some_and(|named| named != name) {
        return Err(wrong("name", "cannot be changed: create another tag"));
    }
    check(&name, request.description.as_deref())?;
    let store = &call.app.store;
    let put = store.put_tag(
        &call.tenant,
        &name,
        request.description.as_deref(),
        call.now,
    );
    let (tag, _) = put.await?;
    Answer::json(&TagLine::of(&call, tag))
}

/// Read a tag.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/tags/{tagName}", tag = "IBM tags",
    params(("applicationId" = String, Path), ("tagName" = String, Path)),
    responses((status = 200, body = TagLine)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn read(call: TenantCall) -> Result<Answer, ApiError> {
    let tag = find(&call).await?;
    Answer::json(&TagLine::of(&call, tag))
}

/// List the tags.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/tags", tag = "IBM tags",
    params(("applicationId" = String, Path),
        ("offset" = Option<u32>, Query, maximum = 100_000), ("size" = Option<u32>, Query, maximum = 500),
        ("after" = Option<String>, Query)),
    responses((status = 200, body = TagLines)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let asked = Asked::of(&call)?;
    let store = &call.app.store;
    let mut after: Box<str> = asked.after.as_deref().unwrap_or_default().into();
    let mut left = asked.skip();
    while left > 0 {
        let size = left.min(SIZE_MAX);
        let page = store.tags(&call.tenant, &after, size).await?;
        left = if page.len() == size as usize {
            left - size
        } else {
            0
        };
        // Beyond the last name there is none.
        after = page.last().map_or(after, |last| last.name.clone());
    }
    let found = store.tags(&call.tenant, &after, asked.size).await?;
    let last = found.last().map(|last| last.name.to_string());
    let path = href(&call.tenant, "tags");
    let page_info = PageInfo::of(&path, &asked, (found.len(), last), None);
    Answer::json(&TagLines {
        tags: found
            .into_iter()
            .map(|tag| TagLine::of(&call, tag))
            .collect(),
        page_info,
    })
}

/// Delete a tag and all subscriptions to it.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/tags/{tagName}", tag = "IBM tags",
    params(("applicationId" = String, Path), ("tagName" = String, Path)),
    responses((status = 204)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let store = &call.app.store;
    if !store.delete_tag(&call.tenant, call.path("tagName")).await? {
        return Err(missing("tagNames"));
    }
    Ok(Answer::silent())
}

async fn find(call: &TenantCall) -> Result<Tag, ApiError> {
    let found = call
        .app
        .store
        .tag(&call.tenant, call.path("tagName"))
        .await?;
    found.ok_or_else(|| missing("tagNames"))
}

fn check(name: &str, description: Option<&str>) -> Result<(), ApiError> {
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    if !(1..=NAME_MAX).contains(&name.len()) || !is_plain(name) {
        return Err(wrong(
            "name",
            "has 1 to 128 bytes and no control characters",
        ));
    }
    if name == EVERYBODY {
        return Err(wrong("name", "is the tag that every device subscribes to"));
    }
    if description.is_some_and(|text| text.len() > DESCRIPTION_MAX || !is_plain(text)) {
        return Err(wrong(
            "description",
            "has at most 1024 bytes and no control characters",
        ));
    }
    Ok(())
}

fn wrong(field: &'static str, problem: &'static str) -> ApiError {
    ApiError::field(FieldError::value(["body".into(), field.into()], problem))
}

impl TagLine {
    fn of(call: &TenantCall, tag: Tag) -> Self {
        let place = href(&call.tenant, &format!("tags/{}", encoded(&tag.name)));
        Self {
            name: tag.name.into(),
            description: tag.description.into(),
            uri: place.clone(),
            created_time: rfc3339(tag.created_at),
            last_updated_time: rfc3339(tag.updated_at),
            created_mode: "API",
            href: place,
        }
    }
}
