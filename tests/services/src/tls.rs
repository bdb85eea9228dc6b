//! An authority that nobody knows but the test, and a server's certificate of it for loopback.
//! It must not know who speaks TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Names that the server's certificate is good for.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A server's certificate and key with the authority that signed it, PEM.
#[derive(Clone)]
pub struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// A new authority and a certificate of it.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let mut authority = CertificateParams::default();
        let name = "Clarion test authority";
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signing = KeyPair::generate().unwrap();
        let root = authority.self_signed(&signing).unwrap();
        let issuer = Issuer::new(authority, signing);
        let names = NAMES.map(str::to_owned).to_vec();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self {
            authority: root.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The authority's certificate, for those who shall trust it.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Writes authority, certificate and key into a directory, as `authority.pem`, `certificate.pem` and `key.pem`, the key
    /// for its owner alone.
    pub(crate) fn write(&self, dir: &Path) -> [PathBuf; 3] {
        let files = [
            ("authority.pem", &self.authority),
            ("certificate.pem", &self.certificate),
            ("key.pem", &self.key),
        ];
        files.map(|(name, text)| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        })
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}
