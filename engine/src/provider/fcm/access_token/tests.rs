//! One refresh at a time, early enough, and what a refusal means.
//! It must not know the wire beyond the endpoint's answers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;

use super::*;

const NOW: Millis = 1_800_000_000_000;

fn answer(status: u16, body: &str) -> Response {
    Response {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Response::default()
    }
}

fn granted(name: &str) -> Response {
    answer(
        200,
        &format!(r#"{{"access_token":"{name}","expires_in":3600,"token_type":"Bearer"}}"#),
    )
}

fn ask(tokens: &AccessTokens, now: Millis) -> Authorization {
    tokens.authorization(now, Waker::noop())
}

/// (header, generation, refresh) of a token that is ready.
fn ready(tokens: &AccessTokens, now: Millis) -> (String, u16, bool) {
    match ask(tokens, now) {
        Authorization::Ready {
            header,
            generation,
            refresh,
        } => (header.to_str().unwrap().to_owned(), generation, refresh),
        other => panic!("{other:?}"),
    }
}

fn waits(tokens: &AccessTokens, now: Millis) -> bool {
    match ask(tokens, now) {
        Authorization::Wait { refresh } => refresh,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_of_many_refreshes_and_the_old_token_serves_meanwhile() {
    let tokens = AccessTokens::default();
    assert!(waits(&tokens, NOW), "the first is told to ask");
    assert!(
        !waits(&tokens, NOW) && !waits(&tokens, NOW + 1),
        "all others wait"
    );
    tokens.refreshed(Some(&granted("one")), 0, NOW).unwrap();
    let life = 3_600 * SECOND;
    let (header, generation, refresh) = ready(&tokens, NOW);
    assert_eq!(
        (header.as_str(), generation, refresh),
        ("Bearer one", 1, false)
    );
    assert!(!ready(&tokens, NOW + life * 80 / 100).2, "not before 80 %");
    let due = NOW + life * 90 / 100;
    assert!(ready(&tokens, due).2, "not after 90 %");
    let (header, _, again) = ready(&tokens, due);
    assert_eq!(
        (header.as_str(), again),
        ("Bearer one", false),
        "one flight, the old one serves"
    );
    tokens.refreshed(Some(&granted("two")), 0, due).unwrap();
    assert_eq!(ready(&tokens, due).0, "Bearer two");
}

#[test]
fn a_lost_refresh_is_made_again_after_a_while() {
    let tokens = AccessTokens::default();
    assert!(waits(&tokens, NOW));
    assert!(!waits(&tokens, NOW + FLIGHT_MAX - 1));
    assert!(waits(&tokens, NOW + FLIGHT_MAX));
}

#[test]
fn an_unwell_endpoint_is_asked_again_after_growing_random_waits() {
    let tokens = AccessTokens::default();
    let mut now = NOW;
    for failures in 0..10u32 {
        assert!(waits(&tokens, now), "after {failures} failures");
        let odd = [
            None,
            Some(answer(503, "")),
            Some(answer(200, "{}")),
            Some(answer(429, "")),
        ];
        let odd = &odd[failures as usize % odd.len()];
        tokens
            .refreshed(odd.as_ref(), u64::MAX, now)
            .expect("not a refusal");
        let ceiling = (SECOND << failures.min(6)).min(60 * SECOND);
        assert!(waits_until(&tokens, now) <= ceiling);
        now += ceiling;
    }
    tokens.refreshed(Some(&granted("one")), 0, now).unwrap();
    assert_eq!(ready(&tokens, now).0, "Bearer one");
}

/// How long nobody is told to ask.
fn waits_until(tokens: &AccessTokens, now: Millis) -> Millis {
    tokens.lock().retry_at - now
}

#[test]
fn a_refused_account_rests_with_googles_word() {
    let tokens = AccessTokens::default();
    assert!(waits(&tokens, NOW));
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let refusal = tokens
        .refreshed(Some(&answer(400, body)), 0, NOW)
        .unwrap_err();
    assert_eq!(
        (refusal.reason.as_ref(), refusal.pause),
        ("invalid_grant", REST)
    );
    assert!(matches!(ask(&tokens, NOW + 1), Authorization::Refused(_)));
    assert!(waits(&tokens, NOW + REST), "then one tries again");
    let again = tokens
        .refreshed(Some(&answer(401, "<html>")), 0, NOW + REST)
        .unwrap_err();
    assert_eq!((again.reason.as_ref(), again.pause), ("HTTP 401", 2 * REST));
}

#[test]
fn a_rejected_token_is_replaced_once_and_then_the_account_rests() {
    let tokens = AccessTokens::default();
    let reason = || Reason::Borrowed("UNAUTHENTICATED");
    assert!(waits(&tokens, NOW));
    tokens.refreshed(Some(&granted("one")), 0, NOW).unwrap();
    tokens.rejected(1, reason(), NOW).unwrap();
    tokens
        .rejected(1, reason(), NOW)
        .expect("stragglers say nothing new");
    assert!(waits(&tokens, NOW), "it is not sent again");
    tokens.refreshed(Some(&granted("two")), 0, NOW).unwrap();
    assert_eq!(ready(&tokens, NOW).0, "Bearer two");
    tokens
        .rejected(1, reason(), NOW)
        .expect("a late answer to the old one");
    assert_eq!(ready(&tokens, NOW).0, "Bearer two");
    let refusal = tokens.rejected(2, reason(), NOW).unwrap_err();
    assert_eq!(refusal.pause, REST);
    assert!(matches!(ask(&tokens, NOW), Authorization::Refused(_)));
}

#[test]
fn who_waits_is_woken() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let tokens = AccessTokens::default();
    for _ in 0..3 {
        tokens.authorization(NOW, &waker);
    }
    tokens.refreshed(Some(&granted("one")), 0, NOW).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "once for each task");
}
