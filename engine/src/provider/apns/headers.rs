//! The `apns-*` headers that all recipients of a notification share.
//! It must not know the recipient's id or device token.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::super::EncodeError;
use super::{APNS_COLLAPSE_ID, payload};
use crate::limits::COLLAPSE_ID_MAX;
use crate::model::{Notification, Priority, PushType};

pub(super) const APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");
pub(super) const APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
pub(super) const APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
pub(super) const APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");

/// Headers that a caller may give raw; the ids and the authorization are ours.
const RAW: [HeaderName; 5] = [
    APNS_TOPIC,
    APNS_PUSH_TYPE,
    APNS_PRIORITY,
    APNS_EXPIRATION,
    APNS_COLLAPSE_ID,
];

/// The shared headers.
pub(super) struct Fixed {
    pub(super) map: HeaderMap,
    pub(super) collapses_on_recipient: bool,
}

/// The push type that a notification goes out with: raw header, option, or what its content says.
pub(super) fn push_type(notification: &Notification) -> PushType {
    let options = &notification.options;
    let raw = options.apns.as_ref().and_then(|apns| {
        let named = |name: &str| name.eq_ignore_ascii_case(APNS_PUSH_TYPE.as_str());
        let value = apns.headers.iter().find(|(name, _)| named(name))?.1;
        PushType::ALL
            .into_iter()
            .find(|kind| kind.as_str() == value)
    });
    let asked = raw.or(options.push_type);
    asked.unwrap_or_else(|| {
        if options.live_activity.is_some() {
            PushType::Liveactivity
        } else if payload::is_visible(notification) {
            PushType::Alert
        } else {
            PushType::Background
        }
    })
}

pub(super) fn encode(
    notification: &Notification,
    bundle_id: Option<&str>,
) -> Result<Fixed, EncodeError> {
    let options = &notification.options;
    let kind = push_type(notification);
    let mut map = HeaderMap::with_capacity(RAW.len());
    let suffixed = || bundle_id.map(|bundle| format!("{bundle}{}", kind.topic_suffix()));
    if let Some(topic) = options.topic.clone().or_else(suffixed) {
        map.insert(APNS_TOPIC, value(&APNS_TOPIC, &topic)?);
    }
    map.insert(APNS_PUSH_TYPE, HeaderValue::from_static(kind.as_str()));
    let priority = priority(kind, options.priority);
    map.insert(APNS_PRIORITY, HeaderValue::from_static(priority));
    let expiration = notification.expires_at.div_euclid(1_000).max(0);
    map.insert(APNS_EXPIRATION, HeaderValue::from(expiration));
    if let Some(collapse_id) = &options.collapse_id {
        map.insert(APNS_COLLAPSE_ID, value(&APNS_COLLAPSE_ID, collapse_id)?);
    }
    merge_raw(notification, &mut map)?;
    check(&map, kind)?;
    for volatile in [APNS_EXPIRATION, APNS_COLLAPSE_ID] {
        if let Some(value) = map.get_mut(volatile) {
            // One value per notification would churn HPACK's table all the same.
            value.set_sensitive(true);
        }
    }
    let collapses_on_recipient = kind == PushType::Alert && !map.contains_key(APNS_COLLAPSE_ID);
    Ok(Fixed {
        map,
        collapses_on_recipient,
    })
}

/// Apple: 10 with a background push is an error, so that the most that can be asked for is 5.
fn priority(kind: PushType, asked: Option<Priority>) -> &'static str {
    match (asked, kind) {
        (Some(Priority::Low), _) => "1",
        (Some(Priority::Normal), _) => "5",
        (Some(Priority::High) | None, PushType::Background) => "5",
        (Some(Priority::High) | None, _) => "10",
    }
}

fn merge_raw(notification: &Notification, map: &mut HeaderMap) -> Result<(), EncodeError> {
    let Some(raw) = &notification.options.apns else {
        return Ok(());
    };
    for (name, text) in &raw.headers {
        let lower = name.to_ascii_lowercase();
        let Some(known) = RAW.into_iter().find(|known| known.as_str() == lower) else {
            return Err(EncodeError::Header {
                name: name.clone(),
                problem: "is not one that a caller may set",
            });
        };
        let value = value(&known, text)?;
        map.insert(known, value);
    }
    Ok(())
}

/// What Apple would answer with a 400 for every recipient.
fn check(map: &HeaderMap, kind: PushType) -> Result<(), EncodeError> {
    let wrong = |name: HeaderName, problem| {
        let name = name.as_str().to_owned();
        Err(EncodeError::Header { name, problem })
    };
    let text = |name: HeaderName| map.get(name).and_then(|value| value.to_str().ok());
    if text(APNS_COLLAPSE_ID).is_some_and(|id| id.is_empty() || id.len() > COLLAPSE_ID_MAX) {
        return wrong(APNS_COLLAPSE_ID, "must have 1 to 64 bytes");
    }
    if text(APNS_TOPIC).is_some_and(str::is_empty) {
        return wrong(APNS_TOPIC, "is empty");
    }
    if text(APNS_PUSH_TYPE) != Some(kind.as_str()) {
        return wrong(APNS_PUSH_TYPE, "is not one of Apple's push types");
    }
    match text(APNS_PRIORITY) {
        Some("1" | "5") => {}
        Some("10") if kind != PushType::Background => {}
        Some("10") => return wrong(APNS_PRIORITY, "must be 5 or 1 for a background push"),
        _ => return wrong(APNS_PRIORITY, "must be 1, 5 or 10"),
    }
    let seconds = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !text(APNS_EXPIRATION).is_some_and(seconds) {
        return wrong(APNS_EXPIRATION, "must be Unix seconds");
    }
    Ok(())
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, EncodeError> {
    let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let value = HeaderValue::from_str(text).ok().filter(|_| visible);
    value.ok_or_else(|| EncodeError::Header {
        name: name.as_str().to_owned(),
        problem: "must be visible ASCII",
    })
}
