//! What can go wrong in starting or steering a simulator. Knows nothing of what providers answer to a
//! request.

use std::io;
use std::path::PathBuf;

/// Why a simulator could not be started, steered or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener's address could not be bound.
    #[error(
        "cannot listen on 127.0.0.1:{port} for {listener}; choose another port or 0 for a free one"
    )]
    Listen {
        /// Which listener.
        listener: &'static str,
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate authority or the server certificate could not be made.
    #[error("cannot make the test certificates")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread or its runtime could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A file could not be read or written.
    #[error("cannot use the file {}; check its path and permissions", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A rule file does not parse, or a rule asks for something impossible.
    #[error("the rules are not usable: {0}")]
    Rules(String),
    /// A key, certificate or account handed over for registration is not usable.
    #[error("the credential is not usable: {0}")]
    Credential(&'static str),
    /// A line of a receive log is not one.
    #[error("line {line} of the receive log is not a receipt")]
    Receipt {
        /// Counted from 1.
        line: u64,
    },
}
