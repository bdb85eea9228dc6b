//! The IBM Push face over HTTP: exact statuses and bodies, as its published clients need them.
//! It must not know what the engine makes of what was sent.

mod clients;
mod devices;
mod messages;
mod settings;
mod tags;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::house::{Caller, House, Reply, apns_token};

/// What IBM's web client sends on every request.
const CONTENT_TYPE: &str = "application/json; charset = UTF-8";

/// A tenant, and what is known of it.
struct App {
    house: House,
    id: String,
    client_secret: String,
    app_secret: String,
}

/// Headers that show a credential.
type Shown<'a> = &'a [(&'static str, &'a str)];

impl App {
    /// A tenant with both push secrets and with credentials of Apple and Google.
    async fn open() -> Self {
        let house = House::open().await;
        let (id, _) = house.tenant().await;
        let admin = house.admin();
        let path = format!("/tenants/{id}/push-secrets");
        let wish = json!({"client_secret": true, "app_secret": true});
        let made = house.post(&path, &admin, wish).await.ok();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let (client_secret, app_secret) = (text("client_secret"), text("app_secret"));
        for (provider, body) in [
            ("apns", crate::credentials::apns_key()),
            ("fcm", crate::credentials::fcm()),
        ] {
            let path = format!("/tenants/{id}/credentials/{provider}");
            house.send_json(Method::PUT, &path, &admin, body).await.ok();
        }
        Self {
            house,
            id,
            client_secret,
            app_secret,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/imfpush/v1/apps/{}/{rest}", self.id)
    }

    /// Any call, with the content type that IBM's web client sends.
    async fn call(&self, method: Method, rest: &str, shown: Shown<'_>, body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(self.path(rest));
        request = request.header("content-type", CONTENT_TYPE);
        for (name, value) in shown {
            request = request.header(*name, *value);
        }
        let reply = self
            .house
            .send(request.body(Body::from(body.to_owned())).unwrap())
            .await;
        assert_eq!(
            reply.header("access-control-allow-origin"),
            Some("*"),
            "{rest}"
        );
        reply
    }

    async fn get(&self, rest: &str, shown: Shown<'_>) -> Reply {
        self.call(Method::GET, rest, shown, "").await
    }

    async fn delete(&self, rest: &str, shown: Shown<'_>) -> Reply {
        self.call(Method::DELETE, rest, shown, "").await
    }

    async fn post(&self, rest: &str, shown: Shown<'_>, body: Value) -> Reply {
        self.call(Method::POST, rest, shown, &body.to_string())
            .await
    }

    async fn put(&self, rest: &str, shown: Shown<'_>, body: Value) -> Reply {
        self.call(Method::PUT, rest, shown, &body.to_string()).await
    }

    /// What a legacy server shows.
    fn server(&self) -> [(&'static str, &str); 1] {
        [("appSecret", &self.app_secret)]
    }

    /// What a mobile client shows.
    fn client(&self) -> [(&'static str, &str); 1] {
        [("clientSecret", &self.client_secret)]
    }

    /// Registers an iPhone of nobody in particular.
    async fn device(&self, device_id: &str, number: u64) {
        let body = json!({"deviceId": device_id, "platform": "A", "token": apns_token(number)});
        let reply = self.post("devices", &[], body).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
}

/// A refusal in the face's own shape.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(
        (reply.status, &reply.body["code"]),
        (status, &json!(code)),
        "{}",
        reply.body
    );
    assert!(reply.body["message"].is_string(), "{}", reply.body);
}

/// The bearer of an access token.
fn bearer(caller: &Caller) -> String {
    match caller {
        Caller::Person(token) => format!("Bearer {token}"),
        _ => panic!("a person"),
    }
}

#[tokio::test]
async fn a_browser_may_call_every_path_and_read_every_refusal() {
    let app = App::open().await;
    for path in ["devices", "devices/d1", "messages", "nowhere/at/all"] {
        let preflight = Request::builder()
            .method(Method::OPTIONS)
            .uri(app.path(path))
            .header("origin", "https://shop.example")
            .header(
                "access-control-request-headers",
                "clientsecret,content-type",
            );
        let reply = app.house.send(preflight.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 204, "{path}");
        let allowed = reply.header("access-control-allow-headers").unwrap();
        assert!(allowed.contains("clientsecret") && allowed.contains("content-type"));
        let methods = reply.header("access-control-allow-methods").unwrap();
        assert_eq!(methods, "GET, POST, PUT, DELETE");
    }
    refused(&app.get("nowhere", &[]).await, 404, "FPWSE0001E");
    refused(&app.get("devices/unknown", &[]).await, 404, "FPWSE0001E");
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let app = App::open().await;
    let reply = app.get("messages/?offset=0", &app.server()).await;
    assert_eq!(reply.ok()["messages"], json!([]));
}

#[tokio::test]
async fn what_is_not_json_is_told_in_the_faces_words() {
    let app = App::open().await;
    let reply = app.call(Method::POST, "messages", &app.server(), "{").await;
    refused(&reply, 400, "FPWSE0004E");
    let reply = app
        .post("messages", &app.server(), json!({"target": {}}))
        .await;
    refused(&reply, 400, "FPWSE0005E");
}

#[tokio::test]
async fn roles_govern_bearers_as_tabled() {
    use clarion_auth::principal::Role;
    let app = App::open().await;
    app.device("d1", 1).await;
    let member = bearer(&app.house.person_in(crate::house::ORG, Role::Member));
    let stranger = bearer(&app.house.person_in("other", Role::Owner));
    let shown = [("authorization", member.as_str())];
    app.get("devices", &shown).await.ok();
    let sent = app
        .post("messages", &shown, json!({"message": {"alert": "Hi"}}))
        .await;
    assert_eq!(sent.status, 202, "{}", sent.body);
    refused(&app.delete("devices/d1", &shown).await, 403, "FORBIDDEN");
    refused(
        &app.put("settings/gcmConf", &shown, json!({"senderId": "1"}))
            .await,
        403,
        "FORBIDDEN",
    );
    let shown = [("authorization", stranger.as_str())];
    refused(&app.get("devices", &shown).await, 403, "FORBIDDEN");
    // The bearer decides, whatever else is shown.
    let both = [
        ("authorization", "Bearer x.y.z"),
        ("clientSecret", app.client_secret.as_str()),
    ];
    refused(&app.get("devices", &both).await, 401, "UNAUTHORIZED");
    let admin = bearer(&app.house.admin());
    let shown = [("authorization", admin.as_str())];
    assert_eq!(app.delete("devices/d1", &shown).await.status, 204);
}
