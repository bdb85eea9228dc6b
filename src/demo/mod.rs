//! `clarion demo`: simulated providers and a whole Clarion in one process, tens of thousands of notifications through the
//! real path with faults on the way, and a ledger that must come out exact.
//! It must not touch anything outside a temporary directory and loopback ports.

mod campaign;
mod ledger;
mod stage;
mod summary;

use clap::Args;

use self::campaign::Campaign;
use self::stage::Stage;
use crate::signals;
use crate::terminal::Terminal;

/// Devices that one JSON bulk can address.
const DEVICES_MAX: u64 = clarion_engine::limits::BULK_ENTRIES_MAX as u64;

/// Flags of `clarion demo`.
#[derive(Args, Debug, Clone)]
pub(crate) struct DemoCommand {
    /// Recipients of all bulks together
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    recipients: u64,
    /// Bulks; each goes to every device
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    bulks: u64,
    /// Single transactional notifications sent beside the bulks
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    singles: u64,
    /// Seed of device tokens, of the dead share and of the faults; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Latency of the simulated providers, milliseconds
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Leave out the faults
    #[arg(long)]
    calm: bool,
    /// Stay up afterwards and print curl lines to try
    #[arg(long)]
    keep: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl DemoCommand {
    fn devices(&self) -> u64 {
        self.recipients.div_ceil(self.bulks).min(DEVICES_MAX)
    }

    /// Runs the demo.
    ///
    /// # Errors
    /// When something cannot start, a request is refused, or the ledger is not exact.
    pub(crate) async fn run(self, terminal: &mut Terminal) -> anyhow::Result<()> {
        let seed = self
            .seed
            .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1 >> 32);
        let stage = Stage::build(&self, seed, terminal).await?;
        let campaign = Campaign::run(&self, &stage, terminal).await?;
        let verdict = ledger::check(&stage, &campaign)?;
        let exact = summary::show(&self, &stage, &campaign, &verdict, terminal)?;
        if self.keep && exact {
            stage.invite(terminal)?;
            signals::stop_requested().await?;
        }
        stage.strike().await;
        anyhow::ensure!(
            exact,
            "the ledger is not exact (seed {seed}): please report this run"
        );
        Ok(())
    }
}
