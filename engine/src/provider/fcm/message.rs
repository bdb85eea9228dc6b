//! The FCM message: a notification's fields in Google's words, and the pieces around a recipient's own values.
//! It must not know credentials, projects or connections.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::{EncodeError, merge::merge};
use crate::limits::{FCM_PAYLOAD_MAX, TTL_MAX};
use crate::model::{Millis, Notification, Priority};

/// Where a raw message would name another recipient, or Google's own fields.
const RESERVED: [&str; 5] = ["token", "fid", "topic", "condition", "name"];
/// Keys of `data` that belong to Google.
const RESERVED_DATA: [&str; 2] = ["from", "message_type"];
/// First letters of such keys.
const RESERVED_DATA_PREFIXES: [&str; 2] = ["google.", "gcm."];

/// `message` without its target, and its size as Google counts it.
pub(super) fn encode(
    notification: &Notification,
    now: Millis,
) -> Result<(Map<String, Value>, usize), EncodeError> {
    let mut message = documented(notification, now);
    if let Some(raw) = &notification.options.fcm {
        if let Some(key) = RESERVED.into_iter().find(|key| raw.contains_key(*key)) {
            return Err(reserved("options.fcm", key));
        }
        merge(&mut message, raw);
    }
    let mut bytes = 0;
    for place in [
        "data",
        "notification",
        "android",
        "apns",
        "webpush",
        "fcm_options",
    ] {
        if message.get(place).is_some_and(|value| !value.is_object()) {
            return Err(field(place, "must be an object"));
        }
    }
    if let Some(Value::Object(data)) = message.get("data") {
        bytes += data_size("data", data)?;
    }
    if let Some(Value::Object(notification)) = message.get("notification") {
        bytes += text_size(notification);
    }
    if let Some(android) = message.get("android").and_then(Value::as_object) {
        match android.get("data") {
            None => {}
            Some(Value::Object(data)) => bytes += data_size("android.data", data)?,
            Some(_) => return Err(field("android.data", "must be an object")),
        }
        if android
            .get("notification")
            .is_some_and(|value| !value.is_object())
        {
            return Err(field("android.notification", "must be an object"));
        }
    }
    if bytes > FCM_PAYLOAD_MAX {
        return Err(EncodeError::PayloadTooLarge {
            provider: "FCM",
            bytes,
            limit: FCM_PAYLOAD_MAX,
        });
    }
    Ok((message, bytes))
}

fn documented(notification: &Notification, now: Millis) -> Map<String, Value> {
    let (content, options) = (&notification.content, &notification.options);
    let mut message = Map::new();
    let mut android = Map::new();
    let has_alert = content.title.is_some() || content.body.is_some();
    if has_alert {
        let mut shown = Map::new();
        put(&mut shown, "title", content.title.as_deref());
        put(&mut shown, "body", content.body.as_deref());
        message.insert("notification".to_owned(), Value::Object(shown));
        let mut details = Map::new();
        put(&mut details, "sound", content.sound.as_deref());
        put(&mut details, "notification_count", content.badge);
        if !details.is_empty() {
            android.insert("notification".to_owned(), Value::Object(details));
        }
    }
    let high = match options.priority {
        Some(priority) => priority == Priority::High,
        None => has_alert,
    };
    put(
        &mut android,
        "priority",
        Some(if high { "HIGH" } else { "NORMAL" }),
    );
    let ttl_max = i64::try_from(TTL_MAX.as_secs()).unwrap_or(i64::MAX);
    let ttl = (notification.expires_at - now)
        .div_euclid(1_000)
        .clamp(0, ttl_max);
    put(&mut android, "ttl", Some(format!("{ttl}s")));
    put(&mut android, "collapse_key", options.collapse_id.as_deref());
    message.insert("android".to_owned(), Value::Object(android));
    if let Some(data) = &content.data {
        let strings = data
            .iter()
            .map(|(key, value)| (key.clone(), as_string(value)));
        message.insert("data".to_owned(), Value::Object(strings.collect()));
    }
    message
}

fn put<V: Into<Value>>(map: &mut Map<String, Value>, key: &str, value: Option<V>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// Google takes only strings: strings stay, other values become their JSON text.
fn as_string(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        other => Value::String(other.to_string()),
    }
}

fn data_size(place: &'static str, data: &Map<String, Value>) -> Result<usize, EncodeError> {
    let mut bytes = 0;
    for (key, value) in data {
        let prefixed = RESERVED_DATA_PREFIXES
            .iter()
            .any(|prefix| key.starts_with(prefix));
        if prefixed || RESERVED_DATA.contains(&key.as_str()) {
            return Err(reserved(place, key));
        }
        let Value::String(text) = value else {
            return Err(field(&format!("{place}.{key}"), "must be a string"));
        };
        bytes += key.len() + text.len();
    }
    Ok(bytes)
}

fn text_size(notification: &Map<String, Value>) -> usize {
    let texts = notification.values().filter_map(Value::as_str);
    texts.map(str::len).sum()
}

fn reserved(place: &'static str, key: &str) -> EncodeError {
    EncodeError::ReservedKey {
        place,
        key: key.to_owned(),
    }
}

fn field(name: &str, problem: &'static str) -> EncodeError {
    EncodeError::Field {
        field: name.to_owned(),
        problem,
    }
}

/// The body as text around the recipient's device token and, for a notification without a tag of its own, its tag:
/// whatever the content is, it is written once and never searched or written again.
#[derive(Debug)]
pub(super) struct Pieces {
    before_token: &'static str,
    /// Between the device token and the tag; the whole rest if there is no tag to fill in.
    after_token: String,
    after_tag: Option<String>,
}

impl Pieces {
    /// Takes the message apart.
    pub(super) fn new(
        mut message: Map<String, Value>,
        collapse_id: Option<&str>,
    ) -> Result<Self, EncodeError> {
        let before_token = r#"{"message":{"token":"#;
        let mut android = match message.remove("android") {
            Some(Value::Object(android)) => android,
            _ => Map::new(),
        };
        let shown = message.contains_key("notification") || android.contains_key("notification");
        let mut details = match android.remove("notification") {
            Some(Value::Object(details)) => details,
            _ => Map::new(),
        };
        if let (true, Some(id)) = (shown, collapse_id) {
            details.entry("tag").or_insert_with(|| Value::from(id));
        }
        let rest = members(&message)?;
        let has_hole = shown && !details.contains_key("tag");
        if !has_hole {
            if !details.is_empty() {
                android.insert("notification".to_owned(), Value::Object(details));
            }
            let android = members(&android)?;
            return Ok(Self {
                before_token,
                after_token: format!(r#","android":{{{}}}{}}}}}"#, android, comma(&rest)),
                after_tag: None,
            });
        }
        let (details, android) = (members(&details)?, members(&android)?);
        Ok(Self {
            before_token,
            after_token: r#","android":{"notification":{"tag":"#.to_owned(),
            after_tag: Some(format!(
                "{}}}{}}}{}}}}}",
                comma(&details),
                comma(&android),
                comma(&rest)
            )),
        })
    }

    /// The body for one recipient.
    pub(super) fn fill(&self, device_token: &str, recipient_id: Uuid) -> Vec<u8> {
        let after_tag = self.after_tag.as_deref();
        // Quotes twice and the tag, and a device token that needs no escape, as all of Google's.
        let room = device_token.len() + 2 + uuid::fmt::Hyphenated::LENGTH + 2;
        let fixed = self.before_token.len() + self.after_token.len();
        let mut body = Vec::with_capacity(fixed + after_tag.map_or(0, str::len) + room);
        body.extend_from_slice(self.before_token.as_bytes());
        quote(device_token, &mut body);
        body.extend_from_slice(self.after_token.as_bytes());
        if let Some(after_tag) = after_tag {
            let mut buffer = Uuid::encode_buffer();
            quote(
                recipient_id.hyphenated().encode_lower(&mut buffer),
                &mut body,
            );
            body.extend_from_slice(after_tag.as_bytes());
        }
        body
    }
}

/// A JSON string, escaped where it must be.
fn quote(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        #[expect(
            clippy::expect_used,
            reason = "a string always serialises, and a Vec always takes it"
        )]
        serde_json::to_writer(out, text).expect("string as JSON");
    }
}

/// The members of an object as text, without its braces.
fn members(map: &Map<String, Value>) -> Result<String, EncodeError> {
    let text = serde_json::to_string(map)
        .map_err(|_| field("options.fcm", "cannot be written as JSON"))?;
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    Ok(inner.unwrap_or_default().to_owned())
}

fn comma(members: &str) -> String {
    if members.is_empty() {
        String::new()
    } else {
        format!(",{members}")
    }
}
