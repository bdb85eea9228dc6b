//! Keys for the tests of this room, made in place: no private key lies in the repository.
//! It must not be part of the build.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePrivateKey, LineEnding};

/// The same APNs signing key every time, in every process.
pub(super) fn signing_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

/// Its .p8.
pub(super) fn p8() -> String {
    signing_key()
        .to_pkcs8_pem(LineEnding::LF)
        .unwrap()
        .to_string()
}

/// A service account with a fresh key, as Google hands it out.
pub(super) fn service_account(project: &str) -> serde_json::Value {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let body = STANDARD.encode(der.as_ref());
    serde_json::json!({
        "type": "service_account",
        "project_id": project,
        "private_key_id": "0123456789abcdef",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
        "client_email": format!("push@{project}.iam.gserviceaccount.com"),
        "token_uri": "https://attacker.example/token",
    })
}
