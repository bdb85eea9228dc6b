//! A push message as its senders write it. Unknown members are ignored and `null` is the same as nothing, because published
//! clients send both.
//! It must not know what becomes of a member.

use clarion_engine::intake::request::json::{Bounded, Member, Object};
use clarion_engine::limits::BULK_ENTRIES_MAX;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Arguments of a localised text, lines of an inbox: at most this many.
pub(crate) const TEXTS_MAX: usize = 64;

/// A push message.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SendRequest {
    /// What is said.
    #[schema(value_type = MessageBody)]
    pub(crate) message: Object<MessageBody>,
    /// For whom; every registered device when absent.
    #[schema(value_type = Option<TargetBody>)]
    pub(crate) target: Option<Object<TargetBody>>,
    /// How it is said on each platform.
    #[schema(value_type = Option<SettingsBody>)]
    pub(crate) settings: Option<Object<SettingsBody>>,
}

/// What a message says.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct MessageBody {
    #[schema(value_type = Option<String>, example = "Your parcel is here")]
    pub(crate) alert: Option<Box<str>>,
    /// What the app opens.
    #[schema(value_type = Option<String>)]
    pub(crate) url: Option<Box<str>>,
}

/// For whom a message is: one of the lists, or tags or devices together with platforms.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetBody {
    #[schema(value_type = Option<Vec<String>>, max_items = 100_000)]
    pub(crate) device_ids: Option<Bounded<Box<str>, BULK_ENTRIES_MAX>>,
    #[schema(value_type = Option<Vec<String>>, max_items = 100_000)]
    pub(crate) user_ids: Option<Bounded<Box<str>, BULK_ENTRIES_MAX>>,
    /// `A` for Apple, `G` for Google.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(crate) platforms: Option<Bounded<Box<str>, TEXTS_MAX>>,
    /// Devices that subscribe to any of these tags.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(crate) tag_names: Option<Bounded<Box<str>, TEXTS_MAX>>,
}

/// Settings by platform. Those of browsers are ignored: no message goes there.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SettingsBody {
    #[schema(value_type = Option<ApnsSettings>)]
    pub(crate) apns: Option<Object<ApnsSettings>>,
    /// Google's platform, under the name that it had.
    #[schema(value_type = Option<GcmSettings>)]
    pub(crate) gcm: Option<Object<GcmSettings>>,
}

/// The app's own data: an object, or an object as JSON text.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(transparent)]
pub(crate) struct Payload(pub(crate) Member<Value>);

/// Settings for Apple's devices.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApnsSettings {
    pub(crate) badge: Option<u32>,
    pub(crate) sound: Option<String>,
    /// `DEFAULT`, `MIXED` (shown, and wakes the app) or `SILENT`.
    pub(crate) r#type: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) subtitle: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Payload>,
    pub(crate) interactive_category: Option<String>,
    /// The old name of `interactiveCategory`.
    pub(crate) category: Option<String>,
    pub(crate) ios_action_key: Option<String>,
    pub(crate) title_loc_key: Option<String>,
    pub(crate) loc_key: Option<String>,
    pub(crate) launch_image: Option<String>,
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) title_loc_args: Option<Bounded<String, TEXTS_MAX>>,
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) loc_args: Option<Bounded<String, TEXTS_MAX>>,
    pub(crate) attachment_url: Option<String>,
    pub(crate) apns_collapse_id: Option<String>,
    pub(crate) apns_thread_id: Option<String>,
    pub(crate) apns_group_summary_arg: Option<String>,
    pub(crate) apns_group_summary_arg_count: Option<u32>,
}

/// Settings for Google's devices.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GcmSettings {
    /// `DEFAULT` or `SILENT`.
    pub(crate) r#type: Option<String>,
    /// `max`, `high`, `default`, `low` or `min`.
    pub(crate) priority: Option<String>,
    /// Seconds.
    pub(crate) time_to_live: Option<u32>,
    pub(crate) collapse_key: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Payload>,
    pub(crate) sound: Option<String>,
    pub(crate) icon: Option<String>,
    /// `public`, `private` or `secret`.
    pub(crate) visibility: Option<String>,
    /// What a locked screen shows instead of a private text.
    pub(crate) redact: Option<String>,
    pub(crate) channel_id: Option<String>,
    pub(crate) sync: Option<bool>,
    pub(crate) android_title: Option<String>,
    pub(crate) group_id: Option<String>,
    pub(crate) interactive_category: Option<String>,
    #[schema(value_type = Option<LightsBody>)]
    pub(crate) lights: Option<Object<LightsBody>>,
    #[schema(value_type = Option<StyleBody>)]
    pub(crate) style: Option<Object<StyleBody>>,
}

/// The light of a phone.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LightsBody {
    /// `#AARRGGBB`, `#RRGGBB` or the name of a colour.
    pub(crate) led_argb: Option<String>,
    /// Milliseconds, as a number or as text.
    #[schema(value_type = Option<u32>)]
    pub(crate) led_on_ms: Option<NumberOrText>,
    /// Milliseconds, as a number or as text.
    #[schema(value_type = Option<u32>)]
    pub(crate) led_off_ms: Option<NumberOrText>,
}

/// A number that some clients write as text.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum NumberOrText {
    Number(u32),
    Text(String),
}

impl NumberOrText {
    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// How an expanded notification looks.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StyleBody {
    /// `bigtext_notification`, `picture_notification` or `inbox_notification`.
    pub(crate) r#type: Option<String>,
    pub(crate) title: Option<String>,
    /// Of the picture.
    pub(crate) url: Option<String>,
    /// Of a big text.
    pub(crate) text: Option<String>,
    /// Of an inbox.
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) lines: Option<Bounded<String, TEXTS_MAX>>,
}

/// A set of members, to be filled.
pub(super) type Members = Map<String, Value>;
