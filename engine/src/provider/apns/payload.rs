//! The JSON that an app on an Apple device receives: `aps` and the app's own keys beside it.
//! It must not know headers, recipients or credentials.

use a2::request::payload::APS;
use a2::{DefaultNotificationBuilder, NotificationBuilder};
use serde_json::{Map, Value};

use super::super::{EncodeError, merge::merge};
use super::headers::push_type;
use crate::limits::{APNS_PAYLOAD_MAX, APNS_VOIP_PAYLOAD_MAX};
use crate::model::{InterruptionLevel, LiveActivity, LiveActivityEvent, Notification, PushType};

/// Whether a person would notice: an alert, a sound or a badge.
pub(super) fn is_visible(notification: &Notification) -> bool {
    let content = &notification.content;
    content.has_alert() || content.badge.is_some() || content.sound.is_some()
}

/// The final bytes.
pub(super) fn encode(notification: &Notification) -> Result<Vec<u8>, EncodeError> {
    let kind = push_type(notification);
    let mut payload = Map::new();
    let aps = aps(notification, kind)?;
    // MDM and file-provider pushes have no `aps` at all.
    if !aps.is_empty() {
        payload.insert("aps".to_owned(), Value::Object(aps));
    }
    for (key, value) in notification.content.data.iter().flatten() {
        if key == "aps" {
            return Err(EncodeError::ReservedKey {
                place: "data",
                key: key.clone(),
            });
        }
        payload.insert(key.clone(), value.clone());
    }
    if let Some(raw) = &notification.options.apns {
        merge(&mut payload, &raw.payload);
    }
    if payload.get("aps").is_some_and(|aps| !aps.is_object()) {
        return Err(field("apns.payload.aps", "must be an object"));
    }
    if payload.is_empty() {
        // Apple answers PayloadEmpty to a body without a dictionary.
        payload.insert("aps".to_owned(), Value::Object(Map::new()));
    }
    let bytes = serde_json::to_vec(&payload)
        .map_err(|_| field("apns.payload", "cannot be written as JSON"))?;
    let limit = match kind {
        PushType::Voip => APNS_VOIP_PAYLOAD_MAX,
        _ => APNS_PAYLOAD_MAX,
    };
    if bytes.len() > limit {
        return Err(EncodeError::PayloadTooLarge {
            provider: "APNs",
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

/// a2's payload for what it has, and what it lacks beside it.
fn aps(notification: &Notification, kind: PushType) -> Result<Map<String, Value>, EncodeError> {
    let options = &notification.options;
    let mut aps = match serde_json::to_value(documented(notification, kind)) {
        Ok(Value::Object(aps)) => aps,
        _ => return Err(field("aps", "cannot be written as JSON")),
    };
    if let Some(score) = options.relevance_score {
        if !(0.0..=1.0).contains(&score) {
            return Err(field("options.relevance_score", "must be from 0 to 1"));
        }
        aps.insert("relevance-score".to_owned(), Value::from(score));
    }
    if let Some(target) = &options.target_content_id {
        aps.insert("target-content-id".to_owned(), Value::from(target.as_str()));
    }
    if let Some(activity) = &options.live_activity {
        live_activity(activity, notification, &mut aps);
    }
    Ok(aps)
}

fn documented(notification: &Notification, kind: PushType) -> APS<'_> {
    let (content, options) = (&notification.content, &notification.options);
    let mut builder = DefaultNotificationBuilder::new();
    if let Some(title) = &content.title {
        builder = builder.title(title.as_str());
    }
    if let Some(subtitle) = &content.subtitle {
        builder = builder.subtitle(subtitle.as_str());
    }
    if let Some(body) = &content.body {
        builder = builder.body(body.as_str());
    }
    if let Some(badge) = content.badge {
        builder = builder.badge(badge);
    }
    if let Some(sound) = &content.sound {
        builder = builder.sound(sound.as_str());
    }
    if content.content_available || kind == PushType::Background {
        builder = builder.content_available();
    }
    if let Some(thread_id) = &options.thread_id {
        builder = builder.thread_id(thread_id.as_str());
    }
    if let Some(category) = &options.category {
        builder = builder.category(category.as_str());
    }
    if let Some(level) = options.interruption_level {
        builder = builder.interruption_level(interruption_level(level));
    }
    let mut aps = builder.build("", a2::NotificationOptions::default()).aps;
    // a2 always writes `mutable-content: 0`, which is one more thing to send and means nothing.
    aps.mutable_content = options.mutable_content.then_some(1);
    aps
}

fn interruption_level(level: InterruptionLevel) -> a2::InterruptionLevel {
    match level {
        InterruptionLevel::Passive => a2::InterruptionLevel::Passive,
        InterruptionLevel::Active => a2::InterruptionLevel::Active,
        InterruptionLevel::TimeSensitive => a2::InterruptionLevel::TimeSensitive,
        InterruptionLevel::Critical => a2::InterruptionLevel::Critical,
    }
}

/// Written by hand: a2 takes no signed times and has no `stale-date`.
fn live_activity(
    activity: &LiveActivity,
    notification: &Notification,
    aps: &mut Map<String, Value>,
) {
    let event = match activity.event {
        LiveActivityEvent::Start => "start",
        LiveActivityEvent::Update => "update",
        LiveActivityEvent::End => "end",
    };
    let accepted_at = notification.created_at.div_euclid(1_000);
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            aps.insert(key.to_owned(), value);
        }
    };
    let timestamp = activity.timestamp.unwrap_or(accepted_at);
    put("event", Some(Value::from(event)));
    put("timestamp", Some(Value::from(timestamp)));
    put(
        "content-state",
        Some(Value::Object(activity.content_state.clone())),
    );
    put("stale-date", activity.stale_date.map(Value::from));
    put("dismissal-date", activity.dismissal_date.map(Value::from));
    put(
        "attributes-type",
        activity.attributes_type.clone().map(Value::from),
    );
    put("attributes", activity.attributes.clone().map(Value::Object));
}

fn field(name: &str, problem: &'static str) -> EncodeError {
    EncodeError::Field {
        field: name.to_owned(),
        problem,
    }
}
