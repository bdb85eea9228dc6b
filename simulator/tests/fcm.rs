//! FCM and Google's token endpoint as their clients see them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use clarion_simulator::{FcmTestAccount, Options, Provider, Simulator, fcm_test_device_token};
use http::Request;
use serde_json::{Value, json};
use support::{Answer, Client, now_s};

const PROJECT: &str = "clarion-test";

struct Fcm {
    simulator: Simulator,
    account: FcmTestAccount,
    client: Client,
    access_token: String,
}

impl Fcm {
    async fn start(options: Options) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let account = simulator.fcm_test_account(PROJECT).unwrap();
        let client = Client::connect(&simulator.fcm_origin(), simulator.ca_pem()).await;
        let mut fcm = Self {
            simulator,
            account,
            client,
            access_token: String::new(),
        };
        let assertion = fcm.assertion(0, 3600);
        let answer = fcm.exchange(&assertion).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = answer.json();
        assert_eq!(
            (&body["expires_in"], &body["token_type"]),
            (&json!(3599), &json!("Bearer"))
        );
        fcm.access_token = body["access_token"].as_str().unwrap().to_owned();
        fcm
    }

    fn assertion(&self, age_s: i64, life_s: i64) -> String {
        self.account
            .assertion(&self.simulator.fcm_token_url(), now_s() - age_s, life_s)
            .unwrap()
    }

    async fn exchange(&self, assertion: &str) -> Answer {
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        self.form(format!("grant_type={grant}&assertion={assertion}"))
            .await
    }

    async fn form(&self, form: String) -> Answer {
        let request = Request::post("https://127.0.0.1/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
        self.client.send(request).await.unwrap()
    }

    async fn send_as(&self, authorization: &str, project: &str, body: &Value) -> Answer {
        let request = Request::post(format!(
            "https://127.0.0.1/v1/projects/{project}/messages:send"
        ))
        .header("authorization", authorization)
        .header("content-type", "application/json")
        .header("x-request-id", "recipient-1")
        .body(Bytes::from(body.to_string()))
        .unwrap();
        self.client.send(request).await.unwrap()
    }

    async fn send(&self, body: &Value) -> Answer {
        self.send_as(&format!("Bearer {}", self.access_token), PROJECT, body)
            .await
    }
}

fn device() -> String {
    fcm_test_device_token(1, 1)
}

fn message(extra: Value) -> Value {
    let mut message = json!({ "token": device() });
    message
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    json!({ "message": message })
}

/// HTTP status, Google's status, FcmError's code, and the first violation's field.
fn verdict(answer: &Answer) -> (u16, String, String, String) {
    let error = &answer.json()["error"];
    assert_eq!(error["code"], json!(answer.status), "{}", answer.body);
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = details
        .iter()
        .map(|one| text(&one["errorCode"]))
        .find(|code| !code.is_empty());
    let field = details
        .iter()
        .find_map(|one| one["fieldViolations"][0]["field"].as_str());
    let field = field.unwrap_or_default().to_owned();
    (
        answer.status,
        text(&error["status"]),
        code.unwrap_or_default(),
        field,
    )
}

#[tokio::test]
async fn a_good_message_is_accepted_and_logged() {
    let fcm = Fcm::start(Options::default()).await;
    let answer = fcm
        .send(&message(json!({
            "notification": { "title": "Hi", "body": "there" },
            "data": { "k": "v" },
            "android": {
                "priority": "HIGH", "ttl": "3.5s", "collapseKey": "c",
                "notification": { "tag": "the-tag", "color": "#aabbcc", "notification_count": 3,
                                  "vibrate_timings": ["1s", "0.5s"] },
            },
            "apns": { "headers": { "apns-priority": "5" }, "payload": { "aps": { "badge": 1 } } },
        })))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let name = answer.json()["name"].as_str().unwrap().to_owned();
    assert!(
        name.starts_with("projects/clarion-test/messages/0:"),
        "{name}"
    );
    let receipt = &fcm.simulator.received()[0];
    assert_eq!(receipt.provider, Provider::Fcm);
    assert_eq!(
        (receipt.device_token.clone(), receipt.id.as_str()),
        (device(), "recipient-1")
    );
    assert_eq!(
        (receipt.topic.as_str(), receipt.collapse_id.as_str()),
        (PROJECT, "the-tag")
    );

    let dry = json!({ "validate_only": true, "message": { "token": device() } });
    assert_eq!(fcm.send(&dry).await.status, 200);
    let stats = fcm.simulator.stats();
    assert_eq!(
        (
            stats.fcm_accepted,
            stats.access_tokens,
            stats.token_requests
        ),
        (1, 1, 1)
    );
}

/// Bodies that Google refuses, FcmError's code if there is one, and the field that is blamed. `DEVICE`
/// stands for a good device token and `LONG` for 4,096 characters.
#[rustfmt::skip]
const FAULTY: [(&str, &str, &str); 25] = [
    (r#"{}"#, "INVALID_ARGUMENT", "message"),
    (r#"{"message":{}}"#, "INVALID_ARGUMENT", "message"),
    (r#"{"message":{"token":"short"}}"#, "INVALID_ARGUMENT", "message.token"),
    (r#"{"message":{"token":"DEVICE "}}"#, "INVALID_ARGUMENT", "message.token"),
    (r#"{"message":{"topic":"/topics/news"}}"#, "INVALID_ARGUMENT", "message.topic"),
    (r#"{"message":{"token":"DEVICE","topic":"news"}}"#, "", "message"),
    (r#"{"message":{"token":"DEVICE","unknown":1}}"#, "", "message"),
    (r#"{"message":{"token":"DEVICE"},"dry_run":true}"#, "", ""),
    (r#"{"message":{"token":"DEVICE","data":{"n":1}}}"#, "", "message.data[0].value"),
    (r#"{"message":{"token":"DEVICE","data":{"from":"x"}}}"#, "INVALID_ARGUMENT", "message.data"),
    (r#"{"message":{"token":"DEVICE","data":{"message_type":"x"}}}"#, "INVALID_ARGUMENT", "message.data"),
    (r#"{"message":{"token":"DEVICE","data":{"google.x":"x"}}}"#, "INVALID_ARGUMENT", "message.data"),
    (r#"{"message":{"token":"DEVICE","data":{"gcm.x":"x"}}}"#, "INVALID_ARGUMENT", "message.data"),
    (r#"{"message":{"token":"DEVICE","data":{"k":"LONG"}}}"#, "INVALID_ARGUMENT", "message.data"),
    (r#"{"message":{"token":"DEVICE","notification":"Hi"}}"#, "", "message.notification"),
    (r#"{"message":{"token":"DEVICE","notification":{"sound":"x"}}}"#, "", "message.notification"),
    (r#"{"message":{"token":"DEVICE","android":{"ttl":"1"}}}"#, "", "message.android.ttl"),
    (r#"{"message":{"token":"DEVICE","android":{"ttl":"2419201s"}}}"#, "", "message.android.ttl"),
    (r#"{"message":{"token":"DEVICE","android":{"ttl":"1.s"}}}"#, "", "message.android.ttl"),
    (r#"{"message":{"token":"DEVICE","android":{"ttl":60}}}"#, "", "message.android.ttl"),
    (r#"{"message":{"token":"DEVICE","android":{"priority":"5"}}}"#, "", "message.android.priority"),
    (r#"{"message":{"token":"DEVICE","android":{"data":{"k":null}}}}"#, "", "message.android.data[0].value"),
    (r#"{"message":{"token":"DEVICE","webpush":{"fcm_options":[]}}}"#, "", "message.webpush.fcm_options"),
    (r#"{"message":{"token":"DEVICE","apns":{"headers":{"x":5}}}}"#, "", "message.apns.headers[0].value"),
    (r#"{"message":{"token":"DEVICE","apns":{"payload":"{}"}}}"#, "", "message.apns.payload"),
];

#[tokio::test]
async fn faulty_messages_are_refused_as_google_does() {
    let fcm = Fcm::start(Options::default()).await;
    for (body, code, field) in FAULTY {
        let body = body
            .replace("DEVICE", &device())
            .replace("LONG", &"x".repeat(4096));
        let answer = fcm.send(&serde_json::from_str(&body).unwrap()).await;
        let wanted = (
            400,
            "INVALID_ARGUMENT".to_owned(),
            code.to_owned(),
            field.to_owned(),
        );
        assert_eq!(verdict(&answer), wanted, "{body:.200}");
    }
    let bad = fcm.send(&Value::String("not an object".to_owned())).await;
    assert_eq!(bad.status, 400);
    let huge = fcm
        .send(&message(json!({ "data": { "k": "x".repeat(80_000) } })))
        .await;
    assert_eq!(huge.status, 400);
    assert_eq!(fcm.simulator.stats().fcm_accepted, 0);
    let fits = fcm
        .send(&message(json!({ "data": { "k": "x".repeat(4095) } })))
        .await;
    assert_eq!(fits.status, 200, "{}", fits.body);
}

#[tokio::test]
async fn projects_and_access_tokens_are_checked() {
    let fcm = Fcm::start(Options::default()).await;
    fcm.simulator.fcm_test_account("another").unwrap();
    let good = message(json!({}));
    let bearer = format!("Bearer {}", fcm.access_token);
    let send = |authorization: &str, project: &'static str| {
        let authorization = authorization.to_owned();
        let (fcm, good) = (&fcm, &good);
        async move { verdict(&fcm.send_as(&authorization, project, good).await) }
    };
    let plain = |code, status: &str| (code, status.to_owned(), String::new(), String::new());
    assert_eq!(
        send("Bearer ya29.unknown", PROJECT).await,
        plain(401, "UNAUTHENTICATED")
    );
    assert_eq!(
        send("Basic abc", PROJECT).await,
        plain(401, "UNAUTHENTICATED")
    );
    assert_eq!(send(&bearer, "unheard-of").await, plain(404, "NOT_FOUND"));
    assert_eq!(
        send(&bearer, "another").await,
        plain(403, "PERMISSION_DENIED")
    );

    fcm.simulator.register_fcm_device(&device(), "another");
    let (code, status, error, _) = send(&bearer, PROJECT).await;
    let wanted = (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH");
    assert_eq!((code, status.as_str(), error.as_str()), wanted);
    fcm.simulator.register_fcm_device(&device(), PROJECT);
    assert_eq!(fcm.send(&good).await.status, 200);

    fcm.simulator.set_clock_offset_ms(3_600_000);
    assert_eq!(send(&bearer, PROJECT).await, plain(401, "UNAUTHENTICATED"));
    fcm.simulator.set_clock_offset_ms(0);
    assert_eq!(fcm.send(&good).await.status, 200);
    fcm.simulator.revoke_access_tokens();
    assert_eq!(send(&bearer, PROJECT).await, plain(401, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn assertions_are_verified() {
    let fcm = Fcm::start(Options::default()).await;
    let stranger = FcmTestAccount::generate(PROJECT, "unused").unwrap();
    let url = fcm.simulator.fcm_token_url();
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "iss": fcm.account.client_email,
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": now_s(),
            "exp": now_s() + 3600,
        });
        change(&mut claims);
        fcm.account.sign(&claims).unwrap()
    };
    for (assertion, error) in [
        (
            stranger.assertion(&url, now_s(), 3600).unwrap(),
            "invalid_grant",
        ),
        (fcm.assertion(0, 3601), "invalid_grant"),
        (fcm.assertion(3700, 3600), "invalid_grant"),
        (fcm.assertion(-600, 3600), "invalid_grant"),
        (
            claims(&|claims| claims["aud"] = json!("https://elsewhere/token")),
            "invalid_grant",
        ),
        (
            claims(&|claims| claims["iss"] = json!("who@example.com")),
            "invalid_grant",
        ),
        (
            claims(&|claims| claims["scope"] = json!("openid")),
            "invalid_scope",
        ),
        ("a.b.c".to_owned(), "invalid_grant"),
    ] {
        let answer = fcm.exchange(&assertion).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (400, &json!(error)),
            "{}",
            answer.body
        );
    }
    let answer = fcm.form("grant_type=password&assertion=x".to_owned()).await;
    assert_eq!(answer.json()["error"], json!("unsupported_grant_type"));
    let google = claims(&|_| {});
    assert_eq!(
        fcm.exchange(&google).await.status,
        200,
        "made out to Google's own address"
    );
    assert!(fcm.simulator.revoke_fcm_account(&fcm.account.client_email));
    assert_eq!(
        fcm.exchange(&google).await.json()["error"],
        json!("invalid_grant")
    );
}

#[tokio::test]
async fn every_error_of_google_can_be_scripted() {
    let fcm = Fcm::start(Options::default()).await;
    for (reason, code, status, error_code) in [
        (
            "INVALID_ARGUMENT",
            400,
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
        ),
        ("UNREGISTERED", 404, "NOT_FOUND", "UNREGISTERED"),
        (
            "SENDER_ID_MISMATCH",
            403,
            "PERMISSION_DENIED",
            "SENDER_ID_MISMATCH",
        ),
        (
            "QUOTA_EXCEEDED",
            429,
            "RESOURCE_EXHAUSTED",
            "QUOTA_EXCEEDED",
        ),
        ("UNAVAILABLE", 503, "UNAVAILABLE", "UNAVAILABLE"),
        ("INTERNAL", 500, "INTERNAL", "INTERNAL"),
        (
            "THIRD_PARTY_AUTH_ERROR",
            401,
            "UNAUTHENTICATED",
            "THIRD_PARTY_AUTH_ERROR",
        ),
        ("UNSPECIFIED_ERROR", 500, "UNKNOWN", "UNSPECIFIED_ERROR"),
        ("UNAUTHENTICATED", 401, "UNAUTHENTICATED", ""),
        ("PERMISSION_DENIED", 403, "PERMISSION_DENIED", ""),
        ("SERVICE_DISABLED", 403, "PERMISSION_DENIED", ""),
        ("NOT_FOUND", 404, "NOT_FOUND", ""),
        ("RESOURCE_EXHAUSTED", 429, "RESOURCE_EXHAUSTED", ""),
    ] {
        let rule = format!(
            "[[rule]]\nmatch = {{ provider = 'fcm' }}\naction = {{ reason = '{reason}', retry_after = '17' }}"
        );
        fcm.simulator.set_rules_toml(&rule).unwrap();
        let answer = fcm.send(&message(json!({}))).await;
        let (got_code, got_status, got_error, _) = verdict(&answer);
        assert_eq!(
            (got_code, got_status.as_str(), got_error.as_str()),
            (code, status, error_code)
        );
        assert_eq!(answer.headers["retry-after"], "17");
    }
    fcm.simulator
        .set_rules_toml("[[rule]]\naction = { status = 502 }")
        .unwrap();
    let answer = fcm.send(&message(json!({}))).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.body.starts_with("<!DOCTYPE html>"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn the_token_endpoint_can_be_scripted() {
    let fcm = Fcm::start(Options::default()).await;
    let rule =
        "[[rule]]\nmatch.provider = 'oauth'\naction = { status = 503, reason = 'backend_error' }";
    fcm.simulator.set_rules_toml(rule).unwrap();
    let answer = fcm.exchange(&fcm.assertion(0, 3600)).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (503, &json!("backend_error"))
    );
    assert_eq!(
        fcm.send(&message(json!({}))).await.status,
        200,
        "sending goes on"
    );
}

#[tokio::test]
async fn any_credential_can_be_accepted() {
    let options = Options {
        accept_any_credential: true,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let account = FcmTestAccount::generate("whatever", "unused").unwrap();
    let client = Client::connect(&simulator.fcm_origin(), simulator.ca_pem()).await;
    let fcm = Fcm {
        simulator,
        account,
        client,
        access_token: "ya29.any".to_owned(),
    };
    assert_eq!(fcm.exchange(&fcm.assertion(0, 3600)).await.status, 200);
    assert_eq!(
        fcm.exchange(&fcm.assertion(0, 3700)).await.status,
        400,
        "the form still counts"
    );
    assert_eq!(fcm.send(&message(json!({}))).await.status, 200);
}

#[tokio::test]
async fn unknown_addresses_get_a_page() {
    let fcm = Fcm::start(Options::default()).await;
    for path in [
        "/",
        "/v1/projects//messages:send",
        "/v1/projects/p/messages:receive",
        "/fcm/send",
    ] {
        let request = Request::post(format!("https://127.0.0.1{path}"))
            .body(Bytes::new())
            .unwrap();
        let answer = fcm.client.send(request).await.unwrap();
        assert_eq!(
            (
                answer.status,
                answer.headers["content-type"].as_bytes()[..9].to_vec()
            ),
            (404, b"text/html".to_vec())
        );
    }
}
