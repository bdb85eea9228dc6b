//! Tables of bodies and what is said about them.
//! It must not know routes.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Alert {
    title: Option<String>,
    badge: Option<u32>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Body {
    user_id: String,
    alert: Option<Object<Alert>>,
    kind: Option<Word>,
    loud: Option<bool>,
    score: Option<f64>,
    list: Option<Bounded<Box<str>, 3>>,
    data: Option<Member<Map<String, Value>>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Word {
    One,
    Two,
}

fn detail(body: &str) -> (u16, Value) {
    let error = read::<Body>(body.as_bytes()).unwrap_err();
    let status = error.status().as_u16();
    let response = error.render(crate::face::Face::Notify, "r");
    let bytes = futures_util::FutureExt::now_or_never(axum::body::to_bytes(
        response.into_body(),
        usize::MAX,
    ));
    let body: Value = serde_json::from_slice(&bytes.unwrap().unwrap()).unwrap();
    (status, body["detail"].clone())
}

#[test]
fn null_is_absent_and_unknown_members_are_ignored() {
    let body =
        br#"{"user_id": "u", "alert": null, "kind": null, "data": null, "what": [{"x": 1}]}"#;
    let read: Body = read(body).unwrap();
    assert_eq!(
        (read.user_id.as_str(), read.alert, read.data),
        ("u", None, None)
    );
}

fn assert_table(table: &[(&str, Value, &str)]) {
    for (body, loc, kind) in table {
        let (status, detail) = detail(body);
        assert_eq!(status, 422, "{body}");
        let found = (&detail[0]["loc"], &detail[0]["type"]);
        assert_eq!(found, (loc, &json!(kind)), "{body}");
        assert!(detail[0]["msg"].as_str().is_some_and(|msg| !msg.is_empty()));
    }
}

#[test]
fn what_is_not_the_wanted_object_is_named_with_its_place_and_kind() {
    assert_table(&[
        ("", json!(["body"]), "missing"),
        ("{", json!(["body", 0]), "json_invalid"),
        ("{\"a\":\n tru}", json!(["body", 10]), "json_invalid"),
        ("{} x", json!(["body", 3]), "json_invalid"),
        ("{}", json!(["body", "user_id"]), "missing"),
        ("[]", json!(["body"]), "dict_type"),
        (
            r#"{"user_id": 5}"#,
            json!(["body", "user_id"]),
            "string_type",
        ),
        (
            r#"{"user_id": null}"#,
            json!(["body", "user_id"]),
            "string_type",
        ),
    ]);
}

#[test]
fn each_wrong_field_is_named_with_its_place_and_kind() {
    assert_table(&[
        (
            r#"{"user_id": "u", "alert": {"title": 5}}"#,
            json!(["body", "alert", "title"]),
            "string_type",
        ),
        (
            r#"{"user_id": "u", "alert": {"badge": "5"}}"#,
            json!(["body", "alert", "badge"]),
            "int_type",
        ),
        (
            r#"{"user_id": "u", "alert": {"badge": -5}}"#,
            json!(["body", "alert", "badge"]),
            "value_error",
        ),
        (
            r#"{"user_id": "u", "loud": 1}"#,
            json!(["body", "loud"]),
            "bool_type",
        ),
        (
            r#"{"user_id": "u", "score": "1"}"#,
            json!(["body", "score"]),
            "float_type",
        ),
        (
            r#"{"user_id": "u", "list": ["a", 5]}"#,
            json!(["body", "list", 1]),
            "string_type",
        ),
        (
            r#"{"user_id": "u", "list": "a"}"#,
            json!(["body", "list"]),
            "list_type",
        ),
        (
            r#"{"user_id": "u", "kind": "three"}"#,
            json!(["body", "kind"]),
            "enum",
        ),
        (
            r#"{"user_id": "u", "data": [1]}"#,
            json!(["body", "data"]),
            "dict_type",
        ),
        (
            r#"{"user_id": "u", "user_id": "v"}"#,
            json!(["body", "user_id"]),
            "duplicate_key",
        ),
        (
            r#"{"user_id": "u", "data": {"a": [{"b": 1, "\u0062": 2}]}}"#,
            json!(["body", "data", "a", 0, "b"]),
            "duplicate_key",
        ),
    ]);
}

#[test]
fn duplicates_are_found_among_many_members() {
    let members: Vec<String> = (0..40).map(|index| format!("\"m{index}\": 1")).collect();
    let body = format!("{{\"user_id\": \"u\", {}, \"m39\": 2}}", members.join(","));
    assert_eq!(detail(&body).1[0]["loc"], json!(["body", "m39"]));
}

#[test]
fn lists_and_members_over_their_limit_are_413_and_name_it() {
    let (status, text) = detail(r#"{"user_id": "u", "list": ["a", "b", "c", "d"]}"#);
    assert_eq!(
        (status, text.as_str().unwrap()),
        (413, "list: too many entries: at most 3")
    );
    let large = "x".repeat(MEMBER_BYTES_MAX);
    let (status, text) = detail(&format!(
        "{{\"user_id\": \"u\", \"data\": {{\"a\": \"{large}\"}}}}"
    ));
    assert_eq!(
        (status, text.as_str().unwrap()),
        (413, "data: too large: at most 65536 bytes")
    );
}

#[test]
fn errors_never_repeat_a_value() {
    for body in [
        r#"{"user_id": "u", "kind": "secret"}"#,
        r#"{"user_id": "u", "loud": "secret"}"#,
        r#"{"user_id": "u", "alert": "secret"}"#,
    ] {
        assert!(!detail(body).1.to_string().contains("secret"), "{body}");
    }
}

#[test]
fn deep_nesting_is_malformed_and_not_a_crash() {
    let body = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(detail(&body).1[0]["type"], "json_invalid");
}
