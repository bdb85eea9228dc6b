//! TLS as a client: roots, ALPN `h2`, and a client certificate where one is asked for.
//! It must not know what the certificate authenticates.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// TLS sessions remembered for resumption, per configuration.
const SESSIONS_MAX: usize = 32;

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file of authorities to trust in place of the bundled ones.
    pub ca_file: Option<PathBuf>,
}

/// A client certificate: the chain, leaf first, and its private key.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// The identity of a chain (leaf first) and its key.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Drop for ClientIdentity {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.key.zeroize();
    }
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read or is not PEM.
    #[error("cannot read certificate authorities from {path}: give a readable PEM file")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The CA file holds no usable certificate.
    #[error("{path} holds no certificate: give a PEM file with at least one authority")]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// The library refuses the certificate, the key, or an authority.
    #[error("TLS refuses a certificate or key: check that they belong together")]
    Refused(#[from] rustls::Error),
}

/// A client configuration: TLS 1.2 or newer, ALPN `h2` only.
///
/// # Errors
/// When the CA file is unreadable or empty, or the identity's key does not fit.
pub fn client_config(
    options: &TlsOptions,
    identity: Option<&ClientIdentity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(options)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Sessions stay within one configuration, so within one client identity.
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    let Some(path) = &options.ca_file else {
        return Ok(RootCertStore::from_iter(
            webpki_roots::TLS_SERVER_ROOTS.iter().cloned(),
        ));
    };
    let unreadable = |source| TlsError::CaFile {
        path: path.clone(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthority { path: path.clone() });
    }
    Ok(roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn only_h2_is_offered_and_roots_come_from_the_bundle_or_the_file() {
        let config = client_config(&TlsOptions::default(), None).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let options = TlsOptions {
            ca_file: Some(path.clone()),
        };
        assert!(matches!(
            client_config(&options, None),
            Err(TlsError::CaFile { .. })
        ));
        std::fs::write(&path, "nothing here\n").unwrap();
        assert!(matches!(
            client_config(&options, None),
            Err(TlsError::NoAuthority { .. })
        ));
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&path, key.cert.pem()).unwrap();
        client_config(&options, None).unwrap();
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let one = rcgen::generate_simple_self_signed(["one".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["two".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(two.signing_key.serialize_der()).unwrap();
        let identity = ClientIdentity::new(vec![one.cert.der().clone()], key);
        let refused = client_config(&TlsOptions::default(), Some(&identity));
        assert!(matches!(refused, Err(TlsError::Refused(_))));
    }
}
