//! What the providers would refuse, refused at the door: ids, topics, ranges, raw overrides.
//! It must not know by which face a notification came, nor who receives it.

use std::borrow::Cow;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits::{COLLAPSE_ID_MAX, USER_ID_MAX};
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
    let data = notification.content.data.as_ref();
    if data.is_some_and(|data| data.contains_key("aps")) {
        let problem = "is Apple's own member: use the fields of this API or options.apns.payload";
        return Err(Refusal::field(["data", "aps"], problem));
    }
    check_options(&notification.options)?;
    check_size(notification)?;
    let is_apples = notification
        .options
        .push_type
        .is_some_and(|kind| !matches!(kind, PushType::Alert | PushType::Background));
    let asked = platforms.iter().copied();
    let asked: Vec<Platform> = asked
        .filter(|platform| platform.is_apple() || !is_apples)
        .collect();
    provider::validate(notification, &asked)?;
    Ok(())
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

fn check_options(options: &Options) -> Result<(), Refusal> {
    let names = [
        ("collapse_id", &options.collapse_id, COLLAPSE_ID_MAX),
        ("thread_id", &options.thread_id, NAME_MAX),
        ("category", &options.category, NAME_MAX),
        ("target_content_id", &options.target_content_id, NAME_MAX),
    ];
    for (field, value, max) in names {
        let Some(text) = value else { continue };
        check_name(text, max).map_err(|problem| Refusal::field(["options", field], problem))?;
    }
    if let Some(collapse_id) = &options.collapse_id {
        check_header_value(collapse_id)
            .map_err(|problem| Refusal::field(["options", "collapse_id"], problem))?;
    }
    if let Some(topic) = &options.topic {
        check_topic(topic).map_err(|problem| Refusal::field(["options", "topic"], problem))?;
    }
    if let Some(score) = options.relevance_score
        && !(0.0..=1.0).contains(&score)
    {
        return Err(Refusal::field(
            ["options", "relevance_score"],
            "is from 0 to 1",
        ));
    }
    let is_other_type = options
        .push_type
        .is_some_and(|of| of != PushType::Liveactivity);
    if options.live_activity.is_some() && is_other_type {
        let problem = "goes with push_type \"liveactivity\" only";
        return Err(Refusal::field(["options", "live_activity"], problem));
    }
    options.apns.as_ref().map_or(Ok(()), check_apns)?;
    options.fcm.as_ref().map_or(Ok(()), check_fcm)
}

fn check_apns(raw: &ApnsOverride) -> Result<(), Refusal> {
    for (name, value) in &raw.headers {
        let refusal = |problem: Cow<'static, str>| {
            Refusal::field(["options", "apns", "headers", name], problem)
        };
        if !APNS_HEADERS.contains(&name.as_str()) {
            let names = APNS_HEADERS.join(", ");
            return Err(refusal(
                format!("only these headers can be set: {names}").into(),
            ));
        }
        check_apns_header(name, value).map_err(|problem| refusal(problem.into()))?;
    }
    match raw.payload.get("aps") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(_) => Err(Refusal::field(
            ["options", "apns", "payload", "aps"],
            "is an object",
        )),
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

fn check_fcm(message: &Map<String, Value>) -> Result<(), Refusal> {
    let target = FCM_TARGETS
        .into_iter()
        .find(|name| message.contains_key(*name));
    target.map_or(Ok(()), |name| {
        let problem = "names a target, which is the recipient's: leave it out";
        Err(Refusal::field(["options", "fcm", "message", name], problem))
    })
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Content, Lane, NotificationId};

    const BOTH: [Platform; 2] = [Platform::Ios, Platform::Android];

    fn check_for(platforms: &[Platform], content: Value, options: Value) -> Result<(), Refusal> {
        let notification = Notification {
            id: NotificationId(uuid::Uuid::nil()),
            tenant: "acme".parse().unwrap(),
            lane: Lane::Bulk,
            created_at: 0,
            expires_at: 1,
            content: serde_json::from_value::<Content>(content).unwrap(),
            options: serde_json::from_value::<Options>(options).unwrap(),
        };
        check_content(&notification, platforms)
    }

    fn check(content: Value, options: Value) -> Result<(), Refusal> {
        check_for(&BOTH, content, options)
    }

    #[test]
    fn a_payload_over_a_providers_limit_names_it() {
        let limit_of = |platforms: &[Platform], bytes: usize, options: Value| {
            let content = json!({"data": {"k": "x".repeat(bytes)}});
            match check_for(platforms, content, options) {
                Ok(()) => None,
                Err(Refusal::TooLarge { what, limit, .. }) => Some((what, limit)),
                Err(other) => panic!("{other}"),
            }
        };
        let voip = json!({"push_type": "voip"});
        assert_eq!(limit_of(&BOTH, 3_900, json!({})), None);
        assert_eq!(
            limit_of(&BOTH, 4_200, json!({})),
            Some(("APNs payload", 4_096))
        );
        assert_eq!(
            limit_of(&BOTH[1..], 4_200, json!({})),
            Some(("FCM message", 4_096))
        );
        assert_eq!(limit_of(&BOTH, 4_200, voip), None);
        let whole = limit_of(&[], 70_000, json!({}));
        assert_eq!(whole, Some(("notification", NOTIFICATION_BYTES_MAX)));
    }

    #[test]
    fn a_key_that_google_reserves_is_refused_only_where_google_may_see_it() {
        let content = json!({"data": {"from": "ada"}});
        assert!(check_for(&BOTH[..1], content.clone(), json!({})).is_ok());
        let refusal = check_for(&BOTH, content, json!({}))
            .unwrap_err()
            .to_string();
        assert!(refusal.starts_with("data.from: "), "{refusal}");
    }

    #[test]
    fn what_the_providers_take_is_accepted() {
        let options = [
            json!({}),
            json!({"collapse_id": "c".repeat(64), "topic": "com.example.app.voip", "relevance_score": 1.0}),
            json!({"apns": {"headers": {"apns-priority": "5", "apns-expiration": "0"},
                            "payload": {"aps": {"badge": 1}, "x": [1]}}}),
            json!({"fcm": {"android": {"ttl": "60s"}}}),
            json!({"live_activity": {"event": "update"}, "push_type": "liveactivity"}),
        ];
        for options in options {
            check(
                json!({"title": "a\u{0}b", "data": {"k": 1}}),
                options.clone(),
            )
            .unwrap_or_else(|refusal| panic!("{options}: {refusal}"));
        }
    }

    #[track_caller]
    fn each_names_its_field<const N: usize>(table: [(Value, Value, &str); N]) {
        for (content, options, path) in table {
            let refusal = check(content, options.clone()).unwrap_err().to_string();
            assert!(
                refusal.starts_with(&format!("{path}: ")),
                "{options}: {refusal}"
            );
        }
    }

    #[test]
    fn each_rule_names_its_field() {
        each_names_its_field([
            (json!({"data": {"aps": {}}}), json!({}), "data.aps"),
            (
                json!({}),
                json!({"collapse_id": "c".repeat(65)}),
                "options.collapse_id",
            ),
            (json!({}), json!({"collapse_id": ""}), "options.collapse_id"),
            (
                json!({}),
                json!({"collapse_id": "ä"}),
                "options.collapse_id",
            ),
            (
                json!({}),
                json!({"topic": "com.example\r\nx"}),
                "options.topic",
            ),
            (json!({}), json!({"topic": "com example"}), "options.topic"),
            (
                json!({}),
                json!({"thread_id": "a\u{7}"}),
                "options.thread_id",
            ),
            (
                json!({}),
                json!({"category": "c".repeat(257)}),
                "options.category",
            ),
            (
                json!({}),
                json!({"relevance_score": 1.01}),
                "options.relevance_score",
            ),
            (
                json!({}),
                json!({"relevance_score": -0.1}),
                "options.relevance_score",
            ),
            (
                json!({}),
                json!({"live_activity": {"event": "end"}, "push_type": "alert"}),
                "options.live_activity",
            ),
        ]);
    }

    #[test]
    fn each_raw_override_names_its_field() {
        each_names_its_field([
            (
                json!({}),
                json!({"apns": {"headers": {"apns-id": "x"}}}),
                "options.apns.headers.apns-id",
            ),
            (
                json!({}),
                json!({"apns": {"headers": {"authorization": "x"}}}),
                "options.apns.headers.authorization",
            ),
            (
                json!({}),
                json!({"apns": {"headers": {"apns-priority": "7"}}}),
                "options.apns.headers.apns-priority",
            ),
            (
                json!({}),
                json!({"apns": {"headers": {"apns-push-type": "loud"}}}),
                "options.apns.headers.apns-push-type",
            ),
            (
                json!({}),
                json!({"apns": {"payload": {"aps": 1}}}),
                "options.apns.payload.aps",
            ),
            (
                json!({}),
                json!({"fcm": {"token": "x"}}),
                "options.fcm.message.token",
            ),
        ]);
    }

    #[test]
    fn a_user_id_is_any_text_without_controls() {
        for good in [
            "user-123",
            "ada@example.com",
            "ключ",
            "a b",
            &"u".repeat(256),
        ] {
            assert_eq!(check_user_id(good), Ok(()));
        }
        for bad in ["", "a\nb", "a\0", "\u{85}", &"u".repeat(257)] {
            assert!(check_user_id(bad).is_err(), "{bad:?}");
        }
    }
}
