//! API Connect's pair of headers, registered client applications, and the secrets of the push face.
//! It must not know how a pair is compared.

use http::Method;
use serde_json::{Value, json};

use super::{App, refused};
use crate::house::{Reply, apns_token};

/// A refusal in API Connect's words.
#[track_caller]
fn gateway(reply: &Reply, says: &str) {
    let expected =
        json!({"httpCode": "401", "httpMessage": "Unauthorized", "moreInformation": says});
    assert_eq!((reply.status, &reply.body), (401, &expected));
}

async fn register(app: &App, section: &str) -> Value {
    let path = format!("/tenants/{}/clients", app.id);
    let body = json!({"name": "Ada & Co", "section": section});
    app.house.post(&path, &app.house.admin(), body).await.ok()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn the_pair_is_checked_in_the_documented_order_and_words() {
    let app = App::open().await;
    let inside = register(&app, "inside").await;
    let outside = register(&app, "outside").await;
    assert_eq!(outside["client_secret"], Value::Null);
    let (id, secret) = (text(&inside["client_id"]), text(&inside["client_secret"]));
    let open = text(&outside["client_id"]);
    let ask = async |shown: super::Shown<'_>| app.get("tags", shown).await;
    gateway(
        &ask(&[("x-ibm-client-secret", secret)]).await,
        "Client id missing.",
    );
    gateway(&ask(&[("X-IBM-Client-Id", "")]).await, "Client id missing.");
    let random = [("X-IBM-Client-Id", "abc"), ("X-IBM-Client-Secret", secret)];
    gateway(&ask(&random).await, "Client id not registered.");
    gateway(
        &ask(&[("X-IBM-Client-Id", id)]).await,
        "Invalid client id or secret.",
    );
    let wrong = [("X-IBM-Client-Id", id), ("X-IBM-Client-Secret", "no")];
    gateway(&ask(&wrong).await, "Invalid client id or secret.");
    let needless = [("X-IBM-Client-Id", open), ("X-IBM-Client-Secret", secret)];
    gateway(&ask(&needless).await, "Invalid client id or secret.");
    ask(&[("X-IBM-Client-Id", id), ("X-IBM-Client-Secret", secret)])
        .await
        .ok();
    ask(&[("X-IBM-Client-Id", open)]).await.ok();
    // An id belongs to one application.
    let (other, _) = app.house.tenant().await;
    let path = format!("/imfpush/v1/apps/{other}/tags");
    let request = http::Request::builder().uri(path);
    let request = request
        .header("x-ibm-client-id", id)
        .header("x-ibm-client-secret", secret);
    let foreign = app
        .house
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    gateway(&foreign, "Client id not registered.");
}

#[tokio::test]
async fn an_application_registers_devices_and_sends_nothing() {
    let app = App::open().await;
    let inside = register(&app, "inside").await;
    let outside = register(&app, "outside").await;
    let proven = [
        ("X-IBM-Client-Id", text(&inside["client_id"])),
        ("X-IBM-Client-Secret", text(&inside["client_secret"])),
    ];
    let named = [("X-IBM-Client-Id", text(&outside["client_id"]))];
    let token = apns_token(1);
    let device = |user: Option<&str>| {
        let (id, token) = ("d1", &token);
        json!({"deviceId": id, "platform": "A", "token": token, "userId": user})
    };
    assert_eq!(
        app.post("devices", &proven, device(Some("ada")))
            .await
            .status,
        201
    );
    assert_eq!(app.post("devices", &named, device(None)).await.status, 201);
    refused(
        &app.post("devices", &named, device(Some("ada"))).await,
        401,
        "UNAUTHORIZED",
    );
    let message = json!({"message": {"alert": "x"}});
    refused(
        &app.post("messages", &proven, message).await,
        403,
        "FORBIDDEN",
    );
    refused(&app.get("devices", &proven).await, 403, "FORBIDDEN");
    // On the native face it registers too, and nothing else.
    let native = async |method: Method, rest: &str, body: Value| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/tenants/{}/{rest}", app.id));
        let request = request.header("content-type", "application/json");
        let request = proven.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        app.house
            .send(request.body(body.to_string().into()).unwrap())
            .await
    };
    let body = json!({"user_id": "ada", "token": apns_token(2), "platform": "ios"});
    native(Method::POST, "devices", body).await.ok();
    let body = json!({"user_id": "ada", "alert": {"body": "x"}});
    assert_eq!(native(Method::POST, "notify", body).await.status, 403);
}

#[tokio::test]
async fn ids_and_secrets_follow_their_rules() {
    let app = App::open().await;
    let admin = app.house.admin();
    let path = format!("/tenants/{}/clients", app.id);
    let inside = register(&app, "inside").await;
    let outside = register(&app, "outside").await;
    let secret_of = |client: &Value| format!("{path}/{}/secret", text(&client["client_id"]));
    let add = async |client: &Value| app.house.post(&secret_of(client), &admin, json!({})).await;
    assert_eq!(add(&inside).await.status, 409, "it never changes");
    let added = add(&outside).await.ok();
    assert_eq!(add(&outside).await.status, 409, "it is added once");
    let shown = [
        ("X-IBM-Client-Id", text(&outside["client_id"])),
        ("X-IBM-Client-Secret", text(&added["client_secret"])),
    ];
    app.get("tags", &shown).await.ok();
    gateway(
        &app.get("tags", &shown[..1]).await,
        "Invalid client id or secret.",
    );
    for _ in 0..4 {
        register(&app, "inside").await;
    }
    let body = json!({"name": "one too many", "section": "inside"});
    let sixth = app.house.post(&path, &admin, body).await;
    assert_eq!(sixth.status, 409);
    assert!(
        text(&sixth.body["detail"]).contains("at most 5 clients inside"),
        "{}",
        sixth.body
    );
    let list = app.house.get(&path, &admin).await.ok();
    assert_eq!(list.as_array().unwrap().len(), 6);
    assert!(!list.to_string().contains(text(&inside["client_secret"])));
    let one = format!("{path}/{}", text(&outside["client_id"]));
    app.house.delete(&one, &admin).await.ok();
    assert_eq!(app.house.delete(&one, &admin).await.status, 404);
    gateway(&app.get("tags", &shown).await, "Client id not registered.");
    for bad in [
        json!({"name": "x", "section": "between"}),
        json!({"name": " ", "section": "inside"}),
    ] {
        assert_eq!(app.house.post(&path, &admin, bad).await.status, 422);
    }
}

#[tokio::test]
async fn push_secrets_are_shown_once_rotated_and_switched() {
    let app = App::open().await;
    let admin = app.house.admin();
    let path = format!("/tenants/{}/push-secrets", app.id);
    let there = app.house.get(&path, &admin).await.ok();
    assert_eq!(
        (&there["allow_app_secret"], &there["verify_client_secret"]),
        (&json!(true), &json!(true))
    );
    assert!(!there.to_string().contains(&app.app_secret));
    app.get("devices", &app.server()).await.ok();
    let patch = json!({"allow_app_secret": false});
    app.house
        .send_json(Method::PATCH, &path, &admin, patch)
        .await
        .ok();
    refused(
        &app.get("devices", &app.server()).await,
        401,
        "UNAUTHORIZED",
    );
    let rotated = app
        .house
        .post(&path, &admin, json!({"app_secret": true}))
        .await
        .ok();
    assert_eq!(rotated["client_secret"], Value::Null);
    refused(
        &app.get("devices", &app.server()).await,
        401,
        "UNAUTHORIZED",
    );
    let shown = [("appSecret", text(&rotated["app_secret"]))];
    app.get("devices", &shown).await.ok();
    app.get("tags", &app.client()).await.ok();
    assert_eq!(app.house.post(&path, &admin, json!({})).await.status, 422);
    let (other, _) = app.house.tenant().await;
    let path = format!("/tenants/{other}/push-secrets");
    let patch = json!({"allow_app_secret": true});
    assert_eq!(
        app.house
            .send_json(Method::PATCH, &path, &admin, patch)
            .await
            .status,
        409
    );
}
