//! Each documented setting, from what a sender writes to what Apple and Google get.

use serde_json::json;

use super::*;

const NOW: Millis = 1_768_473_000_000;

fn read(message: &Value) -> (MessageBody, SettingsBody) {
    // As text, as it comes.
    let text = message.to_string();
    let settings = message.get("settings").map(Value::to_string);
    let settings = settings.map(|text| serde_json::from_str(&text).unwrap());
    (
        serde_json::from_str(&text).unwrap(),
        settings.unwrap_or_default(),
    )
}

fn try_map(message: Value) -> Result<Mapped, Problem> {
    let (said, settings) = read(&message);
    let sending = Sending {
        id: "AbCd1234".parse().unwrap(),
        now: NOW,
        usual_life: Duration::from_secs(3_600),
    };
    super::message(&said, &settings, sending)
}

fn map(message: Value) -> (ApnsOverrideParts, Value) {
    let options = try_map(message).unwrap().options;
    let apns = options.apns.unwrap();
    let headers = serde_json::to_value(apns.headers).unwrap();
    (
        (headers, Value::Object(apns.payload)),
        Value::Object(options.fcm.unwrap()),
    )
}

/// Headers and payload.
type ApnsOverrideParts = (Value, Value);

fn apns(settings: Value) -> ApnsOverrideParts {
    map(json!({"alert": "Hi", "url": "u", "settings": {"apns": settings}})).0
}

fn gcm(settings: Value) -> Value {
    map(json!({"alert": "Hi", "url": "u", "settings": {"gcm": settings}})).1
}

#[test]
fn a_plain_message_is_shown_on_both_and_knows_its_id() {
    let ((headers, payload), fcm) = map(json!({"alert": "Hi", "url": "https://x"}));
    assert_eq!(headers, json!({"apns-push-type": "alert"}));
    let expected = json!({
        "aps": {"alert": {"body": "Hi"}}, "url": "https://x", "nid": "AbCd1234",
        "payload": "{\"nid\":\"AbCd1234\"}",
    });
    assert_eq!(payload, expected);
    let expected = json!({
        "notification": {"body": "Hi"},
        "android": {"priority": "HIGH"},
        "data": {
            "alert": "Hi", "url": "https://x", "nid": "AbCd1234", "type": "DEFAULT",
            "payload": "{\"nid\":\"AbCd1234\"}",
        },
    });
    assert_eq!(fcm, expected);
}

/// A setting, its place and what stands there.
const APPLES: &str = r#"
{"badge": 0} | /aps/badge | 0
{"sound": "s.caf"} | /aps/sound | "s.caf"
{"title": "T"} | /aps/alert/title | "T"
{"subtitle": "S"} | /aps/alert/subtitle | "S"
{"interactiveCategory": "C"} | /aps/category | "C"
{"category": "old"} | /aps/category | "old"
{"category": "old", "interactiveCategory": "C"} | /aps/category | "C"
{"iosActionKey": "A"} | /aps/alert/action-loc-key | "A"
{"titleLocKey": "K"} | /aps/alert/title-loc-key | "K"
{"locKey": "K"} | /aps/alert/loc-key | "K"
{"launchImage": "I"} | /aps/alert/launch-image | "I"
{"titleLocArgs": ["a", "b"]} | /aps/alert/title-loc-args | ["a", "b"]
{"locArgs": ["a"]} | /aps/alert/loc-args | ["a"]
{"attachmentUrl": "https://i"} | /attachment-url | "https://i"
{"attachmentUrl": "https://i"} | /aps/mutable-content | 1
{"apnsThreadId": "t"} | /aps/thread-id | "t"
{"apnsGroupSummaryArg": "g"} | /aps/alert/summary-arg | "g"
{"apnsGroupSummaryArgCount": 3} | /aps/alert/summary-arg-count | 3
{"payload": {"a": [1]}} | /payload | "{\"a\":[1],\"nid\":\"AbCd1234\"}"
{"payload": "{\"a\": 1}"} | /payload | "{\"a\":1,\"nid\":\"AbCd1234\"}"
"#;

/// The rows of a table: settings, a place, what stands there.
fn rows(table: &str) -> impl Iterator<Item = (Value, &str, Value)> {
    table.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut columns = line.split(" | ");
        let [settings, place, expected] = [(); 3].map(|()| columns.next().unwrap());
        let read = |text| serde_json::from_str(text).unwrap();
        (read(settings), place, read(expected))
    })
}

#[test]
fn every_setting_of_apples_has_its_place() {
    for (settings, place, expected) in rows(APPLES) {
        let (headers, payload) = apns(settings.clone());
        assert_eq!(payload.pointer(place), Some(&expected), "{settings}");
        assert_eq!(payload["aps"]["alert"]["body"], "Hi", "{settings}");
        assert_eq!(headers, json!({"apns-push-type": "alert"}), "{settings}");
    }
    let (headers, _) = apns(json!({"apnsCollapseId": "c1"}));
    let expected = json!({"apns-push-type": "alert", "apns-collapse-id": "c1"});
    assert_eq!(headers, expected);
}

#[test]
fn apples_types_show_wake_or_both() {
    for (word, push_type, wakes, shows) in [
        ("DEFAULT", "alert", None, true),
        ("default", "alert", None, true),
        ("MIXED", "alert", Some(1), true),
        ("Silent", "background", Some(1), false),
    ] {
        let (headers, payload) = apns(json!({"type": word, "badge": 1, "sound": "s"}));
        assert_eq!(headers, json!({"apns-push-type": push_type}), "{word}");
        let aps = &payload["aps"];
        assert_eq!(
            aps.get("content-available"),
            wakes.map(Value::from).as_ref(),
            "{word}"
        );
        assert_eq!(aps.get("alert").is_some(), shows, "{word}");
        assert_eq!(aps.get("badge").is_some(), shows, "{word}");
        assert_eq!(payload["url"], "u", "{word}");
    }
    // Nothing that anybody would notice goes in the background, whatever it is called.
    let ((headers, payload), _) = map(json!({"url": "u"}));
    assert_eq!(headers, json!({"apns-push-type": "background"}));
    assert_eq!(payload["aps"], json!({"content-available": 1}));
}

/// A setting, its place and what stands there.
const GOOGLES: &str = r#"
{"priority": "MAX"} | /android/priority | "HIGH"
{"priority": "max"} | /android/notification/notification_priority | "PRIORITY_MAX"
{"priority": "High"} | /data/priority | "high"
{"priority": "default"} | /android/priority | "NORMAL"
{"priority": "low"} | /android/notification/notification_priority | "PRIORITY_LOW"
{"priority": "min"} | /android/priority | "NORMAL"
{"timeToLive": 60} | /android/ttl | "60s"
{"collapseKey": "k"} | /android/collapse_key | "k"
{"payload": {"a": 1}} | /data/payload | "{\"a\":1,\"nid\":\"AbCd1234\"}"
{"payload": "{}"} | /data/payload | "{\"nid\":\"AbCd1234\"}"
{"sound": "s"} | /android/notification/sound | "s"
{"sound": "s"} | /data/sound | "s"
{"icon": "i"} | /android/notification/icon | "i"
{"icon": "i"} | /data/icon | "i"
{"visibility": "PRIVATE"} | /android/notification/visibility | "PRIVATE"
{"visibility": "secret"} | /data/visibility | "secret"
{"redact": "r"} | /data/redact | "r"
{"channelId": "c"} | /android/notification/channel_id | "c"
{"sync": false} | /android/notification/local_only | true
{"sync": true} | /data/bridge | "true"
{"androidTitle": "T"} | /notification/title | "T"
{"androidTitle": "T"} | /data/androidTitle | "T"
{"groupId": "g"} | /data/groupId | "g"
{"interactiveCategory": "c"} | /data/interactiveCategory | "c"
{"style": {"type": "PICTURE_NOTIFICATION", "url": "https://p"}} | /android/notification/image | "https://p"
{"style": {"type": "PICTURE_NOTIFICATION"}} | /data/style | "{\"type\":\"picture_notification\"}"
{"style": {"lines": ["1"]}} | /data/style | "{\"lines\":[\"1\"]}"
{"style": {"type": "Inbox_Notification"}} | /data/style | "{\"type\":\"inbox_notification\"}"
{"style": {"text": "x"}} | /data/style | "{\"text\":\"x\"}"
{"style": {"type": "BIGTEXT_NOTIFICATION"}} | /data/style | "{\"type\":\"bigtext_notification\"}"
{"style": {"title": "t"}} | /data/style | "{\"title\":\"t\"}"
"#;

#[test]
fn every_setting_of_googles_has_its_place() {
    for (settings, place, expected) in rows(GOOGLES) {
        let message = gcm(settings.clone());
        assert_eq!(message.pointer(place), Some(&expected), "{settings}");
        assert_eq!(message["notification"]["body"], "Hi", "{settings}");
    }
    // Google ended it in 2016.
    let ended = gcm(json!({"delayWhileIdle": true}));
    assert_eq!(ended.pointer("/android/notification"), None);
}

#[test]
fn lights_take_numbers_and_texts_and_a_colour_in_any_of_its_forms() {
    let half = |colour: &str| json!({"ledArgb": colour, "ledOnMs": 1500, "ledOffMs": "250"});
    for (colour, red, alpha) in [
        ("#ff0000", 1.0, 1.0),
        ("RED", 1.0, 1.0),
        ("#00FF0000", 1.0, 0.0),
    ] {
        let message = gcm(json!({"lights": half(colour)}));
        let lights = &message["android"]["notification"]["light_settings"];
        assert_eq!(lights["color"]["red"], red, "{colour}");
        assert_eq!(lights["color"]["alpha"], alpha, "{colour}");
        assert_eq!(lights["light_on_duration"], "1.500s");
        assert_eq!(lights["light_off_duration"], "0.250s");
        let text = format!(r#"{{"ledARGB":"{colour}","ledOffMS":250,"ledOnMS":1500}}"#);
        assert_eq!(message["data"]["lights"], text);
    }
    // Google wants all of it or none; the app gets what there is.
    for lights in [
        json!({"ledArgb": "mauve", "ledOnMs": 1, "ledOffMs": 1}),
        json!({"ledOnMs": "x"}),
    ] {
        let message = gcm(json!({"lights": lights}));
        assert_eq!(
            message.pointer("/android/notification/light_settings"),
            None,
            "{lights}"
        );
        assert!(message["data"]["lights"].is_string());
    }
}

#[test]
fn a_silent_message_is_data_only() {
    let message = gcm(json!({"type": "silent", "sound": "s", "payload": {"a": 1}}));
    assert_eq!(message.get("notification"), None);
    assert_eq!(message["android"], json!({"priority": "NORMAL"}));
    assert_eq!(message["data"]["type"], "SILENT");
    assert_eq!(message["data"]["alert"], "Hi");
    // Apple's type is Apple's alone.
    let settings = json!({"apns": {"type": "SILENT"}});
    let ((headers, _), fcm) = map(json!({"alert": "Hi", "settings": settings}));
    assert_eq!(headers, json!({"apns-push-type": "background"}));
    assert_eq!(fcm["notification"]["body"], "Hi");
}

#[test]
fn nulls_unknown_members_and_browsers_are_as_if_they_were_not_there() {
    let settings = json!({
        "apns": {"badge": null, "type": null, "timeToLive": 5, "payload": null},
        "gcm": {"priority": null, "androidtitle": "x", "lights": null, "style": null},
        "chromeWeb": {"title": 7}, "safariWeb": null, "firefoxWeb": {}, "chromeAppExt": [],
    });
    let with = map(json!({"alert": "Hi", "url": null, "extra": 1, "settings": settings}));
    assert_eq!(with, map(json!({"alert": "Hi"})));
}

#[test]
fn a_time_to_live_bounds_the_engine_and_google_while_apple_keeps_its_copy() {
    let mapped = |seconds: u32| {
        try_map(json!({"alert": "Hi", "settings": {"gcm": {"timeToLive": seconds}}})).unwrap()
    };
    let minute = mapped(60);
    assert_eq!(minute.expiry, Some(Expiry::After(Duration::from_secs(60))));
    let until = &minute.options.apns.unwrap().headers["apns-expiration"];
    assert_eq!(until, &(NOW / 1_000 + 3_600).to_string());
    // Google delivers it now or never; the engine must still be able to hand it over.
    assert_eq!(mapped(0).expiry, None);
    assert_eq!(mapped(0).options.fcm.unwrap()["android"]["ttl"], "0s");
    assert_eq!(mapped(2_419_200).expiry, Some(Expiry::After(TTL_MAX)));
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place() {
    for (settings, at) in [
        (json!({"apns": {"type": "LOUD"}}), "settings.apns.type"),
        (json!({"apns": {"payload": [1]}}), "settings.apns.payload"),
        (json!({"apns": {"payload": "{"}}), "settings.apns.payload"),
        (json!({"apns": {"payload": "7"}}), "settings.apns.payload"),
        (json!({"gcm": {"type": "MIXED"}}), "settings.gcm.type"),
        (
            json!({"gcm": {"priority": "urgent"}}),
            "settings.gcm.priority",
        ),
        (
            json!({"gcm": {"visibility": "hidden"}}),
            "settings.gcm.visibility",
        ),
        (
            json!({"gcm": {"style": {"type": "comic"}}}),
            "settings.gcm.style",
        ),
        (
            json!({"gcm": {"timeToLive": 2_419_201}}),
            "settings.gcm.timeToLive",
        ),
        (json!({"gcm": {"payload": true}}), "settings.gcm.payload"),
    ] {
        let refused = try_map(json!({"alert": "Hi", "settings": settings})).unwrap_err();
        assert_eq!(refused.way(), at, "{settings}");
    }
}

#[test]
fn a_text_that_google_would_take_once_is_not_refused_for_its_copy() {
    let alert = "x".repeat(3_000);
    let message = map(json!({"alert": alert, "settings": {"gcm": {"androidTitle": "T"}}})).1;
    assert_eq!(message["notification"]["body"], alert);
    assert_eq!(message["data"].get("alert"), None);
    assert_eq!(message["data"]["nid"], "AbCd1234");
    let short = map(json!({"alert": "x".repeat(1_000)})).1;
    assert!(short["data"].get("alert").is_some());
}
