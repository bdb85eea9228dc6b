//! The ledger: what was accepted over HTTP against what the simulated providers received. It reads only the answers of the
//! API and the receive log; the engine's own records are one of the two sides, never both.

use std::collections::HashMap;

use clarion_simulator::ReceiveLog;

use super::campaign::Campaign;
use super::stage::Stage;

/// One, and one more for an answer that never came (`retry.ambiguous_retries`).
const COPIES_MAX: u32 = 2;

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Pushes that had to be accepted by a provider.
    pub(super) expected: u64,
    /// Different pushes that were.
    pub(super) received: u64,
    /// Expected and never accepted.
    pub(super) missing: u64,
    /// Accepted for a device that nobody addressed that often, or that is dead.
    pub(super) unexpected: u64,
    /// Accepted again under the same id.
    pub(super) duplicates: u64,
    /// The most often that any one id was accepted.
    pub(super) most_copies: u32,
    /// Requests whose answer never came back: each may be sent once more, under the same id.
    pub(super) unanswered: u64,
    /// Final states that the API reports, beside those that must exist.
    pub(super) states: u64,
    /// `accepted` as the API counts it.
    pub(super) reported: u64,
}

impl Verdict {
    /// Nothing lost, nothing invented, duplicates only where an answer was lost, every entry in one final state.
    pub(super) fn is_exact(&self, entries: u64) -> bool {
        self.missing == 0
            && self.unexpected == 0
            && self.duplicates <= self.unanswered
            && self.most_copies <= COPIES_MAX
            && self.received == self.expected
            && self.states == entries
    }
}

/// Compares both sides.
///
/// # Errors
/// When the receive log cannot be read.
pub(super) fn check(stage: &Stage, campaign: &Campaign) -> anyhow::Result<Verdict> {
    let mut received: HashMap<String, HashMap<String, u32>> = HashMap::new();
    let mut verdict = Verdict::default();
    for receipt in ReceiveLog::read(&stage.log)? {
        let receipt = receipt?;
        if !receipt.accepted() {
            continue;
        }
        // The collapse id of an alert is the id of the recipient, at both providers.
        *received
            .entry(receipt.device_token)
            .or_default()
            .entry(receipt.collapse_id)
            .or_default() += 1;
    }
    let mut wanted: Vec<u64> = vec![campaign.bulks.len() as u64; stage.devices.len()];
    for (_, index) in &campaign.singles {
        wanted[*index] += 1;
    }
    for (device, wanted) in stage.devices.iter().zip(wanted) {
        let wanted = if device.is_dead { 0 } else { wanted };
        let ids = received.remove(&device.device_token).unwrap_or_default();
        let got = ids.len() as u64;
        verdict.expected += wanted;
        verdict.received += got;
        verdict.missing += wanted.saturating_sub(got);
        verdict.unexpected += got.saturating_sub(wanted);
        let most = ids.values().copied().max().unwrap_or_default();
        verdict.most_copies = verdict.most_copies.max(most);
        verdict.duplicates += ids
            .values()
            .map(|copies| u64::from(copies - 1))
            .sum::<u64>();
    }
    verdict.unexpected += received.values().map(|ids| ids.len() as u64).sum::<u64>();
    verdict.unanswered = stage.counter("clarion_unanswered_requests_total");
    verdict.states = campaign.counts.values().sum();
    verdict.reported = campaign.counts.get("accepted").copied().unwrap_or_default();
    Ok(verdict)
}
