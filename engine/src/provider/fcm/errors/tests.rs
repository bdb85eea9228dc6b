//! Every error of FCM, from the wire to what follows.
//! It must not take its expectations from the tables it checks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn answer(status: u16, body: &str) -> Response {
    Response {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Response::default()
    }
}

/// An error as Google shapes it, with or without an errorCode.
fn google(status: u16, word: &str, code: Option<&str>) -> Response {
    let mut details = vec![json!({"@type": "type.googleapis.com/google.rpc.Help", "links": []})];
    if let Some(code) = code {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        details.push(json!({"@type": kind, "errorCode": code}));
    }
    let error = json!({"code": status, "message": "text", "status": word, "details": details});
    answer(status, &json!({ "error": error }).to_string())
}

fn unavailable(word: &'static str, wait: Millis) -> Outcome {
    Outcome::Unavailable {
        reason: Reason::Borrowed(word),
        processed: Processed::Answered,
        retry_after: Some(wait),
    }
}

fn rejected(word: &'static str, suspect: bool) -> Outcome {
    let reason = Reason::Borrowed(word);
    Outcome::Rejected { reason, suspect }
}

/// Status, status word, errorCode, what follows for the push (milliseconds) and the credential.
const EVERY_ERROR: &str = "
    400 INVALID_ARGUMENT   INVALID_ARGUMENT       rejected            keep
    400 INVALID_ARGUMENT   -                      rejected            keep
    401 UNAUTHENTICATED    -                      unavailable:1000    refresh
    401 UNAUTHENTICATED    THIRD_PARTY_AUTH_ERROR unavailable:900000  keep
    403 PERMISSION_DENIED  SENDER_ID_MISMATCH     suspect             keep
    403 PERMISSION_DENIED  -                      unauthorized:300000 refused
    404 NOT_FOUND          UNREGISTERED           unregistered        keep
    404 NOT_FOUND          -                      unauthorized:300000 refused
    404 NOT_FOUND          UNSPECIFIED_ERROR      unauthorized:300000 refused
    429 RESOURCE_EXHAUSTED QUOTA_EXCEEDED         credential:60000    keep
    429 RESOURCE_EXHAUSTED -                      credential:60000    keep
    500 INTERNAL           INTERNAL               unavailable:10000   keep
    500 INTERNAL           -                      unavailable:10000   keep
    503 UNAVAILABLE        UNAVAILABLE            unavailable:10000   keep
    503 UNAVAILABLE        -                      unavailable:10000   keep
";

fn in_words(verdict: &Verdict) -> String {
    let wait = |wait: &Option<Millis>| wait.map_or("-".to_owned(), |wait| wait.to_string());
    let outcome = match &verdict.outcome {
        Outcome::Rejected { suspect: false, .. } => "rejected".to_owned(),
        Outcome::Rejected { suspect: true, .. } => "suspect".to_owned(),
        Outcome::Unregistered { since: None, .. } => "unregistered".to_owned(),
        Outcome::Unauthorized { pause, .. } => format!("unauthorized:{pause}"),
        Outcome::Unavailable {
            processed: Processed::Answered,
            retry_after,
            ..
        } => format!("unavailable:{}", wait(retry_after)),
        Outcome::Throttled {
            scope: ThrottleScope::Credential,
            retry_after,
            ..
        } => format!("credential:{}", wait(retry_after)),
        other => format!("{other:?}"),
    };
    let credential = match verdict.credential {
        CredentialEffect::None => "keep",
        CredentialEffect::Refresh => "refresh",
        CredentialEffect::Refused => "refused",
        CredentialEffect::StopMinting => "stop",
        CredentialEffect::Accepted => "accepted",
    };
    format!("{outcome} {credential}")
}

#[test]
fn every_documented_error() {
    for line in EVERY_ERROR.trim().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let code = Some(words[2]).filter(|code| *code != "-");
        let verdict = decode(&google(words[0].parse().unwrap(), words[1], code));
        assert_eq!(in_words(&verdict), words[3..].join(" "), "{line}");
        assert_eq!(verdict.connection, ConnectionEffect::Keep);
        let named = code
            .filter(|code| *code != "UNSPECIFIED_ERROR")
            .unwrap_or(words[1]);
        assert_eq!(
            crate::provider::verdict::reason_of(&verdict.outcome),
            named,
            "{line}"
        );
    }
    assert_eq!(
        BY_CODE.len() + BY_STATUS.len(),
        16,
        "a new row needs a line here"
    );
}

#[test]
fn front_ends_answer_with_html_or_nothing() {
    for (status, word) in [
        (502, "BAD_GATEWAY"),
        (503, "UNAVAILABLE"),
        (504, "GATEWAY_TIMEOUT"),
    ] {
        for body in ["<html>Error</html>", ""] {
            let verdict = decode(&answer(status, body));
            assert_eq!(verdict.outcome, unavailable(word, 10_000), "{status}");
        }
    }
    let missing = decode(&answer(404, "<html>Not found</html>")).outcome;
    assert!(
        matches!(missing, Outcome::Unauthorized { .. }),
        "never a prune: {missing:?}"
    );
    let teapot = decode(&answer(418, "")).outcome;
    assert!(matches!(teapot, Outcome::Rejected { suspect: false, .. }));
    let odd = decode(&answer(599, "")).outcome;
    assert!(matches!(
        odd,
        Outcome::Unavailable {
            retry_after: Some(10_000),
            ..
        }
    ));
}

#[test]
fn success_needs_no_look_at_the_body() {
    let verdict = decode(&answer(200, r#"{"name":"projects/p/messages/1"}"#));
    assert_eq!(verdict.outcome, Outcome::Accepted);
}

#[test]
fn a_bad_device_token_is_suspect_by_its_field_never_by_the_text() {
    let with_details = |details: serde_json::Value, message: &str| {
        let word = "INVALID_ARGUMENT";
        let error = json!({"status": word, "message": message, "details": details});
        decode(&answer(400, &json!({ "error": error }).to_string())).outcome
    };
    let blamed = |field: &str| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": "Invalid registration token"}],
        }])
    };
    for field in ["message.token", "message.fid"] {
        assert_eq!(
            with_details(blamed(field), "x"),
            rejected("INVALID_ARGUMENT", true)
        );
    }
    let text = "The registration token is not a valid FCM registration token";
    for details in [
        blamed("message.data"),
        json!([]),
        json!("odd"),
        json!([1, null, "x"]),
    ] {
        assert_eq!(
            with_details(details, text),
            rejected("INVALID_ARGUMENT", false)
        );
    }
}

#[test]
fn retry_after_counts_where_it_is_longer() {
    let wait = |status, word, seconds: Millis| {
        let mut response = google(status, word, None);
        response.retry_after = Some(seconds * 1_000);
        match decode(&response).outcome {
            Outcome::Throttled { retry_after, .. } | Outcome::Unavailable { retry_after, .. } => {
                retry_after.unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(429, "RESOURCE_EXHAUSTED", 90), 90_000);
    assert_eq!(
        wait(429, "RESOURCE_EXHAUSTED", 5),
        60_000,
        "Google: at least a minute"
    );
    assert_eq!(wait(503, "UNAVAILABLE", 30), 30_000);
    assert_eq!(
        wait(503, "UNAVAILABLE", 1),
        10_000,
        "Google: at least ten seconds"
    );
}

#[test]
fn a_device_quota_speaks_of_one_device() {
    let kind = "type.googleapis.com/google.rpc.QuotaFailure";
    let details = json!([{"@type": kind, "violations": [{"subject": "device:abc"}]}]);
    let body = json!({"error": {"code": 429, "details": details}}).to_string();
    let outcome = decode(&answer(429, &body)).outcome;
    let device = ThrottleScope::DeviceToken;
    assert!(matches!(outcome, Outcome::Throttled { scope, .. } if scope == device));
}

proptest! {
    #[test]
    fn nothing_but_googles_own_word_ever_says_dead(status in 100u16..600, body in ".{0,200}") {
        let outcome = decode(&answer(status, &body)).outcome;
        let dead = matches!(outcome, Outcome::Unregistered { .. });
        prop_assert!(!dead, "{outcome:?}");
        prop_assert_eq!(outcome == Outcome::Accepted, status == 200);
    }
}
