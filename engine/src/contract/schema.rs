//! JSON Schema (2020-12) of what backends publish, generated from the types that read it.
//! It must not say anything that the reader does not do: it is looser where a schema cannot say it, never stricter.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::outcome_event::OutcomeEvent;
use crate::intake::request::{PublishRequest, VERSION};
use crate::limits::USER_ID_MAX;
use crate::model::{
    DeliveryMode, Environment, FinalState, InterruptionLevel, Lane, LiveActivityEvent, Platform,
    Priority, PushType,
};

/// Formats that mean the same in JSON Schema; the others are OpenAPI's sizes of numbers, for which there are bounds.
const FORMATS: [&str; 2] = ["date-time", "uuid"];

/// The schemas of all types of the contract by their names, with `$ref`s that begin with `prefix`.
pub(super) fn schemas(prefix: &str) -> Map<String, Value> {
    let mut collected: Vec<(String, RefOr<Schema>)> = Vec::new();
    PublishRequest::schemas(&mut collected);
    OutcomeEvent::schemas(&mut collected);
    collected.push((
        PublishRequest::name().into_owned(),
        PublishRequest::schema(),
    ));
    collected.push((OutcomeEvent::name().into_owned(), OutcomeEvent::schema()));
    let named = collected.into_iter().map(|(name, schema)| {
        // Strings, numbers and lists of them: there is nothing that JSON could refuse.
        let mut schema = serde_json::to_value(schema).unwrap_or_default();
        translate(&mut schema, prefix);
        (name, schema)
    });
    let mut schemas: Map<String, Value> = named.collect();
    tighten(&mut schemas);
    schemas
}

/// The schema of `PublishRequest` as JSON text.
#[must_use]
pub fn publish_schema() -> String {
    let mut definitions = schemas("#/$defs/");
    definitions.retain(|name, _| !["OutcomeEvent", "RecipientOutcome"].contains(&&**name));
    let own = definitions.remove("PublishRequest").unwrap_or_default();
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:clarion:publish-request:{VERSION}"),
        "title": "PublishRequest",
    });
    if let (Value::Object(document), Value::Object(own)) = (&mut document, own) {
        document.extend(own);
        document.insert("examples".to_owned(), examples());
        document.insert("$defs".to_owned(), Value::Object(definitions));
    }
    text(&document)
}

/// Requests as backends write them.
pub(super) fn examples() -> Value {
    json!([
        {
            "v": 1,
            "message_id": "order-4711-shipped",
            "user_id": "user-123",
            "alert": {"title": "Your order", "body": "It is on its way."},
            "data": {"order": 4711},
        },
        {
            "v": 1,
            "message_id": "news-2030-01-15",
            "created_at": "2030-01-15T10:30:00Z",
            "user_ids": ["user-123", "user-456"],
            "alert": {"title": "Today's news"},
            "badge": 1,
            "sound": "default",
            "options": {"ttl": 3600, "collapse_id": "news", "priority": "normal"},
        },
        {
            "v": 1,
            "message_id": "sync-17",
            "device_tokens": [
                {"platform": "ios", "token": "00".repeat(32), "environment": "production"},
            ],
            "content_available": true,
            "options": {"apns": {"payload": {"sync": 17}}},
        },
    ])
}

pub(super) fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// OpenAPI's dialect in JSON Schema's words.
fn translate(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(|one| translate(one, prefix)),
        Value::Object(members) => {
            if let Some(example) = members.remove("example") {
                members.insert("examples".to_owned(), json!([example]));
            }
            let is_known = |format: &Value| FORMATS.iter().any(|known| format == known);
            if members
                .get("format")
                .is_some_and(|format| format.is_string() && !is_known(format))
            {
                members.remove("format");
            }
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", prefix);
            }
            members.values_mut().for_each(|one| translate(one, prefix));
        }
        _ => {}
    }
}

/// What the reader knows and the derived schema does not say.
fn tighten(schemas: &mut Map<String, Value>) {
    let mut member = |name: &str, member: &str, more: Value| {
        let place = schemas
            .get_mut(name)
            .and_then(|schema| schema["properties"].get_mut(member));
        if let (Some(Value::Object(place)), Value::Object(more)) = (place, more) {
            place.extend(more);
        }
    };
    for of in ["PublishRequest", "OutcomeEvent"] {
        member(of, "v", json!({"const": VERSION}));
    }
    member("PublishRequest", "badge", json!({"maximum": u32::MAX}));
    let user = json!({"type": "string", "minLength": 1, "maxLength": USER_ID_MAX});
    member("PublishRequest", "user_ids", json!({ "items": user }));
    let words = optional_words(&[Priority::High, Priority::Normal, Priority::Low]);
    member("SendOptions", "priority", words);
    member("SendOptions", "push_type", optional_words(&PushType::ALL));
    let levels = [
        InterruptionLevel::Passive,
        InterruptionLevel::Active,
        InterruptionLevel::TimeSensitive,
        InterruptionLevel::Critical,
    ];
    member("SendOptions", "interruption_level", optional_words(&levels));
    let lanes = optional_words(&[Lane::Transactional, Lane::Bulk]);
    member("SendOptions", "lane", lanes);
    let modes = optional_words(&[DeliveryMode::AtLeastOnce, DeliveryMode::AtMostOnce]);
    member("SendOptions", "delivery", modes);
    use LiveActivityEvent::{End, Start, Update};
    member("LiveActivityBody", "event", words_of(&[Start, Update, End]));
    let platforms = [Platform::Ios, Platform::Watchos, Platform::Android];
    member("RawDeviceToken", "platform", words_of(&platforms));
    let environments = optional_words(&[Environment::Production, Environment::Sandbox]);
    member("RawDeviceToken", "environment", environments);
    let states = json!({ "enum": FinalState::ALL.map(FinalState::as_str) });
    member("RecipientOutcome", "state", states);
    member("RecipientOutcome", "platform", optional_words(&platforms));
    if let Some(Value::Object(request)) = schemas.get_mut("PublishRequest") {
        request.insert("oneOf".to_owned(), exactly_one());
    }
}

/// Exactly one of the members that say for whom it is; null is absence.
fn exactly_one() -> Value {
    let is_there =
        |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
    json!(["user_id", "user_ids", "device_tokens"].map(is_there))
}

fn words_of<T: Serialize>(values: &[T]) -> Value {
    json!({ "enum": values })
}

/// The same where null is absence.
fn optional_words<T: Serialize>(values: &[T]) -> Value {
    let mut words = words_of(values);
    if let Some(list) = words["enum"].as_array_mut() {
        list.push(Value::Null);
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::intake::validate_request;
    use crate::model::Platform;

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn references(schema: &Value, into: &mut Vec<String>) {
            match schema {
                Value::Array(list) => list.iter().for_each(|one| references(one, into)),
                Value::Object(members) => {
                    into.extend(
                        members
                            .get("$ref")
                            .and_then(Value::as_str)
                            .map(str::to_owned),
                    );
                    members.values().for_each(|one| references(one, into));
                }
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(&publish_schema()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() >= 4, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_examples_are_accepted() {
        let platforms = [Platform::Ios, Platform::Android];
        for example in examples().as_array().unwrap() {
            let body = example.to_string();
            let problems = validate_request(
                body.as_bytes(),
                Some("acme.bulk"),
                &platforms,
                1_894_703_400_000,
            );
            assert_eq!(problems, [], "{example}");
        }
    }

    #[test]
    fn words_stand_where_the_reader_knows_only_some() {
        let document: Value = serde_json::from_str(&publish_schema()).unwrap();
        for (pointer, count) in [
            ("/$defs/SendOptions/properties/priority/enum", 4),
            ("/$defs/SendOptions/properties/push_type/enum", 12),
            ("/$defs/SendOptions/properties/interruption_level/enum", 5),
            ("/$defs/SendOptions/properties/lane/enum", 3),
            ("/$defs/SendOptions/properties/delivery/enum", 3),
            ("/$defs/LiveActivityBody/properties/event/enum", 3),
            ("/$defs/RawDeviceToken/properties/platform/enum", 3),
            ("/$defs/RawDeviceToken/properties/environment/enum", 3),
            ("/oneOf", 3),
        ] {
            let words = document.pointer(pointer).and_then(Value::as_array);
            assert_eq!(words.map(Vec::len), Some(count), "{pointer}");
        }
        assert_eq!(document["properties"]["v"]["const"], VERSION);
        assert_eq!(document["required"], json!(["v", "message_id"]));
    }
}
