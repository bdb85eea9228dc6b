//! What became of messages: counts of the engine, and what devices report themselves (seen, opened).
//! It must not know how counts come about.

use clarion_engine::intake::Status;
use clarion_engine::model::{FinalState, Millis};
use clarion_engine::store::{DeliveryReceipt, Seen};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices;
use super::messages::{find, id_of, unknown};
use super::page::{Asked, PageInfo, SIZE_MAX, encoded, href};
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind};

/// Days of a report unless the caller says otherwise.
const DAYS_DEFAULT: i64 = 7;
/// Days of a report.
const DAYS_MAX: i64 = 90;
pub(super) const DAY: Millis = 24 * 3600 * 1000;

/// A device's report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiptRequest {
    #[schema(value_type = String)]
    device_id: Box<str>,
    /// `SEEN` or `OPEN`.
    #[schema(value_type = String, example = "SEEN")]
    status: Box<str>,
}

/// A device's report, as it is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiptBody {
    device_id: String,
    /// `SEEN` or `OPEN`.
    status: &'static str,
    /// When it was reported first.
    time: String,
}

/// Where a message stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageStatus {
    message_id: String,
    /// `queued`, `running` or `finished`.
    status: &'static str,
    counts: MessageCounts,
    /// Where the whole of it is told, in the native API.
    notification_id: String,
}

/// Devices by what became of a message.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct MessageCounts {
    /// Taken by Apple or Google.
    sent: u64,
    /// Refused by them for good: the device token is dead, or the message was not accepted.
    invalid: u64,
    /// Given up for another reason: expired, cancelled, attempts used up, no device.
    failed: u64,
    /// Still waiting.
    waiting: u64,
    /// Devices that showed it.
    seen: u64,
    /// Devices where somebody opened it.
    open: u64,
}

/// What devices reported about a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryStatus {
    message_id: String,
    delivery_status: Vec<ReceiptBody>,
    page_info: PageInfo,
}

/// Messages and reports by day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageReport {
    /// How many days back.
    days: i64,
    messages: u64,
    seen: u64,
    open: u64,
    /// Days with anything, oldest first.
    report: Vec<ReportDay>,
}

/// A day of a report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportDay {
    #[schema(example = "2026-01-15")]
    date: String,
    messages: u64,
    seen: u64,
    open: u64,
}

/// Report that a device showed a message, or that somebody opened it there.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}", tag = "IBM messages",
    params(("applicationId" = String, Path), ("messageId" = String, Path)),
    request_body = ReceiptRequest, responses((status = 200, body = ReceiptBody)),
    security((), ("client_secret" = []), ("app_secret" = []), ("access_token" = [])))]
pub(crate) async fn put(call: TenantCall) -> Result<Answer, ApiError> {
    put_receipt(call).await
}

/// The same by its other name.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}/deliverystatus",
    tag = "IBM messages", operation_id = "put_delivery_status",
    params(("applicationId" = String, Path), ("messageId" = String, Path)),
    request_body = ReceiptRequest, responses((status = 200, body = ReceiptBody)),
    security((), ("client_secret" = []), ("app_secret" = []), ("access_token" = [])))]
pub(crate) async fn put_delivery_status(call: TenantCall) -> Result<Answer, ApiError> {
    put_receipt(call).await
}

async fn put_receipt(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: ReceiptRequest = call.json().await?;
    let seen = match &*request.status.to_ascii_uppercase() {
        "SEEN" => Seen::Shown,
        "OPEN" => Seen::Opened,
        _ => {
            let loc = ["body".into(), "status".into()];
            return Err(ApiError::field(FieldError::value(loc, "is SEEN or OPEN")));
        }
    };
    let id = id_of(&call)?;
    // Only devices that are there: whoever knows the application's id may call this.
    let device = devices::find(&call, &request.device_id).await?;
    let receipt = DeliveryReceipt {
        device: device.external_id,
        seen,
        at: call.now,
    };
    let put = call.app.store.put_receipt(&call.tenant, id, &receipt).await;
    put.map_err(|error| match ApiError::from(error) {
        error if error.kind() == Kind::NotFound => unknown(),
        error => error,
    })?;
    Answer::json(&ReceiptBody::from(receipt))
}

/// Where a message stands.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}/status",
    tag = "IBM messages", params(("applicationId" = String, Path), ("messageId" = String, Path)),
    responses((status = 200, body = MessageStatus)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn status(call: TenantCall) -> Result<Answer, ApiError> {
    let row = find(&call).await?;
    let seen = call.app.store.count_receipts(&call.tenant, row.id).await?;
    let known = call
        .app
        .intake
        .status(&call.tenant, row.notification)
        .await?;
    let mut counts = MessageCounts {
        seen: seen.shown,
        open: seen.opened,
        ..MessageCounts::default()
    };
    let status = match &known {
        None | Some(Status::Queued { .. }) => "queued",
        Some(Status::Recorded(status)) => {
            let of = |state| status.counts.get(state);
            counts.sent = of(FinalState::Accepted);
            counts.invalid = of(FinalState::Unregistered) + of(FinalState::Rejected);
            counts.failed = status.counts.total() - counts.sent - counts.invalid;
            counts.waiting = status.waiting;
            if status.finished_at.is_some() {
                "finished"
            } else {
                "running"
            }
        }
    };
    Answer::json(&MessageStatus {
        message_id: row.id.to_string(),
        status,
        counts,
        notification_id: row.notification.to_string(),
    })
}

/// What devices reported about a message.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/messages/{messageId}/deliverystatus",
    tag = "IBM messages",
    params(("applicationId" = String, Path), ("messageId" = String, Path),
        ("deviceId" = Option<String>, Query), ("offset" = Option<u32>, Query, maximum = 100_000),
        ("size" = Option<u32>, Query, maximum = 500), ("after" = Option<String>, Query)),
    responses((status = 200, body = DeliveryStatus)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delivery_status(call: TenantCall) -> Result<Answer, ApiError> {
    let row = find(&call).await?;
    let asked = Asked::of(&call)?;
    let device = call.query("deviceId");
    let mut after = match &asked.after {
        None => None,
        Some(text) => Some(cursor(text).ok_or_else(Asked::bad_cursor)?),
    };
    let store = &call.app.store;
    let read = async |after: &Option<(Box<str>, Seen)>, size| {
        let place = after.as_ref().map(|(device, seen)| (&**device, *seen));
        store
            .receipts(&call.tenant, row.id, device, place, size)
            .await
    };
    // One device reports at most twice: there is nothing to pass over.
    let mut left = if device.is_some() { 0 } else { asked.skip() };
    while left > 0 {
        let size = left.min(SIZE_MAX);
        let page = read(&after, size).await?;
        left = if page.len() == size as usize {
            left - size
        } else {
            0
        };
        // Beyond the last report there is none.
        after = page
            .last()
            .map_or(after, |last| Some((last.device.clone(), last.seen)));
    }
    let found = read(&after, asked.size).await?;
    let last = found
        .last()
        .map(|last| format!("{}-{}", word(last.seen), last.device));
    let mut path = href(&call.tenant, &format!("messages/{}/deliverystatus", row.id));
    if let Some(device) = device {
        path = format!("{path}?deviceId={}", encoded(device));
    }
    Answer::json(&DeliveryStatus {
        message_id: row.id.to_string(),
        page_info: PageInfo::of(&path, &asked, (found.len(), last), None),
        delivery_status: found.into_iter().map(ReceiptBody::from).collect(),
    })
}

/// Messages and reports by day.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/messages/report", tag = "IBM messages",
    params(("applicationId" = String, Path), ("days" = Option<i64>, Query, minimum = 1, maximum = 90)),
    responses((status = 200, body = MessageReport)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn report(call: TenantCall) -> Result<Answer, ApiError> {
    let days = days(&call)?;
    let since = call.now.div_euclid(DAY).saturating_sub(days - 1) * DAY;
    let rows = call.app.store.message_days(&call.tenant, since).await?;
    let report: Vec<ReportDay> = rows
        .iter()
        .map(|row| ReportDay {
            date: rfc3339(row.day).chars().take("2026-01-15".len()).collect(),
            messages: row.messages,
            seen: row.seen.shown,
            open: row.seen.opened,
        })
        .collect();
    Answer::json(&MessageReport {
        days,
        messages: report.iter().map(|day| day.messages).sum(),
        seen: report.iter().map(|day| day.seen).sum(),
        open: report.iter().map(|day| day.open).sum(),
        report,
    })
}

/// The query parameter `days`.
pub(super) fn days(call: &TenantCall) -> Result<i64, ApiError> {
    let Some(text) = call.query("days") else {
        return Ok(DAYS_DEFAULT);
    };
    let days = text
        .parse()
        .ok()
        .filter(|days| (1..=DAYS_MAX).contains(days));
    days.ok_or_else(|| {
        let says = format!("days is a number from 1 to {DAYS_MAX}");
        ApiError::new(Kind::BadValue, says).code("FPWSE0007E")
    })
}

fn word(seen: Seen) -> &'static str {
    match seen {
        Seen::Shown => "SEEN",
        Seen::Opened => "OPEN",
    }
}

fn cursor(text: &str) -> Option<(Box<str>, Seen)> {
    let (seen, device) = text.split_once('-')?;
    let seen = [Seen::Shown, Seen::Opened]
        .into_iter()
        .find(|one| word(*one) == seen)?;
    Some((device.into(), seen))
}

impl From<DeliveryReceipt> for ReceiptBody {
    fn from(receipt: DeliveryReceipt) -> Self {
        Self {
            device_id: receipt.device.into(),
            status: word(receipt.seen),
            time: rfc3339(receipt.at),
        }
    }
}
