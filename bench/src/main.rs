//! The measuring command line: what is measured, in what size, and how the figures are shown.
//! It must not know how anything is measured.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use clarion_bench::{pure, sink, stages};

/// Measurements of Clarion. Run a release or dist build, on an idle machine.
#[derive(Debug, Parser)]
#[command(name = "clarion-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The figures as JSON, with the conditions they were taken under.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The pure stages of a notification's way, timed in turn.
    Pure(PureArgs),
    /// A bare loop on the h2 crate against the fast sink: the ceiling.
    Sink(SinkArgs),
}

#[derive(Debug, Args)]
struct PureArgs {
    /// Rounds through all stages.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// CPU time of a stage in a round, milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    slice_ms: u64,
    /// Only stages whose name holds this.
    #[arg(long, default_value = "")]
    filter: String,
}

#[derive(Debug, Args)]
struct SinkArgs {
    /// Requests on each connection, in each round of each case.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    requests: u64,
    /// Connections, all on one thread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Requests at a time on a connection.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    streams: u32,
    /// Threads of the sink.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    sink_threads: u16,
    /// Time from a request to its answer, milliseconds.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    latency_ms: u64,
    /// Rounds through all cases.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let (json, table) = match cli.command {
        Command::Pure(args) => {
            let mut stages = stages::all()?;
            stages.retain(|stage| stage.name.contains(&args.filter));
            anyhow::ensure!(
                !stages.is_empty(),
                "no stage holds `{}` in its name",
                args.filter
            );
            let slice = Duration::from_millis(args.slice_ms);
            let rounds = args.rounds;
            let report = pure::measure(stages, pure::Options { rounds, slice })?;
            (serde_json::to_string_pretty(&report)?, report.table())
        }
        Command::Sink(args) => {
            let report = sink::measure(sink::Options {
                requests: args.requests,
                connections: args.connections.into(),
                streams: args.streams,
                sink_threads: args.sink_threads.into(),
                latency_ms: args.latency_ms,
                rounds: args.rounds,
            })?;
            (serde_json::to_string_pretty(&report)?, report.table())
        }
    };
    let text = if cli.json { json } else { table };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}
