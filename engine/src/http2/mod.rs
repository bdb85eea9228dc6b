//! One HTTP/2 transport for every provider: connections with live stream limits, pools that grow and drain.
//! It must not know what a notification, a credential or a provider's error is.
//!
//! A connection takes prepared requests and yields answers, by ticket; h2's own types stay inside. Everything here
//! lives on one thread and is driven by one task: no task, timer or boxed future per request.

mod backoff;
mod connection;
mod connector;
mod headers;
mod metered;
mod origin;
mod pool;
mod ready;
mod streams;
mod tls;

use bytes::Bytes;

use crate::model::{Millis, Processed};

pub(crate) use backoff::Jitter;
pub use connector::{Connector, Io, Opening, tls_connector};
pub use headers::{parse_http_date, parse_retry_after};
pub use origin::{Origin, OriginError};
pub use pool::{Completion, Pool, PoolCounters, PoolOptions, Ticket};
pub(crate) use ready::{Bell, Signal};
pub use streams::Clock;
pub use tls::{ClientIdentity, TlsError, TlsOptions, client_config};

/// A request, complete but for its connection.
#[derive(Debug)]
pub struct Request {
    /// Method, absolute URI and headers.
    pub head: http::Request<()>,
    /// The body, sent as one.
    pub body: Bytes,
}

/// An answer: what the peer said, as far as a provider's decoder needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, from now, milliseconds.
    pub retry_after: Option<Millis>,
    /// The peer's clock (`date`), read from the first answer of a connection and from every refusal.
    pub date: Option<Millis>,
    /// The body, at most [`crate::limits::RESPONSE_BODY_MAX`] bytes; shorter than sent when the peer did not finish.
    pub body: Bytes,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// What is known of the peer's side.
    pub processed: Processed,
    /// The library's error, where there is one.
    #[source]
    pub source: Option<h2::Error>,
}

/// What happened to a request without an answer. The text is the reason in receipts and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    /// No connection could be made in time.
    #[error("no connection")]
    NoConnection,
    /// The peer refused the stream, or said goodbye before it, each time it was sent again.
    #[error("refused by the peer")]
    Refused,
    /// The request's deadline passed.
    #[error("deadline passed")]
    Deadline,
    /// The peer reset the stream.
    #[error("stream reset")]
    Reset,
    /// The connection ended or broke.
    #[error("connection lost")]
    ConnectionLost,
    /// The connection was closed by us: wedged, shut down, or its credential forgotten.
    #[error("connection closed")]
    Closed,
}

impl ErrorKind {
    /// The word for receipts and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::Reset => "reset",
            Self::ConnectionLost => "connection_lost",
            Self::Closed => "closed",
        }
    }
}

impl Error {
    /// An error of ours, without a cause in the library.
    #[must_use]
    pub fn new(kind: ErrorKind, processed: Processed) -> Self {
        Self {
            kind,
            processed,
            source: None,
        }
    }

    /// What the library says about a stream whose HEADERS were handed to it. Only two things prove that the peer
    /// did not process it: GOAWAY with a smaller last id, and REFUSED_STREAM (RFC 9113, 8.7).
    #[must_use]
    pub fn of_stream(source: h2::Error) -> Self {
        let refused = source.is_reset() && source.reason() == Some(h2::Reason::REFUSED_STREAM);
        let (kind, processed) = if source.is_remote() && (source.is_go_away() || refused) {
            (ErrorKind::Refused, Processed::No)
        } else if source.is_reset() {
            (ErrorKind::Reset, Processed::Unknown)
        } else {
            (ErrorKind::ConnectionLost, Processed::Unknown)
        };
        Self {
            kind,
            processed,
            source: Some(source),
        }
    }
}
