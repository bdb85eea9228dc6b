//! Credentials as their owners upload them.
//! It must not open a connection.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use p12_keystore::{Certificate as P12Certificate, KeyStore, KeyStoreEntry, PrivateKeyChain};
use rcgen::{CertificateParams, CustomExtension, DnType, DnValue, KeyPair};

use super::*;
use crate::model::Reason;
use crate::provider::test_keys::p8;

const NOW: Millis = 1_800_000_000_000;

fn key() -> Credential {
    Credential::from_p8(&p8(), "TEAM123456", "KEY1234567").unwrap()
}

#[test]
fn a_signing_key_is_known_by_its_public_key_and_its_names() {
    let one = key();
    let other_id = Credential::from_p8(&p8(), "TEAM123456", "KEY7654321").unwrap();
    assert_eq!(one.fingerprint(), other_id.fingerprint());
    assert_ne!(
        one.identity(),
        other_id.identity(),
        "other names, other connections"
    );
    let fresh = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let same_names = Credential::from_p8(&fresh.serialize_pem(), "TEAM123456", "KEY1234567");
    assert_ne!(
        one.identity(),
        same_names.unwrap().identity(),
        "names prove nothing"
    );
    assert!(one.client_identity().is_none());
    let shown = format!("{one:?}");
    assert!(
        !shown.contains("PRIVATE") && shown.contains("KEY1234567"),
        "{shown}"
    );
}

#[test]
fn what_is_not_a_signing_key_is_refused_with_its_reason() {
    for id in ["", "short", "team123456", "TEAM12345!", "TEAM1234567"] {
        let team = Credential::from_p8(&p8(), id, "KEY1234567");
        assert!(
            matches!(team, Err(CredentialError::AppleId { what: "team id" })),
            "{id}"
        );
        let key = Credential::from_p8(&p8(), "TEAM123456", id);
        assert!(
            matches!(key, Err(CredentialError::AppleId { what: "key id" })),
            "{id}"
        );
    }
    for pem in ["", "secret", &p8()[..60]] {
        let broken = Credential::from_p8(pem, "TEAM123456", "KEY1234567").unwrap_err();
        assert!(matches!(broken, CredentialError::SigningKey(_)));
        assert!(!format!("{broken} {broken:?}").contains("secret"));
    }
}

/// A certificate as Apple makes them: topics in an extension, or one as the subject's user id.
fn certificate(topics: &[&str], user_id: Option<&str>) -> (KeyPair, rcgen::Certificate) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    if let Some(user_id) = user_id {
        let uid = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
        params
            .distinguished_name
            .push(uid, DnValue::Utf8String(user_id.to_owned()));
    }
    if !topics.is_empty() {
        let mut items = Vec::new();
        for topic in topics {
            items.extend([0x0c, u8::try_from(topic.len()).unwrap()]);
            items.extend(topic.as_bytes());
            items.extend([0x30, 0x05, 0x0c, 0x03, b'a', b'p', b'p']);
        }
        let mut content = vec![0x30, u8::try_from(items.len()).unwrap()];
        content.extend(items);
        let oid = [1, 2, 840, 113_635, 100, 6, 3, 6];
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&oid, content));
    }
    let made = params.self_signed(&key).unwrap();
    (key, made)
}

fn pem(topics: &[&str], user_id: Option<&str>) -> String {
    let (key, certificate) = certificate(topics, user_id);
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

#[test]
fn a_certificate_brings_its_topics() {
    let topics = ["com.example.app", "com.example.app.voip"];
    let listed = Credential::from_pem(pem(&topics, Some("com.example.app")).as_bytes()).unwrap();
    let found: Vec<&str> = listed
        .certificate()
        .unwrap()
        .topics()
        .iter()
        .map(|t| &**t)
        .collect();
    assert_eq!(found, topics);
    let simple = Credential::from_pem(pem(&[], Some("com.example.app")).as_bytes()).unwrap();
    assert_eq!(
        &*simple.certificate().unwrap().topics()[0],
        "com.example.app"
    );
    let none = Credential::from_pem(pem(&[], None).as_bytes()).unwrap();
    assert!(none.certificate().unwrap().topics().is_empty());
    assert!(listed.client_identity().is_some());
    assert_eq!(listed.authorization(NOW).unwrap(), (None, 0));
    assert!(listed.certificate().unwrap().expires_at() > NOW);
    assert_ne!(listed.identity(), simple.identity());
}

#[test]
fn a_p12_opens_with_its_password() {
    let (key, made) = certificate(&[], Some("com.example.app"));
    let leaf = P12Certificate::from_der(made.der()).unwrap();
    let chain = PrivateKeyChain::new(key.serialize_der(), [1, 2, 3], [leaf]);
    let mut store = KeyStore::new();
    store.add_entry("push", KeyStoreEntry::PrivateKeyChain(chain));
    let file = store.writer("open sesame").write().unwrap();
    let credential = Credential::from_p12(&file, "open sesame").unwrap();
    assert_eq!(
        &*credential.certificate().unwrap().topics()[0],
        "com.example.app"
    );
    let wrong = Credential::from_p12(&file, "guess").unwrap_err();
    assert!(matches!(wrong, CredentialError::Pkcs12(_)), "{wrong:?}");
    assert!(matches!(
        Credential::from_p12(b"junk", ""),
        Err(CredentialError::Pkcs12(_))
    ));
}

#[test]
fn a_certificate_without_its_key_or_with_a_foreign_one_is_refused() {
    let (key, made) = certificate(&[], None);
    let alone = Credential::from_pem(made.pem().as_bytes()).unwrap_err();
    assert!(matches!(
        alone,
        CredentialError::Incomplete {
            what: "private key"
        }
    ));
    let bare = Credential::from_pem(key.serialize_pem().as_bytes()).unwrap_err();
    assert!(matches!(
        bare,
        CredentialError::Incomplete {
            what: "certificate"
        }
    ));
    let (foreign, _) = certificate(&[], None);
    let mixed = format!("{}{}", made.pem(), foreign.serialize_pem());
    let mixed = Credential::from_pem(mixed.as_bytes()).unwrap_err();
    assert!(
        matches!(mixed, CredentialError::Certificate(_)),
        "{mixed:?}"
    );
}

#[test]
fn refusals_rest_longer_each_time_until_one_push_is_accepted() {
    let credential = key();
    let refused = |now| {
        let outcome = Outcome::Unauthorized {
            reason: Reason::Borrowed("InvalidProviderToken"),
            pause: 60_000,
        };
        match credential.apply(CredentialEffect::Refused, outcome, 1, now) {
            (Outcome::Unauthorized { pause, .. }, Some(CredentialAlert::Refused { reason })) => {
                assert_eq!(reason, "InvalidProviderToken");
                pause
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(NOW), 60_000);
    assert_eq!(refused(NOW + 60_000), 120_000);
    let accepted = credential.apply(CredentialEffect::Accepted, Outcome::Accepted, 1, NOW);
    assert_eq!(accepted, (Outcome::Accepted, None));
    assert_eq!(refused(NOW + 300_000), 60_000);
}

#[test]
fn an_expired_young_token_is_a_clock_fault_and_rests_twenty_minutes() {
    let credential = key();
    let (_, generation) = credential.authorization(NOW).unwrap();
    let outcome = || Outcome::Unavailable {
        reason: Reason::Borrowed("ExpiredProviderToken"),
        processed: crate::model::Processed::Answered,
        retry_after: Some(1_000),
    };
    let straggler = generation.wrapping_sub(1);
    let kept = credential.apply(CredentialEffect::Refresh, outcome(), straggler, NOW);
    assert_eq!(
        kept,
        (outcome(), None),
        "an older token's answer says nothing new"
    );
    let first = credential.apply(CredentialEffect::Refresh, outcome(), generation, NOW);
    let (_, generation) = credential.authorization(NOW).unwrap();
    let second = credential.apply(CredentialEffect::Refresh, outcome(), generation, NOW);
    let rests = |applied: &(Outcome, Option<CredentialAlert>)| {
        matches!(
            applied,
            (
                Outcome::Unauthorized {
                    pause: 1_200_000,
                    ..
                },
                Some(_)
            )
        )
    };
    assert!(rests(&first) || rests(&second), "{first:?} {second:?}");
}
