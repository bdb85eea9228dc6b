//! A phone registers, subscribes, is sent to and reports back; a browser would be let in; another's secret is not.
//! It must not know how the face is made.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Face, said, secrets, world};
use crate::harness::{PATIENCE, apple, google, seed, until};

/// An iPhone of Ada's and an Android phone of nobody's, both subscribed to `news`.
async fn phones(face: &Face, (client, app): &(String, String)) -> (String, String) {
    let phone = [("clientSecret", client.as_str())];
    let server = [("appSecret", app.as_str())];
    let (iphone, android) = (apple(seed(), 1), google(seed(), 2));
    let asked = face
        .call(Method::GET, "devices/d1", &phone, &Value::Null)
        .await;
    assert_eq!(asked.status, 404);
    assert_eq!(asked.json()["code"], "FPWSE0001E");
    let body = json!({"deviceId": "d1", "platform": "A", "token": iphone, "userId": "ada"});
    let made = face.call(Method::POST, "devices", &phone, &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let body = json!({"deviceId": "d2", "platform": "G", "token": android});
    let made = face.call(Method::POST, "devices", &[], &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["userId"], "anonymous");
    let tag = json!({"name": "news", "description": "What is new"});
    let made = face.call(Method::POST, "tags", &server, &tag).await;
    assert_eq!(made.status, 201, "{}", made.text);
    for device in ["d1", "d2"] {
        let wish = json!({"deviceId": device, "tagNames": ["news", "none"]});
        let told = face
            .call(Method::POST, "subscriptions", &phone, &wish)
            .await;
        assert_eq!(told.status, 207, "{}", told.text);
        assert_eq!(told.json()["tagsNotFound"]["tags"], json!(["none"]));
    }
    (iphone, android)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_registered_subscribed_sent_to_and_heard() {
    let world = world().await;
    let tenant = world.tenant().await;
    let face = Face::of(&world, &tenant);
    let secrets = secrets(&world, &tenant).await;
    let (iphone, android) = phones(&face, &secrets).await;
    let server = [("appSecret", secrets.1.as_str())];
    let lights = json!({"ledArgb": "#FF00FF00", "ledOnMs": 1, "ledOffMs": "2"});
    let settings = json!({
        "apns": {"badge": 1, "payload": "{\"a\":1}", "attachmentUrl": "https://i"},
        "gcm": {"priority": "max", "lights": lights},
    });
    let message = json!({
        "message": {"alert": "Hi", "url": "https://x"}, "target": {"tagNames": ["news"]},
        "settings": settings,
    });
    let sent = face.call(Method::POST, "messages", &server, &message).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    assert_eq!(sent.json()["message"], message);
    let id = sent.json()["messageId"].as_str().unwrap().to_owned();

    let apns = &said(&world, &iphone, 1).await[0];
    assert_eq!(apns["aps"]["alert"], json!({"body": "Hi"}));
    assert_eq!(
        (&apns["aps"]["badge"], &apns["nid"]),
        (&json!(1), &json!(id))
    );
    assert_eq!(apns["payload"], format!(r#"{{"a":1,"nid":"{id}"}}"#));
    let fcm = &said(&world, &android, 1).await[0]["message"];
    assert_eq!(fcm["notification"]["body"], "Hi");
    let details = &fcm["android"]["notification"];
    assert_eq!(details["notification_priority"], "PRIORITY_MAX");
    assert_eq!(details["light_settings"]["color"]["green"], 1.0);
    assert_eq!(fcm["data"]["nid"], id);

    let seen = json!({"deviceId": "d1", "status": "SEEN"});
    let path = format!("messages/{id}");
    let told = face.call(Method::PUT, &path, &[], &seen).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let path = format!("messages/{id}/status");
    let counts = until("the message to finish", PATIENCE, || async {
        let status = face
            .call(Method::GET, &path, &server, &Value::Null)
            .await
            .ok();
        (status["status"] == "finished").then(|| status["counts"].clone())
    });
    let counts = counts.await;
    assert_eq!(
        (&counts["sent"], &counts["seen"]),
        (&json!(2), &json!(1)),
        "{counts}"
    );
    let gone = face
        .call(Method::DELETE, "devices/d1", &[], &Value::Null)
        .await;
    assert_eq!(gone.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_target_reaches_those_it_names_and_a_silent_message_shows_nothing() {
    let world = world().await;
    let tenant = world.tenant().await;
    let face = Face::of(&world, &tenant);
    let (_, app) = secrets(&world, &tenant).await;
    let server = [("appSecret", app.as_str())];
    let (iphone, android) = (apple(seed(), 1), google(seed(), 2));
    for (device, platform, token) in [("d1", "A", &iphone), ("d2", "G", &android)] {
        let body =
            json!({"deviceId": device, "platform": platform, "token": token, "userId": device});
        let made = face.call(Method::POST, "devices", &server, &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let send = async |target: Value| {
        let body = json!({
            "message": {"alert": "x"}, "target": target, "settings": {"apns": {"type": "SILENT"}},
        });
        let sent = face.call(Method::POST, "messages", &server, &body).await;
        assert_eq!(sent.status, 202, "{}", sent.text);
    };
    send(json!({"platforms": ["A"]})).await;
    send(json!({"deviceIds": ["d1"]})).await;
    send(json!({"userIds": ["d2"]})).await;
    send(json!({})).await;
    let to_iphone = said(&world, &iphone, 3).await;
    assert_eq!(said(&world, &android, 2).await.len(), 2);
    for push in &to_iphone {
        assert_eq!(push["aps"], json!({"content-available": 1}));
    }
    let stats = world.simulator.wait_received(5).await;
    assert_eq!(stats.processed, 5, "nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_secrets_are_worth_nothing_here() {
    let world = world().await;
    let (mine, theirs) = (world.tenant().await, world.tenant().await);
    let (client, app) = secrets(&world, &theirs).await;
    let face = Face::of(&world, &mine);
    let body = json!({
        "deviceId": "d1", "platform": "A", "token": apple(seed(), 1), "userId": "ada",
    });
    let shown = [("clientSecret", client.as_str())];
    assert_eq!(
        face.call(Method::POST, "devices", &shown, &body)
            .await
            .status,
        401
    );
    let message = json!({"message": {"alert": "x"}});
    let shown = [("appSecret", app.as_str())];
    assert_eq!(
        face.call(Method::POST, "messages", &shown, &message)
            .await
            .status,
        401
    );
    let shown = [("x-api-key", theirs.key.as_str())];
    assert_eq!(
        face.call(Method::POST, "messages", &shown, &message)
            .await
            .status,
        403
    );
}
