//! A proxy that ends TLS for one foreign host and passes what it hears to a server of ours: so a client that has a host built
//! in reaches us unmodified. It must not know what is said.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Longest head of a CONNECT request, bytes.
const HEAD_MAX: usize = 8 * 1024;

/// The proxy; its tasks end with the test's runtime.
pub(super) struct Proxy {
    /// `http://127.0.0.1:PORT`
    pub(super) url: String,
    /// The authority that its clients must trust.
    pub(super) ca_pem: String,
}

impl Proxy {
    /// Stands in for `host` and passes everything to `server`, as `http://127.0.0.1:PORT`.
    pub(super) async fn start(host: &'static str, server: &str) -> Self {
        let (config, ca_pem) = certificates(host);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, host, acceptor.clone(), server));
            }
        });
        Self { url, ca_pem }
    }
}

async fn serve(
    mut stream: TcpStream,
    host: &'static str,
    acceptor: TlsAcceptor,
    server: SocketAddr,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    let wanted = format!("CONNECT {host}:443 ");
    let answer: &[u8] = match head.starts_with(wanted.as_bytes()) {
        true => b"HTTP/1.1 200 Connection established\r\n\r\n",
        false => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
    };
    stream.write_all(answer).await.ok()?;
    let mut client = acceptor.accept(stream).await.ok()?;
    let mut server = TcpStream::connect(server).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

/// A throw-away authority and a certificate for the host.
fn certificates(host: &str) -> (ServerConfig, String) {
    // Refused when another test was first, which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Named apart, or the host's certificate would count as its own issuer's.
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "Throw-away authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (config, authority.pem())
}
