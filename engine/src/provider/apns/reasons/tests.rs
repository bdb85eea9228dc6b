//! Every reason of Apple's, from the wire to what follows.
//! It must not take its expectations from the table it checks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use ConnectionEffect::{Close, Drain, Keep};

const AT: Millis = 1_700_000_000_000;

fn answer(status: u16, body: &str) -> Response {
    Response {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Response::default()
    }
}

fn reason(status: u16, reason: &str) -> Verdict {
    decode(&answer(status, &format!(r#"{{"reason":"{reason}"}}"#)))
}

fn rejected(word: &'static str, suspect: bool) -> Outcome {
    let reason = Reason::Borrowed(word);
    Outcome::Rejected { reason, suspect }
}

/// Written from Apple's pages and ours, not from the table.
#[test]
fn rejections_for_good() {
    let plain = [
        (400, "BadCollapseId"),
        (400, "BadExpirationDate"),
        (400, "BadMessageId"),
        (400, "BadPriority"),
        (400, "BadTopic"),
        (400, "DuplicateHeaders"),
        (400, "InvalidPushType"),
        (400, "MissingDeviceToken"),
        (400, "MissingTopic"),
        (400, "PayloadEmpty"),
        (400, "TopicDisallowed"),
        (403, "Forbidden"),
        (403, "MissingProviderToken"),
        (404, "BadPath"),
        (405, "MethodNotAllowed"),
        (413, "PayloadTooLarge"),
        (400, "FeatureNotEnabled"),
        (400, "MissingChannelId"),
        (400, "BadChannelId"),
        (400, "ChannelNotRegistered"),
        (400, "BadRequestParams"),
        (400, "BadRequestPayload"),
        (400, "MissingPushType"),
        (400, "CannotCreateChannelConfig"),
        (400, "MissingChannelQueueSize"),
        (403, "TopicMismatch"),
    ];
    let suspect = [(400, "BadDeviceToken"), (400, "DeviceTokenNotForTopic")];
    for (status, word) in plain.iter().chain(&suspect) {
        let verdict = reason(*status, word);
        let is_suspect = suspect.contains(&(*status, *word));
        assert_eq!(verdict.outcome, rejected(word, is_suspect));
        assert_eq!(
            (verdict.connection, verdict.credential),
            (Keep, CredentialEffect::None)
        );
    }
    let others = THE_ROWS_THAT_DO_MORE.trim().lines().count();
    assert_eq!(
        TABLE.len(),
        plain.len() + suspect.len() + others,
        "every row is tested here"
    );
}

/// Status, reason, what follows for the push (milliseconds), the connection and the credential.
const THE_ROWS_THAT_DO_MORE: &str = "
    400 IdleTimeout                 unavailable:1000       close keep
    403 BadCertificate              unauthorized:300000    close refused
    403 BadCertificateEnvironment   unauthorized:300000    close refused
    403 ExpiredProviderToken        unavailable:1000       close refresh
    403 InvalidProviderToken        unauthorized:60000     close refused
    403 UnrelatedKeyIdInToken       unavailable:1000       drain keep
    403 BadEnvironmentKeyIdInToken  unauthorized:300000    close refused
    403 BadEnvironmentKeyInToken    unauthorized:300000    close refused
    410 ExpiredToken                unregistered           keep  keep
    410 Unregistered                unregistered           keep  keep
    429 TooManyProviderTokenUpdates credential:1200000     close stop
    429 TooManyRequests             device:60000           keep  keep
    500 InternalServerError         unavailable:-          keep  keep
    503 ServiceUnavailable          unavailable:-          drain keep
    503 Shutdown                    unavailable:1000       drain keep
    503 Service                     unavailable:-          keep  keep
";

fn in_words(verdict: &Verdict) -> String {
    let wait = |wait: &Option<Millis>| wait.map_or("-".to_owned(), |wait| wait.to_string());
    let outcome = match &verdict.outcome {
        Outcome::Unregistered { since: None, .. } => "unregistered".to_owned(),
        Outcome::Unauthorized { pause, .. } => format!("unauthorized:{pause}"),
        Outcome::Unavailable {
            processed: Processed::Answered,
            retry_after,
            ..
        } => format!("unavailable:{}", wait(retry_after)),
        Outcome::Throttled {
            scope, retry_after, ..
        } => match scope {
            ThrottleScope::DeviceToken => format!("device:{}", wait(retry_after)),
            ThrottleScope::Credential => format!("credential:{}", wait(retry_after)),
        },
        other => format!("{other:?}"),
    };
    let connection = match verdict.connection {
        Keep => "keep",
        Drain => "drain",
        Close => "close",
    };
    let credential = match verdict.credential {
        CredentialEffect::None => "keep",
        CredentialEffect::Refresh => "refresh",
        CredentialEffect::Refused => "refused",
        CredentialEffect::StopMinting => "stop",
        CredentialEffect::Accepted => "accepted",
    };
    format!("{outcome} {connection} {credential}")
}

#[test]
fn the_rows_that_do_more() {
    let lines = THE_ROWS_THAT_DO_MORE
        .lines()
        .filter(|line| !line.trim().is_empty());
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let verdict = reason(words[0].parse().unwrap(), words[1]);
        assert_eq!(in_words(&verdict), words[2..].join(" "), "{line}");
        assert_eq!(
            crate::provider::verdict::reason_of(&verdict.outcome),
            words[1]
        );
    }
}

#[test]
fn success_needs_no_body() {
    let verdict = decode(&answer(200, ""));
    assert_eq!(verdict.outcome, Outcome::Accepted);
    assert_eq!(verdict.credential, CredentialEffect::Accepted);
}

#[test]
fn a_dead_device_comes_with_its_time_and_only_by_apples_exact_word() {
    let body = format!(r#"{{"reason":"Unregistered","timestamp":{AT}}}"#);
    let Outcome::Unregistered { since, .. } = decode(&answer(410, &body)).outcome else {
        panic!("not dead");
    };
    assert_eq!(since, Some(AT));
    for (status, body) in [
        (400, body.as_str()),
        (404, body.as_str()),
        (410, r#"{"reason":"SomethingNew"}"#),
        (410, "<html>Gone</html>"),
        (410, ""),
    ] {
        let outcome = decode(&answer(status, body)).outcome;
        let kept = matches!(outcome, Outcome::Rejected { suspect: false, .. });
        assert!(kept, "{status} {body}: {outcome:?}");
    }
    let milder = decode(&answer(400, r#"{"reason":"TopicMismatch"}"#)).outcome;
    assert_eq!(
        milder,
        rejected("TopicMismatch", false),
        "known under another status"
    );
}

#[test]
fn the_unknown_keeps_its_word_and_its_class() {
    let unknown = |status, body: &str| decode(&answer(status, body));
    let odd = unknown(418, "{\"reason\":\"Tea\\u0000pot\"}").outcome;
    let reason = Reason::Borrowed("Teapot");
    assert_eq!(
        odd,
        Outcome::Rejected {
            reason,
            suspect: false
        }
    );
    let Outcome::Unavailable { reason, .. } = unknown(502, "<html>").outcome else {
        panic!("5xx is worth another try");
    };
    assert_eq!(reason, "HTTP 502");
    let throttled = unknown(429, "{}").outcome;
    assert!(
        matches!(throttled, Outcome::Throttled { .. }),
        "{throttled:?}"
    );
}

#[test]
fn retry_after_is_obeyed_where_it_is_given() {
    let mut response = answer(503, r#"{"reason":"ServiceUnavailable"}"#);
    response.retry_after = Some(77_000);
    let Outcome::Unavailable { retry_after, .. } = decode(&response).outcome else {
        panic!("unavailable");
    };
    assert_eq!(retry_after, Some(77_000));
}

proptest! {
    #[test]
    fn nothing_but_410_ever_says_dead(status in 100u16..600, body in ".{0,200}") {
        let outcome = decode(&answer(status, &body)).outcome;
        let dead = matches!(outcome, Outcome::Unregistered { .. });
        prop_assert!(!dead || status == 410);
        prop_assert_eq!(outcome == Outcome::Accepted, status == 200);
    }
}
