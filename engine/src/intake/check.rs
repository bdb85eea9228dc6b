//! What the providers would refuse, refused at the door: ids, topics, ranges, raw overrides.
//! It must not know by which face a notification came, nor who receives it.

use std::borrow::Cow;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits::{COLLAPSE_ID_MAX, TAG_NAME_MAX, USER_ID_MAX};
use crate::model::{ApnsOverride, Notification, Options, Platform, PushType, WireError};
use crate::provider::{self, EncodeError};

/// Largest notification as it is queued, bytes: it travels with every job of its audience.
const NOTIFICATION_BYTES_MAX: usize = 64 * 1024;
/// Longest topic, thread id, category or target content id, in bytes.
const NAME_MAX: usize = 256;
/// Apple's headers that a raw override may set; the ids and the authorization are ours.
const APNS_HEADERS: [&str; 5] = [
    "apns-collapse-id",
    "apns-expiration",
    "apns-priority",
    "apns-push-type",
    "apns-topic",
];
/// Members of an FCM message that name its target.
const FCM_TARGETS: [&str; 5] = ["token", "topic", "condition", "fid", "name"];

/// Why a notification is not accepted.
#[derive(Debug, Error)]
pub enum Refusal {
    /// A field breaks a rule.
    #[error("{}: {problem}", path.join("."))]
    Field {
        /// Where, in the names of the API.
        path: Vec<Cow<'static, str>>,
        /// What is wrong and what to do; never the value.
        problem: Cow<'static, str>,
    },
    /// Its time is over; the option says until when it was.
    #[error("options.{field}: {}", Self::IS_OVER)]
    Expired {
        /// `ttl` or `expires_at`.
        field: &'static str,
    },
    /// What would be queued, or go to a provider, is larger than it may be.
    #[error(
        "the {what} would have {len} bytes, at most {limit} are allowed: shorten the text or the data"
    )]
    TooLarge {
        /// Whose what.
        what: &'static str,
        /// Its size, in bytes.
        len: usize,
        /// The provider's limit, in bytes.
        limit: usize,
    },
    /// It cannot be written as a message.
    #[error("the notification cannot be written: {0}")]
    Unwritable(#[source] WireError),
}

impl Refusal {
    /// What is said of an expiry that has passed.
    pub const IS_OVER: &'static str = "is over already: give a later time";

    /// A field that breaks a rule.
    pub fn field<const N: usize>(path: [&str; N], problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Field {
            path: path.map(|name| Cow::Owned(name.to_owned())).into(),
            problem: problem.into(),
        }
    }
}

/// Checks everything about a notification that does not depend on its single recipients, for the platforms that it may
/// go to.
///
/// # Errors
/// The first [`Refusal`] found.
pub fn check_content(notification: &Notification, platforms: &[Platform]) -> Result<(), Refusal> {
    match refusals(notification, platforms).into_iter().next() {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// The same, with every refusal found.
pub(super) fn refusals(notification: &Notification, platforms: &[Platform]) -> Vec<Refusal> {
    let mut found = Vec::new();
    let data = notification.content.data.as_ref();
    if data.is_some_and(|data| data.contains_key("aps")) {
        let problem = "is Apple's own member: use the fields of this API or options.apns.payload";
        found.push(Refusal::field(["data", "aps"], problem));
    }
    check_options(&notification.options, &mut found);
    found.extend(check_size(notification).err());
    if !found.is_empty() {
        // A provider's encoder is only asked about what keeps our own rules.
        return found;
    }
    let is_apples = notification
        .options
        .push_type
        .is_some_and(|kind| !matches!(kind, PushType::Alert | PushType::Background));
    let asked = platforms.iter().copied();
    let asked: Vec<Platform> = asked
        .filter(|platform| platform.is_apple() || !is_apples)
        .collect();
    let answer = provider::validate(notification, &asked);
    found.extend(answer.err().map(Refusal::from));
    found
}

fn check_size(notification: &Notification) -> Result<(), Refusal> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, notification)
        .map_err(|error| Refusal::Unwritable(WireError::Notification(error)))?;
    if count.0 > NOTIFICATION_BYTES_MAX {
        return Err(Refusal::TooLarge {
            what: "notification",
            len: count.0,
            limit: NOTIFICATION_BYTES_MAX,
        });
    }
    Ok(())
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        let owned = |path: &[&str]| {
            path.iter()
                .map(|name| Cow::Owned((*name).to_owned()))
                .collect()
        };
        let (path, problem): (Vec<_>, Cow<'static, str>) = match error {
            EncodeError::PayloadTooLarge {
                provider,
                bytes,
                limit,
            } => {
                return Self::TooLarge {
                    what: if provider == "FCM" {
                        "FCM message"
                    } else {
                        "APNs payload"
                    },
                    len: bytes,
                    limit,
                };
            }
            EncodeError::ReservedKey { place, key } => {
                let mut path = place_of(place);
                path.push(Cow::Owned(key));
                (path, "is reserved by the provider: use another name".into())
            }
            EncodeError::Header { name, problem } => (
                owned(&["options", "apns", "headers", &name]),
                problem.into(),
            ),
            EncodeError::Field { field, problem } => (place_of(&field), problem.into()),
            EncodeError::TopicMissing => (
                owned(&["options", "topic"]),
                "is missing, and the tenant has no bundle id: give one of them".into(),
            ),
        };
        Self::Field { path, problem }
    }
}

/// A provider's name of a place in the names of the API.
fn place_of(place: &str) -> Vec<Cow<'static, str>> {
    let before: &[&str] = match place.split('.').next() {
        Some("data" | "options") => &[],
        Some("apns" | "fcm") => &["options"],
        _ => &["options", "fcm", "message"],
    };
    let steps = before.iter().copied().chain(place.split('.'));
    steps.map(|step| Cow::Owned(step.to_owned())).collect()
}

/// Checks a producer's id of a user.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_user_id(user_id: &str) -> Result<(), &'static str> {
    match user_id {
        "" => Err("a user id has 1 to 256 bytes"),
        long if long.len() > USER_ID_MAX => Err("a user id has 1 to 256 bytes"),
        text if text.chars().any(char::is_control) => Err("a user id holds no control characters"),
        _ => Ok(()),
    }
}

/// Checks the name of a tag.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_tag(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the name of a tag has 1 to 128 bytes"),
        long if long.len() > TAG_NAME_MAX => Err("the name of a tag has 1 to 128 bytes"),
        text if text.chars().any(char::is_control) => {
            Err("the name of a tag holds no control characters")
        }
        _ => Ok(()),
    }
}

fn check_options(options: &Options, found: &mut Vec<Refusal>) {
    let names = [
        ("collapse_id", &options.collapse_id, COLLAPSE_ID_MAX),
        ("thread_id", &options.thread_id, NAME_MAX),
        ("category", &options.category, NAME_MAX),
        ("target_content_id", &options.target_content_id, NAME_MAX),
    ];
    let mut note = |field: &str, checked: Result<(), &'static str>| {
        let refusal = |problem| Refusal::field(["options", field], problem);
        found.extend(checked.err().map(refusal));
    };
    for (field, value, max) in names {
        let Some(text) = value else { continue };
        let is_header = field == "collapse_id";
        let checked = check_name(text, max);
        note(
            field,
            checked.and_then(|()| {
                if is_header {
                    check_header_value(text)
                } else {
                    Ok(())
                }
            }),
        );
    }
    note(
        "topic",
        options.topic.as_deref().map_or(Ok(()), check_topic),
    );
    let is_score = |score: f64| (0.0..=1.0).contains(&score);
    if !options.relevance_score.is_none_or(is_score) {
        note("relevance_score", Err("is from 0 to 1"));
    }
    let is_other_type = options
        .push_type
        .is_some_and(|of| of != PushType::Liveactivity);
    if options.live_activity.is_some() && is_other_type {
        let problem = "goes with push_type \"liveactivity\" only";
        note("live_activity", Err(problem));
    }
    if let Some(raw) = &options.apns {
        check_apns(raw, found);
    }
    if let Some(message) = &options.fcm {
        check_fcm(message, found);
    }
}

fn check_apns(raw: &ApnsOverride, found: &mut Vec<Refusal>) {
    for (name, value) in &raw.headers {
        let problem: Cow<'static, str> = if APNS_HEADERS.contains(&name.as_str()) {
            match check_apns_header(name, value) {
                Ok(()) => continue,
                Err(problem) => problem.into(),
            }
        } else {
            let names = APNS_HEADERS.join(", ");
            format!("only these headers can be set: {names}").into()
        };
        found.push(Refusal::field(
            ["options", "apns", "headers", name],
            problem,
        ));
    }
    if let Some(aps) = raw.payload.get("aps")
        && !aps.is_object()
    {
        let path = ["options", "apns", "payload", "aps"];
        found.push(Refusal::field(path, "is an object"));
    }
}

fn check_apns_header(name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "apns-collapse-id" => {
            check_name(value, COLLAPSE_ID_MAX).and_then(|()| check_header_value(value))
        }
        "apns-topic" => check_topic(value),
        "apns-priority" if matches!(value, "1" | "5" | "10") => Ok(()),
        "apns-priority" => Err("is 1, 5 or 10"),
        "apns-expiration" if value.parse::<u32>().is_ok() => Ok(()),
        "apns-expiration" => Err("is a time in Unix seconds, or 0"),
        "apns-push-type" if PushType::ALL.iter().any(|of| of.as_str() == value) => Ok(()),
        _ => Err("is not a push type that Apple documents"),
    }
}

fn check_fcm(message: &Map<String, Value>, found: &mut Vec<Refusal>) {
    for name in FCM_TARGETS
        .into_iter()
        .filter(|name| message.contains_key(*name))
    {
        let problem = "names a target, which is the recipient's: leave it out";
        found.push(Refusal::field(["options", "fcm", "message", name], problem));
    }
}

fn check_topic(topic: &str) -> Result<(), &'static str> {
    check_name(topic, NAME_MAX)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if topic.bytes().all(fits) {
        return Ok(());
    }
    Err(
        "a topic has letters, digits, '.', '-' and '_' only: give the bundle id, with the push type's suffix",
    )
}

fn check_name(text: &str, max: usize) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty: leave the field out");
    }
    if text.len() > max {
        return Err(if max == COLLAPSE_ID_MAX {
            "has more than 64 bytes"
        } else {
            "has more than 256 bytes"
        });
    }
    if text.chars().any(char::is_control) {
        return Err("holds control characters: leave them out");
    }
    Ok(())
}

/// A collapse id travels in a header as it is.
fn check_header_value(text: &str) -> Result<(), &'static str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    Err("travels in a header: use printable ASCII characters")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
