//! Settings for Apple's devices in Apple's words. It must not know Google's.

use clarion_engine::intake::request::Problem;
use clarion_engine::model::{ApnsOverride, MessageId};
use serde_json::Value;

use super::super::wire::{ApnsSettings, Members, MessageBody};
use super::{payload, place, put, put_object, word};

/// How a message is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Default,
    /// Shown, and wakes the app.
    Mixed,
    /// Wakes the app and shows nothing.
    Silent,
}

const KINDS: [(&str, Kind); 3] = [
    ("DEFAULT", Kind::Default),
    ("MIXED", Kind::Mixed),
    ("SILENT", Kind::Silent),
];

/// The message for Apple; `until` is when Apple may give it up, Unix seconds.
pub(super) fn map(
    said: &MessageBody,
    settings: ApnsSettings,
    (id, until): (MessageId, Option<i64>),
) -> Result<ApnsOverride, Problem> {
    let kind = word(settings.r#type.as_deref(), &KINDS, place("apns", "type"))?;
    let kind = kind.unwrap_or(Kind::Default);
    let mut body = Members::new();
    let own = payload(settings.payload.clone(), id, place("apns", "payload"))?;
    put(&mut body, "payload", Some(own));
    put(&mut body, "nid", Some(id.as_str()));
    put(&mut body, "url", said.url.as_deref());
    put(
        &mut body,
        "attachment-url",
        settings.attachment_url.as_deref(),
    );
    let collapse_id = settings.apns_collapse_id.clone();
    let (aps, is_shown) = aps(said, settings, kind);
    put_object(&mut body, "aps", aps);
    let push_type = if is_shown { "alert" } else { "background" };
    let headers = [
        ("apns-push-type", Some(push_type.to_owned())),
        ("apns-collapse-id", collapse_id),
        ("apns-expiration", until.map(|until| until.to_string())),
    ];
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(ApnsOverride {
        headers: headers.collect(),
        payload: body,
    })
}

/// `aps`, and whether somebody would notice.
fn aps(said: &MessageBody, settings: ApnsSettings, kind: Kind) -> (Members, bool) {
    let mut aps = Members::new();
    if kind != Kind::Silent {
        let category = settings.interactive_category.clone();
        put(&mut aps, "category", category.or(settings.category.clone()));
        put(&mut aps, "thread-id", settings.apns_thread_id.clone());
        put(&mut aps, "badge", settings.badge);
        put(&mut aps, "sound", settings.sound.clone());
        let has_attachment = settings.attachment_url.is_some();
        put(&mut aps, "mutable-content", has_attachment.then_some(1));
        put_object(&mut aps, "alert", alert(said, settings));
    }
    let is_shown = ["alert", "badge", "sound"]
        .iter()
        .any(|name| aps.contains_key(*name));
    if !is_shown || kind == Kind::Mixed {
        put(&mut aps, "content-available", Some(1));
    }
    (aps, is_shown)
}

fn alert(said: &MessageBody, settings: ApnsSettings) -> Members {
    let mut alert = Members::new();
    put(&mut alert, "body", said.alert.as_deref());
    for (name, value) in [
        ("title", settings.title),
        ("subtitle", settings.subtitle),
        ("action-loc-key", settings.ios_action_key),
        ("title-loc-key", settings.title_loc_key),
        ("loc-key", settings.loc_key),
        ("launch-image", settings.launch_image),
        ("summary-arg", settings.apns_group_summary_arg),
    ] {
        put(&mut alert, name, value);
    }
    for (name, list) in [
        ("title-loc-args", settings.title_loc_args),
        ("loc-args", settings.loc_args),
    ] {
        put(&mut alert, name, list.map(|list| Value::from(list.0)));
    }
    put(
        &mut alert,
        "summary-arg-count",
        settings.apns_group_summary_arg_count,
    );
    alert
}
