//! What is sealed and kept of a provider credential, and how it becomes a credential again.
//! It must not know how it is sealed or where it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Credential, apns, fcm};

/// A provider credential as its owner gave it. Its JSON is what is sealed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StoredCredential {
    /// An APNs signing key.
    ApnsKey {
        /// The .p8 file's text.
        private_key: String,
        /// The ten-character team id.
        team_id: String,
        /// The ten-character key id.
        key_id: String,
    },
    /// An APNs certificate in a .p12 file.
    ApnsP12 {
        /// The file, base64.
        file: String,
        /// Its password; empty for none.
        password: String,
    },
    /// An APNs certificate chain and key in PEM.
    ApnsPem {
        /// The file's text.
        pem: String,
    },
    /// A Google service account.
    Fcm {
        /// The file's JSON text.
        service_account: String,
    },
}

/// Why a credential cannot be used. Said to its owner; never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// For APNs.
    #[error(transparent)]
    Apns(#[from] apns::CredentialError),
    /// For FCM.
    #[error(transparent)]
    Fcm(#[from] fcm::CredentialError),
    /// The .p12 file is not base64.
    #[error("the .p12 file must be given in standard base64")]
    Base64,
    /// What was stored is not a credential.
    #[error("the stored credential is not readable")]
    Stored,
}

impl StoredCredential {
    /// What [`StoredCredential::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`CredentialError::Stored`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CredentialError> {
        serde_json::from_slice(bytes).map_err(|_| CredentialError::Stored)
    }

    /// The bytes to be sealed.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Strings under fixed names: there is nothing that JSON could refuse.
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Parses and checks it offline.
    ///
    /// # Errors
    /// A [`CredentialError`] that says what to correct.
    pub fn parse(&self) -> Result<Credential, CredentialError> {
        Ok(match self {
            Self::ApnsKey {
                private_key,
                team_id,
                key_id,
            } => Credential::Apns(Arc::new(apns::Credential::from_p8(
                private_key,
                team_id,
                key_id,
            )?)),
            Self::ApnsP12 { file, password } => {
                let file = Zeroizing::new(
                    STANDARD
                        .decode(file.trim())
                        .map_err(|_| CredentialError::Base64)?,
                );
                Credential::Apns(Arc::new(apns::Credential::from_p12(&file, password)?))
            }
            Self::ApnsPem { pem } => {
                Credential::Apns(Arc::new(apns::Credential::from_pem(pem.as_bytes())?))
            }
            Self::Fcm { service_account } => {
                Credential::Fcm(Arc::new(fcm::Credential::from_json(service_account)?))
            }
        })
    }

    /// What may be shown of it: names that are public, and a fingerprint. Needs the parsed credential.
    #[must_use]
    pub fn public(&self, parsed: &Credential) -> Value {
        let fingerprint: String = parsed
            .identity()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match (self, parsed) {
            (
                Self::ApnsKey {
                    team_id, key_id, ..
                },
                _,
            ) => {
                json!({"team_id": team_id, "key_id": key_id, "fingerprint": fingerprint})
            }
            (_, Credential::Fcm(fcm)) => {
                json!({
                    "project_id": fcm.project_id(),
                    "client_email": fcm.client_email(),
                    "fingerprint": fingerprint,
                })
            }
            (_, Credential::Apns(apns)) => {
                let expires_at = apns
                    .certificate()
                    .map(|certificate| certificate.expires_at());
                let valid_until =
                    expires_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
                let valid_until = valid_until.map(|at| at.to_string());
                json!({"fingerprint": fingerprint, "valid_until": valid_until})
            }
        }
    }
}

impl std::fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ApnsKey { .. } => "StoredCredential::ApnsKey(..)",
            Self::ApnsP12 { .. } => "StoredCredential::ApnsP12(..)",
            Self::ApnsPem { .. } => "StoredCredential::ApnsPem(..)",
            Self::Fcm { .. } => "StoredCredential::Fcm(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_shows_nothing() {
        let stored = StoredCredential::ApnsKey {
            private_key: "secret".to_owned(),
            team_id: "TEAM".to_owned(),
            key_id: "KEY".to_owned(),
        };
        let back = StoredCredential::from_bytes(&stored.to_bytes()).unwrap();
        assert_eq!(*back.to_bytes(), *stored.to_bytes());
        assert!(!format!("{stored:?}").contains("secret"));
        assert!(matches!(
            StoredCredential::from_bytes(b"{}"),
            Err(CredentialError::Stored)
        ));
    }
}
