//! An APNs client certificate: chain, key, and the topics that Apple wrote into it.
//! It must not know connections or the clock.

use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate as X509;
use x509_cert::der::asn1::{Any, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag, Tagged};

use super::credential::CredentialError;
use crate::http2::{ClientIdentity, TlsOptions, client_config};
use crate::model::Millis;

/// Apple's list of topics (a certificate for several push types).
const TOPICS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.3.6");
/// The user id in a subject: the one topic of a simple certificate.
const USER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");
/// Topics read from one certificate.
const TOPICS_MAX: usize = 64;

/// A client certificate with its key.
pub struct Certificate {
    identity: ClientIdentity,
    public_key: Vec<u8>,
    topics: Vec<Box<str>>,
    expires_at: Millis,
}

impl Certificate {
    pub(super) fn from_p12(file: &[u8], password: &str) -> Result<Self, CredentialError> {
        let store =
            p12_keystore::KeyStore::from_pkcs12(file, password).map_err(CredentialError::Pkcs12)?;
        let key_chain = store.entries().find_map(|(_, entry)| match entry {
            p12_keystore::KeyStoreEntry::PrivateKeyChain(chain) => Some(chain),
            _ => None,
        });
        let found = key_chain.ok_or(CredentialError::Incomplete {
            what: "private key",
        })?;
        let chain = found.chain().iter();
        let chain = chain.map(|certificate| CertificateDer::from(certificate.as_der().to_vec()));
        let key = PrivateKeyDer::try_from(found.key().to_vec())
            .map_err(|problem| CredentialError::Certificate(problem.into()))?;
        Self::new(chain.collect(), key)
    }

    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, CredentialError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => key,
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                return Err(CredentialError::Incomplete {
                    what: "private key",
                });
            }
            Err(error) => return Err(CredentialError::Pem(error)),
        };
        Self::new(chain.map_err(CredentialError::Pem)?, key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CredentialError> {
        let identity = ClientIdentity::new(chain, key);
        let leaf = identity
            .chain()
            .first()
            .ok_or(CredentialError::Incomplete {
                what: "certificate",
            })?;
        let unusable = |error| CredentialError::Certificate(Box::new(error));
        let parsed = X509::from_der(leaf).map_err(unusable)?.tbs_certificate;
        let public_key = parsed.subject_public_key_info.to_der().map_err(unusable)?;
        let not_after = parsed.validity.not_after.to_unix_duration();
        let topics = topics(&parsed);
        // The library compares the leaf's public key with the private key.
        client_config(&TlsOptions::default(), Some(&identity))
            .map_err(|error| CredentialError::Certificate(Box::new(error)))?;
        Ok(Self {
            identity,
            public_key,
            topics,
            expires_at: Millis::try_from(not_after.as_millis()).unwrap_or(Millis::MAX),
        })
    }

    pub(super) fn identity(&self) -> &ClientIdentity {
        &self.identity
    }

    /// SubjectPublicKeyInfo, DER.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The leaf, DER.
    pub(super) fn leaf(&self) -> &[u8] {
        self.identity.chain().first().map_or(&[], |leaf| leaf)
    }

    /// The topics it may push to: Apple's extension, or else the user id of the subject.
    #[must_use]
    pub fn topics(&self) -> &[Box<str>] {
        &self.topics
    }

    /// When it ends; renew it before.
    #[must_use]
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("topics", &self.topics)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

fn topics(certificate: &x509_cert::TbsCertificate) -> Vec<Box<str>> {
    let extensions = certificate.extensions.iter().flatten();
    let listed: Vec<Box<str>> = extensions
        .filter(|extension| extension.extn_id == TOPICS)
        .filter_map(|extension| Vec::<Any>::from_der(extension.extn_value.as_bytes()).ok())
        .flatten()
        .filter(|item| item.tag() == Tag::Utf8String)
        .filter_map(|item| Some(Box::from(std::str::from_utf8(item.value()).ok()?)))
        .take(TOPICS_MAX)
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let attributes = certificate.subject.0.iter().flat_map(|name| name.0.iter());
    attributes
        .filter(|attribute| attribute.oid == USER_ID)
        .filter_map(|attribute| attribute.value.decode_as::<Utf8StringRef<'_>>().ok())
        .map(|text| Box::from(text.as_str()))
        .take(1)
        .collect()
}
