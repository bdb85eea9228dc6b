//! Provider credentials at the door: checked offline before they are sealed.
//! It must not know how they are sealed or stored.

use thiserror::Error;

use crate::model::{Environment, Millis};
use crate::provider::{Credential, CredentialError, StoredCredential};
use crate::store::CredentialKind;

/// A credential that parses, and what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCredential {
    /// What it is.
    pub kind: CredentialKind,
    /// JSON object for lists: team id and key id, project id, fingerprint.
    pub public: String,
}

/// Why a credential is not taken. Never holds any of it.
#[derive(Debug, Error)]
pub enum CredentialRefusal {
    /// It does not parse.
    #[error(transparent)]
    Unusable(#[from] CredentialError),
    /// Its time is over.
    #[error("the certificate has expired: renew it at Apple and upload the new one")]
    Expired,
}

/// Parses a credential as the engine will, without asking the provider: providers count bad attempts.
///
/// # Errors
/// See [`CredentialRefusal`].
pub fn check_credential(
    credential: &StoredCredential,
    now: Millis,
) -> Result<CheckedCredential, CredentialRefusal> {
    let parsed = credential.parse()?;
    if let Credential::Apns(apns) = &parsed
        && let Some(certificate) = apns.certificate()
        && certificate.expires_at() <= now
    {
        return Err(CredentialRefusal::Expired);
    }
    Ok(CheckedCredential {
        kind: kind_of(credential),
        public: credential.public(&parsed).to_string(),
    })
}

fn kind_of(credential: &StoredCredential) -> CredentialKind {
    match credential {
        StoredCredential::ApnsKey { .. } => CredentialKind::ApnsKey,
        StoredCredential::ApnsP12 { .. } | StoredCredential::ApnsPem { .. } => {
            CredentialKind::ApnsCertificate
        }
        StoredCredential::Fcm { .. } => CredentialKind::Fcm,
    }
}

/// The place of a credential among its tenant's: one for each of Apple's environments, and one for Google.
#[must_use]
pub fn credential_id(is_apple: bool, environment: Environment) -> &'static str {
    match (is_apple, environment) {
        (true, Environment::Production) => "apns-production",
        (true, Environment::Sandbox) => "apns-sandbox",
        (false, _) => "fcm",
    }
}
