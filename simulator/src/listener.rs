//! Accepts clients of one provider: TCP, TLS, then a connection. Knows nothing of what is asked for.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::apns;
use crate::apns::auth::ClientCertificate;
use crate::connection::Connection;
use crate::fcm;
use crate::receipt::Provider;
use crate::site::Site;
use crate::world::World;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of file descriptors, say), so that failing does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Octets read from the socket at once, below TLS.
const SOCKET_OCTETS: usize = 64 * 1024;
/// Connections open at once at one listener.
const CONNECTIONS_MAX: usize = 4_096;

/// TLS settings that can be exchanged while the listener runs.
pub(crate) type Settings = Arc<Mutex<Arc<ServerConfig>>>;

/// Binds a loopback port; 0 takes a free one.
pub(crate) async fn bind(port: u16, listener: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|source| Error::Listen {
            listener,
            port,
            source,
        })
}

/// Accepts until it is dropped, and every connection with it.
pub(crate) async fn listen(
    listener: TcpListener,
    provider: Provider,
    settings: Settings,
    world: Arc<World>,
) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    let config = Arc::clone(&settings.lock().unwrap_or_else(PoisonError::into_inner));
                    connections.spawn(client(stream, config, provider, number, Arc::clone(&world)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn client(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    provider: Provider,
    number: u64,
    world: Arc<World>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let stream = BufReader::with_capacity(SOCKET_OCTETS, stream);
    let tls = match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(tls)) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => tls,
        Ok(outcome) => {
            tracing::debug!(error = ?outcome.err(), "handshake failed, or no h2");
            world.count(|stats| stats.handshakes_failed += 1);
            return;
        }
        Err(_) => return world.count(|stats| stats.handshakes_failed += 1),
    };
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| ClientCertificate::new(leaf));
    let site = match provider {
        Provider::Apns => Site::Apns(apns::Session::new(certificate)),
        Provider::Fcm | Provider::Oauth => Site::Fcm(fcm::Session::new(number)),
    };
    let _open = Open::new(Arc::clone(&world), provider);
    if let Err(error) = Connection::new(world, site, number).serve(tls).await
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        tracing::debug!(%error, number, "a connection ended");
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<World>);

impl Open {
    fn new(world: Arc<World>, provider: Provider) -> Self {
        world.count(|stats| {
            stats.connections_open += 1;
            match provider {
                Provider::Apns => stats.apns_connections += 1,
                Provider::Fcm | Provider::Oauth => stats.fcm_connections += 1,
            }
        });
        Self(world)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|stats| stats.connections_open -= 1);
    }
}
