//! The `clarion` binary: parses the command line, runs one command, answers with its exit code.
//! It must not know what a command does.

mod command;
mod config;
mod demo;
mod keys;
mod serve;
mod signals;
mod telemetry;
mod terminal;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use command::Cli;
use terminal::Terminal;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut terminal = Terminal::of_process();
    // Refused only when a provider is installed already, and nothing runs before this.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge of the program is where the clock is read"
    )]
    let now = jiff::Timestamp::now().as_millisecond();
    match cli.run(&mut terminal, now) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone; the exit code still says it.
            drop(terminal.error(error.report()));
            ExitCode::from(error.exit_code())
        }
    }
}
