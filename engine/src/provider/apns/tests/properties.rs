//! What holds for every payload: a2's words, JSON, and the limit.
//! It must not know headers.

use a2::request::payload::PayloadLike;
use a2::{DefaultNotificationBuilder, NotificationBuilder, NotificationOptions};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{encoded, payload};
use crate::model::{Content, Options, PushType};
use crate::provider::EncodeError;

fn words() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(".{0,40}")
}

proptest! {
    /// What a2 can say, we say in the same words, but for its constant `mutable-content: 0`.
    #[test]
    fn our_json_is_a2s_json(
        (title, subtitle, body, sound) in (words(), words(), words(), words()),
        (category, thread_id) in (words(), words()),
        badge: Option<u32>,
        (content_available, mutable_content) in (any::<bool>(), any::<bool>()),
    ) {
        let mut theirs = DefaultNotificationBuilder::new();
        macro_rules! give {
            ($($field:ident),*) => {
                $(if let Some(value) = &$field { theirs = theirs.$field(value.as_str()); })*
            };
        }
        give!(title, subtitle, body, sound, category, thread_id);
        if let Some(badge) = badge {
            theirs = theirs.badge(badge);
        }
        if content_available {
            theirs = theirs.content_available();
        }
        if mutable_content {
            theirs = theirs.mutable_content();
        }
        let theirs = theirs.build("token", NotificationOptions::default());
        let mut theirs: Value = serde_json::from_str(&theirs.to_json_string().unwrap()).unwrap();
        if theirs["aps"]["mutable-content"] == 0 {
            theirs["aps"].as_object_mut().unwrap().remove("mutable-content");
        }
        let options = Options {
            category, thread_id, mutable_content,
            push_type: Some(PushType::Alert),
            ..Options::default()
        };
        let content = Content {
            title, subtitle, body, badge, sound, content_available, data: None,
        };
        prop_assert_eq!(payload(content, options), theirs);
    }

    #[test]
    fn whatever_is_said_the_payload_is_json_within_its_limit(
        (title, times) in (".{0,300}", 1usize..12),
        body in proptest::option::of(".{0,300}"),
        key in ".{1,20}",
        value in ".{0,100}",
    ) {
        let title = title.repeat(times);
        let data = Map::from_iter([(key.clone(), Value::from(value.clone()))]);
        let content = Content { title: Some(title.clone()), body, data: Some(data), ..Content::default() };
        match encoded(content, Options::default()) {
            Ok(prepared) => {
                prop_assert!(prepared.payload.len() <= 4_096);
                let found: Value = serde_json::from_slice(&prepared.payload).unwrap();
                prop_assert_eq!(&found["aps"]["alert"]["title"], &Value::from(title));
                prop_assert_eq!(&found[&key], &Value::from(value));
            }
            Err(EncodeError::PayloadTooLarge { bytes, limit, .. }) => prop_assert!(bytes > limit),
            Err(EncodeError::ReservedKey { .. }) => prop_assert_eq!(key, "aps"),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
