//! What a push says and how, as written on the wire, and its way into the model.
//! It must not know for whom it is. Unknown members are ignored, and null is absence.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::json::{Member, Object};
use super::problem::Problem;
use crate::intake::Expiry;
use crate::limits::TTL_MAX;
use crate::model::{
    ApnsOverride, Content, DeliveryMode, InterruptionLevel, Lane, LiveActivity, LiveActivityEvent,
    Options, Priority, PushType,
};

/// What people see.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Alert {
    title: Option<String>,
    /// Apple only.
    subtitle: Option<String>,
    body: Option<String>,
}

impl Alert {
    /// A title and a body.
    #[must_use]
    pub fn new(title: Option<String>, body: Option<String>) -> Self {
        Self {
            title,
            subtitle: None,
            body,
        }
    }
}

/// How a push is said, beyond the documented fields. All optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct SendOptions {
    /// `high`, `normal` or `low`. By default high for alerts and normal for background pushes.
    #[schema(value_type = Option<String>, example = "high")]
    priority: Option<Priority>,
    /// Seconds after which it is not worth sending any more, 1 to 2419200; 24 hours by default.
    #[schema(minimum = 1, maximum = 2_419_200)]
    ttl: Option<u64>,
    /// The same as an instant, RFC 3339; give one of the two.
    #[schema(example = "2030-01-15T10:30:00Z")]
    expires_at: Option<String>,
    /// A later push with the same id replaces this one on the device; at most 64 bytes.
    #[schema(max_length = 64)]
    collapse_id: Option<String>,
    /// Apple's push type; by default alert or background, as the content says.
    #[schema(value_type = Option<String>, example = "alert")]
    push_type: Option<PushType>,
    /// Apple's topic; by default the tenant's bundle id with the push type's suffix.
    topic: Option<String>,
    thread_id: Option<String>,
    /// `passive`, `active`, `time-sensitive` or `critical`.
    #[schema(value_type = Option<String>, example = "active")]
    interruption_level: Option<InterruptionLevel>,
    /// 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    relevance_score: Option<f64>,
    mutable_content: Option<bool>,
    category: Option<String>,
    target_content_id: Option<String>,
    #[schema(value_type = Option<LiveActivityBody>)]
    live_activity: Option<Object<LiveActivityBody>>,
    /// `transactional` or `bulk`: which queue it takes.
    #[schema(value_type = Option<String>, example = "transactional")]
    lane: Option<Lane>,
    /// `at_least_once` (default) or `at_most_once`.
    #[schema(value_type = Option<String>, example = "at_least_once")]
    delivery: Option<DeliveryMode>,
    /// Raw APNs, merged last.
    #[schema(value_type = Option<ApnsBody>)]
    apns: Option<Object<ApnsBody>>,
    /// Raw FCM, merged last.
    #[schema(value_type = Option<FcmBody>)]
    fcm: Option<Object<FcmBody>>,
}

/// A Live Activity update.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LiveActivityBody {
    /// `start`, `update` or `end`.
    #[schema(value_type = String, example = "update")]
    event: LiveActivityEvent,
    /// Unix seconds; the time of acceptance when absent.
    timestamp: Option<i64>,
    #[schema(value_type = Option<Object>)]
    content_state: Option<Member<Map<String, Value>>>,
    /// Unix seconds.
    stale_date: Option<i64>,
    /// Unix seconds.
    dismissal_date: Option<i64>,
    attributes_type: Option<String>,
    #[schema(value_type = Option<Object>)]
    attributes: Option<Member<Map<String, Value>>>,
}

/// Raw APNs, merged last.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ApnsBody {
    /// `apns-collapse-id`, `apns-expiration`, `apns-priority`, `apns-push-type` and `apns-topic`.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<Member<BTreeMap<String, String>>>,
    /// Members merged over the payload, deep in `aps`.
    #[schema(value_type = Option<Object>)]
    payload: Option<Member<Map<String, Value>>>,
}

/// Raw FCM, merged last.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FcmBody {
    /// Google's `message`, without its target.
    #[schema(value_type = Option<Object>)]
    message: Option<Member<Map<String, Value>>>,
}

/// The members that all sending requests share.
#[derive(Debug, Default)]
pub struct Said {
    /// What people see.
    pub alert: Option<Object<Alert>>,
    /// Number on the app's icon.
    pub badge: Option<u32>,
    /// `default`, or the name of a sound in the app.
    pub sound: Option<String>,
    /// Wakes the app without showing anything.
    pub content_available: Option<bool>,
    /// The app's own data.
    pub data: Option<Member<Map<String, Value>>>,
    /// How it is said.
    pub options: Option<Object<SendOptions>>,
}

/// The same in the engine's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What is said.
    pub content: Content,
    /// How it is said.
    pub options: Options,
    /// What the request says, if it does.
    pub lane: Option<Lane>,
    /// Until when it is worth sending, if the request says so.
    pub expiry: Option<Expiry>,
}

impl TryFrom<Said> for Message {
    type Error = Problem;

    fn try_from(said: Said) -> Result<Self, Problem> {
        let alert = said.alert.unwrap_or_default().0;
        let content = Content {
            title: alert.title,
            subtitle: alert.subtitle,
            body: alert.body,
            badge: said.badge,
            sound: said.sound,
            content_available: said.content_available.unwrap_or_default(),
            data: said.data.map(|member| member.0),
        };
        let options = said.options.unwrap_or_default().0;
        let (lane, expiry) = (options.lane, expiry(&options)?);
        Ok(Self {
            content,
            options: options.into(),
            lane,
            expiry,
        })
    }
}

impl From<SendOptions> for Options {
    fn from(wire: SendOptions) -> Self {
        Self {
            priority: wire.priority,
            collapse_id: wire.collapse_id,
            push_type: wire.push_type,
            topic: wire.topic,
            thread_id: wire.thread_id,
            interruption_level: wire.interruption_level,
            relevance_score: wire.relevance_score,
            mutable_content: wire.mutable_content.unwrap_or_default(),
            category: wire.category,
            target_content_id: wire.target_content_id,
            live_activity: wire.live_activity.map(|object| object.0.into()),
            delivery: wire.delivery.unwrap_or_default(),
            apns: wire.apns.map(|Object(raw)| ApnsOverride {
                headers: raw.headers.map(|member| member.0).unwrap_or_default(),
                payload: raw.payload.map(|member| member.0).unwrap_or_default(),
            }),
            fcm: wire
                .fcm
                .and_then(|Object(raw)| raw.message)
                .map(|member| member.0),
        }
    }
}

impl From<LiveActivityBody> for LiveActivity {
    fn from(wire: LiveActivityBody) -> Self {
        Self {
            event: wire.event,
            timestamp: wire.timestamp,
            content_state: wire
                .content_state
                .map(|member| member.0)
                .unwrap_or_default(),
            stale_date: wire.stale_date,
            dismissal_date: wire.dismissal_date,
            attributes_type: wire.attributes_type,
            attributes: wire.attributes.map(|member| member.0),
        }
    }
}

fn expiry(options: &SendOptions) -> Result<Option<Expiry>, Problem> {
    let refused = |field: &'static str, problem: String| {
        Err(Problem::value(["options".into(), field.into()], problem))
    };
    match (options.ttl, &options.expires_at) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => refused("expires_at", "give ttl or expires_at, not both".to_owned()),
        (Some(seconds), None) if (1..=TTL_MAX.as_secs()).contains(&seconds) => {
            Ok(Some(Expiry::After(Duration::from_secs(seconds))))
        }
        (Some(_), None) => {
            let problem = format!("is a number of seconds from 1 to {}", TTL_MAX.as_secs());
            refused("ttl", problem)
        }
        (None, Some(text)) => match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Some(Expiry::At(at.as_millisecond()))),
            Err(_) => refused(
                "expires_at",
                "is a time as in 2030-01-15T10:30:00Z".to_owned(),
            ),
        },
    }
}
