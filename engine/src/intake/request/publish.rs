//! `PublishRequest`: a push that a backend publishes straight to the queue. A versioned contract.
//! It must not know how it travelled, who may send it, nor what becomes of it.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::audience::{Named, RawDeviceToken};
use super::content::{Alert, Message, Said, SendOptions};
use super::json::{self, Bounded, Member, Object};
use super::problem::{PROBLEMS_MAX, Problem, ProblemKind};
use crate::limits::{MESSAGE_ID_MAX, PUBLISH_ENTRIES_MAX};
use crate::model::Millis;

/// The version of the contract that this build reads.
pub const VERSION: u32 = 1;

/// The members that say for whom it is.
const RECIPIENTS: [&str; 3] = ["user_id", "user_ids", "device_tokens"];

/// A push, published straight to the queue with the routing key `TENANT.LANE`. Unknown members are ignored, null is
/// absence, and exactly one of `user_id`, `user_ids` and `device_tokens` says for whom it is.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PublishRequest {
    /// The version of this contract.
    #[serde(default, rename = "v")]
    #[schema(required = true, value_type = u32, example = 1)]
    _v: IgnoredAny,
    /// The publisher's own id of this message: the same id with the same bytes is taken once, with other bytes refused.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 128,
        pattern = "^[!-~]{1,128}$", example = "order-4711-shipped")]
    message_id: Option<Box<str>>,
    /// The tenant of the routing key; anything else is refused. Best left out.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    tenant: Option<Box<str>>,
    /// When it was said: its time to live counts from here. The instant at which it is taken when absent.
    #[schema(value_type = Option<String>, format = "date-time", example = "2030-01-15T10:30:00Z")]
    created_at: Option<Box<str>>,
    /// Whose devices are meant.
    #[schema(value_type = Option<String>, example = "user-123", min_length = 1, max_length = 256)]
    user_id: Option<Box<str>>,
    /// The same for many.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 10_000)]
    user_ids: Option<Bounded<Box<str>, PUBLISH_ENTRIES_MAX>>,
    /// Device tokens, registered or not.
    #[schema(value_type = Option<Vec<RawDeviceToken>>, min_items = 1, max_items = 10_000)]
    device_tokens: Option<Bounded<Object<RawDeviceToken>, PUBLISH_ENTRIES_MAX>>,
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

/// A request that is read, and valid as far as it can be judged by itself.
#[derive(Debug)]
pub struct ReadRequest {
    /// The publisher's id of it.
    pub message_id: Box<str>,
    /// The tenant that its body names, if any.
    pub tenant: Option<Box<str>>,
    /// When it was said, if it says so.
    pub created_at: Option<Millis>,
    /// For whom it is.
    pub named: Named,
    /// What it says, and how.
    pub message: Message,
}

/// Reads a request.
///
/// # Errors
/// Every problem found, at most [`PROBLEMS_MAX`].
pub fn read_request(body: &[u8]) -> Result<ReadRequest, Vec<Problem>> {
    let mut problems: Vec<Problem> = check_version(body)?.into_iter().collect();
    let (request, found) = json::read_all::<PublishRequest>(body);
    problems.extend(found);
    let read = match request {
        Some(request) => request.check(&mut problems),
        None => None,
    };
    problems.truncate(PROBLEMS_MAX);
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems),
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    v: Option<Box<RawValue>>,
}

/// What of another version is not worth reading is refused at once.
fn check_version(body: &[u8]) -> Result<Option<Problem>, Vec<Problem>> {
    let at = || ["v".into()];
    let said = json::read::<VersionOnly>(body).map_err(|problem| vec![problem])?;
    let Some(said) = said.v else {
        return Ok(Some(Problem::missing(at())));
    };
    let Ok(number) = said.get().parse::<f64>() else {
        let kind = ProblemKind::Type("int_type");
        let problem = Problem::new(kind, at(), "Input should be a valid integer");
        return Ok(Some(problem));
    };
    if number == f64::from(VERSION) {
        return Ok(None);
    }
    let message = format!("this build reads version {VERSION} only");
    Err(vec![Problem::new(ProblemKind::Version, at(), message)])
}

impl PublishRequest {
    /// Judges every member. What was taken out as broken is not missed.
    fn check(self, problems: &mut Vec<Problem>) -> Option<ReadRequest> {
        let broken = problems.clone();
        let is_told = |problem: &Problem| {
            let is_of = |names: &[&str], one: &Problem| names.iter().any(|name| one.is_in(name));
            let same = |told: &Problem| {
                told.path == problem.path
                    || (is_of(&RECIPIENTS, told) && is_of(&RECIPIENTS, problem))
            };
            broken.iter().any(same)
        };
        let mut note = |found: Vec<Problem>| {
            problems.extend(found.into_iter().filter(|problem| !is_told(problem)));
        };
        let message_id = message_id(self.message_id).map_err(|problem| note(vec![problem]));
        let created_at = instant(self.created_at).map_err(|problem| note(vec![problem]));
        let users = self.user_ids.map(|list| list.0);
        let device_tokens = self.device_tokens.map(|list| list.0);
        let named = named(self.user_id, users, device_tokens).map_err(&mut note);
        let said = Said {
            alert: self.alert,
            badge: self.badge,
            sound: self.sound,
            content_available: self.content_available,
            data: self.data,
            options: self.options,
        };
        let message = Message::try_from(said).map_err(|problem| note(vec![problem]));
        Some(ReadRequest {
            message_id: message_id.ok()?,
            tenant: self.tenant,
            created_at: created_at.ok()?,
            named: named.ok()?,
            message: message.ok()?,
        })
    }
}

fn message_id(said: Option<Box<str>>) -> Result<Box<str>, Problem> {
    let at = ["message_id".into()];
    let Some(said) = said else {
        return Err(Problem::missing(at));
    };
    let is_visible = said.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && (1..=MESSAGE_ID_MAX).contains(&said.len()) {
        return Ok(said);
    }
    let message = format!("is 1 to {MESSAGE_ID_MAX} visible ASCII characters");
    Err(Problem::value(at, message))
}

fn instant(said: Option<Box<str>>) -> Result<Option<Millis>, Problem> {
    let Some(said) = said else {
        return Ok(None);
    };
    let parsed = said.parse::<jiff::Timestamp>();
    parsed.map(|at| Some(at.as_millisecond())).map_err(|_| {
        let message = "is a time as in 2030-01-15T10:30:00Z";
        Problem::value(["created_at".into()], message)
    })
}

fn named(
    user_id: Option<Box<str>>,
    user_ids: Option<Vec<Box<str>>>,
    device_tokens: Option<Vec<Object<RawDeviceToken>>>,
) -> Result<Named, Vec<Problem>> {
    let users = match (user_id, user_ids) {
        (Some(_), Some(_)) => {
            let message = "give user_id or user_ids, not both";
            return Err(vec![Problem::value(["user_ids".into()], message)]);
        }
        (None, None) if device_tokens.is_none() => {
            let message = "give user_id, user_ids or device_tokens";
            let kind = ProblemKind::Missing;
            return Err(vec![Problem::new(kind, ["user_id".into()], message)]);
        }
        (Some(user_id), None) => ("user_id", Some(vec![user_id])),
        (None, user_ids) => ("user_ids", user_ids),
    };
    Named::choose(users, device_tokens)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Names that mean something somewhere in a request, and one that does not.
    const NAMES: [&str; 20] = [
        "v",
        "message_id",
        "created_at",
        "user_id",
        "user_ids",
        "device_tokens",
        "platform",
        "token",
        "environment",
        "alert",
        "title",
        "badge",
        "data",
        "options",
        "ttl",
        "apns",
        "headers",
        "live_activity",
        "event",
        "~odd/one",
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            proptest::sample::select(&["", "ios", "high", "start", "text"][..])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let name = proptest::sample::select(&NAMES[..]).prop_map(str::to_owned);
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                btree_map(name, inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_every_problem_lies_where_its_path_says(
            body in any_json(),
            is_ours in any::<bool>(),
        ) {
            let mut body = body;
            if let (true, Some(members)) = (is_ours, body.as_object_mut()) {
                members.insert("v".to_owned(), json!(1));
                members.insert("message_id".to_owned(), json!("m"));
            }
            let problems = read_request(body.to_string().as_bytes()).err().unwrap_or_default();
            prop_assert!(problems.len() <= PROBLEMS_MAX);
            for (at, problem) in problems.iter().enumerate() {
                let found = body.pointer(&problem.pointer());
                let is_missing = problem.kind == ProblemKind::Missing;
                if is_missing {
                    prop_assert!(found.is_none_or(Value::is_null), "{}", problem);
                } else {
                    prop_assert!(found.is_some(), "{}", problem);
                }
                let again = problems[..at].iter().any(|other| other.path == problem.path);
                prop_assert!(!again, "{} twice", problem);
            }
        }

        #[test]
        fn bytes_that_are_no_request_are_refused(body in vec(any::<u8>(), 0..200)) {
            prop_assert!(read_request(&body).is_err());
        }
    }
}
