//! The summary: a table for people, or JSON.
//! It must not compute anything that the ledger decides.

use std::sync::PoisonError;

use serde_json::json;

use super::DemoCommand;
use super::campaign::Campaign;
use super::ledger::Verdict;
use super::stage::{DEAD_SHARE, Stage};
use crate::terminal::Terminal;

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
    let exact = verdict.is_exact(campaign.entries);
    let stats = stage.simulator.stats();
    let count = |state: &str| campaign.counts.get(state).copied().unwrap_or_default();
    let retried = stats
        .processed
        .saturating_sub(stats.accepted())
        .saturating_sub(count("unregistered"));
    let latency = latencies(stage);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = verdict.received as f64 / campaign.took.as_secs_f64();
    let memory = peak_memory_mib();
    if command.json {
        let value = json!({
            "seed": stage.seed, "exact": exact, "entries": campaign.entries, "counts": campaign.counts,
            "seconds": campaign.took.as_secs_f64(), "per_second": rate, "refused_and_retried": retried,
            "latency_ms": {"transactional": latency[0], "bulk": latency[1]}, "peak_memory_mib": memory,
            "ledger": {"expected": verdict.expected, "received": verdict.received, "missing": verdict.missing,
                "unexpected": verdict.unexpected, "duplicates": verdict.duplicates,
                "unanswered": verdict.unanswered, "most_copies": verdict.most_copies},
        });
        terminal.line(serde_json::to_string_pretty(&value)?)?;
        return Ok(exact);
    }
    let dead = stage.devices.iter().filter(|device| device.is_dead).count();
    let rows = [
        ("accepted by the providers", verdict.received.to_string()),
        (
            "unregistered",
            format!(
                "{} ({dead} dead devices of {}, share {DEAD_SHARE})",
                count("unregistered"),
                stage.devices.len()
            ),
        ),
        (
            "users without a device by then",
            count("no_device").to_string(),
        ),
        (
            "refused, throttled or failed, and tried again",
            retried.to_string(),
        ),
        (
            "streams refused, cut or reset",
            (stats.unprocessed + stats.resets + stats.cuts + stats.goaways).to_string(),
        ),
        (
            "time",
            format!("{:.1} s, {rate:.0} a second", campaign.took.as_secs_f64()),
        ),
        (
            "accept to answer, single",
            format!("p50 {} ms, p99 {} ms", latency[0][0], latency[0][1]),
        ),
        (
            "accept to answer, bulk",
            format!("p50 {} ms, p99 {} ms", latency[1][0], latency[1][1]),
        ),
        ("peak memory of everything", format!("{memory} MiB")),
    ];
    terminal.line("")?;
    for (name, value) in rows {
        terminal.line(format!("  {name:<46} {value}"))?;
    }
    terminal.line(format!(
        "\n  ledger: {} expected, {} received, {} missing, {} unexpected, {} duplicates for {} requests that got no answer: {}",
        verdict.expected,
        verdict.received,
        verdict.missing,
        verdict.unexpected,
        verdict.duplicates,
        verdict.unanswered,
        if exact { "exact" } else { "NOT EXACT" },
    ))?;
    Ok(exact)
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
        let at = |percent: usize| {
            sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        };
        [50, 99].map(|percent| at(percent).copied().unwrap_or_default())
    };
    [of(0), of(1)]
}

/// The process's high-water mark; the kernel's own number.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or_default()
        / 1_024
}
