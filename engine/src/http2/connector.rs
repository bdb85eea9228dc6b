//! Opens the byte stream under a connection: name, TCP, TLS.
//! It must not know HTTP/2 frames, pools or what is sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Origin;
use super::backoff::Jitter;
use crate::limits::TCP_USER_TIMEOUT;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A byte stream being opened.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>>>>;

/// Opens byte streams; injected, so that a pool can run over an in-memory pipe.
pub type Connector = Rc<dyn Fn(&Origin) -> Opening>;

/// The connector of production: TLS over TCP, `h2` or nothing.
#[must_use]
pub fn tls_connector(config: Arc<ClientConfig>) -> Connector {
    Rc::new(move |origin| {
        let (origin, config) = (origin.clone(), Arc::clone(&config));
        Box::pin(async move { open(&origin, config).await })
    })
}

async fn open(origin: &Origin, config: Arc<ClientConfig>) -> io::Result<Box<dyn Io>> {
    let tcp = connect(origin).await?;
    let name = ServerName::try_from(origin.host().to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        let says = "the peer does not speak HTTP/2 (ALPN)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, says));
    }
    Ok(Box::new(tls))
}

/// One name resolution per connection, never cached, from a random one of the addresses on (Apple: spread traffic).
async fn connect(origin: &Origin) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host((origin.host(), origin.port())).await?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    let start = usize::try_from(Jitter::seeded().next() % addresses.len() as u64).unwrap_or(0);
    addresses.rotate_left(start);
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return tuned(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(stream)
}
