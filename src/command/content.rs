//! What a push says, from flags to the fields of the API.
//! It must not know to whom it goes or how it is sent.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::config::parse_duration;

/// The flags of a push, for one user and for many.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Content")]
#[command(group(
    ArgGroup::new("content")
        .args(["title", "body", "subtitle", "badge", "sound", "payload", "silent", "options"])
        .multiple(true)
        .required(true)
))]
pub(super) struct Content {
    /// Title of the alert
    #[arg(long)]
    title: Option<String>,
    /// Text of the alert
    #[arg(long)]
    body: Option<String>,
    /// Second line of the alert (Apple only)
    #[arg(long)]
    subtitle: Option<String>,
    /// Number on the app's icon
    #[arg(long, value_name = "N")]
    badge: Option<u32>,
    /// "default", or the name of a sound in the app
    #[arg(long)]
    sound: Option<String>,
    /// The app's own data: a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    payload: Option<Value>,
    /// Wake the app without an alert
    #[arg(long, conflicts_with_all = ["title", "body", "subtitle", "sound"])]
    silent: bool,
    /// Priority class: what waits behind what
    #[arg(long)]
    lane: Option<Lane>,
    /// How long it is worth delivering, as in "10m" or "24h"
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// Replaces an earlier notification with the same id on the device
    #[arg(long, value_name = "ID")]
    collapse_id: Option<String>,
    /// Any further fields of `options`, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    options: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lane {
    Transactional,
    Bulk,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err("give a JSON object, as in '{\"order\": 7}'".into())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let whole_seconds = |duration: &Duration| duration.subsec_millis() == 0 && !duration.is_zero();
    parse_duration(text)
        .filter(whole_seconds)
        .ok_or_else(|| "give whole seconds with a unit, as in \"10m\"".into())
}

impl Content {
    /// The fields of the request, without its audience.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let texts = [
            ("title", &self.title),
            ("body", &self.body),
            ("subtitle", &self.subtitle),
        ];
        let alert: Map<String, Value> = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_string(), Value::from(text.clone()?))))
            .collect();
        if !alert.is_empty() {
            fields.insert("alert".into(), Value::Object(alert));
        }
        let optional = [
            ("badge", self.badge.map(Value::from)),
            ("sound", self.sound.clone().map(Value::from)),
            ("data", self.payload.clone()),
            (
                "content_available",
                self.silent.then_some(Value::Bool(true)),
            ),
            ("options", self.options()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                fields.insert(name.into(), value);
            }
        }
        fields
    }

    fn options(&self) -> Option<Value> {
        let mut options = self.options.clone().unwrap_or_else(|| json!({}));
        let lane = self.lane.map(|lane| match lane {
            Lane::Transactional => "transactional",
            Lane::Bulk => "bulk",
        });
        let flags = [
            ("lane", lane.map(Value::from)),
            ("ttl", self.ttl.map(|ttl| Value::from(ttl.as_secs()))),
            ("collapse_id", self.collapse_id.clone().map(Value::from)),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                options[name] = value;
            }
        }
        (options != json!({})).then_some(options)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_the_documented_fields() {
        let content = Content {
            title: Some("Hello".into()),
            body: Some("World".into()),
            badge: Some(0),
            payload: Some(json!({"order": 7})),
            ttl: Some(Duration::from_secs(600)),
            options: Some(json!({"priority": "high"})),
            ..Content::default()
        };
        assert_eq!(
            Value::Object(content.fields()),
            json!({
                "alert": {"title": "Hello", "body": "World"}, "badge": 0, "data": {"order": 7},
                "options": {"ttl": 600, "priority": "high"}
            })
        );
        let silent = Content {
            silent: true,
            ..Content::default()
        };
        assert_eq!(
            Value::Object(silent.fields()),
            json!({"content_available": true})
        );
    }

    #[test]
    fn only_objects_and_whole_seconds_are_taken() {
        assert!(object("[1]").unwrap_err().contains("JSON object"));
        assert!(object("{").unwrap_err().starts_with("not JSON"));
        assert_eq!(duration("10m").unwrap(), Duration::from_secs(600));
        assert!(duration("10ms").is_err() && duration("10").is_err() && duration("0s").is_err());
    }
}
