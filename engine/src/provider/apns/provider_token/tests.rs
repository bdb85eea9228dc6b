//! The grid, the limits on minting, and that two processes mint the same.
//! It must not trust the signer's own word: signatures are verified.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use p256::ecdsa::signature::Verifier;
use proptest::prelude::*;

use super::*;
use crate::provider::test_keys::signing_key;

const NOW: Millis = 1_800_000_000_000;

fn tokens() -> ProviderTokens {
    let key = signing_key();
    ProviderTokens::new(key, "TEAM123456", "KEY1234567", &[9; 32])
}

fn text(header: &HeaderValue) -> String {
    header.to_str().unwrap().to_owned()
}

fn claims(header: &HeaderValue) -> (serde_json::Value, serde_json::Value) {
    let text = text(header);
    let jwt = text.strip_prefix("bearer ").unwrap();
    let parts: Vec<&str> = jwt.split('.').collect();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let signature = Signature::from_slice(&decoded(parts[2])).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    let key = signing_key();
    key.verifying_key()
        .verify(signed.as_bytes(), &signature)
        .unwrap();
    let json = |part: &str| serde_json::from_slice(&decoded(part)).unwrap();
    (json(parts[0]), json(parts[1]))
}

fn iat(header: &HeaderValue) -> Millis {
    claims(header).1["iat"].as_i64().unwrap() * 1_000
}

#[test]
fn the_token_is_what_apple_documents() {
    let (header, _) = tokens().authorization(NOW).unwrap();
    let (head, body) = claims(&header);
    assert_eq!(
        head,
        serde_json::json!({"alg": "ES256", "kid": "KEY1234567"})
    );
    assert_eq!(body["iss"], "TEAM123456");
    assert_eq!(body.as_object().unwrap().len(), 2);
    assert!(header.is_sensitive(), "never indexed, never shown");
    assert!(!format!("{:?}", tokens()).contains("bearer"));
}

#[test]
fn one_token_serves_forty_minutes_and_none_is_ever_older_than_fifty_five() {
    let tokens = tokens();
    let mut minted = vec![iat(&tokens.authorization(NOW).unwrap().0)];
    for minute in 0..600 {
        let now = NOW + minute * MINUTE;
        let at = iat(&tokens.authorization(now).unwrap().0);
        assert!(
            (MINUTE..=42 * MINUTE).contains(&(now - at)),
            "age {}",
            now - at
        );
        if minted.last() != Some(&at) {
            minted.push(at);
        }
    }
    assert!(
        minted
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 40 * MINUTE),
        "{minted:?}"
    );
}

#[test]
fn a_token_called_expired_is_replaced_once_and_a_young_one_is_a_clock_fault() {
    let tokens = tokens();
    let (before, generation) = tokens.authorization(NOW).unwrap();
    let born = iat(&before);
    assert_eq!(
        tokens.expired(generation, born + 19 * MINUTE),
        Expired::ClockFault
    );
    let now = born + 25 * MINUTE;
    assert_eq!(tokens.expired(generation, now), Expired::Replaced);
    let (after, newer) = tokens.authorization(now).unwrap();
    assert_eq!(iat(&after), now - MINUTE);
    // Answers to requests with the old token change nothing; the new one refused is our clock.
    assert_eq!(tokens.expired(generation, now), Expired::Replaced);
    assert_eq!(tokens.authorization(now).unwrap(), (after, newer));
    assert_eq!(tokens.expired(newer, now + 5 * MINUTE), Expired::ClockFault);
}

#[test]
fn after_too_many_updates_the_last_token_is_kept_until_it_is_too_old() {
    let tokens = tokens();
    let (held, _) = tokens.authorization(NOW).unwrap();
    let born = iat(&held);
    let now = born + 39 * MINUTE;
    tokens.stop_minting(now);
    let late = born + 54 * MINUTE;
    assert_eq!(
        tokens.authorization(late).unwrap().0,
        held,
        "kept past its bucket"
    );
    let refused = tokens.authorization(born + 56 * MINUTE).unwrap_err();
    assert_eq!(
        refused,
        NotMinted::Resting {
            retry_in: 3 * MINUTE
        }
    );
    let (fresh, _) = tokens.authorization(now + MINTING_REST).unwrap();
    assert!(iat(&fresh) >= born + 40 * MINUTE);
}

#[test]
fn a_wrong_clock_mints_nothing_until_it_is_looked_at_again() {
    let tokens = tokens();
    let offset = 2 * 60 * MINUTE;
    assert_eq!(
        tokens.note_clock(NOW - 4 * MINUTE, NOW),
        None,
        "within tolerance"
    );
    assert_eq!(tokens.note_clock(NOW - offset, NOW), Some(offset));
    assert_eq!(
        tokens.authorization(NOW).unwrap_err(),
        NotMinted::Clock { offset }
    );
    assert_eq!(tokens.note_clock(NOW, NOW), None, "synchronised");
    tokens.authorization(NOW).unwrap();
    assert_eq!(tokens.note_clock(NOW + offset, NOW), Some(-offset));
    let later = NOW + 41 * MINUTE;
    tokens
        .authorization(later)
        .expect("an old measurement is not believed for ever");
}

/// Started again by the test below, as another process.
#[test]
fn mint_for_another_process() {
    if let Ok(path) = std::env::var("CLARION_TEST_MINT_INTO") {
        let (header, _) = tokens().authorization(NOW).unwrap();
        std::fs::write(path, header.as_bytes()).unwrap();
    }
}

#[test]
fn two_processes_mint_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("minted");
    let name = "provider::apns::provider_token::tests::mint_for_another_process";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("CLARION_TEST_MINT_INTO", &path)
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let theirs = std::fs::read(&path).unwrap();
    assert_eq!(theirs, tokens().authorization(NOW).unwrap().0.as_bytes());
}

proptest! {
    #[test]
    fn whenever_two_processes_start_they_share_the_token(
        now in 1_600_000_000_000i64..2_000_000_000_000,
        earlier in 0i64..10_000_000,
    ) {
        let old = tokens();
        let mut at = now - earlier;
        while at < now {
            old.authorization(at).unwrap();
            at += 7 * MINUTE;
        }
        let (running, _) = old.authorization(now).unwrap();
        let (started, _) = tokens().authorization(now).unwrap();
        // The running one may keep its token for the minute in which the bucket changes.
        let apart = iat(&started) - iat(&running);
        prop_assert!(apart == 0 || (now - iat(&running) < 41 * MINUTE && apart == 40 * MINUTE));
    }
}
