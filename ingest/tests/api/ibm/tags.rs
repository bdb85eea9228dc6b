//! Tags and subscriptions. It must not know what is sent to a tag.

use serde_json::{Value, json};

use super::{App, refused};

async fn tag(app: &App, name: &str) {
    let body = json!({"name": name, "description": "d"});
    let made = app.post("tags", &app.server(), body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        (&made.body["name"], &made.body["createdMode"]),
        (&json!(name), &json!("API"))
    );
}

#[tokio::test]
async fn a_tag_is_created_once_changed_listed_and_deleted() {
    let app = App::open().await;
    for name in ["b", "a", "c d"] {
        tag(&app, name).await;
    }
    let again = json!({"name": "a", "description": "other"});
    refused(
        &app.post("tags", &app.server(), again).await,
        409,
        "FPWSE0002E",
    );
    refused(
        &app.post("tags", &app.client(), json!({"name": "x"})).await,
        403,
        "FORBIDDEN",
    );
    refused(
        &app.post("tags", &app.server(), json!({"name": "Push.ALL"}))
            .await,
        400,
        "FPWSE0005E",
    );
    let changed = app
        .put("tags/c%20d", &app.server(), json!({"description": "new"}))
        .await
        .ok();
    assert_eq!(
        (&changed["name"], &changed["description"]),
        (&json!("c d"), &json!("new"))
    );
    refused(
        &app.put("tags/z", &app.server(), json!({})).await,
        404,
        "FPWSE0001E",
    );
    // Whoever has the app may see what there is to subscribe to.
    let list = app.get("tags?size=2", &[]).await.ok();
    let names = |list: &Value| -> Vec<Value> {
        let tags = list["tags"].as_array().unwrap();
        tags.iter().map(|tag| tag["name"].clone()).collect()
    };
    assert_eq!(names(&list), ["a", "b"]);
    let next = list["pageInfo"]["next"]
        .as_str()
        .unwrap()
        .strip_prefix(&app.path(""))
        .unwrap()
        .to_owned();
    assert_eq!(names(&app.get(&next, &[]).await.ok()), ["c d"]);
    assert_eq!(
        names(&app.get("tags?offset=1", &app.client()).await.ok()),
        ["b", "c d"]
    );
    assert_eq!(
        app.get("tags/a", &[]).await.ok()["href"],
        app.path("tags/a")
    );
    assert_eq!(app.delete("tags/a", &app.server()).await.status, 204);
    refused(
        &app.delete("tags/a", &app.server()).await,
        404,
        "FPWSE0001E",
    );
}

/// A device, and two tags.
async fn with_tags() -> App {
    let app = App::open().await;
    app.device("d1", 1).await;
    for name in ["t1", "t2"] {
        tag(&app, name).await;
    }
    app
}

fn wish(tag: &str) -> Value {
    json!({"deviceId": "d1", "tagName": tag})
}

#[tokio::test]
async fn a_device_subscribes_to_one_or_to_several() {
    let app = with_tags().await;
    let one = app.post("subscriptions", &[], wish("t1")).await;
    assert_eq!(one.status, 201, "{}", one.body);
    assert_eq!(one.body["tagName"], "t1");
    let several = json!({"deviceId": "d1", "tagNames": ["t1", "t2", "t9"]});
    let answer = app.post("subscriptions", &app.client(), several).await;
    assert_eq!(answer.status, 207, "{}", answer.body);
    assert_eq!(answer.body["subscribed"][0]["tagName"], "t2");
    let existed = &answer.body["subscriptionExists"][0];
    assert_eq!(existed["subscriptionId"], one.body["subscriptionId"]);
    assert_eq!(answer.body["tagsNotFound"]["tags"], json!(["t9"]));
    assert_eq!(answer.body["tagsNotFound"]["code"], "FPWSE0001E");
    let path = "subscriptions?deviceId=d1&tagName=";
    let list = app.get(path, &[]).await.ok();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 2);
    assert_eq!(list["subscriptions"][0]["deviceId"], "d1");
    let path = "subscriptions?tagName=t1&deviceId=";
    refused(&app.get(path, &[]).await, 401, "UNAUTHORIZED");
    let list = app.get(path, &app.server()).await.ok();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_said() {
    let app = with_tags().await;
    let one = app.post("subscriptions", &[], wish("t1")).await;
    assert_eq!(one.status, 201, "{}", one.body);
    for (path, body, status, code) in [
        ("subscriptions", wish("t1"), 409, "FPWSE0011E"),
        ("subscriptions", wish("t9"), 404, "FPWSE0001E"),
        (
            "subscriptions",
            json!({"deviceId": "d1"}),
            400,
            "FPWSE0005E",
        ),
        (
            "subscriptions",
            json!({"deviceId": "d9", "tagName": "t1"}),
            404,
            "FPWSE0001E",
        ),
        ("subscriptions?action=x", wish("t1"), 400, "FPWSE0007E"),
    ] {
        refused(&app.post(path, &[], body).await, status, code);
    }
}

#[tokio::test]
async fn subscriptions_end_one_by_one_or_together() {
    let app = with_tags().await;
    let both = json!({"deviceId": "d1", "tagNames": ["t1", "t2"]});
    assert_eq!(app.post("subscriptions", &[], both).await.status, 207);
    let end = json!({"deviceId": "d1", "tagNames": ["t1", "t9"]});
    let ended = app.post("subscriptions?action=delete", &[], end).await;
    assert_eq!(ended.status, 207, "{}", ended.body);
    assert_eq!(ended.body["unsubscribed"], json!(["t1"]));
    assert_eq!(ended.body["tagsNotFound"]["tags"], json!(["t9"]));
    let path = "subscriptions?deviceId=d1&tagName=t2";
    assert_eq!(app.delete(path, &[]).await.status, 204);
    refused(&app.delete(path, &[]).await, 404, "FPWSE0012E");
    let path = "subscriptions?deviceId=d1";
    refused(&app.delete(path, &[]).await, 400, "FPWSE0008E");
}

#[tokio::test]
async fn a_message_to_a_tag_waits_for_the_feeder() {
    let app = App::open().await;
    app.device("d1", 1).await;
    tag(&app, "t1").await;
    app.post(
        "subscriptions",
        &[],
        json!({"deviceId": "d1", "tagName": "t1"}),
    )
    .await;
    let body =
        json!({"message": {"alert": "x"}, "target": {"tagNames": ["t1"], "platforms": ["A"]}});
    let sent = app.post("messages", &app.server(), body).await;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let id = sent.body["messageId"].as_str().unwrap();
    let status = app
        .get(&format!("messages/{id}/status"), &app.server())
        .await
        .ok();
    assert_eq!(status["status"], "running");
}
