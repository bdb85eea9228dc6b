//! The decided table of statuses, each from a request that earns it, and the shape of every refusal.
//! It must not know why a status was chosen.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::house::{Caller, House, apns_token, request};

/// A request, the status that it earns, and a word of its detail.
struct Line(Request<Body>, u16, &'static str);

fn line(
    (method, path): (Method, String),
    caller: &Caller,
    body: impl Into<Body>,
    (status, word): (u16, &'static str),
) -> Line {
    Line(request(method, &path, caller, body.into()), status, word)
}

fn with_header(mut line: Line, name: &'static str, value: &'static str) -> Line {
    line.0.headers_mut().insert(name, value.parse().unwrap());
    line
}

const ADA: &str = r#"{"user_id": "ada"}"#;

/// What is wrong with the text or the fields of a body.
fn bodies(at: impl Fn(&str) -> String, key: &Caller) -> Vec<Line> {
    let notify =
        |body: &'static str, expected| line((Method::POST, at("/notify")), key, body, expected);
    let nobody = json!({"user_ids": []}).to_string();
    vec![
        notify("{", (422, "json_invalid")),
        notify("", (422, "missing")),
        notify("[]", (422, "dict_type")),
        notify(r#"{"user_id": 5}"#, (422, "string_type")),
        notify("{}", (422, "missing")),
        notify(r#"{"user_id": "a\u0000"}"#, (422, "control")),
        notify(r#"{"user_id": ""}"#, (422, "user_id")),
        notify(
            r#"{"user_id": "a", "user_id": "b"}"#,
            (422, "duplicate_key"),
        ),
        notify(r#"{"user_id": "a", "data": {"aps": {}}}"#, (422, "aps")),
        notify(
            r#"{"user_id": "a", "options": {"topic": "a\nb"}}"#,
            (422, "topic"),
        ),
        notify(r#"{"user_id": "a", "options": {"ttl": 0}}"#, (422, "ttl")),
        line(
            (Method::POST, at("/notify/bulk")),
            key,
            nobody,
            (422, "user_ids"),
        ),
        line(
            (Method::DELETE, at("/devices/x")),
            key,
            "",
            (422, "user_id"),
        ),
    ]
}

/// Values that cannot be right, and what is over a limit.
fn values(at: impl Fn(&str) -> String, key: &Caller, admin: &Caller) -> Vec<Line> {
    let notify = || (Method::POST, at("/notify"));
    let bulk = (Method::POST, at("/notify/bulk"));
    let bad_device = r#"{"user_id": "u", "token": "xyz", "platform": "ios"}"#;
    let bad_raw = json!({"device_tokens": [{"platform": "android", "token": "short"}]});
    let bad_key =
        json!({"org_id": "acme", "team_id": "TEAM", "key_id": "KEY", "private_key": "no"});
    let raw = json!({"platform": "ios", "token": apns_token(1)});
    let raws = json!({"device_tokens": vec![raw; 501]});
    let huge = json!({"user_id": "ada", "alert": {"title": "x".repeat(5_000)}});
    let many = json!({"user_ids": vec!["u"; 100_001]});
    let over = "x".repeat(256 * 1024 + 1);
    let tenants = (Method::POST, "/tenants".to_owned());
    let devices = (Method::POST, at("/devices"));
    vec![
        line(devices, key, bad_device, (400, "invalid token format")),
        line(
            notify(),
            key,
            bad_raw.to_string(),
            (400, "invalid token format"),
        ),
        line(tenants, admin, bad_key.to_string(), (400, "team id")),
        line(notify(), key, huge.to_string(), (413, "4096")),
        line(notify(), key, over, (413, "262144")),
        line(bulk, key, many.to_string(), (413, "100000")),
        line(notify(), key, raws.to_string(), (413, "500")),
    ]
}

/// Media types, credentials, and what is not there.
fn callers(at: impl Fn(&str) -> String, key: &Caller, admin: &Caller) -> Vec<Line> {
    let nobody = &Caller::Nobody;
    let notify = || (Method::POST, at("/notify"));
    let other = || (Method::POST, "/tenants/other/notify".to_owned());
    let get = |path: &str| (Method::GET, path.to_owned());
    let text = line(notify(), key, ADA, (415, "JSON"));
    let gzip = line(notify(), key, ADA, (415, "compressed"));
    let junk_key = Caller::Key("msk_live_x".to_owned());
    let junk_token = Caller::Person("x.y.z".to_owned());
    let unknown_device = (Method::DELETE, at("/devices/x?user_id=u"));
    vec![
        with_header(text, "content-type", "text/plain"),
        with_header(gzip, "content-encoding", "gzip"),
        line(notify(), nobody, ADA, (401, "X-API-Key")),
        line(notify(), &junk_key, ADA, (401, "X-API-Key")),
        line(notify(), &junk_token, ADA, (401, "X-API-Key")),
        line(other(), key, ADA, (403, "tenant")),
        line((Method::DELETE, at("")), key, "", (403, "API key")),
        line(other(), admin, ADA, (404, "tenant")),
        line(get("/nowhere"), nobody, "", (404, "openapi")),
        line(get(&at("/notify/")), nobody, "", (404, "openapi")),
        line((Method::PUT, at("/notify")), nobody, "", (405, "methods")),
        line(unknown_device, key, "", (404, "device")),
    ]
}

fn table(house: &House, tenant: &str, key: &Caller) -> Vec<Line> {
    let at = |path: &str| format!("/tenants/{tenant}{path}");
    let mut table = bodies(at, key);
    table.extend(values(at, key, &house.admin()));
    table.extend(callers(at, key, &house.admin()));
    table
}

#[tokio::test]
async fn every_refusal_has_its_decided_status_and_shape_and_leaves_nothing_behind() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let before = house.counts(&tenant).await;
    for Line(request, status, word) in table(&house, &tenant, &key) {
        let what = format!("{} {} ({word})", request.method(), request.uri());
        let reply = house.send(request).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.body);
        assert_eq!(
            reply.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        let body = reply.body.as_object().unwrap();
        let fields: Vec<&str> = body.keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            ["detail", "request_id", "status", "title", "type"],
            "{what}"
        );
        assert_eq!(body["status"], status, "{what}");
        assert_eq!(
            reply.header("x-request-id"),
            body["request_id"].as_str(),
            "{what}"
        );
        match &body["detail"] {
            Value::Array(list) => {
                assert_eq!(status, 422, "{what}");
                assert!(
                    list.iter()
                        .all(|entry| entry["loc"].is_array() && entry["msg"].is_string())
                );
            }
            detail => assert!(detail.is_string() && status != 422, "{what}: {detail}"),
        }
        assert!(
            body["detail"].to_string().contains(word),
            "{what}: {}",
            body["detail"]
        );
    }
    assert_eq!(house.counts(&tenant).await, before);
}

#[tokio::test]
async fn a_request_id_goes_in_and_out() {
    let house = House::open().await;
    let mut asked = request(Method::GET, "/nowhere", &Caller::Nobody, Body::empty());
    asked
        .headers_mut()
        .insert("x-request-id", "abc-123".parse().unwrap());
    let reply = house.send(asked).await;
    assert_eq!(
        (reply.header("x-request-id"), &reply.body["request_id"]),
        (Some("abc-123"), &json!("abc-123"))
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let reply = house.get("/health", &Caller::Nobody).await;
    assert_eq!(reply.header("x-request-id").unwrap().len(), 32);
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("ok")));
    assert!(reply.body["version"].is_string());
}

#[tokio::test]
async fn a_405_names_the_methods() {
    let house = House::open().await;
    let reply = house
        .send(request(
            Method::PUT,
            "/health",
            &Caller::Nobody,
            Body::empty(),
        ))
        .await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET,HEAD"))
    );
}
