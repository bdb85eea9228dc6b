//! What has happened so far, in numbers. Knows nothing of how it came about.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::receipt::{Provider, Receipt};

/// Reasons counted apart; what comes beyond is counted as "other" (rules may invent reasons).
const REASONS_MAX: usize = 256;

/// Counters since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests processed (logged), accepted or not, at APNs and FCM.
    pub processed: u64,
    /// Requests answered, or decided, with 200 at APNs.
    pub apns_accepted: u64,
    /// The same at FCM.
    pub fcm_accepted: u64,
    /// Processed requests by provider, status and reason, as `apns 410 Unregistered`.
    pub answers: BTreeMap<String, u64>,
    /// Connections accepted, TLS included.
    pub apns_connections: u64,
    /// The same at FCM.
    pub fcm_connections: u64,
    /// Connections open now, both providers.
    pub connections_open: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Streams turned away because of the stream limit.
    pub streams_refused: u64,
    /// Connections ended because a client ignored the stream limit.
    pub stream_limit_violations: u64,
    /// Requests the client gave up on before they were answered.
    pub cancelled: u64,
    /// Streams that a rule ended with RST_STREAM.
    pub resets: u64,
    /// Requests that a rule left without an answer.
    pub hangs: u64,
    /// Connections that a rule or a command ended with GOAWAY.
    pub goaways: u64,
    /// Connections that a rule or a command cut.
    pub cuts: u64,
    /// Requests that a rule kept from being processed.
    pub unprocessed: u64,
    /// Different provider tokens accepted.
    pub provider_tokens: u64,
    /// Access tokens handed out.
    pub access_tokens: u64,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// Hits of each rule, in order.
    pub rule_hits: Vec<u64>,
}

impl Stats {
    /// Accepted at both providers.
    pub fn accepted(&self) -> u64 {
        self.apns_accepted + self.fcm_accepted
    }

    /// How often a provider gave this answer; the reason of a success is empty.
    pub fn answered(&self, provider: Provider, status: u16, reason: &str) -> u64 {
        self.answers
            .get(&key(provider, status, reason))
            .copied()
            .unwrap_or(0)
    }
}

fn key(provider: Provider, status: u16, reason: &str) -> String {
    format!("{} {status} {reason}", provider.name())
        .trim_end()
        .to_owned()
}

/// The counters while they are being kept.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stats: Stats,
    refusals: HashMap<(Provider, u16), HashMap<Cow<'static, str>, u64>>,
    reasons: usize,
}

impl Counters {
    pub(crate) fn count(&mut self, receipt: &Receipt) {
        self.stats.processed += 1;
        if receipt.accepted() {
            match receipt.provider {
                Provider::Apns => self.stats.apns_accepted += 1,
                Provider::Fcm | Provider::Oauth => self.stats.fcm_accepted += 1,
            }
            return;
        }
        let by_reason = self
            .refusals
            .entry((receipt.provider, receipt.status))
            .or_default();
        if let Some(count) = by_reason.get_mut(&receipt.reason) {
            *count += 1;
        } else if self.reasons < REASONS_MAX {
            self.reasons += 1;
            by_reason.insert(receipt.reason.clone(), 1);
        } else {
            *by_reason.entry(Cow::Borrowed("other")).or_default() += 1;
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = self.stats.clone();
        for ((provider, status), by_reason) in &self.refusals {
            for (reason, count) in by_reason {
                stats
                    .answers
                    .insert(key(*provider, *status, reason), *count);
            }
        }
        for (provider, accepted) in [
            (Provider::Apns, stats.apns_accepted),
            (Provider::Fcm, stats.fcm_accepted),
        ] {
            if accepted > 0 {
                stats.answers.insert(key(provider, 200, ""), accepted);
            }
        }
        stats
    }

    /// Back to zero, except for what is open now.
    pub(crate) fn reset(&mut self) {
        let connections_open = self.stats.connections_open;
        let apns_connections = self.stats.apns_connections;
        let fcm_connections = self.stats.fcm_connections;
        *self = Self::default();
        self.stats = Stats {
            connections_open,
            apns_connections,
            fcm_connections,
            ..Stats::default()
        };
    }
}
