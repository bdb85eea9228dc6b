//! Settings for Google's devices: Google's own members, which every app shows, and the data that IBM's client SDK builds its
//! notification from. It must not know Apple's.

use clarion_engine::intake::request::Problem;
use clarion_engine::limits::FCM_PAYLOAD_MAX;
use clarion_engine::model::MessageId;
use serde_json::{Value, json};

use super::super::wire::{GcmSettings, LightsBody, Members, MessageBody, StyleBody};
use super::{payload, place, put, put_object, word};

const KINDS: [(&str, bool); 2] = [("DEFAULT", false), ("SILENT", true)];

/// Words for a notification's urgency: the SDK's, Google's for the notification, and Google's for the message.
type Urgency = (&'static str, &'static str, &'static str);

const PRIORITIES: [(&str, Urgency); 5] = [
    ("max", ("max", "PRIORITY_MAX", "HIGH")),
    ("high", ("high", "PRIORITY_HIGH", "HIGH")),
    ("default", ("default", "PRIORITY_DEFAULT", "NORMAL")),
    ("low", ("low", "PRIORITY_LOW", "NORMAL")),
    ("min", ("min", "PRIORITY_MIN", "NORMAL")),
];

const VISIBILITIES: [(&str, (&str, &str)); 3] = [
    ("public", ("public", "PUBLIC")),
    ("private", ("private", "PRIVATE")),
    ("secret", ("secret", "SECRET")),
];

const STYLES: [(&str, &str); 3] = [
    ("bigtext_notification", "bigtext_notification"),
    ("picture_notification", "picture_notification"),
    ("inbox_notification", "inbox_notification"),
];

/// Colours by name, red, green and blue from 0 to 255: those that Android knows.
const COLOURS: [(&str, [u8; 3]); 12] = [
    ("black", [0, 0, 0]),
    ("darkgray", [68, 68, 68]),
    ("gray", [136, 136, 136]),
    ("lightgray", [204, 204, 204]),
    ("white", [255, 255, 255]),
    ("red", [255, 0, 0]),
    ("green", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
    ("transparent", [0, 0, 0]),
];

/// The words of a message, read.
struct Words {
    is_silent: bool,
    urgency: Option<Urgency>,
    visibility: Option<(&'static str, &'static str)>,
    style: Option<&'static str>,
}

impl Words {
    fn of(settings: &GcmSettings) -> Result<Self, Problem> {
        let at = |member| place("gcm", member);
        let style = settings.style.as_ref();
        let style = style.and_then(|style| style.0.r#type.as_deref());
        let visibility = settings.visibility.as_deref();
        Ok(Self {
            is_silent: word(settings.r#type.as_deref(), &KINDS, at("type"))?.unwrap_or(false),
            urgency: word(settings.priority.as_deref(), &PRIORITIES, at("priority"))?,
            visibility: word(visibility, &VISIBILITIES, at("visibility"))?,
            style: word(style, &STYLES, at("style"))?,
        })
    }
}

/// The message for Google, without its target.
pub(super) fn map(
    said: &MessageBody,
    settings: GcmSettings,
    id: MessageId,
) -> Result<Members, Problem> {
    let words = Words::of(&settings)?;
    let mut data = data(said, &settings, &words);
    put(&mut data, "nid", Some(id.as_str()));
    let own = payload(settings.payload.clone(), id, place("gcm", "payload"))?;
    put(&mut data, "payload", Some(own));

    let mut android = Members::new();
    put(&mut android, "collapse_key", settings.collapse_key.clone());
    let ttl = settings.time_to_live.map(|seconds| format!("{seconds}s"));
    put(&mut android, "ttl", ttl);
    let shown = said.alert.is_some() && !words.is_silent;
    let usual = if shown { "HIGH" } else { "NORMAL" };
    let priority = words.urgency.map_or(usual, |(_, _, word)| word);
    put(&mut android, "priority", Some(priority));

    let mut message = Members::new();
    if shown {
        let mut notification = Members::new();
        put(&mut notification, "title", settings.android_title.clone());
        put(&mut notification, "body", said.alert.as_deref());
        put_object(&mut message, "notification", notification);
        put_object(&mut android, "notification", details(settings, &words));
    }
    put_object(&mut message, "android", android);
    if is_too_large(&message, &data) {
        // Google shows the text; a second copy is all that it would be refused for.
        data.remove("alert");
        data.remove("androidTitle");
    }
    put_object(&mut message, "data", data);
    Ok(message)
}

/// What the app gets, under the names that IBM's SDK for Android reads.
fn data(said: &MessageBody, settings: &GcmSettings, words: &Words) -> Members {
    let mut data = Members::new();
    put(&mut data, "alert", said.alert.as_deref());
    put(&mut data, "url", said.url.as_deref());
    let kind = if words.is_silent { "SILENT" } else { "DEFAULT" };
    put(&mut data, "type", Some(kind));
    put(&mut data, "priority", words.urgency.map(|(word, ..)| word));
    put(
        &mut data,
        "visibility",
        words.visibility.map(|(word, _)| word),
    );
    let style = settings.style.as_ref();
    let style = style.map(|style| style_text(&style.0, words.style));
    put(&mut data, "style", style);
    words_of_the_sdk(settings, &mut data);
    data
}

/// Settings that go through as they are.
fn words_of_the_sdk(settings: &GcmSettings, data: &mut Members) {
    for (name, value) in [
        ("androidTitle", &settings.android_title),
        ("sound", &settings.sound),
        ("icon", &settings.icon),
        ("redact", &settings.redact),
        ("groupId", &settings.group_id),
        ("interactiveCategory", &settings.interactive_category),
    ] {
        put(data, name, value.as_deref());
    }
    put(data, "bridge", settings.sync.map(|sync| sync.to_string()));
    let lights = settings
        .lights
        .as_ref()
        .map(|lights| lights_text(&lights.0));
    put(data, "lights", lights);
}

/// Google's own words for how a notification looks.
fn details(settings: GcmSettings, words: &Words) -> Members {
    let mut details = Members::new();
    put(&mut details, "sound", settings.sound);
    put(&mut details, "icon", settings.icon);
    put(&mut details, "channel_id", settings.channel_id);
    let is_local = settings.sync == Some(false);
    put(&mut details, "local_only", is_local.then_some(true));
    let lights = settings.lights.and_then(|lights| light_settings(&lights.0));
    put(&mut details, "light_settings", lights);
    let urgency = words.urgency.map(|(_, word, _)| word);
    put(&mut details, "notification_priority", urgency);
    put(
        &mut details,
        "visibility",
        words.visibility.map(|(_, word)| word),
    );
    let is_picture = words.style == Some("picture_notification");
    let picture = settings.style.filter(|_| is_picture);
    put(&mut details, "image", picture.and_then(|style| style.0.url));
    details
}

fn lights_text(lights: &LightsBody) -> String {
    let mut text = Members::new();
    put(&mut text, "ledARGB", lights.led_argb.as_deref());
    let number = |number: &super::super::wire::NumberOrText| number.number();
    put(
        &mut text,
        "ledOnMS",
        lights.led_on_ms.as_ref().and_then(number),
    );
    put(
        &mut text,
        "ledOffMS",
        lights.led_off_ms.as_ref().and_then(number),
    );
    Value::Object(text).to_string()
}

/// Google wants all three, or none.
fn light_settings(lights: &LightsBody) -> Option<Value> {
    let [alpha, red, green, blue] = colour(lights.led_argb.as_deref()?)?;
    let part = |part: u8| f64::from(part) / 255.0;
    let duration = |millis: u32| format!("{}.{:03}s", millis / 1_000, millis % 1_000);
    Some(json!({
        "color": {
            "red": part(red), "green": part(green), "blue": part(blue), "alpha": part(alpha),
        },
        "light_on_duration": duration(lights.led_on_ms.as_ref()?.number()?),
        "light_off_duration": duration(lights.led_off_ms.as_ref()?.number()?),
    }))
}

/// Alpha, red, green and blue.
fn colour(text: &str) -> Option<[u8; 4]> {
    if let Some(digits) = text.strip_prefix('#') {
        let number = u32::from_str_radix(digits, 16).ok()?;
        let [alpha, red, green, blue] = number.to_be_bytes();
        return match digits.len() {
            6 => Some([u8::MAX, red, green, blue]),
            8 => Some([alpha, red, green, blue]),
            _ => None,
        };
    }
    let named = |(name, _): &&(&str, [u8; 3])| name.eq_ignore_ascii_case(text);
    let (name, [red, green, blue]) = COLOURS.iter().find(named)?;
    let alpha = if *name == "transparent" { 0 } else { u8::MAX };
    Some([alpha, *red, *green, *blue])
}

fn style_text(style: &StyleBody, style_type: Option<&'static str>) -> String {
    let mut text = Members::new();
    put(&mut text, "type", style_type);
    put(&mut text, "title", style.title.as_deref());
    put(&mut text, "url", style.url.as_deref());
    put(&mut text, "text", style.text.as_deref());
    let lines = style
        .lines
        .as_ref()
        .map(|lines| Value::from(lines.0.clone()));
    put(&mut text, "lines", lines);
    Value::Object(text).to_string()
}

/// As Google counts: the texts of the notification, and names and texts of the data.
fn is_too_large(message: &Members, data: &Members) -> bool {
    let texts = |members: &Members| -> usize {
        let texts = members.values().filter_map(Value::as_str);
        texts.map(str::len).sum()
    };
    let names: usize = data.keys().map(String::len).sum();
    let shown = message.get("notification").and_then(Value::as_object);
    shown.map_or(0, texts) + names + texts(data) > FCM_PAYLOAD_MAX
}
