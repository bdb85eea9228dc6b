//! `…/subscriptions`: which device wants what is sent to which tag.
//! It must not know how a tag's devices are found when something is sent.

use clarion_auth::permission::Operation;
use clarion_engine::intake::request::json::Bounded;
use clarion_engine::model::DeviceId;
use clarion_engine::store::{Installation, Subscribed, Subscription, SubscriptionFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices;
use super::page::{Asked, PageInfo, SIZE_MAX, encoded, href};
use super::target::{EVERYBODY, missing};
use super::wire::TEXTS_MAX;
use crate::answer::Answer;
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind, Success};

/// A device and what it wants: one tag, or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeRequest {
    #[schema(value_type = String)]
    device_id: Box<str>,
    #[schema(value_type = Option<String>)]
    tag_name: Option<Box<str>>,
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    tag_names: Option<Bounded<Box<str>, TEXTS_MAX>>,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionLine {
    tag_name: String,
    subscription_id: String,
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    href: String,
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionLines {
    subscriptions: Vec<SubscriptionLine>,
    page_info: PageInfo,
}

/// What became of several wishes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribedTags {
    /// New subscriptions.
    subscribed: Vec<SubscriptionLine>,
    /// Those that were there before.
    subscription_exists: Vec<SubscriptionLine>,
    /// Tags whose subscription has ended.
    unsubscribed: Vec<String>,
    tags_not_found: TagsNotFound,
}

/// Tags that are not there; for the end of subscriptions, tags without one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagsNotFound {
    tags: Vec<String>,
    message: &'static str,
    code: &'static str,
}

/// Subscribe a device to a tag (201), or to several (207). With `action=delete` these subscriptions end.
#[utoipa::path(post, path = "/imfpush/v1/apps/{applicationId}/subscriptions", tag = "IBM subscriptions",
    params(("applicationId" = String, Path), ("action" = Option<String>, Query, description = "`delete`")),
    request_body = SubscribeRequest,
    responses((status = 201, body = SubscriptionLine), (status = 207, body = SubscribedTags)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn subscribe(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: SubscribeRequest = call.json().await?;
    let ends = match call.query("action") {
        None => false,
        Some("delete") => true,
        Some(_) => {
            let says = "action is delete, or left out";
            return Err(ApiError::new(Kind::BadValue, says).code("FPWSE0007E"));
        }
    };
    let device = devices::find(&call, &request.device_id).await?;
    match (request.tag_name, request.tag_names) {
        (Some(tag), None) if !ends => one(&call, &device, tag).await,
        (Some(tag), None) => several(&call, &device, vec![tag], ends).await,
        (None, Some(Bounded(tags))) if !tags.is_empty() => {
            several(&call, &device, tags, ends).await
        }
        _ => {
            let loc = ["body".into(), "tagNames".into()];
            let says = "give tagName, or at least one of tagNames";
            Err(ApiError::field(FieldError::value(loc, says)))
        }
    }
}

/// End a subscription.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/subscriptions", tag = "IBM subscriptions",
    params(("applicationId" = String, Path), ("deviceId" = String, Query), ("tagName" = String, Query)),
    responses((status = 204)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn unsubscribe(call: TenantCall) -> Result<Answer, ApiError> {
    let required = |name: &'static str| {
        call.query(name).ok_or_else(|| {
            let says = format!("the query parameter {name} is missing");
            ApiError::new(Kind::BadValue, says).code("FPWSE0008E")
        })
    };
    let (device_id, tag) = (required("deviceId")?, required("tagName")?);
    let device = devices::find(&call, device_id).await?.device.id;
    let wishes = [(tag.into(), device)];
    let ended = call.app.store.unsubscribe(&call.tenant, &wishes).await?;
    if ended.first() == Some(&true) {
        return Ok(Answer::silent());
    }
    let says = "Not Found - the device does not subscribe to this tag";
    Err(ApiError::new(Kind::NotFound, says).code("FPWSE0012E"))
}

/// List subscriptions: of a device, to a tag, or all.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/subscriptions", tag = "IBM subscriptions",
    params(("applicationId" = String, Path), ("deviceId" = Option<String>, Query),
        ("tagName" = Option<String>, Query), ("offset" = Option<u32>, Query, maximum = 100_000),
        ("size" = Option<u32>, Query, maximum = 500), ("after" = Option<String>, Query)),
    responses((status = 200, body = SubscriptionLines)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let (device_id, tag) = (call.query("deviceId"), call.query("tagName"));
    let device = match device_id {
        Some(device_id) => Some(devices::find(&call, device_id).await?.device.id),
        None => {
            call.allows(Operation::ListSubscriptions)?;
            None
        }
    };
    let filter = SubscriptionFilter { tag, device };
    let asked = Asked::of(&call)?;
    let found = page(&call, filter, &asked).await?;
    let last = found.last().map(|last| last.id.to_string());
    let named = [("deviceId", device_id), ("tagName", tag)];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let named: Vec<String> = named
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let path = match named.is_empty() {
        true => href(&call.tenant, "subscriptions"),
        false => href(&call.tenant, &format!("subscriptions?{}", named.join("&"))),
    };
    let page_info = PageInfo::of(&path, &asked, (found.len(), last), None);
    Answer::json(&SubscriptionLines {
        subscriptions: found
            .iter()
            .map(|row| SubscriptionLine::of_row(&call, row))
            .collect(),
        page_info,
    })
}

async fn page(
    call: &TenantCall,
    filter: SubscriptionFilter<'_>,
    asked: &Asked,
) -> Result<Vec<Subscription>, ApiError> {
    let store = &call.app.store;
    let mut after = asked.after_number()?;
    let mut left = asked.skip();
    while left > 0 {
        let size = left.min(SIZE_MAX);
        let page = store
            .subscriptions(&call.tenant, filter, after, size)
            .await?;
        let Some(last) = page.last().filter(|_| page.len() == size as usize) else {
            return Ok(Vec::new());
        };
        after = last.id;
        left -= size;
    }
    Ok(store
        .subscriptions(&call.tenant, filter, after, asked.size)
        .await?)
}

async fn one(call: &TenantCall, device: &Installation, tag: Box<str>) -> Result<Answer, ApiError> {
    if &*tag == EVERYBODY {
        return Err(exists());
    }
    let wishes = [(tag, device.device.id)];
    let answers = call
        .app
        .store
        .subscribe(&call.tenant, &wishes, call.now)
        .await?;
    match answers.first() {
        Some(Subscribed::New(id)) => {
            let line = SubscriptionLine::new(call, device, &wishes[0].0, *id);
            Ok(Answer::json(&line)?.with_status(Success::Created))
        }
        Some(Subscribed::Existed(_)) => Err(exists()),
        _ => Err(missing("tagNames")),
    }
}

fn exists() -> ApiError {
    let says = "Conflict - the device subscribes to this tag already";
    ApiError::new(Kind::Conflict, says).code("FPWSE0011E")
}

async fn several(
    call: &TenantCall,
    device: &Installation,
    tags: Vec<Box<str>>,
    ends: bool,
) -> Result<Answer, ApiError> {
    let store = &call.app.store;
    let wishes: Vec<(Box<str>, DeviceId)> = tags
        .into_iter()
        .map(|tag| (tag, device.device.id))
        .collect();
    let mut told = SubscribedTags {
        subscribed: Vec::new(),
        subscription_exists: Vec::new(),
        unsubscribed: Vec::new(),
        tags_not_found: TagsNotFound {
            tags: Vec::new(),
            message: "Not Found - Targeted resource 'tagNames' does not exist. Check the 'tags' parameter",
            code: "FPWSE0001E",
        },
    };
    if ends {
        let ended = store.unsubscribe(&call.tenant, &wishes).await?;
        for ((tag, _), ended) in wishes.into_iter().zip(ended) {
            let list = match ended {
                true => &mut told.unsubscribed,
                false => &mut told.tags_not_found.tags,
            };
            list.push(tag.into());
        }
    } else {
        let answers = store.subscribe(&call.tenant, &wishes, call.now).await?;
        for ((tag, _), answer) in wishes.into_iter().zip(answers) {
            let line = |id| SubscriptionLine::new(call, device, &tag, id);
            match answer {
                Subscribed::New(id) => told.subscribed.push(line(id)),
                Subscribed::Existed(id) => told.subscription_exists.push(line(id)),
                Subscribed::NoTag | Subscribed::NoDevice => {
                    told.tags_not_found.tags.push(tag.into());
                }
            }
        }
    }
    Ok(Answer::json(&told)?.with_status(Success::Partial))
}

impl SubscriptionLine {
    fn new(call: &TenantCall, device: &Installation, tag: &str, id: i64) -> Self {
        let device_id = device.external_id.to_string();
        Self::with(call, (tag, device_id, &device.device.user_id), id)
    }

    fn of_row(call: &TenantCall, row: &Subscription) -> Self {
        let device_id = row.external_id.as_deref().unwrap_or_default().to_owned();
        Self::with(call, (&row.tag, device_id, &row.user_id), row.id)
    }

    fn with(call: &TenantCall, (tag, device_id, user): (&str, String, &str), id: i64) -> Self {
        let (of_device, of_tag) = (encoded(&device_id), encoded(tag));
        let place = format!("subscriptions?deviceId={of_device}&tagName={of_tag}");
        Self {
            tag_name: tag.to_owned(),
            subscription_id: id.to_string(),
            device_id,
            user_id: (!user.is_empty()).then(|| user.to_owned()),
            href: href(&call.tenant, &place),
        }
    }
}
