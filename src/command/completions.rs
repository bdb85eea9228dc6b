//! `clarion completions`: completion scripts from the same tree that parses.
//! It must not know the commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::error::Error;
use crate::terminal::Terminal;

/// `clarion completions`
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Runs it.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "clarion", &mut script);
        Ok(terminal.raw(&script)?)
    }
}
