//! What authenticates a tenant at APNs: a signing key or a client certificate, parsed and checked offline.
//! It must not know where credentials are stored, nor the clock (`now` is passed).

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};

use super::certificate::Certificate;
use super::provider_token::{Expired, NotMinted, ProviderTokens};
use crate::http2::ClientIdentity;
use crate::model::{Millis, Outcome};
use crate::provider::refusals::Refusals;
use crate::provider::verdict::reason_of;
use crate::provider::{CredentialAlert, CredentialEffect};

/// Length of Apple's team and key ids.
const APPLE_ID_LEN: usize = 10;
/// A refused provider token rests this long the first time.
const CLOCK_REST: Millis = 20 * 60 * 1_000;

/// Why a credential is not usable.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not a PKCS#8 P-256 key in PEM.
    #[error("the signing key is not a .p8 file: give the file as downloaded from Apple")]
    SigningKey(#[source] p256::pkcs8::Error),
    /// A team or key id that is not Apple's.
    #[error("the {what} must be 10 capital letters or digits")]
    AppleId {
        /// Which.
        what: &'static str,
    },
    /// The .p12 does not open.
    #[error("the .p12 file does not open: check the file and its password")]
    Pkcs12(#[source] p12_keystore::error::Error),
    /// The PEM does not parse.
    #[error("the PEM does not parse: give the certificate chain and its private key")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Nothing to authenticate with.
    #[error("no {what} found: give the certificate, leaf first, and its private key")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// The certificate does not parse or its key does not fit.
    #[error("the certificate is unusable: it does not parse, or the private key is not its own")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An APNs credential.
pub struct Credential {
    proof: Proof,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    fingerprint: [u8; 32],
    identity: [u8; 32],
    refusals: Refusals,
}

enum Proof {
    Key(ProviderTokens),
    Certificate(Certificate),
}

impl Credential {
    /// A signing key (.p8) with the ids that Apple gave it.
    ///
    /// # Errors
    /// When the key or an id is malformed.
    pub fn from_p8(pem: &str, team_id: &str, key_id: &str) -> Result<Self, CredentialError> {
        apple_id("team id", team_id)?;
        apple_id("key id", key_id)?;
        let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(CredentialError::SigningKey)?;
        let public = key
            .verifying_key()
            .to_public_key_der()
            .map_err(|error| CredentialError::SigningKey(error.into()))?;
        let fingerprint = digest(&[public.as_bytes()]);
        let identity = digest(&[&fingerprint, team_id.as_bytes(), key_id.as_bytes()]);
        let tokens = ProviderTokens::new(key, team_id, key_id, &identity);
        Ok(Self {
            proof: Proof::Key(tokens),
            fingerprint,
            identity,
            refusals: Refusals::default(),
        })
    }

    /// A client certificate from a .p12 file.
    ///
    /// # Errors
    /// When it does not open, or holds no certificate with its key.
    pub fn from_p12(file: &[u8], password: &str) -> Result<Self, CredentialError> {
        Certificate::from_p12(file, password).map(Self::of_certificate)
    }

    /// A client certificate from PEM: the chain, leaf first, and the private key, in any order.
    ///
    /// # Errors
    /// When either is missing or they do not belong together.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CredentialError> {
        Certificate::from_pem(pem).map(Self::of_certificate)
    }

    fn of_certificate(certificate: Certificate) -> Self {
        let fingerprint = digest(&[certificate.public_key()]);
        let identity = digest(&[&fingerprint, certificate.leaf()]);
        Self {
            proof: Proof::Certificate(certificate),
            fingerprint,
            identity,
            refusals: Refusals::default(),
        }
    }

    /// SHA-256 of the public key: what may be shown to tell keys apart.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Digest over the public key and the names that go with it.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// The client certificate for TLS, if this is one.
    #[must_use]
    pub fn client_identity(&self) -> Option<&ClientIdentity> {
        match &self.proof {
            Proof::Certificate(certificate) => Some(certificate.identity()),
            Proof::Key(_) => None,
        }
    }

    /// The certificate, if this is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.proof {
            Proof::Certificate(certificate) => Some(certificate),
            Proof::Key(_) => None,
        }
    }

    /// The `authorization` header for now and the token's generation; no header with a certificate.
    ///
    /// # Errors
    /// See [`ProviderTokens::authorization`].
    pub fn authorization(&self, now: Millis) -> Result<(Option<HeaderValue>, u16), NotMinted> {
        match &self.proof {
            Proof::Key(tokens) => {
                let (header, generation) = tokens.authorization(now)?;
                Ok((Some(header), generation))
            }
            Proof::Certificate(_) => Ok((None, 0)),
        }
    }

    /// Apple's clock, seen at `now`.
    pub fn note_clock(&self, theirs: Millis, now: Millis) -> Option<CredentialAlert> {
        match &self.proof {
            Proof::Key(tokens) => {
                let offset = tokens.note_clock(theirs, now)?;
                Some(CredentialAlert::Clock { offset })
            }
            Proof::Certificate(_) => None,
        }
    }

    /// Lets an answer to a request with token `generation` act on the credential; what the outcome becomes, and whom to alert.
    pub fn apply(
        &self,
        effect: CredentialEffect,
        outcome: Outcome,
        generation: u16,
        now: Millis,
    ) -> (Outcome, Option<CredentialAlert>) {
        match (effect, &self.proof) {
            (CredentialEffect::None, _) => (outcome, None),
            (CredentialEffect::Accepted, _) => {
                self.refusals.accepted();
                (outcome, None)
            }
            (CredentialEffect::StopMinting, Proof::Key(tokens)) => {
                tokens.stop_minting(now);
                (outcome, Some(CredentialAlert::MintingStopped))
            }
            (CredentialEffect::Refresh, Proof::Key(tokens)) => {
                match tokens.expired(generation, now) {
                    Expired::Replaced => (outcome, None),
                    Expired::ClockFault => self.rest(outcome, CLOCK_REST, now),
                }
            }
            (_, _) => {
                let first = match &outcome {
                    Outcome::Unauthorized { pause, .. } => *pause,
                    _ => CLOCK_REST,
                };
                self.rest(outcome, first, now)
            }
        }
    }

    fn rest(
        &self,
        outcome: Outcome,
        first: Millis,
        now: Millis,
    ) -> (Outcome, Option<CredentialAlert>) {
        let pause = self.refusals.refused(first, now);
        let reason = reason_of(&outcome);
        let alert = CredentialAlert::Refused {
            reason: reason.clone(),
        };
        (Outcome::Unauthorized { reason, pause }, Some(alert))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("apns::Credential");
        match &self.proof {
            Proof::Key(tokens) => out.field("key", tokens),
            Proof::Certificate(certificate) => out.field("certificate", certificate),
        };
        out.finish_non_exhaustive()
    }
}

fn apple_id(what: &'static str, id: &str) -> Result<(), CredentialError> {
    let apples = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if id.len() == APPLE_ID_LEN && id.bytes().all(apples) {
        Ok(())
    } else {
        Err(CredentialError::AppleId { what })
    }
}

/// SHA-256 over length-prefixed parts.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        if parts.len() > 1 {
            context.update(&(part.len() as u64).to_be_bytes());
        }
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests;
