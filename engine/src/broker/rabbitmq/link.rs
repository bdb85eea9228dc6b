//! One connection to the broker: opened with a deadline, given up for good, never repaired. It must not know what is
//! published or consumed on it.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use socket2::{SockRef, Socket};
use thiserror::Error;
use tokio::time::timeout;

use super::options::RabbitOptions;

/// Name, TCP, TLS and the AMQP handshake together. A broker that is out of file handles accepts and then says nothing.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// An answer of the broker to anything but a publish. Declaring a quorum queue elects its leader.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// An orderly end of a connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Seconds between heartbeats; a connection that is silent for twice as long is lost.
const HEARTBEAT: u16 = 10;
/// The kernel gives up unacknowledged data after this.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest prefix of names, bytes; AMQP allows 255 for a whole name.
const PREFIX_MAX: usize = 64;
/// What stood this long was good: the next attempt comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// First and last pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why there is no connection, or no longer.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The URL does not parse. It is not shown, because it holds a password.
    #[error("the AMQP URL cannot be read; it is amqp://user:password@host:port/vhost")]
    Url,
    /// The prefix would not do in names.
    #[error("the prefix of RabbitMQ's names must be 1 to 64 of A-Z a-z 0-9 . _ -")]
    Prefix,
    /// The file of authorities cannot be read.
    #[error("the certificate authorities in tls.ca_file cannot be read")]
    Authorities(#[source] std::io::Error),
    /// The broker refused or the connection broke.
    #[error("the broker ended or refused it: {0}")]
    Broker(#[from] lapin::Error),
    /// The broker did not answer.
    #[error("the broker did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The broker no longer does what it did when the connection began.
    #[error("the connection is given up: {0}")]
    GivenUp(&'static str),
}

/// How to open connections.
pub(super) struct Connector {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    name: String,
}

impl Connector {
    /// Reads the URL and the authorities.
    pub(super) async fn new(options: &RabbitOptions) -> Result<Self, LinkError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=PREFIX_MAX).contains(&options.prefix.len())
            || !options.prefix.bytes().all(is_plain)
        {
            return Err(LinkError::Prefix);
        }
        let mut uri: AMQPUri = options.url.parse().map_err(|_| LinkError::Url)?;
        // The parser takes an IPv6 address for no host at all, and would go to localhost.
        if let Some((_, rest)) = options.url.split_once('[')
            && let Some((address, _)) = rest.split_once(']')
            && address.parse::<std::net::Ipv6Addr>().is_ok()
        {
            address.clone_into(&mut uri.authority.host);
        }
        uri.query.heartbeat = Some(HEARTBEAT);
        let cert_chain = match &options.ca_file {
            None => None,
            Some(path) => Some(
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(LinkError::Authorities)?,
            ),
        };
        Ok(Self {
            uri,
            tls: OwnedTLSConfig {
                identity: None,
                cert_chain,
            },
            name: format!("clarion-{}-{}", options.role, options.instance),
        })
    }

    /// Opens a connection; `purpose` is the last part of its name.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Link, LinkError> {
        let name = format!("{}-{purpose}", self.name);
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "clarion".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let socket = SocketSlot::default();
        let (slot, tls) = (socket.clone(), self.tls.clone());
        let runtime = lapin::runtime::default_runtime()?;
        let open = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri, runtime| {
                // Plain first: the socket is noted before TLS begins, so that a handshake that hangs can be ended.
                let plain = AMQPUri {
                    scheme: AMQPScheme::AMQP,
                    ..uri.clone()
                };
                let stream = plain
                    .connect_with_config_async(tls.as_ref(), &runtime)
                    .await?;
                if let AsyncTcpStream::Plain(tcp) = &stream {
                    slot.keep(&SockRef::from(tcp.get_ref()))?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => {
                        let host = &uri.authority.host;
                        Ok(stream.into_tls(host, tls.as_ref()).await?)
                    }
                }
            },
            properties,
        );
        match timeout(CONNECT_WITHIN, Box::pin(open)).await {
            Ok(Ok(connection)) => Ok(Link { connection, socket }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                // Its thread would wait for ever.
                socket.cut();
                Err(LinkError::Silent(CONNECT_WITHIN))
            }
        }
    }
}

/// The connection's socket, to cut it when nobody else would.
#[derive(Clone, Default)]
struct SocketSlot(Arc<Mutex<Option<Socket>>>);

impl SocketSlot {
    fn keep(&self, socket: &SockRef<'_>) -> std::io::Result<()> {
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        let copy = socket.try_clone()?;
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(copy);
        Ok(())
    }

    fn cut(&self) {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket
            && let Err(error) = socket.shutdown(Shutdown::Both)
        {
            tracing::debug!(%error, "the socket was closed already");
        }
    }
}

/// An open connection. Dropping it cuts it.
pub(super) struct Link {
    connection: Connection,
    socket: SocketSlot,
}

impl Link {
    /// A channel of its own.
    pub(super) async fn channel(&self) -> Result<Channel, LinkError> {
        answer(self.connection.create_channel()).await
    }

    /// What happens to the connection. Only one may listen.
    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send + use<'_> {
        self.connection.events_listener()
    }

    /// Whether the broker has stopped reading from it.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether it still stands.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Ends it in an orderly way, soon.
    pub(super) async fn close(&self) {
        if timeout(CLOSE_WITHIN, self.connection.close(200, "OK".into()))
            .await
            .is_err()
        {
            tracing::debug!("the broker did not close the connection in time; it is cut");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.socket.cut();
    }
}

/// An answer of the broker, with a deadline.
pub(super) async fn answer<T>(
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(LinkError::Silent(ANSWER_WITHIN)),
    }
}

/// Growing pauses between attempts, each shortened at random, so that many processes do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: PAUSES.0 }
    }

    /// What stood for so long has ended: if it was good, the pauses begin again with the shortest.
    pub(super) fn ended(&mut self, stood: Duration) {
        if stood > GOOD_AFTER {
            self.next = PAUSES.0;
        }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(PAUSES.1);
        jittered(whole)
    }
}

/// Between half of it and all of it.
pub(super) fn jittered(whole: Duration) -> Duration {
    let (draw, _) = uuid::Uuid::new_v4().as_u64_pair();
    let percent = u32::try_from(draw % 51).unwrap_or_default();
    whole * (50 + percent) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_keep_at_least_half() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= PAUSES.0 / 2 && pauses[0] <= PAUSES.0);
        assert!(pauses[11] >= PAUSES.1 / 2 && pauses[11] <= PAUSES.1);
        backoff.ended(GOOD_AFTER);
        assert!(backoff.pause() >= PAUSES.1 / 2);
        backoff.ended(GOOD_AFTER + Duration::from_millis(1));
        assert!(backoff.pause() <= PAUSES.0);
    }
}
