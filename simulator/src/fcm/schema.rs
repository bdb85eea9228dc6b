//! The message of FCM HTTP v1 (projects.messages) and what Google refuses in it. Knows nothing of
//! credentials or of connections.

use serde_json::{Map, Value};

use super::errors::Refusal;

/// Octets of all data keys and values.
const DATA_OCTETS_MAX: usize = 4096;
/// Longest time to live: four weeks.
const TTL_SECONDS_MAX: u64 = 2_419_200;
/// Characters of a registration token; Google fixes neither, 140 to 200 are usual.
const DEVICE_TOKEN_CHARACTERS: std::ops::RangeInclusive<usize> = 32..=4096;
/// Ways to address a message, of which it names exactly one.
const TARGETS: [&str; 4] = ["token", "fid", "topic", "condition"];

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Number,
    /// A duration such as "3.5s".
    Duration,
    /// #rrggbb
    Color,
    /// One of some names, in either case.
    Name(&'static [&'static str]),
    Texts,
    Durations,
    /// Keys and values are strings.
    TextMap,
    /// The same, for `data`, where some keys are reserved.
    Data,
    /// Any JSON object.
    Free,
    Object(&'static [(&'static str, Kind)]),
}

use Kind::{
    Bool, Color, Data, Duration, Durations, Free, Name, Number, Object, Text, TextMap, Texts,
};

const ANALYTICS: Kind = Object(&[("analytics_label", Text)]);

const REQUEST: Kind = Object(&[("validate_only", Bool), ("message", MESSAGE)]);

const MESSAGE: Kind = Object(&[
    ("name", Text),
    ("data", Data),
    (
        "notification",
        Object(&[("title", Text), ("body", Text), ("image", Text)]),
    ),
    ("android", ANDROID),
    ("android_v2", Free),
    ("webpush", WEBPUSH),
    ("apns", APNS),
    ("fcm_options", ANALYTICS),
    ("token", Text),
    ("fid", Text),
    ("topic", Text),
    ("condition", Text),
]);

const ANDROID: Kind = Object(&[
    ("collapse_key", Text),
    ("priority", Name(&["NORMAL", "HIGH"])),
    ("ttl", Duration),
    ("restricted_package_name", Text),
    ("data", Data),
    ("notification", ANDROID_NOTIFICATION),
    ("fcm_options", ANALYTICS),
    ("direct_boot_ok", Bool),
    ("bandwidth_constrained_ok", Bool),
    ("restricted_satellite_ok", Bool),
]);

const ANDROID_NOTIFICATION: Kind = Object(&[
    ("title", Text),
    ("body", Text),
    ("icon", Text),
    ("color", Color),
    ("sound", Text),
    ("tag", Text),
    ("click_action", Text),
    ("body_loc_key", Text),
    ("body_loc_args", Texts),
    ("title_loc_key", Text),
    ("title_loc_args", Texts),
    ("channel_id", Text),
    ("ticker", Text),
    ("sticky", Bool),
    ("event_time", Text),
    ("local_only", Bool),
    (
        "notification_priority",
        Name(&[
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ]),
    ),
    ("default_sound", Bool),
    ("default_vibrate_timings", Bool),
    ("default_light_settings", Bool),
    ("vibrate_timings", Durations),
    (
        "visibility",
        Name(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"]),
    ),
    ("notification_count", Number),
    ("light_settings", LIGHT),
    ("image", Text),
    ("bypass_proxy_notification", Bool),
    (
        "proxy",
        Name(&["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"]),
    ),
]);

const LIGHT: Kind = Object(&[
    (
        "color",
        Object(&[
            ("red", Number),
            ("green", Number),
            ("blue", Number),
            ("alpha", Number),
        ]),
    ),
    ("light_on_duration", Duration),
    ("light_off_duration", Duration),
]);

const WEBPUSH: Kind = Object(&[
    ("headers", TextMap),
    ("data", Data),
    ("notification", Free),
    (
        "fcm_options",
        Object(&[("link", Text), ("analytics_label", Text)]),
    ),
]);

const APNS: Kind = Object(&[
    ("headers", TextMap),
    ("payload", Free),
    (
        "fcm_options",
        Object(&[("analytics_label", Text), ("image", Text)]),
    ),
    ("live_activity_token", Text),
]);

/// What the simulator wants to know of a message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// The registration token, or the installation id, topic or condition in its place.
    pub(crate) target: String,
    /// The target is a registration token.
    pub(crate) to_device: bool,
    /// The Android notification's tag, or else the collapse key.
    pub(crate) collapse: String,
    pub(crate) validate_only: bool,
}

/// Reads a request's body and checks it as Google does. A refused message is still read as far as possible.
pub(crate) fn read(body: &[u8]) -> (Message, Result<(), Refusal>) {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return (Message::default(), Err(Refusal::bad_json()));
    };
    let checked = check(&REQUEST, &request, "").and_then(|()| semantics(&request));
    (summary(&request), checked)
}

fn summary(request: &Value) -> Message {
    let message = &request["message"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let android = &message["android"];
    let tag = text(&android["notification"]["tag"]);
    let collapse_key = android
        .get("collapse_key")
        .or_else(|| android.get("collapseKey"))
        .map(text)
        .unwrap_or_default();
    let target = TARGETS
        .iter()
        .find_map(|target| message.get(*target))
        .map(text)
        .unwrap_or_default();
    let validate = request
        .get("validate_only")
        .or_else(|| request.get("validateOnly"));
    Message {
        target,
        to_device: message.get("token").is_some(),
        collapse: if tag.is_empty() { collapse_key } else { tag },
        validate_only: validate.and_then(Value::as_bool).unwrap_or(false),
    }
}

/// Checks a value's type, and of an object the names and types of its fields. Null means absent.
fn check(kind: &Kind, value: &Value, path: &str) -> Result<(), Refusal> {
    let good = match kind {
        _ if value.is_null() => true,
        Text => value.is_string(),
        Bool => value.is_boolean(),
        Number => {
            value.is_number()
                || value
                    .as_str()
                    .is_some_and(|text| text.parse::<f64>().is_ok())
        }
        Duration => value.as_str().is_some_and(|text| duration(text).is_some()),
        Color => value.as_str().is_some_and(color),
        Name(names) => value
            .as_str()
            .is_some_and(|text| names.iter().any(|name| name.eq_ignore_ascii_case(text))),
        Texts => value
            .as_array()
            .is_some_and(|list| list.iter().all(Value::is_string)),
        Durations => value.as_array().is_some_and(|list| {
            list.iter()
                .all(|one| one.as_str().is_some_and(|text| duration(text).is_some()))
        }),
        Free => value.is_object(),
        TextMap => return text_map(value, path).map(|_| ()),
        Data => return data(value, path),
        Object(fields) => return object(fields, value, path),
    };
    good.then_some(()).ok_or_else(|| wrong(path, value))
}

fn wrong(path: &str, value: &Value) -> Refusal {
    Refusal::field(path, format!("Invalid value at '{path}', {value}"))
}

fn object(fields: &[(&str, Kind)], value: &Value, path: &str) -> Result<(), Refusal> {
    let given = value.as_object().ok_or_else(|| wrong(path, value))?;
    for (name, value) in given {
        let known = fields
            .iter()
            .find(|(field, _)| *field == name || is_camel_of(name, field));
        let Some((field, kind)) = known else {
            let place = if path.is_empty() {
                String::new()
            } else {
                format!(" at '{path}'")
            };
            let text = format!(
                "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
            );
            return Err(Refusal::field(path, text));
        };
        let path = if path.is_empty() {
            (*field).to_owned()
        } else {
            format!("{path}.{field}")
        };
        check(kind, value, &path)?;
    }
    Ok(())
}

/// Google reads every field's name in lowerCamelCase too.
fn is_camel_of(name: &str, field: &str) -> bool {
    let mut letters = name.chars();
    let mut upper = false;
    for letter in field.chars() {
        if letter == '_' {
            upper = true;
            continue;
        }
        let wanted = if upper {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        upper = false;
        if letters.next() != Some(wanted) {
            return false;
        }
    }
    letters.next().is_none()
}

fn text_map<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, Refusal> {
    let map = value.as_object().ok_or_else(|| wrong(path, value))?;
    match map.values().position(|value| !value.is_string()) {
        None => Ok(map),
        Some(at) => {
            let value = map.values().nth(at).unwrap_or(&Value::Null);
            let path = format!("{path}[{at}].value");
            let text = format!("Invalid value at '{path}' (TYPE_STRING), {value}");
            Err(Refusal::field(path, text))
        }
    }
}

fn data(value: &Value, path: &str) -> Result<(), Refusal> {
    let map = text_map(value, path)?;
    let reserved = |key: &str| {
        matches!(key, "from" | "message_type")
            || key.starts_with("google.")
            || key.starts_with("gcm.")
    };
    if let Some(key) = map.keys().find(|key| reserved(key)) {
        return Err(Refusal::argument(
            path,
            &format!("Invalid data payload key: {key}"),
        ));
    }
    let octets: usize = map
        .iter()
        .map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len())
        .sum();
    if octets > DATA_OCTETS_MAX {
        return Err(Refusal::argument(path, "Android message is too big"));
    }
    Ok(())
}

fn semantics(request: &Value) -> Result<(), Refusal> {
    let Some(message) = request.get("message").and_then(Value::as_object) else {
        return Err(Refusal::argument("message", "Request contains no message."));
    };
    let mut targets = TARGETS
        .iter()
        .filter(|target| message.get(**target).is_some_and(|one| !one.is_null()));
    let Some(target) = targets.next() else {
        return Err(Refusal::argument(
            "message",
            "Recipient of the message is not set.",
        ));
    };
    if let Some(second) = targets.next() {
        let text = format!(
            "Invalid value at 'message' (oneof), oneof field 'target' is already set: {second}"
        );
        return Err(Refusal::field("message", text));
    }
    let value = message
        .get(*target)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let good = match *target {
        "token" => well_formed_device_token(value),
        "topic" => value
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"-_.~%".contains(&octet)),
        _ => true,
    };
    if good && !value.is_empty() {
        return Ok(());
    }
    if *target == "token" {
        return Err(Refusal::bad_device_token());
    }
    Err(Refusal::argument(
        &format!("message.{target}"),
        &format!("Malformed {target}"),
    ))
}

fn well_formed_device_token(text: &str) -> bool {
    DEVICE_TOKEN_CHARACTERS.contains(&text.len())
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b":_-".contains(&octet))
}

/// Whole seconds of a duration such as "3.5s", if it is one and not longer than four weeks.
fn duration(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.strip_suffix('s')?.split_once('.') {
        Some((whole, fraction)) if (1..=9).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (text.strip_suffix('s')?, "0"),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let seconds = whole
        .parse()
        .ok()
        .filter(|_| digits(whole) && digits(fraction))?;
    (seconds <= TTL_SECONDS_MAX).then_some(seconds)
}

fn color(text: &str) -> bool {
    text.len() == 7
        && text.starts_with('#')
        && text.bytes().skip(1).all(|octet| octet.is_ascii_hexdigit())
}
