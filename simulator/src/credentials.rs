//! Credentials for tests and demos, in the form in which Apple and Google hand them out. Knows nothing of
//! servers.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use aws_lc_rs::{digest, encoding};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{Error, jwt};

/// The scope a service account needs.
pub(crate) const MESSAGING_SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// A fresh APNs key.
pub struct ApnsTestKey {
    /// The ten characters of the team.
    pub team_id: String,
    /// The ten characters of the key.
    pub key_id: String,
    /// The private key as Apple hands it out: the text of a .p8 file.
    pub p8_pem: String,
    /// The public key, PEM.
    pub public_key_pem: String,
    pair: EcdsaKeyPair,
}

impl fmt::Debug for ApnsTestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApnsTestKey")
            .field("team_id", &self.team_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl ApnsTestKey {
    /// Makes a key. It is known to a simulator only once registered there.
    ///
    /// # Errors
    /// [`Error::Credential`] if the system gives no randomness.
    pub fn generate(team_id: &str, key_id: &str) -> Result<Self, Error> {
        let failed = |_| Error::Credential("no APNs key could be generated");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let p8 = pair.to_pkcs8v1().map_err(failed)?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
        Ok(Self {
            team_id: team_id.to_owned(),
            key_id: key_id.to_owned(),
            p8_pem: pem("PRIVATE KEY", p8.as_ref()),
            public_key_pem: pem("PUBLIC KEY", public.as_ref()),
            pair,
        })
    }

    /// A provider token issued at `issued_s` (Unix seconds), for clients that talk to the simulator directly.
    ///
    /// # Errors
    /// [`Error::Credential`] if signing fails.
    pub fn provider_token(&self, issued_s: i64) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = json!({"iss": self.team_id, "iat": issued_s});
        let signed = jwt::unsigned(&header, &claims);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Error::Credential("signing failed"))?;
        Ok(jwt::join(&signed, signature.as_ref()))
    }
}

/// A fresh Google service account.
pub struct FcmTestAccount {
    /// The project it may send for.
    pub project_id: String,
    /// Its name.
    pub client_email: String,
    /// The file as Google hands it out.
    pub service_account_json: String,
    key_id: String,
    pair: RsaKeyPair,
}

impl fmt::Debug for FcmTestAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FcmTestAccount")
            .field("project_id", &self.project_id)
            .field("client_email", &self.client_email)
            .finish_non_exhaustive()
    }
}

impl FcmTestAccount {
    /// Makes an account with a 2048-bit key. It is known to a simulator only once registered there.
    ///
    /// # Errors
    /// [`Error::Credential`] if the system gives no randomness.
    pub fn generate(project_id: &str, token_uri: &str) -> Result<Self, Error> {
        let failed = |_| Error::Credential("no service account could be generated");
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let mut id = [0u8; 20];
        fill(&mut id).map_err(failed)?;
        let key_id: String = id.iter().map(|octet| format!("{octet:02x}")).collect();
        let client_email = format!("push@{project_id}.iam.gserviceaccount.com");
        let file = json!({
            "type": "service_account",
            "project_id": project_id,
            "private_key_id": key_id,
            "private_key": pem("PRIVATE KEY", der.as_ref()),
            "client_email": client_email,
            "client_id": "100000000000000000000",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        });
        Ok(Self {
            project_id: project_id.to_owned(),
            client_email,
            service_account_json: file.to_string(),
            key_id,
            pair,
        })
    }

    /// An assertion for the token endpoint, issued at `issued_s` (Unix seconds) and good for `life_s`
    /// seconds.
    ///
    /// # Errors
    /// [`Error::Credential`] if signing fails.
    pub fn assertion(&self, audience: &str, issued_s: i64, life_s: i64) -> Result<String, Error> {
        let claims = json!({
            "iss": self.client_email,
            "scope": MESSAGING_SCOPE,
            "aud": audience,
            "iat": issued_s,
            "exp": issued_s + life_s,
        });
        self.sign(&claims)
    }

    /// Any claims, signed by the account.
    ///
    /// # Errors
    /// [`Error::Credential`] if signing fails.
    pub fn sign(&self, claims: &serde_json::Value) -> Result<String, Error> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let signed = jwt::unsigned(&header, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| Error::Credential("signing failed"))?;
        Ok(jwt::join(&signed, &signature))
    }
}

/// The nth of a run's APNs device tokens: 32 octets in hexadecimal, the same for the same seed and number.
pub fn apns_test_device_token(seed: u64, number: u64) -> String {
    spread("apns", seed, number)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// The nth of a run's FCM device tokens, shaped like Google's: an instance id, a colon, and a long tail.
pub fn fcm_test_device_token(seed: u64, number: u64) -> String {
    let head = URL_SAFE_NO_PAD.encode(&spread("fcm", seed, number)[..16]);
    let tail = URL_SAFE_NO_PAD
        .encode([spread("fcm-a", seed, number), spread("fcm-b", seed, number)].concat());
    format!("{head}:APA91b{tail}")
}

fn spread(kind: &str, seed: u64, number: u64) -> [u8; 32] {
    let digest = digest::digest(
        &digest::SHA256,
        format!("{kind}/{seed}/{number}").as_bytes(),
    );
    let mut octets = [0; 32];
    octets.copy_from_slice(digest.as_ref());
    octets
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}
