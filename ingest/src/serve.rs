//! Accepting connections: HTTP/1.1 and HTTP/2 in the clear, with a deadline for headers, bounds and a graceful end.
//! It must not know routes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::audit::Source;
use crate::metrics;

/// Connections open at once on one listener; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 10_000;
/// Time for the headers of a request to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Headers of one request, bytes (HTTP/2).
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Read buffer of one HTTP/1 connection, bytes; also bounds its headers.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request (HTTP/1).
const HEADERS_MAX: usize = 64;
/// An HTTP/2 connection is pinged after this long without a word.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// And given up when it does not answer for this long.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after the system could not accept a connection (no file descriptors, say).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown` ends; then no new connection or request is taken, and running requests have `grace` to
/// end.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let (router, stopping) = (router.clone(), stopping.clone());
        connections.spawn(async move {
            metrics::connections(1.0);
            connection(stream, router, stopping).await;
            metrics::connections(-1.0);
            drop(permit);
        });
    }
    drop(listener);
    stop.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!(
            "requests are still running at the end of the grace period: they are cut off"
        );
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let source = stream.peer_addr().ok().map(|peer| Source(peer.ip()));
    let began = Arc::new(AtomicBool::new(false));
    let router = TowerToHyperService::new(router);
    let service = {
        let began = Arc::clone(&began);
        service_fn(move |mut request: hyper::Request<Incoming>| {
            if let Some(source) = source {
                request.extensions_mut().insert(source);
            }
            began.store(true, Ordering::Relaxed);
            router.call(request)
        })
    };
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // The library's own deadline starts once it knows the protocol; this one covers the bytes before.
    let mut silence = std::pin::pin!(tokio::time::sleep(HEADER_TIMEOUT));
    let (mut is_watched, mut is_stopping) = (true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended with an error");
                }
                return;
            }
            () = silence.as_mut(), if is_watched => {
                if !began.load(Ordering::Relaxed) {
                    return;
                }
                is_watched = false;
            }
            _ = stopping.wait_for(|stop| *stop), if !is_stopping => {
                connection.as_mut().graceful_shutdown();
                is_stopping = true;
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
