//! The fast sink: a server that answers 200 to everything for a fraction of a microsecond, so that a
//! measurement shows the client and not the far side. Knows nothing of providers, rules or logs.
//!
//! It runs on threads of its own, each with a runtime of one thread; connections are dealt out in turn.
//! Requests are not decoded at all: a request ends where a frame says so, and clients are told to keep no
//! compression table.

mod lane;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::tls::{Authority, Certificate};

use lane::Lane;

/// Octets read at once.
const READ_OCTETS: usize = 64 * 1024;
/// Connections on their way to a thread.
const HANDOVER_MAX: usize = 64;
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, so that failing does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a sink is started.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkOptions {
    /// Threads, at least one.
    pub threads: usize,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// TLS with ALPN h2; false serves HTTP/2 in the clear, for clients that know it beforehand.
    pub tls: bool,
    /// Time from a request to its answer, in milliseconds.
    pub latency_ms: u64,
    /// SETTINGS_MAX_CONCURRENT_STREAMS; announced, not enforced.
    pub max_streams: u32,
    /// Where to write the certificate authority, see [`crate::Options::ca_path`].
    pub ca_path: Option<PathBuf>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            port: 0,
            tls: true,
            latency_ms: 0,
            max_streams: 1_000,
            ca_path: None,
        }
    }
}

/// What the threads count.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
    changed: Notify,
}

/// What a thread needs to serve a connection.
#[derive(Clone)]
struct Service {
    acceptor: Option<TlsAcceptor>,
    latency: Duration,
    max_streams: u32,
    counts: Arc<Counts>,
}

/// A running sink; dropping it ends it.
#[derive(Debug)]
pub struct FastSink {
    address: SocketAddr,
    tls: bool,
    authority: Authority,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl FastSink {
    /// Makes a certificate, binds the port and starts the threads.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::Thread`] if the system refuses, [`Error::Certificate`] if none can be
    /// made.
    pub fn start(options: SinkOptions) -> Result<Self, Error> {
        let listen = |source| Error::Listen {
            listener: "the sink",
            port: options.port,
            source,
        };
        let authority = Authority::new(options.ca_path.as_deref(), &[])?;
        let acceptor = match options.tls {
            true => Some(TlsAcceptor::from(
                authority.server_config(Certificate::Valid, false)?,
            )),
            false => None,
        };
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let counts = Arc::new(Counts::default());
        let latency = Duration::from_millis(options.latency_ms);
        let max_streams = options.max_streams;
        let service = Service {
            acceptor,
            latency,
            max_streams,
            counts: Arc::clone(&counts),
        };
        let stop = watch::Sender::new(false);
        let mut sink = Self {
            address,
            tls: options.tls,
            authority,
            counts,
            stop,
            threads: Vec::new(),
        };
        let mut lanes = Vec::new();
        for number in 0..options.threads.max(1) {
            let (sender, receiver) = mpsc::channel(HANDOVER_MAX);
            lanes.push(sender);
            sink.spawn(format!("sink-{number}"), work(receiver, service.clone()))?;
        }
        sink.spawn("sink-accept".to_owned(), accept(listener, lanes))?;
        Ok(sink)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let mut stop = self.stop.subscribe();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work => {}
                    // Its sender being gone is as good a reason to stop.
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        };
        self.threads.push(
            std::thread::Builder::new()
                .name(name)
                .spawn(run)
                .map_err(Error::Thread)?,
        );
        Ok(())
    }

    /// Where it is, as `https://127.0.0.1:PORT`, or `http://` without TLS.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate authority that clients must trust (PEM).
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Requests taken so far.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Relaxed)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Relaxed)
    }

    /// Waits until `count` requests have been taken.
    pub async fn wait_requests(&self, count: u64) {
        loop {
            let changed = self.counts.changed.notified();
            if self.requests() >= count {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for FastSink {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the sink had panicked");
            }
        }
    }
}

/// Deals connections out to the threads in turn.
async fn accept(listener: StdListener, lanes: Vec<mpsc::Sender<StdStream>>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the sink cannot listen"),
    };
    for lane in lanes.iter().cycle() {
        let stream = loop {
            match listener
                .accept()
                .await
                .and_then(|(stream, _)| stream.into_std())
            {
                Ok(stream) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        if lane.send(stream).await.is_err() {
            return;
        }
    }
}

/// One thread: serves the connections it is given, until nobody can give it any more.
async fn work(mut given: mpsc::Receiver<StdStream>, service: Service) {
    while let Some(stream) = given.recv().await {
        service.counts.connections.fetch_add(1, Relaxed);
        let service = service.clone();
        tokio::spawn(async move {
            if let Err(error) = service.client(stream).await {
                tracing::debug!(%error, "a connection of the sink ended");
            }
        });
    }
}

impl Service {
    async fn client(self, stream: StdStream) -> io::Result<()> {
        let stream = TcpStream::from_std(stream)?;
        stream.set_nodelay(true)?;
        match self.acceptor.clone() {
            None => self.serve(stream).await,
            Some(acceptor) => {
                let stream = BufReader::with_capacity(READ_OCTETS, stream);
                let tls = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                self.serve(tls).await
            }
        }
    }

    async fn serve<T: AsyncRead + AsyncWrite + Unpin>(self, mut io: T) -> io::Result<()> {
        let mut lane = Lane::new(self.max_streams, self.latency);
        let mut input = BytesMut::with_capacity(READ_OCTETS);
        loop {
            if !lane.out.is_empty() {
                io.write_all(&lane.out).await?;
                io.flush().await?;
                lane.out.clear();
            }
            if lane.broken {
                return io.shutdown().await;
            }
            input.reserve(READ_OCTETS);
            let due = lane.next_due();
            tokio::select! {
                read = io.read_buf(&mut input) => if read? == 0 {
                    return Ok(());
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            let now = Instant::now();
            let used = lane.take_in(&input, now);
            input.advance(used);
            lane.answer_due(now);
            let taken = std::mem::take(&mut lane.requests);
            if taken > 0 {
                self.counts.requests.fetch_add(taken, Relaxed);
                self.counts.changed.notify_waiters();
            }
        }
    }
}
