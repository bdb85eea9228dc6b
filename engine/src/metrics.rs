//! Every metric of the engine: its name, its labels, and the one function that records it.
//! It must not drive logic. Handles are taken once, because a look-up by name and labels is dear on the hot path.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::model::{Counts, FinalState, Lane, Millis};

/// The handles of one process's engine.
pub struct EngineMetrics {
    ended: [Counter; FinalState::ALL.len()],
    answered: [Histogram; 2],
    handed_over: [Counter; 2],
    unrecorded: Gauge,
    jobs: Gauge,
    commit_seconds: Histogram,
    commit_size: Histogram,
    waiting: Counter,
    alerts: Counter,
    unanswered: Counter,
}

impl std::fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineMetrics")
    }
}

impl EngineMetrics {
    /// Takes the handles from the recorder that is installed.
    #[must_use]
    pub fn new() -> Self {
        describe();
        let lanes = [Lane::Transactional, Lane::Bulk].map(Lane::as_str);
        Self {
            ended: FinalState::ALL
                .map(|state| counter!("clarion_recipients_ended_total", "state" => state.as_str())),
            answered: lanes
                .map(|lane| histogram!("clarion_accept_to_answer_seconds", "lane" => lane)),
            handed_over: lanes.map(|lane| counter!("clarion_requests_total", "lane" => lane)),
            unrecorded: gauge!("clarion_unrecorded_requests"),
            jobs: gauge!("clarion_jobs_in_hand"),
            commit_seconds: histogram!("clarion_commit_seconds"),
            commit_size: histogram!("clarion_commit_size"),
            waiting: counter!("clarion_waiting_rows_total"),
            alerts: counter!("clarion_alerts_total"),
            unanswered: counter!("clarion_unanswered_requests_total"),
        }
    }

    /// Requests were handed over.
    pub fn handed_over(&self, lane: Lane, requests: usize) {
        self.handed_over[lane as usize].increment(requests as u64);
    }

    /// Requests of one notification were answered this long after its acceptance.
    pub fn answered(&self, lane: Lane, after: Millis, requests: usize) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of at most a month"
        )]
        let seconds = after.max(0) as f64 / 1_000.0;
        self.answered[lane as usize].record_many(seconds, requests);
    }

    /// A part was committed.
    pub fn recorded(&self, counts: &Counts, waiting: usize) {
        for (counter, count) in self.ended.iter().zip(counts.0) {
            if count > 0 {
                counter.increment(count);
            }
        }
        self.waiting.increment(waiting as u64);
    }

    /// A group of settlements was committed.
    pub fn committed(&self, settlements: usize, took: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        {
            self.commit_seconds.record(took.max(0) as f64 / 1_000.0);
            self.commit_size.record(settlements as f64);
        }
    }

    /// How much is in hand.
    pub fn in_hand(&self, unrecorded: usize, jobs: usize) {
        #[expect(clippy::cast_precision_loss, reason = "bounded by the engine's limits")]
        {
            self.unrecorded.set(unrecorded as f64);
            self.jobs.set(jobs as f64);
        }
    }

    /// Requests were handed over and never answered: each may have reached the provider.
    pub fn unanswered(&self, requests: usize) {
        self.unanswered.increment(requests as u64);
    }

    /// An operator was told something.
    pub fn alert(&self) {
        self.alerts.increment(1);
    }
}

/// A message that a backend published straight to the queue came to this: `accepted`, `backlog_full`, `repeated`, `again`, or
/// the reason of its dead row.
pub(crate) fn publish_request(outcome: &str) {
    counter!("clarion_publish_requests_total", "outcome" => outcome.to_owned()).increment(1);
}

/// So many outcome events came to this: `published`, `refused` by the broker (and tried again), or `dropped`.
pub(crate) fn outcome_events(outcome: &'static str, events: usize) {
    if events > 0 {
        counter!("clarion_outcome_events_total", "outcome" => outcome).increment(events as u64);
    }
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The handles of one process's connections to a broker.
pub struct BrokerMetrics {
    reconnects: [Counter; 3],
    blocked: Counter,
    refused: [Counter; 2],
    cancelled: Counter,
}

impl std::fmt::Debug for BrokerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrokerMetrics")
    }
}

impl BrokerMetrics {
    /// Takes the handles from the recorder that is installed.
    #[must_use]
    pub fn new() -> Self {
        describe_broker();
        Self {
            reconnects: ["publish", "consume", "requests"]
                .map(|purpose| counter!("clarion_broker_reconnects_total", "purpose" => purpose)),
            blocked: counter!("clarion_broker_blocked_total"),
            refused: ["returned", "nacked"]
                .map(|how| counter!("clarion_broker_refused_total", "how" => how)),
            cancelled: counter!("clarion_broker_consumers_cancelled_total"),
        }
    }

    /// The connection that publishes was lost, and is being rebuilt.
    pub fn publishing_lost(&self) {
        self.reconnects[0].increment(1);
    }

    /// The connection that consumes was lost, and is being rebuilt.
    pub fn consuming_lost(&self) {
        self.reconnects[1].increment(1);
    }

    /// The connection that brings published requests was lost, and is being rebuilt.
    pub fn requests_lost(&self) {
        self.reconnects[2].increment(1);
    }

    /// The broker stopped taking publishes.
    pub fn blocked(&self) {
        self.blocked.increment(1);
    }

    /// Messages were not accepted: so many returned, so many nacked.
    pub fn refused(&self, returned: usize, nacked: usize) {
        for (counter, count) in self.refused.iter().zip([returned, nacked]) {
            if count > 0 {
                counter.increment(count as u64);
            }
        }
    }

    /// The broker ended a consumer.
    pub fn consumer_cancelled(&self) {
        self.cancelled.increment(1);
    }
}

impl Default for BrokerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe_broker() {
    describe_counter!(
        "clarion_broker_reconnects_total",
        Unit::Count,
        "Connections to the broker that were lost and rebuilt, by purpose"
    );
    describe_counter!(
        "clarion_broker_blocked_total",
        Unit::Count,
        "Times the broker stopped taking publishes, short of memory or disk"
    );
    describe_counter!(
        "clarion_broker_refused_total",
        Unit::Count,
        "Messages that the broker did not accept: returned, or nacked"
    );
    describe_counter!(
        "clarion_broker_consumers_cancelled_total",
        Unit::Count,
        "Consumers that the broker ended, because a queue was deleted or moved"
    );
}

fn describe() {
    describe_counter!(
        "clarion_recipients_ended_total",
        Unit::Count,
        "Recipients (and entries without a device) that reached a final state, by state"
    );
    describe_histogram!(
        "clarion_accept_to_answer_seconds",
        Unit::Seconds,
        "Time from the acceptance of a notification to the provider's answer, per request, by lane"
    );
    describe_counter!(
        "clarion_requests_total",
        Unit::Count,
        "Requests handed to a provider connection, by lane"
    );
    describe_gauge!(
        "clarion_unrecorded_requests",
        Unit::Count,
        "Requests handed over and not yet recorded; engine.unrecorded_max bounds it"
    );
    describe_gauge!(
        "clarion_jobs_in_hand",
        Unit::Count,
        "Jobs leased and not ended"
    );
    describe_histogram!(
        "clarion_commit_seconds",
        Unit::Seconds,
        "Time of a commit of settlements"
    );
    describe_histogram!(
        "clarion_commit_size",
        Unit::Count,
        "Settlements of a commit"
    );
    describe_counter!(
        "clarion_waiting_rows_total",
        Unit::Count,
        "Waiting rows written: retries and what was set aside"
    );
    describe_counter!(
        "clarion_unanswered_requests_total",
        Unit::Count,
        "Requests handed over and never answered; each may be sent once more under the same id"
    );
    describe_counter!(
        "clarion_publish_requests_total",
        Unit::Count,
        "Messages that backends published straight to the queue, by what became of them"
    );
    describe_counter!(
        "clarion_outcome_events_total",
        Unit::Count,
        "Outcome events by what became of them: published, refused by the broker and tried again, dropped"
    );
    describe_counter!(
        "clarion_alerts_total",
        Unit::Count,
        "Alerts: frozen pruning, refused credentials, dead jobs"
    );
}
