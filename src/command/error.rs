//! Why a command failed, and the exit code that says so to scripts.
//! It must not know how a command works.

use std::io;
use std::path::PathBuf;

use clarion_engine::datadir::LockError;
use clarion_engine::{broker, store};
use thiserror::Error;

use crate::config::ConfigError;
use crate::keys::KeyError;
use crate::terminal::plain;

/// Exit code: the command was not understood, or lacks something it needs.
const USAGE: u8 = 2;
/// Exit code: try again later (sysexits' EX_TEMPFAIL).
const TEMPORARY: u8 = 75;
/// Exit code: the configuration is wrong (sysexits' EX_CONFIG).
const CONFIGURATION: u8 = 78;
/// Exit code of every other failure.
const FAILED: u8 = 1;

/// Statuses after which the same request may succeed later.
const TEMPORARY_STATUSES: [u16; 4] = [429, 502, 503, 504];

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// Something that the command needs was not given.
    #[error("{what}: {advice}")]
    Missing {
        /// What.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A flag, a stored value or a line of an input file is wrong.
    #[error("{place}: {problem}")]
    Invalid {
        /// Which.
        place: String,
        /// What is wrong and what to do; no secret.
        problem: String,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answered.
    #[error("{url} does not answer ({problem}): check --url and that `clarion serve` runs there")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        problem: String,
    },
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server did what was asked, and the result is a failure.
    #[error("{0}")]
    Unsuccessful(String),
    /// It did not work out now, and may later.
    #[error("{0}")]
    Later(String),
    /// The deployment's keys could not be had.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// No access token could be minted.
    #[error(transparent)]
    AccessToken(#[from] clarion_auth::token::AccessTokenError),
    /// The simulators could not be started.
    #[error(transparent)]
    Simulator(#[from] clarion_simulator::Error),
    /// The data directory is in use or cannot be used.
    #[error(transparent)]
    DataDir(#[from] LockError),
    /// The store could not be opened.
    #[error("the store: {0}")]
    Store(#[from] store::Error),
    /// The queue could not be opened.
    #[error("the queue: {0}")]
    Queue(#[from] broker::Error),
    /// A server could not start, or the demo did not come out.
    #[error("{0}")]
    Server(#[source] anyhow::Error),
    /// The terminal or the file behind it cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl From<anyhow::Error> for Error {
    /// Keeps an error of this room as it is, so that its exit code stays.
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Server)
    }
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// The server's words.
    pub(crate) detail: String,
    /// When to try again, seconds.
    pub(crate) retry_after: Option<u64>,
    /// Finds the request in the server's log.
    pub(crate) request_id: Option<String>,
}

impl Refusal {
    fn text(&self) -> String {
        let mut text = format!("the server answered {}", self.status);
        if !self.detail.is_empty() {
            text.push_str(&format!(": {}", plain(&self.detail)));
        }
        if let Some(advice) = self.advice() {
            text.push_str(&format!("\n  {advice}"));
        }
        if let Some(id) = &self.request_id {
            text.push_str(&format!("\n  request id {}", plain(id)));
        }
        text
    }

    fn advice(&self) -> Option<String> {
        let advice = match (self.status, self.retry_after) {
            (429 | 503, Some(seconds)) => return Some(format!("try again in {seconds} s")),
            (401, _) => "give a valid --api-key, or an access token from `clarion token mint`",
            (403, _) => {
                "use the tenant's own API key, or an access token with a role in its organisation"
            }
            (404, _) => "check --tenant and the id; `clarion tenant list` shows your tenants",
            (413, _) => "send less at once",
            _ => return None,
        };
        Some(advice.to_string())
    }
}

impl Error {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. } | Self::Invalid { .. } => USAGE,
            Self::Config(_) => CONFIGURATION,
            Self::Unreachable { .. } | Self::Later(_) => TEMPORARY,
            Self::Refused(refusal) if TEMPORARY_STATUSES.contains(&refusal.status) => TEMPORARY,
            Self::File { .. }
            | Self::Refused(_)
            | Self::Unsuccessful(_)
            | Self::Keys(_)
            | Self::AccessToken(_)
            | Self::Simulator(_)
            | Self::Server(_)
            | Self::DataDir(_)
            | Self::Store(_)
            | Self::Queue(_)
            | Self::Output(_) => FAILED,
        }
    }

    /// Whether the same may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.exit_code() == TEMPORARY
    }

    /// The whole message: also the causes that it does not repeat itself.
    pub(crate) fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let words = error.to_string();
            if !text.contains(&words) {
                text.push_str(&format!(": {words}"));
            }
            cause = error.source();
        }
        text
    }

    /// The reader of our output is gone: nothing to say, and no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Names the file of an I/O error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { path, source }
}

/// A wrong value at a named place.
pub(crate) fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Invalid {
        place: place.into(),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16) -> Error {
        Refusal {
            status,
            detail: String::new(),
            retry_after: None,
            request_id: None,
        }
        .into()
    }

    #[test]
    fn exit_codes_tell_what_kind_of_failure_it_was() {
        assert_eq!(
            Error::Missing {
                what: "w",
                advice: "a"
            }
            .exit_code(),
            2
        );
        assert_eq!(invalid("--payload", "not JSON").exit_code(), 2);
        assert_eq!(refusal(429).exit_code(), 75);
        assert_eq!(refusal(503).exit_code(), 75);
        assert_eq!(
            Error::Unreachable {
                url: "u".into(),
                problem: "p".into()
            }
            .exit_code(),
            75
        );
        assert_eq!(refusal(404).exit_code(), 1);
        assert_eq!(Error::Unsuccessful("no device".into()).exit_code(), 1);
    }

    #[test]
    fn a_report_holds_every_cause_once() {
        let source = io::Error::other("permission denied");
        let error = Error::DataDir(LockError::Io {
            path: "d".into(),
            source,
        });
        assert_eq!(
            error.report(),
            "the data directory d cannot be used: check that it can be written: permission denied"
        );
        let error = at("f")(io::Error::other("is a directory"));
        assert_eq!(error.report(), "f: is a directory");
    }

    #[test]
    fn a_refusal_says_what_to_do_and_cannot_steer_the_terminal() {
        let refusal = Refusal {
            status: 429,
            detail: "slow \u{1b}[2Jdown".into(),
            retry_after: Some(7),
            request_id: Some("r1".into()),
        };
        assert_eq!(
            refusal.to_string(),
            "the server answered 429: slow \u{fffd}[2Jdown\n  try again in 7 s\n  request id r1"
        );
        let refusal = Refusal {
            status: 401,
            detail: "Unauthorized".into(),
            retry_after: None,
            request_id: None,
        };
        assert_eq!(
            refusal.to_string(),
            "the server answered 401: Unauthorized\n  give a valid --api-key, or an access token from \
             `clarion token mint`"
        );
    }
}
