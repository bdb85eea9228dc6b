//! The test certificate authority, the server's certificates, and the TLS settings of both providers. Knows
//! nothing of what is spoken inside.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use crate::Error;

/// Names the server's certificate is always good for.
const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What the server shows in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// A good one.
    Valid,
    /// One that expired long ago.
    Expired,
    /// One for another host.
    WrongName,
    /// One of an authority that nobody trusts.
    UnknownIssuer,
}

/// The authority that signs the server's certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    names: Vec<String>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn certificate_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Certificate(Box::new(error))
}

impl Authority {
    /// Makes an authority, or takes up the one that an earlier start left at `path`.
    pub(crate) fn new(path: Option<&Path>, names: &[String]) -> Result<Self, Error> {
        let names = SERVER_NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .chain(names.iter().cloned());
        let names = names.collect();
        let Some(path) = path else {
            let (issuer, pem) = make_issuer()?;
            return Ok(Self { issuer, pem, names });
        };
        let key_path = path.with_extension("key");
        if path.exists() && key_path.exists() {
            let pem = read(path)?;
            let key = KeyPair::from_pem(&read(&key_path)?).map_err(certificate_error)?;
            let issuer = Issuer::new(authority_params(), key);
            return Ok(Self { issuer, pem, names });
        }
        let (issuer, pem) = make_issuer()?;
        write(&key_path, &issuer.key().serialize_pem(), 0o600)?;
        write(path, &pem, 0o644)?;
        Ok(Self { issuer, pem, names })
    }

    /// The authority's certificate, for clients to trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS settings with a certificate of the given kind: HTTP/2 only, a client certificate asked for if
    /// `mutual`.
    pub(crate) fn server_config(
        &self,
        kind: Certificate,
        mutual: bool,
    ) -> Result<Arc<ServerConfig>, Error> {
        let names = match kind {
            Certificate::WrongName => vec!["elsewhere.invalid".to_owned()],
            _ => self.names.clone(),
        };
        let mut params = CertificateParams::new(names).map_err(certificate_error)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Clarion simulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        if kind == Certificate::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().map_err(certificate_error)?;
        let signed = if kind == Certificate::UnknownIssuer {
            params.signed_by(&key, &make_issuer()?.0)
        } else {
            params.signed_by(&key, &self.issuer)
        };
        let chain = vec![signed.map_err(certificate_error)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(certificate_error)?;
        let builder = if mutual {
            builder.with_client_cert_verifier(Arc::new(AnyClient(provider)))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(certificate_error)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Clarion simulator test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_issuer() -> Result<(Issuer<'static, KeyPair>, String), Error> {
    let key = KeyPair::generate().map_err(certificate_error)?;
    let pem = authority_params()
        .self_signed(&key)
        .map_err(certificate_error)?
        .pem();
    Ok((Issuer::new(authority_params(), key), pem))
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
}

/// Takes any client certificate whose owner has its key: whether it may push is answered per request, as
/// APNs does.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
