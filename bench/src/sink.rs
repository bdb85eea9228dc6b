//! Measures the bare loop against the simulator's fast sink: the ceiling that later comparisons are held against.
//! It must not know how a request is made.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clarion_simulator::{FastSink, SinkOptions};
use http::uri::Authority;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bare::{Loop, Pattern};
use crate::conditions::Conditions;
use crate::cpu;
use crate::table::{Spread, markdown};

/// The client's thread, which carries its runtime and all its connections.
const CLIENT: &str = "bare-loop";
/// How the sink's threads begin.
const SINK: &str = "sink-";

/// How it is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Options {
    /// Requests in each round of each case.
    pub requests: u64,
    /// Connections, all on one thread.
    pub connections: usize,
    /// Requests at a time on a connection.
    pub streams: u32,
    /// Threads of the sink.
    pub sink_threads: usize,
    /// Time from a request to its answer, milliseconds.
    pub latency_ms: u64,
    /// Rounds through all cases.
    pub rounds: u32,
}

/// A case's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// With TLS 1.3 or in the clear.
    pub case: &'static str,
    /// Answers a second.
    pub rate: Spread,
    /// Microseconds of the client's thread per request.
    pub client_us: Spread,
    /// Microseconds of the sink's threads per request.
    pub sink_us: Spread,
    /// How much of its core the client's thread used, percent.
    pub client_percent: Spread,
}

/// All figures of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Under which conditions.
    pub conditions: Conditions,
    /// How.
    pub options: Options,
    /// Case by case.
    pub rows: Vec<Row>,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let row = |row: &Row| {
            vec![
                row.case.to_owned(),
                row.rate.text(0),
                row.client_us.text(2),
                row.sink_us.text(2),
                row.client_percent.text(0),
            ]
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let head = [
            "bare h2 loop, fast sink",
            "requests/s",
            "client µs",
            "sink µs",
            "client % of a core",
        ];
        let Options {
            requests,
            connections,
            streams,
            latency_ms,
            rounds,
            ..
        } = self.options;
        let (conditions, table) = (self.conditions.line(), markdown(&head, &rows));
        let size = format!("{requests} requests each over {connections} connection(s)");
        let window = format!("{streams} streams, {latency_ms} ms latency");
        format!("{conditions}; {rounds} rounds, interleaved, {size} of {window}\n\n{table}")
    }
}

/// What one round of a case came to.
#[derive(Clone, Copy, Debug)]
struct Taken {
    wall: Duration,
    client: Duration,
    sink: Duration,
}

/// Measures all cases in turn, round by round.
///
/// # Errors
/// When the sink cannot be started or reached, or a round fails.
pub fn measure(options: Options) -> Result<Report> {
    let conditions = Conditions::now();
    let cases = [("TLS 1.3", true), ("in the clear", false)];
    let mut taken: [Vec<Taken>; 2] = Default::default();
    for _ in 0..options.rounds {
        for ((_, tls), taken) in cases.iter().zip(&mut taken) {
            taken.push(round(options, *tls)?);
        }
    }
    let rows = cases
        .iter()
        .zip(taken)
        .map(|((case, _), taken)| row(case, &taken, options))
        .collect::<Result<_>>()?;
    Ok(Report {
        conditions,
        options,
        rows,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests, below 2^53")]
fn row(case: &'static str, taken: &[Taken], options: Options) -> Result<Row> {
    let requests = (options.requests * options.connections as u64) as f64;
    let spread = |figure: &dyn Fn(&Taken) -> f64| {
        Spread::of(taken.iter().map(figure).collect()).context("give at least one round")
    };
    Ok(Row {
        case,
        rate: spread(&|taken| requests / taken.wall.as_secs_f64())?,
        client_us: spread(&|taken| taken.client.as_secs_f64() * 1e6 / requests)?,
        sink_us: spread(&|taken| taken.sink.as_secs_f64() * 1e6 / requests)?,
        client_percent: spread(&|taken| {
            taken.client.as_secs_f64() * 100.0 / taken.wall.as_secs_f64()
        })?,
    })
}

/// One round: a sink of its own, and a thread with one runtime for the client.
fn round(options: Options, tls: bool) -> Result<Taken> {
    let sink = FastSink::start(SinkOptions {
        threads: options.sink_threads,
        tls,
        latency_ms: options.latency_ms,
        max_streams: options.streams,
        ..SinkOptions::default()
    })?;
    let client = std::thread::Builder::new().name(CLIENT.to_owned());
    std::thread::scope(|scope| {
        let client = client.spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(drive(&sink, options, tls))
        })?;
        let ended = client.join();
        ended.map_err(|_| anyhow!("the client's thread panicked"))?
    })
}

async fn drive(sink: &FastSink, options: Options, tls: bool) -> Result<Taken> {
    let origin = sink.origin();
    let (_, authority) = origin.split_once("://").context("an origin has a scheme")?;
    let pattern = Pattern::new(authority.parse::<Authority>()?)?;
    let connector = tls.then(|| connector(sink.ca_pem())).transpose()?;
    let mut loops = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        let io = connect(authority, connector.as_ref()).await?;
        loops.push(Loop::open(io, &pattern, options.streams as usize).await?);
    }
    let (client, server) = (cpu::of_this_thread(), cpu::of_threads(SINK)?);
    let start = tokio::time::Instant::now();
    let sends = loops.iter_mut().map(|one| one.send(options.requests));
    futures_util::future::try_join_all(sends).await?;
    Ok(Taken {
        wall: start.elapsed(),
        client: cpu::of_this_thread().saturating_sub(client),
        sink: cpu::of_threads(SINK)?.saturating_sub(server),
    })
}

/// A stream to the peer, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

async fn connect(authority: &str, tls: Option<&TlsConnector>) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::from(stream.peer_addr()?.ip());
    Ok(Box::new(tls.connect(name, stream).await?))
}

fn connector(ca_pem: &str) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_in_both_cases() {
        let options = Options {
            requests: 2_000,
            connections: 2,
            streams: 50,
            sink_threads: 1,
            latency_ms: 0,
            rounds: 1,
        };
        let report = measure(options).unwrap();
        assert_eq!(report.rows.len(), 2);
        for row in &report.rows {
            assert!(row.rate.median > 0.0);
            assert!(report.table().contains(row.case));
        }
    }
}
