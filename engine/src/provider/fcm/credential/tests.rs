//! Service accounts as their owners upload them, and the assertion.
//! It must not open a connection.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

use super::*;
use crate::provider::test_keys::service_account;

const NOW: Millis = 1_800_000_000_000;

#[test]
fn the_assertion_is_what_google_documents_and_goes_where_we_say() {
    let file = service_account("shop-1");
    let credential = Credential::from_json(&file.to_string()).unwrap();
    let endpoint: TokenEndpoint = "https://oauth2.example:8443/token".parse().unwrap();
    let request = credential.token_request(&endpoint, NOW).unwrap();
    assert_eq!(
        request.head.uri().to_string(),
        "https://oauth2.example:8443/token"
    );
    let form = std::str::from_utf8(&request.body).unwrap();
    let prefix = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let jwt = form.strip_prefix(prefix).unwrap();

    let pem = file["private_key"].as_str().unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(pem_body(pem));
    let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(private.secret_pkcs8_der()).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair)
        .as_ref()
        .to_vec();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.set_audience(&["https://oauth2.example:8443/token"]);
    let key = DecodingKey::from_rsa_der(&public);
    let decoded = jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap();
    let claims = decoded.claims;
    assert_eq!(claims["iss"], "push@shop-1.iam.gserviceaccount.com");
    assert_eq!(
        claims["scope"],
        "https://www.googleapis.com/auth/firebase.messaging"
    );
    assert_eq!(claims["iat"], NOW / 1_000 - 30);
    assert_eq!(claims["exp"], NOW / 1_000 - 30 + 3_600);
    assert_eq!(decoded.header.kid.as_deref(), Some("0123456789abcdef"));
    assert!(
        !form.contains("attacker"),
        "the file's own URLs are ignored"
    );
}

fn pem_body(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

#[test]
fn accounts_are_told_apart_by_their_keys() {
    let one = Credential::from_json(&service_account("shop-1").to_string()).unwrap();
    let two = Credential::from_json(&service_account("shop-1").to_string()).unwrap();
    assert_ne!(
        one.identity(),
        two.identity(),
        "the same names, another key"
    );
    assert_eq!(one.project_id(), "shop-1");
    let shown = format!("{one:?}");
    assert!(
        !shown.contains("PRIVATE") && shown.contains("shop-1"),
        "{shown}"
    );
}

#[test]
fn what_is_not_a_service_account_is_refused_with_its_reason() {
    let broken = |field: &str, value: Value| {
        let mut file = service_account("shop-1");
        file[field] = value;
        Credential::from_json(&file.to_string()).unwrap_err()
    };
    for (field, value) in [
        ("type", "authorized_user"),
        ("project_id", ""),
        ("project_id", "../../v1/projects/other"),
        ("project_id", "a b"),
        ("client_email", "nobody"),
    ] {
        let error = broken(field, Value::from(value));
        assert!(matches!(&error, CredentialError::Field { field: named, .. } if *named == field));
    }
    let error = broken("private_key", Value::from("secret"));
    assert!(matches!(error, CredentialError::PrivateKey(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = broken("private_key", Value::Null);
    assert!(matches!(error, CredentialError::Json(_)), "{error:?}");
    assert!(matches!(
        Credential::from_json("{}"),
        Err(CredentialError::Json(_))
    ));
}

#[test]
fn a_token_endpoint_is_an_https_url() {
    let endpoint: TokenEndpoint = "https://oauth2.googleapis.com/token".parse().unwrap();
    assert_eq!(endpoint.url(), "https://oauth2.googleapis.com/token");
    for bad in [
        "http://oauth2.example/token",
        "oauth2.example",
        "",
        "https://me@a.example/x",
    ] {
        assert!(bad.parse::<TokenEndpoint>().is_err(), "{bad}");
    }
}
