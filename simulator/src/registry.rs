//! Which credentials the simulated providers know. Knows nothing of requests or of what a refusal looks like.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

use crate::Error;

/// Provider tokens remembered for one key: those younger than their life, of which there can be few.
const PROVIDER_TOKENS_MAX: usize = 64;
/// Access tokens remembered; the oldest give way.
const ACCESS_TOKENS_MAX: usize = 10_000;
/// FCM devices with a known project.
const DEVICES_MAX: usize = 1_000_000;

/// Team and key id of an APNs key.
pub(crate) type KeyName = (String, String);

#[derive(Debug)]
pub(crate) struct ApnsKey {
    pub(crate) public: ParsedPublicKey,
    /// The topics the key may push to; `None` means all.
    pub(crate) topics: Option<Arc<[String]>>,
}

#[derive(Debug)]
pub(crate) struct FcmAccount {
    pub(crate) project: String,
    pub(crate) key_id: String,
    pub(crate) public: ParsedPublicKey,
}

/// What an access token is good for.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// `None`: every project.
    pub(crate) project: Option<String>,
    pub(crate) expires_ms: i64,
}

/// A provider token that was accepted.
#[derive(Debug)]
pub(crate) struct SeenToken {
    pub(crate) digest: [u8; 32],
    pub(crate) issued_s: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    apns_keys: HashMap<KeyName, ApnsKey>,
    certificates: HashMap<[u8; 32], Arc<[String]>>,
    provider_tokens: HashMap<KeyName, Vec<SeenToken>>,
    accounts: HashMap<String, FcmAccount>,
    grants: HashMap<String, Grant>,
    devices: HashMap<String, String>,
}

impl Registry {
    pub(crate) fn add_apns_key(&mut self, name: KeyName, pem: &str) -> Result<(), Error> {
        let public = es256_public(pem)?;
        self.apns_keys.insert(
            name,
            ApnsKey {
                public,
                topics: None,
            },
        );
        Ok(())
    }

    pub(crate) fn remove_apns_key(&mut self, name: &KeyName) -> bool {
        self.apns_keys.remove(name).is_some()
    }

    /// Limits a key to some topics; false if the key is not known.
    pub(crate) fn limit_apns_key(&mut self, name: &KeyName, topics: Vec<String>) -> bool {
        match self.apns_keys.get_mut(name) {
            Some(key) => {
                key.topics = Some(topics.into());
                true
            }
            None => false,
        }
    }

    pub(crate) fn apns_key(&self, name: &KeyName) -> Option<&ApnsKey> {
        self.apns_keys.get(name)
    }

    pub(crate) fn add_certificate(&mut self, fingerprint: [u8; 32], topics: Vec<String>) {
        self.certificates.insert(fingerprint, topics.into());
    }

    pub(crate) fn certificate(&self, fingerprint: &[u8; 32]) -> Option<Arc<[String]>> {
        self.certificates.get(fingerprint).cloned()
    }

    /// The provider tokens of a key issued after `oldest_s`; room is made for one more.
    pub(crate) fn provider_tokens(&mut self, name: &KeyName, oldest_s: i64) -> &mut Vec<SeenToken> {
        let seen = self.provider_tokens.entry(name.clone()).or_default();
        seen.retain(|one| one.issued_s > oldest_s);
        if seen.len() >= PROVIDER_TOKENS_MAX {
            seen.remove(0);
        }
        seen
    }

    /// Takes a service account's JSON, as Google hands it out.
    pub(crate) fn add_account(&mut self, json: &str) -> Result<(), Error> {
        let file: AccountFile = serde_json::from_str(json)
            .map_err(|_| Error::Credential("not a service account's JSON"))?;
        let public = rs256_public(&file.private_key)?;
        let account = FcmAccount {
            project: file.project_id,
            key_id: file.private_key_id,
            public,
        };
        self.accounts.insert(file.client_email, account);
        Ok(())
    }

    pub(crate) fn remove_account(&mut self, client_email: &str) -> bool {
        let removed = self.accounts.remove(client_email);
        if let Some(account) = &removed {
            self.grants
                .retain(|_, grant| grant.project.as_ref() != Some(&account.project));
        }
        removed.is_some()
    }

    pub(crate) fn account(&self, client_email: &str) -> Option<&FcmAccount> {
        self.accounts.get(client_email)
    }

    pub(crate) fn knows_project(&self, project: &str) -> bool {
        self.accounts
            .values()
            .any(|account| account.project == project)
    }

    pub(crate) fn grant(&mut self, access_token: String, grant: Grant, now_ms: i64) {
        if self.grants.len() >= ACCESS_TOKENS_MAX {
            self.grants.retain(|_, grant| grant.expires_ms > now_ms);
        }
        if self.grants.len() >= ACCESS_TOKENS_MAX
            && let Some(oldest) = self
                .grants
                .iter()
                .min_by_key(|(_, grant)| grant.expires_ms)
                .map(|(one, _)| one.clone())
        {
            self.grants.remove(&oldest);
        }
        self.grants.insert(access_token, grant);
    }

    pub(crate) fn granted(&self, access_token: &str) -> Option<&Grant> {
        self.grants.get(access_token)
    }

    /// Makes every access token handed out so far worthless.
    pub(crate) fn revoke_access_tokens(&mut self) {
        self.grants.clear();
    }

    pub(crate) fn add_device(&mut self, device_token: String, project: String) {
        if self.devices.len() < DEVICES_MAX {
            self.devices.insert(device_token, project);
        }
    }

    /// The project a device is known to belong to.
    pub(crate) fn device_project(&self, device_token: &str) -> Option<&str> {
        self.devices.get(device_token).map(String::as_str)
    }
}

/// The fields of a service account's JSON that matter here.
#[derive(Deserialize)]
struct AccountFile {
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
}

/// A P-256 public key from its PEM, or from the .p8 of the private one.
fn es256_public(pem: &str) -> Result<ParsedPublicKey, Error> {
    let unusable = Error::Credential("not a P-256 key in PEM");
    let point = if let Ok(private) = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()) {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.secret_pkcs8_der())
            .map(|pair| pair.public_key().as_ref().to_vec())
            .ok()
    } else {
        SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
            .map(|key| key.as_ref().to_vec())
            .ok()
    };
    point
        .and_then(|key| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).ok())
        .ok_or(unusable)
}

fn rs256_public(pem: &str) -> Result<ParsedPublicKey, Error> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .ok()
        .and_then(|private| RsaKeyPair::from_pkcs8(private.secret_pkcs8_der()).ok())
        .and_then(|pair| {
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()).ok()
        })
        .ok_or(Error::Credential(
            "the service account's private_key is not an RSA key in PEM",
        ))
}
