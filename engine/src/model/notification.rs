//! What shall be said: content, options and the notification that carries both. Immutable once accepted.

use std::collections::BTreeMap;

use clarion_auth::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Millis, NotificationId};

/// Priority class of a notification: which ready-queue it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Goes first, has reserved stream slots and rate.
    Transactional,
    /// Campaigns.
    Bulk,
}

impl Lane {
    /// The word on the wire and in queue names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Bulk => "bulk",
        }
    }

    /// The lane of a word on the wire.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Transactional, Self::Bulk]
            .into_iter()
            .find(|lane| lane.as_str() == word)
    }
}

/// One accepted notification, without its audience.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Priority class.
    pub lane: Lane,
    /// When it was accepted.
    pub created_at: Millis,
    /// Nothing of it is sent after this instant.
    pub expires_at: Millis,
    /// What is said.
    pub content: Content,
    /// How it is said.
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub options: Options,
}

/// What a notification says; the fields of the Notify API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// Alert title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Alert subtitle (Apple only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtitle: Option<String>,
    /// Alert body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Number on the app's icon; `notification_count` on Android.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub badge: Option<u32>,
    /// `default` or the name of a sound in the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<String>,
    /// Wakes the app without an alert.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub content_available: bool,
    /// The app's own data: top-level keys beside `aps`, and `data` strings for FCM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Map<String, Value>>,
}

impl Content {
    /// Whether a person would see something.
    #[must_use]
    pub fn has_alert(&self) -> bool {
        self.title.is_some() || self.subtitle.is_some() || self.body.is_some()
    }
}

/// How urgently a provider is asked to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// `apns-priority: 10`, FCM `HIGH`.
    High,
    /// `apns-priority: 5`, FCM `NORMAL`.
    Normal,
    /// `apns-priority: 1`, FCM `NORMAL`.
    Low,
}

/// Apple's `apns-push-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are Apple's own words")]
pub enum PushType {
    Alert,
    Background,
    Voip,
    Complication,
    Fileprovider,
    Mdm,
    Location,
    Liveactivity,
    Pushtotalk,
    Widgets,
    Controls,
}

impl PushType {
    /// Every push type that Apple documents.
    pub const ALL: [Self; 11] = [
        Self::Alert,
        Self::Background,
        Self::Voip,
        Self::Complication,
        Self::Fileprovider,
        Self::Mdm,
        Self::Location,
        Self::Liveactivity,
        Self::Pushtotalk,
        Self::Widgets,
        Self::Controls,
    ];

    /// The value of the `apns-push-type` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
            Self::Voip => "voip",
            Self::Complication => "complication",
            Self::Fileprovider => "fileprovider",
            Self::Mdm => "mdm",
            Self::Location => "location",
            Self::Liveactivity => "liveactivity",
            Self::Pushtotalk => "pushtotalk",
            Self::Widgets => "widgets",
            Self::Controls => "controls",
        }
    }

    /// What Apple appends to the bundle id to form the topic of this type.
    #[must_use]
    pub fn topic_suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background | Self::Mdm => "",
            Self::Voip => ".voip",
            Self::Complication => ".complication",
            Self::Fileprovider => ".pushkit.fileprovider",
            Self::Location => ".location-query",
            Self::Liveactivity => ".push-type.liveactivity",
            Self::Pushtotalk => ".voip-ptt",
            Self::Widgets => ".push-type.widgets",
            Self::Controls => ".push-type.controls",
        }
    }
}

/// Apple's `interruption-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants are Apple's own words")]
pub enum InterruptionLevel {
    Passive,
    Active,
    TimeSensitive,
    Critical,
}

/// How often a push may reach the provider when its answer is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// An unanswered request is tried again with the same id.
    #[default]
    AtLeastOnce,
    /// An unanswered request ends as `unknown`.
    AtMostOnce,
}

/// Apple's Live Activity event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are Apple's own words")]
pub enum LiveActivityEvent {
    Start,
    Update,
    End,
}

/// The `aps` fields of a Live Activity push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveActivity {
    /// start, update or end.
    pub event: LiveActivityEvent,
    /// Orders the updates, Unix seconds; the time of acceptance when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// `content-state`
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub content_state: Map<String, Value>,
    /// `stale-date`, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_date: Option<i64>,
    /// `dismissal-date`, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dismissal_date: Option<i64>,
    /// `attributes-type`, for a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes_type: Option<String>,
    /// `attributes`, for a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Map<String, Value>>,
}

/// Raw APNs headers and payload, merged last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApnsOverride {
    /// `apns-*` headers; the ids and the authorization are ours.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Members merged over the payload (deep in `aps`).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub payload: Map<String, Value>,
}

/// How a notification is said, beyond the documented fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Urgency; by default high for alerts and normal for background pushes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// `apns-collapse-id`, and FCM's `collapse_key` and `tag`; by default derived per recipient for alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collapse_id: Option<String>,
    /// `apns-push-type`; by default alert or background, as the content says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_type: Option<PushType>,
    /// `apns-topic`; by default the tenant's bundle id and the push type's suffix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// `thread-id`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// `interruption-level`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interruption_level: Option<InterruptionLevel>,
    /// `relevance-score`, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance_score: Option<f64>,
    /// `mutable-content`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mutable_content: bool,
    /// `category`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// `target-content-id`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_content_id: Option<String>,
    /// Live Activity fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_activity: Option<LiveActivity>,
    /// What happens to an unanswered request.
    pub delivery: DeliveryMode,
    /// Raw APNs, merged last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apns: Option<ApnsOverride>,
    /// Raw FCM `message`, merged last; its target is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fcm: Option<Map<String, Value>>,
}

impl Options {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self == &Self::default()
    }
}
