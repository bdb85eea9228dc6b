//! `…/messages` and `…/messages/bulk`: sending, and reading what was sent.
//! It must not know how a message is put in Apple's and Google's words, nor what becomes of a notification.

use std::collections::VecDeque;

use clarion_engine::intake::request::Problem;
use clarion_engine::intake::request::json::{Object, read_list};
use clarion_engine::intake::{self, Expiry, Submission};
use clarion_engine::model::{Content, Lane, MessageId, Platform};
use clarion_engine::store::{self, CredentialKind, Message};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::map::{self, Mapped, PAYLOAD_IS_NO_OBJECT, Sending};
use super::page::{Asked, PageInfo, href};
use super::target::Whom;
use super::wire::SendRequest;
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, Chain, Kind, Success};
use crate::{json, metrics};

/// Messages of one bulk.
pub(crate) const BULK_MESSAGES_MAX: usize = 500;

/// What was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sent {
    /// Eight letters and digits.
    message_id: String,
    /// The request as it was sent.
    #[schema(value_type = SendRequest)]
    message: Box<RawValue>,
}

/// What was accepted of a bulk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentBulk {
    messages: Vec<MessageLine>,
}

/// A message in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageLine {
    created_time: String,
    message_id: String,
    /// Empty when the message has no text.
    alert: String,
    href: String,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageList {
    messages: Vec<MessageLine>,
    page_info: PageInfo,
}

/// A message as it was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageDetail {
    #[serde(flatten)]
    line: MessageLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    url: Option<Box<str>>,
    #[schema(value_type = SendRequest)]
    message: Box<RawValue>,
}

/// A message that is read, checked and on its way.
struct Ready {
    row: Message,
    submission: Submission,
    lane: Lane,
}

/// Send a message: accepted when it is on durable storage.
#[utoipa::path(post, path = "/imfpush/v1/apps/{applicationId}/messages", tag = "IBM messages",
    params(("applicationId" = String, Path)), request_body = SendRequest,
    responses((status = 202, body = Sent)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn send(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.bulk_body().await?;
    let request: SendRequest = json::read(&held.bytes)?;
    let text: &RawValue =
        serde_json::from_slice(&held.bytes).map_err(|error| ApiError::internal(&error))?;
    let platforms = platforms(&call).await?;
    let ready = prepare(&call, request, text, &platforms)
        .await
        .map_err(|e| e.into_error_at(None))?;
    let sent = accept(&call, VecDeque::from([ready])).await?;
    let message_id = sent
        .first()
        .map(|row| row.id.to_string())
        .unwrap_or_default();
    let answer = Answer::json(&Sent {
        message_id,
        message: text.to_owned(),
    })?;
    Ok(answer.with_status(Success::Accepted))
}

/// Send several messages; the body is a bare list of them. All of them are checked before the first is sent.
#[utoipa::path(post, path = "/imfpush/v1/apps/{applicationId}/messages/bulk", tag = "IBM messages",
    params(("applicationId" = String, Path)), request_body = Vec<SendRequest>,
    responses((status = 202, body = SentBulk)),
    security(("access_token" = []), ("app_secret" = []), ("api_key" = [])))]
pub(crate) async fn send_bulk(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.bulk_body().await?;
    let requests = read_list::<Object<SendRequest>, BULK_MESSAGES_MAX>(&held.bytes)?;
    if requests.is_empty() {
        return Err(ApiError::new(
            Kind::BadValue,
            "the list is empty: send at least one message",
        ));
    }
    let texts: Vec<&RawValue> =
        serde_json::from_slice(&held.bytes).map_err(|error| ApiError::internal(&error))?;
    let platforms = platforms(&call).await?;
    let mut all = VecDeque::with_capacity(requests.len());
    for (index, (Object(request), text)) in requests.into_iter().zip(texts).enumerate() {
        let ready = prepare(&call, request, text, &platforms).await;
        let mut ready = ready.map_err(|refused| refused.into_error_at(Some(index)))?;
        ready.lane = Lane::Bulk;
        ready.submission.lane = Lane::Bulk;
        all.push_back(ready);
    }
    let sent = accept(&call, all).await?;
    let messages = sent.iter().map(MessageLine::of).collect();
    Ok(Answer::json(&SentBulk { messages })?.with_status(Success::Accepted))
}

/// List what was sent, newest first.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/messages", tag = "IBM messages",
    params(("applicationId" = String, Path),
        ("offset" = Option<u32>, Query, maximum = 100_000), ("size" = Option<u32>, Query, maximum = 500),
        ("after" = Option<String>, Query, description = "from `pageInfo.next` of an earlier answer")),
    responses((status = 200, body = MessageList)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let asked = Asked::of(&call)?;
    let after = match &asked.after {
        None => None,
        Some(text) => Some(cursor(text).ok_or_else(Asked::bad_cursor)?),
    };
    let store = &call.app.store;
    let found = store
        .messages(&call.tenant, after, asked.skip(), asked.size)
        .await?;
    let total = store.count_messages(&call.tenant).await?;
    let last = found
        .last()
        .map(|last| format!("{}-{}", last.created_at, last.id));
    let path = href(&call.tenant, "messages");
    Answer::json(&MessageList {
        messages: found.iter().map(MessageLine::of).collect(),
        page_info: PageInfo::of(&path, &asked, (found.len(), last), Some(total)),
    })
}

/// Read a message as it was sent.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}", tag = "IBM messages",
    params(("applicationId" = String, Path), ("messageId" = String, Path)),
    responses((status = 200, body = MessageDetail)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn read(call: TenantCall) -> Result<Answer, ApiError> {
    let row = find(&call).await?;
    let text = String::from_utf8_lossy(&row.body).into_owned();
    Answer::json(&MessageDetail {
        line: MessageLine::of(&row),
        url: row.url.clone(),
        message: RawValue::from_string(text).map_err(|error| ApiError::internal(&error))?,
    })
}

/// Forget a message and what devices reported about it. What it sends is not called back.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}", tag = "IBM messages",
    params(("applicationId" = String, Path), ("messageId" = String, Path)),
    responses((status = 204)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    let id = id_of(&call)?;
    if !call.app.store.delete_message(&call.tenant, id).await? {
        return Err(unknown());
    }
    Ok(Answer::silent())
}

/// The message of the path.
pub(super) async fn find(call: &TenantCall) -> Result<Message, ApiError> {
    let found = call.app.store.message(&call.tenant, id_of(call)?).await?;
    found.ok_or_else(unknown)
}

/// The id in the path.
pub(super) fn id_of(call: &TenantCall) -> Result<MessageId, ApiError> {
    call.path("messageId").parse().map_err(|_| unknown())
}

pub(super) fn unknown() -> ApiError {
    ApiError::new(
        Kind::NotFound,
        "Not Found - Targeted resource 'message' does not exist. Check the 'messageId' parameter",
    )
}

fn cursor(text: &str) -> Option<store::MessageCursor> {
    let (at, id) = text.split_once('-')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}

/// Why one message is not sent.
enum Refused {
    Problem(Problem),
    Error(ApiError),
}

impl Refused {
    /// The refusal; `index` is the message's place in a bulk.
    fn into_error_at(self, index: Option<usize>) -> ApiError {
        match self {
            Self::Error(error) => error,
            Self::Problem(mut problem) => {
                let is_payload = problem.message == PAYLOAD_IS_NO_OBJECT;
                if let Some(index) = index {
                    problem.path.insert(0, index.into());
                }
                let error = ApiError::from(problem);
                if is_payload {
                    error.code("FPWSE0013E")
                } else {
                    error
                }
            }
        }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The platforms that the tenant has credentials for.
async fn platforms(call: &TenantCall) -> Result<Vec<Platform>, ApiError> {
    let credentials = call.app.store.credentials(&call.tenant).await?;
    let mut platforms = Vec::new();
    for record in credentials {
        platforms.extend(match record.kind {
            CredentialKind::ApnsKey | CredentialKind::ApnsCertificate => {
                [Platform::Ios, Platform::Watchos].as_slice()
            }
            CredentialKind::Fcm => &[Platform::Android],
        });
    }
    Ok(platforms)
}

async fn prepare(
    call: &TenantCall,
    request: SendRequest,
    text: &RawValue,
    platforms: &[Platform],
) -> Result<Ready, Refused> {
    let said = request.message.0;
    let settings = request.settings.unwrap_or_default().0;
    let whom = Whom::of(request.target.map(|target| target.0))?;
    let id = MessageId::draw()
        .map_err(|_| ApiError::unavailable("the system has no random bytes: try again"))?;
    let sending = Sending {
        id,
        now: call.now,
        usual_life: call.app.config.ttl_default,
    };
    let Mapped { options, expiry } = map::message(&said, &settings, sending)?;
    let lane = whom.lane();
    let audience = whom.find(call).await?;
    let named = audience.platforms();
    let is_configured = |platform: &Platform| platforms.contains(platform);
    if !named
        .as_deref()
        .unwrap_or(platforms)
        .iter()
        .any(is_configured)
    {
        let says = "Bad Request - The push configuration is incomplete: these platforms have no credential";
        return Err(ApiError::new(Kind::BadValue, says)
            .code("FPWSE0003E")
            .into());
    }
    let notification = call
        .app
        .intake
        .mint(&call.tenant, call.now)
        .map_err(refusal)?;
    let submission = Submission {
        tenant: call.tenant.clone(),
        content: Content::default(),
        options,
        lane,
        audience,
        expiry: expiry.unwrap_or(Expiry::After(call.app.config.ttl_default)),
        id: Some(notification),
        created_at: None,
        recheck: false,
        now: call.now,
    };
    call.app
        .intake
        .check(submission.clone())
        .await
        .map_err(refusal)?;
    Ok(Ready {
        row: Message {
            tenant: call.tenant.clone(),
            id,
            notification,
            alert: said.alert,
            url: said.url,
            body: text.get().as_bytes().to_vec(),
            created_at: call.now,
        },
        submission,
        lane,
    })
}

/// Stores the messages and sends them: nothing is sent whose id is not known.
async fn accept(call: &TenantCall, mut all: VecDeque<Ready>) -> Result<Vec<Message>, ApiError> {
    let rows: Vec<Message> = all.iter().map(|ready| ready.row.clone()).collect();
    match call.app.store.create_messages(&call.tenant, &rows).await {
        // Once in ten million bulks with a million messages kept; the id is in what devices get as well.
        Err(store::Error::Conflict(_)) => {
            return Err(ApiError::unavailable(
                "an id was taken meanwhile: send it again",
            ));
        }
        stored => stored?,
    }
    let mut sent = Vec::with_capacity(all.len());
    while let Some(Ready {
        row,
        submission,
        lane,
    }) = all.pop_front()
    {
        match call.app.intake.submit(submission).await {
            Ok(receipt) => {
                metrics::accepted(lane.as_str(), receipt.entries);
                sent.push(row);
            }
            Err(error) => {
                // Of what may have been taken the id stays known.
                let unsent = error.nothing_stored().then_some(row);
                let unsent = unsent
                    .into_iter()
                    .chain(all.into_iter().map(|ready| ready.row));
                forget(call, unsent).await;
                return Err(after(sent.len(), refusal(error)));
            }
        }
    }
    Ok(sent)
}

async fn forget(call: &TenantCall, rows: impl Iterator<Item = Message>) {
    for row in rows {
        if let Err(error) = call.app.store.delete_message(&call.tenant, row.id).await {
            let error = Chain(&error);
            tracing::warn!(%error, "a message that was not sent stays in the list");
        }
    }
}

/// A refusal in the middle of a bulk says how far it came.
fn after(sent: usize, error: ApiError) -> ApiError {
    if sent == 0 {
        return error;
    }
    error.saying(format!(
        "the first {sent} messages of the list were accepted, the rest was not"
    ))
}

fn refusal(error: intake::Error) -> ApiError {
    let is_suspended = matches!(error, intake::Error::Suspended);
    let error = ApiError::from(error);
    if is_suspended {
        error.code("FPWSE1007E")
    } else {
        error
    }
}

impl MessageLine {
    fn of(row: &Message) -> Self {
        Self {
            created_time: rfc3339(row.created_at),
            message_id: row.id.to_string(),
            alert: row.alert.as_deref().unwrap_or_default().to_owned(),
            href: href(&row.tenant, &format!("messages/{}", row.id)),
        }
    }
}
