//! What is wrong with a configuration: every problem with its place and with what to do.
//! It must not know which keys exist.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Ordered: a later kind replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The built-in `config.default.toml`.
    Default,
    /// A line of a file (the first line is 1).
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command, as in `--listen`.
    Flag(&'static str),
}

impl Origin {
    /// The layer as a number: higher wins.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) origin: Origin,
    /// What, and what to do. Never holds a secret.
    pub(crate) text: String,
}

/// Everything that is wrong with a configuration, in the order of its layers and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The error of these problems; `None` when there are none.
    pub(crate) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(Self { problems })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {noun}")?;
        for Problem { origin, text } in &self.problems {
            write!(f, "\n  {origin}: {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
