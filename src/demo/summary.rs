//! The summary: a table for people, or JSON.
//! It must not compute anything that the ledger decides.

use std::sync::PoisonError;

use clarion_simulator::Stats;
use serde_json::json;

use super::DemoCommand;
use super::campaign::Campaign;
use super::ledger::Verdict;
use super::stage::{DEAD_SHARE, Stage};
use crate::terminal::Terminal;

/// What is shown, in either form.
struct Summary<'a> {
    stage: &'a Stage,
    campaign: &'a Campaign,
    verdict: &'a Verdict,
    stats: Stats,
    exact: bool,
    per_second: f64,
    /// p50 and p99 in milliseconds, by lane.
    latency: [[u32; 2]; 2],
    memory_mib: u64,
}

/// Shows what happened; answers whether the ledger is exact.
///
/// # Errors
/// When the terminal is gone.
pub(super) fn show(
    command: &DemoCommand,
    stage: &Stage,
    campaign: &Campaign,
    verdict: &Verdict,
    terminal: &mut Terminal,
) -> anyhow::Result<bool> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = verdict.received as f64 / campaign.took.as_secs_f64();
    let summary = Summary {
        stage,
        campaign,
        verdict,
        stats: stage.simulator.stats(),
        exact: verdict.is_exact(campaign.entries),
        per_second,
        latency: latencies(stage),
        memory_mib: peak_memory_mib(),
    };
    if command.json {
        terminal.line(summary.json()?)?;
    } else {
        terminal.line("")?;
        for (name, value) in summary.rows() {
            terminal.line(format!("  {name:<46} {value}"))?;
        }
        terminal.line(summary.ledger())?;
    }
    Ok(summary.exact)
}

impl Summary<'_> {
    fn count(&self, state: &str) -> u64 {
        self.campaign.counts.get(state).copied().unwrap_or_default()
    }

    /// Answers that were neither an acceptance nor a dead device's.
    fn retried(&self) -> u64 {
        let refused = self.stats.processed.saturating_sub(self.stats.accepted());
        refused.saturating_sub(self.count("unregistered"))
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let devices = &self.stage.devices;
        let dead = devices.iter().filter(|device| device.is_dead).count();
        let broken =
            self.stats.unprocessed + self.stats.resets + self.stats.cuts + self.stats.goaways;
        let latency = |lane: usize| {
            let [p50, p99] = self.latency[lane];
            format!("p50 {p50} ms, p99 {p99} ms")
        };
        let unregistered = format!(
            "{} ({dead} dead devices of {}, share {DEAD_SHARE})",
            self.count("unregistered"),
            devices.len()
        );
        let time = format!(
            "{:.1} s, {:.0} a second",
            self.campaign.took.as_secs_f64(),
            self.per_second
        );
        vec![
            (
                "accepted by the providers",
                self.verdict.received.to_string(),
            ),
            ("unregistered, and pruned", unregistered),
            (
                "users without a device by then",
                self.count("no_device").to_string(),
            ),
            (
                "refused, throttled or failed, and tried again",
                self.retried().to_string(),
            ),
            ("streams refused, cut or reset", broken.to_string()),
            ("time", time),
            ("accept to answer, single", latency(0)),
            ("accept to answer, bulk", latency(1)),
            (
                "peak memory of everything",
                format!("{} MiB", self.memory_mib),
            ),
        ]
    }

    fn ledger(&self) -> String {
        let Verdict {
            expected,
            received,
            missing,
            unexpected,
            duplicates,
            unanswered,
            ..
        } = self.verdict;
        let verdict = if self.exact { "exact" } else { "NOT EXACT" };
        format!(
            "\n  ledger: {expected} expected, {received} received, {missing} missing, \
             {unexpected} unexpected,\n  {duplicates} duplicates for {unanswered} requests that got \
             no answer: {verdict}"
        )
    }

    fn json(&self) -> serde_json::Result<String> {
        let verdict = self.verdict;
        serde_json::to_string_pretty(&json!({
            "seed": self.stage.seed,
            "exact": self.exact,
            "entries": self.campaign.entries,
            "counts": self.campaign.counts,
            "seconds": self.campaign.took.as_secs_f64(),
            "per_second": self.per_second,
            "refused_and_retried": self.retried(),
            "latency_ms": {"transactional": self.latency[0], "bulk": self.latency[1]},
            "peak_memory_mib": self.memory_mib,
            "ledger": {
                "expected": verdict.expected,
                "received": verdict.received,
                "missing": verdict.missing,
                "unexpected": verdict.unexpected,
                "duplicates": verdict.duplicates,
                "most_copies": verdict.most_copies,
                "unanswered": verdict.unanswered,
            },
        }))
    }
}

/// p50 and p99 of both lanes.
fn latencies(stage: &Stage) -> [[u32; 2]; 2] {
    let mut latencies = stage
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut of = |lane: usize| {
        let sorted = &mut latencies[lane];
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(last));
        [50, 99].map(|percent| at(percent).copied().unwrap_or_default())
    };
    [of(0), of(1)]
}

/// The process's high-water mark; the kernel's own number.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1_024
}
