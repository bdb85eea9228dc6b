//! `POST …/notify/unified` and `POST /push/send`: a push to one user under the names that published clients use.
//! It must not know how a push is encoded or queued.

use clarion_engine::intake::request::{Alert, Named, Said, SendOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::send::{NotifyResponse, Shape, respond, validate};
use crate::answer::Answer;
use crate::call::{Call, TenantCall};
use crate::error::{ApiError, FieldError};
use crate::json::{self, Member, Object};

/// By which way a user is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Channel {
    /// To the user's devices.
    #[default]
    Push,
    /// Not served here.
    Email,
    /// To the user's devices; the email part of the answer says that none was sent.
    All,
}

/// A message to one user by any channel. Only pushes are sent: the `email_…` members of other servers are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UnifiedRequest {
    /// Whose devices are meant.
    #[schema(value_type = String, example = "user-123", min_length = 1, max_length = 256)]
    user_id: Box<str>,
    /// `push` when absent; `email` is refused, because this server sends none.
    #[schema(value_type = Option<Channel>)]
    channel: Option<Channel>,
    #[schema(value_type = Option<Alert>)]
    alert: Option<Object<Alert>>,
    badge: Option<u32>,
    /// `default`, or the name of a sound in the app.
    sound: Option<String>,
    /// Wakes the app without showing anything.
    content_available: Option<bool>,
    /// The app's own data.
    #[schema(value_type = Option<Object>)]
    data: Option<Member<Map<String, Value>>>,
    #[schema(value_type = Option<SendOptions>)]
    options: Option<Object<SendOptions>>,
    /// Another name of `alert.title`.
    push_title: Option<String>,
    /// Another name of `alert.body`.
    push_body: Option<String>,
    /// Another name of `data`.
    #[schema(value_type = Option<Object>)]
    push_data: Option<Member<Map<String, Value>>>,
}

/// What became of each channel; one that was not asked for is null.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnifiedResponse {
    pub(super) push: NotifyResponse,
    pub(super) email: Option<NotifyResponse>,
}

/// A push in short.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ShortRequest {
    /// The tenant's id.
    #[schema(value_type = String)]
    app_id: Box<str>,
    /// Whose devices are meant.
    #[schema(value_type = String, example = "user-123", min_length = 1, max_length = 256)]
    user_id: Box<str>,
    title: Option<String>,
    body: Option<String>,
    /// The app's own data.
    #[schema(value_type = Option<Object>)]
    data: Option<Member<Map<String, Value>>>,
}

/// The answer to a short push.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShortResponse {
    /// Always true: what is not accepted is answered with another status.
    pub(super) success: bool,
    /// The notification's id: where `GET …/notifications/{id}` answers.
    #[schema(value_type = String)]
    pub(super) message_id: clarion_engine::model::NotificationId,
}

/// Send a push to all devices of a user, by the name of its channel.
#[utoipa::path(post, path = "/tenants/{tenant}/notify/unified", tag = "send",
    params(("tenant" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = UnifiedRequest, responses((status = 200, body = UnifiedResponse)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn unified(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.body().await?;
    let wire: UnifiedRequest = json::read(&held.bytes)?;
    let channel = wire.channel.unwrap_or_default();
    if channel == Channel::Email {
        let loc = ["body".into(), "channel".into()];
        let problem = "this server sends no email: use push";
        return Err(ApiError::field(FieldError::value(loc, problem)));
    }
    let named = Named::choose(("user_id", Some(vec![wire.user_id])), None)?;
    let said = Said {
        alert: alert(wire.alert, wire.push_title, wire.push_body)?,
        badge: wire.badge,
        sound: wire.sound,
        content_available: wire.content_available,
        data: one_of(("push_data", wire.push_data), wire.data)?,
        options: wire.options,
    };
    let shape = Shape::Unified {
        with_email: channel == Channel::All,
    };
    let request = validate(&mut call, named, said, shape).await?;
    respond(&call, &held.bytes, request).await
}

/// Send a push to all devices of a user, in short. Whatever is not accepted has another status than 200, a user without
/// devices included.
#[utoipa::path(post, path = "/push/send", tag = "send",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = ShortRequest, responses((status = 200, body = ShortResponse)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn short(mut call: Call) -> Result<Answer, ApiError> {
    let held = call.body().await?;
    let wire: ShortRequest = json::read(&held.bytes)?;
    let mut call = TenantCall::allow_to(call, &wire.app_id).await?;
    let named = Named::choose(("user_id", Some(vec![wire.user_id])), None)?;
    let said = Said {
        alert: alert(None, wire.title, wire.body)?,
        badge: None,
        sound: None,
        content_available: None,
        data: wire.data,
        options: None,
    };
    let request = validate(&mut call, named, said, Shape::Short).await?;
    respond(&call, &held.bytes, request).await
}

/// An alert under either of its names.
fn alert(
    alert: Option<Object<Alert>>,
    title: Option<String>,
    body: Option<String>,
) -> Result<Option<Object<Alert>>, ApiError> {
    if title.is_none() && body.is_none() {
        return Ok(alert);
    }
    one_of(("push_title", Some(Object(Alert::new(title, body)))), alert)
}

/// What is said under one of two names, of which `alias` is the first's.
fn one_of<T>(
    (alias, other): (&'static str, Option<T>),
    said: Option<T>,
) -> Result<Option<T>, ApiError> {
    if other.is_some() && said.is_some() {
        let loc = ["body".into(), alias.into()];
        let problem = "says what another member says: leave one of them out";
        return Err(ApiError::field(FieldError::value(loc, problem)));
    }
    Ok(other.or(said))
}
