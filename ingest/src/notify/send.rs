//! `POST …/notify` and `POST …/notify/bulk`: one push to one user, or one push to many.
//! It must not know how a push is encoded or queued.

use axum::body::Body;
use bytes::Bytes;
use clarion_engine::intake::request::{
    Alert, Message, Named, RawDeviceToken, Said, SelectedAudience, SendOptions, default_environment,
};
use clarion_engine::intake::{self, Expiry, Submission};
use clarion_engine::limits::{BULK_ENTRIES_MAX, JOB_ENTRIES_MAX};
use clarion_engine::model::{Audience, Environment, Lane, NotificationId};
use futures_util::stream;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::unified::{ShortResponse, UnifiedResponse};
use crate::answer::Answer;
use crate::call::TenantCall;
use crate::error::{ApiError, Kind};
use crate::idempotency::{self, REPLAYED, Turn};
use crate::json::{self, Bounded, Member, Object};
use crate::metrics;

/// Results of a bulk written at once.
const RESULTS_PER_CHUNK: usize = 1_000;
/// What a sender learns about a user without devices.
const NO_DEVICE: &str = "the user has no registered device";
/// What a sender learns about email.
const NO_EMAIL: &str = "this server sends no email";

/// A push to one user, or to device tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NotifyRequest {
    /// Whose devices are meant; required unless `device_tokens` is there.
    #[schema(value_type = Option<String>, example = "user-123", max_length = 256)]
    user_id: Option<Box<str>>,
    /// In place of `user_id`: at most 500 device tokens, registered or not.
    #[schema(value_type = Option<Vec<RawDeviceToken>>, max_items = 500)]
    device_tokens: Option<Bounded<Object<RawDeviceToken>, JOB_ENTRIES_MAX>>,
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
}

/// A push to many users, or to many device tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BulkRequest {
    /// At most 100,000; required unless `device_tokens` or `audience` is there.
    #[schema(value_type = Option<Vec<String>>, max_items = 100_000)]
    user_ids: Option<Bounded<Box<str>, BULK_ENTRIES_MAX>>,
    /// In place of `user_ids`: device tokens, registered or not.
    #[schema(value_type = Option<Vec<RawDeviceToken>>, max_items = 100_000)]
    device_tokens: Option<Bounded<Object<RawDeviceToken>, BULK_ENTRIES_MAX>>,
    /// In place of both: registered devices that fit a description, however many.
    #[schema(value_type = Option<SelectedAudience>)]
    audience: Option<Object<SelectedAudience>>,
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
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One push, to one user.
    One,
    /// A result for each entry.
    Bulk,
    /// A part for each channel.
    Unified {
        /// Email was asked for as well.
        with_email: bool,
    },
    /// A success, or another status.
    Short,
}

/// What became of one push.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotifyResponse {
    /// It is on durable storage and will be sent.
    success: bool,
    /// The notification's id: where `GET …/notifications/{id}` answers.
    #[schema(value_type = Option<String>)]
    message_id: Option<NotificationId>,
    error: Option<&'static str>,
}

/// What became of a bulk; all or nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkResponse {
    /// How many users or device tokens were named; 0 of an `audience`, whose status counts them as they are read.
    total: u64,
    success: u64,
    failed: u64,
    /// One per user or device token, each with the id of the whole notification.
    results: Vec<NotifyResponse>,
    /// The notification's id: where `GET …/notifications/{id}` answers.
    #[schema(value_type = String)]
    message_id: NotificationId,
}

/// What an answer says; small enough to be kept for a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sent {
    One { id: NotificationId },
    NoDevice,
    Bulk { id: NotificationId, entries: u64 },
}

/// A request that is read and valid.
pub(super) struct Request {
    audience: Audience,
    message: Message,
    lane: Lane,
    shape: Shape,
}

impl Request {
    fn into_submission(self, call: &TenantCall, id: NotificationId, recheck: bool) -> Submission {
        let usual = Expiry::After(call.app.config.ttl_default);
        Submission {
            tenant: call.tenant.clone(),
            content: self.message.content,
            options: self.message.options,
            lane: self.lane,
            audience: self.audience,
            expiry: self.message.expiry.unwrap_or(usual),
            id: Some(id),
            created_at: None,
            recheck,
            now: call.now,
        }
    }
}

/// A request that was not accepted.
struct NotSent {
    error: ApiError,
    /// It is certain that nothing was stored or queued.
    nothing_stored: bool,
}

impl From<intake::Error> for NotSent {
    fn from(error: intake::Error) -> Self {
        let nothing_stored = error.nothing_stored();
        Self {
            error: error.into(),
            nothing_stored,
        }
    }
}

/// Send a push to all devices of a user.
#[utoipa::path(post, path = "/tenants/{tenant}/notify", tag = "send",
    params(("tenant" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = NotifyRequest, responses((status = 200, body = NotifyResponse)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn notify(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.body().await?;
    let wire: NotifyRequest = json::read(&held.bytes)?;
    let users = wire.user_id.map(|user_id| vec![user_id]);
    let device_tokens = wire.device_tokens.map(|list| list.0);
    let named = Named::choose(("user_id", users), device_tokens)?;
    let said = Said {
        alert: wire.alert,
        badge: wire.badge,
        sound: wire.sound,
        content_available: wire.content_available,
        data: wire.data,
        options: wire.options,
    };
    let request = validate(&mut call, named, said, Shape::One).await?;
    respond(&call, &held.bytes, request).await
}

/// Send a push to many users.
#[utoipa::path(post, path = "/tenants/{tenant}/notify/bulk", tag = "send",
    params(("tenant" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = BulkRequest, responses((status = 200, body = BulkResponse)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn notify_bulk(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.bulk_body().await?;
    let wire: BulkRequest = json::read(&held.bytes)?;
    let users = wire.user_ids.map(|list| list.0);
    let device_tokens = wire.device_tokens.map(|list| list.0);
    let named = Named::choose_or_select(("user_ids", users), device_tokens, wire.audience)?;
    let most = call.app.config.bulk_entries_max;
    if named.len() > most {
        let detail = format!("a bulk has at most {most} recipients: send several");
        return Err(ApiError::new(Kind::TooLarge, detail));
    }
    let said = Said {
        alert: wire.alert,
        badge: wire.badge,
        sound: wire.sound,
        content_available: wire.content_available,
        data: wire.data,
        options: wire.options,
    };
    let request = validate(&mut call, named, said, Shape::Bulk).await?;
    respond(&call, &held.bytes, request).await
}

pub(super) async fn validate(
    call: &mut TenantCall,
    named: Named,
    said: Said,
    shape: Shape,
) -> Result<Request, ApiError> {
    let default = if named.needs_default_environment() {
        default_environment(call.row().await?.use_sandbox)
    } else {
        Environment::Production
    };
    let message = Message::try_from(said)?;
    let usual = if shape == Shape::Bulk {
        Lane::Bulk
    } else {
        Lane::Transactional
    };
    Ok(Request {
        audience: named.into_audience(default)?,
        lane: message.lane.unwrap_or(usual),
        message,
        shape,
    })
}

/// Sends once, whatever the caller repeats, and answers.
pub(super) async fn respond(
    call: &TenantCall,
    body: &[u8],
    request: Request,
) -> Result<Answer, ApiError> {
    let shape = request.shape;
    let (key, id, recheck) = match idempotency::begin(call, body).await? {
        Turn::Send {
            key,
            notification,
            recheck,
        } => (key, notification, recheck),
        Turn::Replay(kept) => {
            let sent: Sent = serde_json::from_slice(&kept).map_err(|e| ApiError::internal(&e))?;
            return Ok(sent
                .answer(shape)?
                .with(REPLAYED, HeaderValue::from_static("true")));
        }
    };
    match (send(call, request, id, recheck).await, key) {
        (Ok(sent), key) => {
            if let Some(key) = key {
                let kept = serde_json::to_vec(&sent).map_err(|e| ApiError::internal(&e))?;
                key.finish(call, kept).await;
            }
            sent.answer(shape)
        }
        // An earlier request with this key may have sent it, whatever this one met: then the row stays.
        (
            Err(NotSent {
                error,
                nothing_stored: true,
            }),
            Some(key),
        ) if !recheck => {
            key.forget(call).await;
            Err(error)
        }
        (Err(NotSent { error, .. }), _) => Err(error),
    }
}

async fn send(
    call: &TenantCall,
    request: Request,
    id: NotificationId,
    recheck: bool,
) -> Result<Sent, NotSent> {
    let is_bulk = request.shape == Shape::Bulk;
    let asked = match &request.audience {
        Audience::Users(users) if !is_bulk && !recheck && call.app.config.check_devices => {
            users.first().cloned()
        }
        _ => None,
    };
    let lane = request.lane;
    let submission = request.into_submission(call, id, recheck);
    if let Some(user_id) = asked {
        let found = call.app.presence.has_device(&call.tenant, &user_id).await;
        let failed = |error| NotSent {
            error,
            nothing_stored: true,
        };
        if !found.map_err(failed)? {
            // What would be refused is refused, whether or not there is a device.
            call.app.intake.check(submission).await?;
            return Ok(Sent::NoDevice);
        }
    }
    let receipt = call.app.intake.submit(submission).await?;
    metrics::accepted(lane.as_str(), receipt.entries);
    let entries = receipt.entries;
    Ok(if is_bulk {
        Sent::Bulk { id, entries }
    } else {
        Sent::One { id }
    })
}

impl Sent {
    fn answer(self, shape: Shape) -> Result<Answer, ApiError> {
        let accepted = |id| NotifyResponse {
            success: true,
            message_id: Some(id),
            error: None,
        };
        let refused = |error| NotifyResponse {
            success: false,
            message_id: None,
            error: Some(error),
        };
        let (one, id) = match self {
            Self::One { id } => (accepted(id), Some(id)),
            Self::NoDevice => (refused(NO_DEVICE), None),
            Self::Bulk { id, entries } => {
                let result = serde_json::to_string(&accepted(id));
                let result = result.map_err(|error| ApiError::internal(&error))?;
                return Ok(Answer::stream(bulk_body(entries, &result, id)));
            }
        };
        match shape {
            Shape::One | Shape::Bulk => Answer::json(&one),
            Shape::Unified { with_email } => Answer::json(&UnifiedResponse {
                push: one,
                email: with_email.then(|| refused(NO_EMAIL)),
            }),
            Shape::Short => Answer::json(&ShortResponse {
                success: true,
                message_id: id.ok_or_else(|| ApiError::not_found("device of this user"))?,
            }),
        }
    }
}

/// A [`BulkResponse`] with `entries` equal results, written piece by piece: whole it would take megabytes.
fn bulk_body(entries: u64, result: &str, id: NotificationId) -> Body {
    let head = format!(r#"{{"total":{entries},"success":{entries},"failed":0,"results":["#);
    let chunk = Bytes::from(format!("{result},").repeat(RESULTS_PER_CHUNK));
    let width = result.len() + 1;
    let entries = usize::try_from(entries).unwrap_or(usize::MAX);
    let pieces = (0..entries.div_ceil(RESULTS_PER_CHUNK)).map(move |index| {
        let left = entries - index * RESULTS_PER_CHUNK;
        let bytes = left.min(RESULTS_PER_CHUNK) * width;
        // The last result has no comma after it.
        chunk.slice(
            ..if left <= RESULTS_PER_CHUNK {
                bytes - 1
            } else {
                bytes
            },
        )
    });
    let tail = Bytes::from(format!(r#"],"message_id":"{id}"}}"#));
    let all = std::iter::once(Bytes::from(head))
        .chain(pieces)
        .chain(std::iter::once(tail));
    Body::from_stream(stream::iter(all.map(Ok::<_, std::convert::Infallible>)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[tokio::test]
    async fn a_bulk_answer_has_one_result_per_entry() {
        let id = NotificationId(uuid::Uuid::from_u128(7));
        for entries in [0, 1, 2, 999, 1_000, 1_001, 2_500] {
            let answer = Sent::Bulk { id, entries }
                .answer(Shape::Bulk)
                .unwrap()
                .into_response();
            let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
                .await
                .unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["results"].as_array().unwrap().len() as u64, entries);
            assert_eq!(
                (&body["total"], &body["success"]),
                (&entries.into(), &entries.into())
            );
            assert_eq!(body["message_id"], id.to_string());
            if entries > 0 {
                assert_eq!(body["results"][0]["message_id"], id.to_string());
            }
            assert_eq!(body["failed"], 0);
        }
    }
}
