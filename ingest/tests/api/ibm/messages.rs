//! Messages: accepted with 202, read again, reported on by devices.
//! It must not know how a message is put in Apple's and Google's words.

use serde_json::{Value, json};

use super::{App, refused};
use crate::house::{apns_token, pass};

#[tokio::test]
async fn a_message_is_accepted_echoed_queued_and_read_again() {
    let app = App::open().await;
    app.device("d1", 1).await;
    let body = json!({
        "message": {"alert": "Hi", "url": "https://x"}, "target": {"deviceIds": ["d1"]},
        "settings": {"gcm": {"priority": "HIGH", "androidtitle": "ignored"}}, "validate": true,
    });
    let sent = app.post("messages", &app.server(), body.clone()).await;
    assert_eq!(
        (sent.status, &sent.body["message"]),
        (202, &body),
        "{}",
        sent.body
    );
    let id = sent.body["messageId"].as_str().unwrap();
    assert!(
        id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id}"
    );
    let jobs = app.house.jobs(1).await;
    assert_eq!(jobs[0].entries.len(), 1);
    let payload = &jobs[0].notification.options.apns.as_ref().unwrap().payload;
    assert_eq!(payload["nid"], id);
    let read = app.get(&format!("messages/{id}"), &app.server()).await.ok();
    assert_eq!(
        (&read["alert"], &read["url"]),
        (&json!("Hi"), &json!("https://x"))
    );
    assert_eq!((&read["messageId"], &read["message"]), (&json!(id), &body));
    let status = app
        .get(&format!("messages/{id}/status"), &app.server())
        .await
        .ok();
    assert_eq!(
        (&status["status"], &status["counts"]["sent"]),
        (&json!("queued"), &json!(0))
    );
    let notification = status["notificationId"].as_str().unwrap();
    assert_eq!(notification, jobs[0].notification.id.to_string());
    assert_eq!(
        app.delete(&format!("messages/{id}"), &app.server())
            .await
            .status,
        204
    );
    refused(
        &app.get(&format!("messages/{id}"), &app.server()).await,
        404,
        "FPWSE0001E",
    );
    refused(
        &app.get("messages/x/status", &app.server()).await,
        404,
        "FPWSE0001E",
    );
}

#[tokio::test]
async fn a_bulk_is_a_bare_list_checked_before_the_first_is_sent() {
    let app = App::open().await;
    app.device("d1", 1).await;
    let one = |alert: &str, target: Value| json!({"message": {"alert": alert}, "target": target});
    let users = || json!({"userIds": ["ada"]});
    let bad = json!([
        one("a", users()),
        one("b", json!({"tagNames": ["nowhere"]}))
    ]);
    refused(
        &app.post("messages/bulk", &app.server(), bad).await,
        404,
        "FPWSE0001E",
    );
    let bad = json!([one("a", users()), {"message": {"alert": 7}}]);
    let reply = app.post("messages/bulk", &app.server(), bad).await;
    refused(&reply, 400, "FPWSE0005E");
    assert!(
        reply.body["message"]
            .as_str()
            .unwrap()
            .contains("1.message.alert"),
        "{}",
        reply.body
    );
    refused(
        &app.post("messages/bulk", &app.server(), json!([])).await,
        400,
        "FPWSE0005E",
    );
    refused(
        &app.post("messages/bulk", &app.server(), json!({"a": 1}))
            .await,
        400,
        "FPWSE0005E",
    );
    assert_eq!(app.house.queued().await, 0);
    let good = json!([one("a", users()), one("b", json!({"deviceIds": ["d1"]}))]);
    let sent = app.post("messages/bulk", &app.server(), good).await;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let messages = sent.body["messages"].as_array().unwrap();
    let alerts: Vec<&Value> = messages.iter().map(|message| &message["alert"]).collect();
    assert_eq!(alerts, ["a", "b"]);
    let id = messages[0]["messageId"].as_str().unwrap();
    assert_eq!(messages[0]["href"], app.path(&format!("messages/{id}")));
    assert_eq!(app.house.queued().await, 2);
}

#[tokio::test]
async fn whom_nobody_is_gets_nothing() {
    let app = App::open().await;
    let send = async |target: Value| {
        let body = json!({"message": {"alert": "x"}, "target": target});
        app.post("messages", &app.server(), body).await
    };
    refused(&send(json!({})).await, 400, "FPWSE0009E");
    refused(&send(json!({"platforms": ["A"]})).await, 400, "FPWSE0009E");
    refused(&send(json!({"deviceIds": ["d1"]})).await, 404, "FPWSE0001E");
    let reply = send(json!({"tagNames": ["news"]})).await;
    refused(&reply, 404, "FPWSE0001E");
    let documented =
        "Not Found - Targeted resource 'tagNames' does not exist. Check the 'tagNames' parameter";
    assert_eq!(reply.body["message"], documented);
    refused(&send(json!({"userIds": []})).await, 400, "FPWSE0005E");
    refused(
        &send(json!({"platforms": ["WEB_SAFARI"]})).await,
        400,
        "FPWSE0005E",
    );
    app.device("d1", 1).await;
    for target in [
        json!({}),
        json!({"platforms": ["A"]}),
        json!({"tagNames": ["Push.ALL"]}),
    ] {
        assert_eq!(send(target.clone()).await.status, 202, "{target}");
    }
}

#[tokio::test]
async fn a_payload_must_be_json_and_fit() {
    let app = App::open().await;
    app.device("d1", 1).await;
    let send = async |apns: Value| {
        let body = json!({"message": {"alert": "x"}, "settings": {"apns": apns}});
        app.post("messages", &app.server(), body).await
    };
    refused(&send(json!({"payload": "{"})).await, 400, "FPWSE0013E");
    refused(&send(json!({"type": "LOUD"})).await, 400, "FPWSE0005E");
    let reply = send(json!({"payload": {"a": "x".repeat(4_096)}})).await;
    refused(&reply, 413, "FPWSE0005E");
    assert_eq!(send(json!({"payload": "{\"a\":1}"})).await.status, 202);
}

#[tokio::test]
async fn without_a_credential_of_the_platform_the_configuration_is_incomplete() {
    let app = App::open().await;
    app.device("d1", 1).await;
    let admin = super::bearer(&app.house.admin());
    let shown = [("authorization", admin.as_str())];
    assert_eq!(app.delete("settings/gcmConf", &shown).await.status, 204);
    let send = async |platform: &str| {
        let body = json!({"message": {"alert": "x"}, "target": {"platforms": [platform]}});
        app.post("messages", &app.server(), body).await
    };
    refused(&send("G").await, 400, "FPWSE0003E");
    assert_eq!(send("A").await.status, 202);
}

/// A message to two devices, and its id.
async fn to_two_devices() -> (App, String) {
    let app = App::open().await;
    app.device("d1", 1).await;
    app.device("d2", 2).await;
    let body = json!({"message": {"alert": "x"}});
    let sent = app.post("messages", &app.server(), body).await;
    let id = sent.body["messageId"].as_str().unwrap().to_owned();
    (app, id)
}

fn report(device: &str, status: &str) -> Value {
    json!({"deviceId": device, "status": status})
}

/// What is left of a link when the application's part is taken off.
fn link(app: &App, page: &Value) -> String {
    let next = page["pageInfo"]["next"].as_str().unwrap();
    next.strip_prefix(&app.path("")).unwrap().to_owned()
}

#[tokio::test]
async fn devices_report_what_they_saw_once() {
    let (app, id) = to_two_devices().await;
    let path = format!("messages/{id}");
    let other_path = format!("{path}/deliverystatus");
    let seen = app.put(&path, &[], report("d1", "SEEN")).await.ok();
    let expected = json!({"deviceId": "d1", "status": "SEEN", "time": "2026-01-15T10:30:00Z"});
    assert_eq!(seen, expected);
    pass(std::time::Duration::from_secs(5));
    let (phone, server) = (app.client(), app.server());
    app.put(&other_path, &phone, report("d1", "open"))
        .await
        .ok();
    app.put(&path, &phone, report("d1", "SEEN")).await.ok();
    app.put(&path, &server, report("d2", "OPEN")).await.ok();
    let status = app.get(&format!("{path}/status"), &server).await.ok();
    let counts = &status["counts"];
    assert_eq!((&counts["seen"], &counts["open"]), (&json!(1), &json!(2)));
    let of_one = format!("{other_path}?deviceId=d1");
    let of_one = app.get(&of_one, &server).await.ok();
    assert_eq!(of_one["deliveryStatus"].as_array().unwrap().len(), 2);
    assert_eq!(of_one["deliveryStatus"][0], expected);
    let page = format!("{other_path}?offset=1&size=1");
    let page = app.get(&page, &server).await.ok();
    assert_eq!(page["deliveryStatus"][0]["status"], "OPEN");
    let page = app.get(&link(&app, &page), &server).await.ok();
    assert_eq!(page["deliveryStatus"][0]["deviceId"], "d2");
    refused(&app.get(&other_path, &phone).await, 403, "FORBIDDEN");
}

#[tokio::test]
async fn only_known_devices_report_on_known_messages() {
    let (app, id) = to_two_devices().await;
    let path = format!("messages/{id}");
    for (path, body, status, code) in [
        (&*path, report("d9", "SEEN"), 404, "FPWSE0001E"),
        ("messages/abcd1234", report("d1", "SEEN"), 404, "FPWSE0001E"),
        (&*path, report("d1", "LOST"), 400, "FPWSE0005E"),
    ] {
        refused(&app.put(path, &[], body).await, status, code);
    }
    app.put(&path, &[], report("d1", "OPEN")).await.ok();
    let told = app.get("messages/report?days=2", &app.server()).await.ok();
    let day = json!({"date": "2026-01-15", "messages": 1, "seen": 0, "open": 1});
    assert_eq!(
        (&told["messages"], &told["report"]),
        (&json!(1), &json!([day]))
    );
    let reply = app.get("messages/report?days=91", &app.server()).await;
    refused(&reply, 400, "FPWSE0007E");
}

#[tokio::test]
async fn messages_are_listed_newest_first_in_pages() {
    let app = App::open().await;
    app.device("d1", 1).await;
    for number in 0..5 {
        let body = json!({"message": {"alert": number.to_string()}});
        assert_eq!(app.post("messages", &app.server(), body).await.status, 202);
        pass(std::time::Duration::from_millis(1));
    }
    let page = app
        .get("messages?offset=1&size=2", &app.server())
        .await
        .ok();
    let alerts = |page: &Value| -> Vec<String> {
        let list = page["messages"].as_array().unwrap();
        list.iter()
            .map(|message| message["alert"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(alerts(&page), ["3", "2"]);
    assert_eq!(page["pageInfo"]["totalCount"], 5);
    let next = page["pageInfo"]["next"]
        .as_str()
        .unwrap()
        .strip_prefix(&app.path(""))
        .unwrap()
        .to_owned();
    assert_eq!(
        alerts(&app.get(&next, &app.server()).await.ok()),
        ["1", "0"]
    );
    refused(
        &app.get("messages?after=x", &app.server()).await,
        400,
        "FPWSE1079E",
    );
}

#[tokio::test]
async fn an_api_key_sends_as_on_the_native_face() {
    let app = App::open().await;
    let key = app.house.key(&app.id).await;
    let crate::house::Caller::Key(key) = key else {
        panic!("a key")
    };
    let body = json!({"message": {"alert": "x"}, "target": {"userIds": ["ada"]}});
    assert_eq!(
        app.post("messages", &[("x-api-key", &key)], body)
            .await
            .status,
        202
    );
    let device = json!({"deviceId": "d", "platform": "A", "token": apns_token(9)});
    refused(
        &app.post("devices", &[("x-api-key", "msk_live_x")], device)
            .await,
        401,
        "UNAUTHORIZED",
    );
}
