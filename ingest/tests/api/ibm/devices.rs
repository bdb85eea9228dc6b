//! Devices: the flow of IBM's client SDKs, and who may register for whom.
//! It must not know how devices are addressed.

use serde_json::{Value, json};

use super::{App, refused};
use crate::house::{apns_token, fcm_token, pass};

fn device(device_id: &str, number: u64, user: Option<&str>) -> Value {
    let mut body = json!({"deviceId": device_id, "platform": "A", "token": apns_token(number)});
    if let Some(user) = user {
        body["userId"] = json!(user);
    }
    body
}

#[tokio::test]
async fn an_app_asks_registers_changes_and_leaves() {
    let app = App::open().await;
    refused(&app.get("devices/d1", &[]).await, 404, "FPWSE0001E");
    let made = app.post("devices", &[], device("d1", 1, None)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let expected = json!({
        "deviceId": "d1", "userId": "anonymous", "platform": "A", "token": apns_token(1),
        "createdMode": "API", "createdTime": "2026-01-15T10:30:00Z",
        "lastUpdatedTime": "2026-01-15T10:30:00Z", "href": app.path("devices/d1"),
    });
    assert_eq!(made.body, expected);
    assert_eq!(app.get("devices/d1", &[]).await.ok(), expected);
    pass(std::time::Duration::from_secs(60));
    let mut body = device("d1", 2, None);
    body.as_object_mut().unwrap().remove("deviceId");
    let changed = app.put("devices/d1", &[], body).await.ok();
    assert_eq!(changed["token"], apns_token(2));
    assert_eq!(changed["lastUpdatedTime"], "2026-01-15T10:31:00Z");
    assert_eq!(changed["createdTime"], "2026-01-15T10:30:00Z");
    refused(
        &app.put("devices/d2", &[], device("d2", 2, None)).await,
        404,
        "FPWSE0001E",
    );
    refused(
        &app.put("devices/d1", &[], device("d2", 2, None)).await,
        400,
        "FPWSE0005E",
    );
    let gone = app.delete("devices/d1", &[]).await;
    assert_eq!((gone.status, gone.body), (204, json!("")));
    refused(&app.delete("devices/d1", &[]).await, 404, "FPWSE0001E");
}

#[tokio::test]
async fn a_user_needs_the_client_secret_and_nothing_else_does() {
    let app = App::open().await;
    let wrong = [("clientSecret", "00000000-0000-4000-8000-000000000000")];
    refused(
        &app.post("devices", &[], device("d1", 1, Some("ada"))).await,
        401,
        "UNAUTHORIZED",
    );
    refused(
        &app.post("devices", &wrong, device("d1", 1, Some("ada")))
            .await,
        401,
        "UNAUTHORIZED",
    );
    // If it is shown, it must be right, except where published clients could not tell.
    refused(
        &app.post("devices", &wrong, device("d1", 1, None)).await,
        401,
        "UNAUTHORIZED",
    );
    refused(&app.get("devices/d1", &wrong).await, 404, "FPWSE0001E");
    let made = app
        .post("devices", &app.client(), device("d1", 1, Some("ada")))
        .await;
    assert_eq!((made.status, &made.body["userId"]), (201, &json!("ada")));
    refused(
        &app.put("devices/d1", &[], device("d1", 1, Some("bob")))
            .await,
        401,
        "UNAUTHORIZED",
    );
    let changed = app
        .put("devices/d1", &app.client(), device("d1", 1, Some("bob")))
        .await;
    assert_eq!(changed.ok()["userId"], "bob");
    // A body without a user leaves the device to nobody in particular.
    let changed = app.put("devices/d1", &[], device("d1", 1, None)).await.ok();
    assert_eq!(changed["userId"], "anonymous");
    let server = app
        .post("devices", &app.server(), device("d2", 2, Some("eve")))
        .await;
    assert_eq!(server.status, 201, "{}", server.body);
}

#[tokio::test]
async fn a_tenant_may_take_the_application_id_for_proof() {
    let app = App::open().await;
    let path = format!("/tenants/{}/push-secrets", app.id);
    let admin = app.house.admin();
    let patch = json!({"verify_client_secret": false});
    let patched = app
        .house
        .send_json(http::Method::PATCH, &path, &admin, patch)
        .await
        .ok();
    assert_eq!(patched["verify_client_secret"], false);
    let made = app.post("devices", &[], device("d1", 1, Some("ada"))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    // It sends nothing for all that.
    refused(
        &app.post("messages", &[], json!({"message": {"alert": "x"}}))
            .await,
        403,
        "FORBIDDEN",
    );
}

#[tokio::test]
async fn whoever_knows_only_the_application_id_manages_nothing() {
    let app = App::open().await;
    for rest in [
        "devices",
        "messages",
        "messages/abcd1234",
        "settings",
        "subscriptions",
    ] {
        refused(&app.get(rest, &[]).await, 401, "UNAUTHORIZED");
    }
    refused(
        &app.post("messages", &[], json!({"message": {"alert": "x"}}))
            .await,
        401,
        "UNAUTHORIZED",
    );
    refused(&app.get("devices", &app.client()).await, 403, "FORBIDDEN");
    let mut other = App::open().await;
    other.id = "no-such-application".to_owned();
    refused(&other.get("devices/d1", &[]).await, 404, "FPWSE0001E");
    refused(
        &other.post("devices", &[], device("d1", 1, None)).await,
        404,
        "FPWSE0001E",
    );
    refused(
        &other.get("devices", &other.server()).await,
        401,
        "UNAUTHORIZED",
    );
}

#[tokio::test]
async fn what_is_no_device_is_refused_with_its_field() {
    let app = App::open().await;
    let changed = |field: &str, value: Value| {
        let mut body = device("d1", 1, None);
        body[field] = value;
        body
    };
    let long = "d".repeat(257);
    for (body, says) in [
        (changed("platform", json!("WEB_CHROME")), "not to browsers"),
        (changed("platform", json!("W")), "body.platform"),
        (changed("token", json!("x")), "body.token"),
        (changed("token", json!(null)), "body.token"),
        (changed("deviceId", json!("")), "body.deviceId"),
        (changed("deviceId", json!(long)), "body.deviceId"),
        (
            json!({"platform": "A", "token": apns_token(1)}),
            "body.deviceId",
        ),
    ] {
        let reply = app.post("devices", &[], body.clone()).await;
        refused(&reply, 400, "FPWSE0005E");
        let message = reply.body["message"].as_str().unwrap();
        assert!(message.contains(says), "{body}: {message}");
    }
}

/// Five iPhones, every other one Ada's, and an Android phone.
async fn six_devices() -> App {
    let app = App::open().await;
    for number in 0..5_u64 {
        let user = (number % 2 == 0).then_some("ada");
        let body = device(&format!("d{number}"), number, user);
        assert_eq!(app.post("devices", &app.client(), body).await.status, 201);
    }
    let android = json!({"deviceId": "g", "platform": "G", "token": fcm_token(1)});
    assert_eq!(app.post("devices", &[], android).await.status, 201);
    app
}

fn ids(page: &Value) -> Vec<String> {
    let devices = page["devices"].as_array().unwrap();
    let id = |device: &Value| device["deviceId"].as_str().unwrap().to_owned();
    devices.iter().map(id).collect()
}

#[tokio::test]
async fn lists_are_paged_by_offset_and_by_their_links() {
    let app = six_devices().await;
    let page = app
        .get("devices?offset=1&size=2&expand=False", &app.server())
        .await
        .ok();
    assert_eq!(ids(&page), ["d1", "d2"]);
    let info = &page["pageInfo"];
    assert_eq!(
        (&info["count"], &info["totalCount"]),
        (&json!(2), &json!(6))
    );
    let prefix = app.path("");
    let next = info["next"]
        .as_str()
        .unwrap()
        .strip_prefix(&prefix)
        .unwrap()
        .to_owned();
    let page = app.get(&next, &app.server()).await.ok();
    assert_eq!(ids(&page), ["d3", "d4"]);
    let previous = page["pageInfo"]["previous"].as_str().unwrap();
    assert_eq!(previous, app.path("devices?offset=1&size=2"));
    let page = app.get("devices?offset=9", &app.server()).await.ok();
    assert_eq!(
        (ids(&page).len(), &page["pageInfo"]["next"]),
        (0, &json!(""))
    );
}

#[tokio::test]
async fn lists_are_of_a_user_or_counted() {
    let app = six_devices().await;
    let page = app
        .get("devices?userId=ada&size=2", &app.server())
        .await
        .ok();
    assert_eq!(
        (ids(&page), &page["pageInfo"]["totalCount"]),
        (vec!["d0".into(), "d2".into()], &json!(3))
    );
    let page = app
        .get("devices?userId=anonymous", &app.server())
        .await
        .ok();
    assert_eq!(ids(&page), ["d1", "d3", "g"]);
    for (query, code) in [
        ("offset=-1", "FPWSE1079E"),
        ("offset=100001", "FPWSE1079E"),
        ("size=0", "FPWSE1080E"),
        ("size=501", "FPWSE1080E"),
        ("filter=platform", "FPWSE0007E"),
    ] {
        refused(
            &app.get(&format!("devices?{query}"), &app.server()).await,
            400,
            code,
        );
    }
    let report = app.get("devices/report?days=1", &app.server()).await.ok();
    assert_eq!(
        report["report"][0],
        json!({"platform": "A", "devices": 5, "registered": 5})
    );
    assert_eq!(report["devices"], 6);
}
