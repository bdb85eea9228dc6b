//! The circuit breaker of a credential: whether its provider is worth a try now, and how fast to return.
//! It must not know requests, connections, tenants or what a key stands for.

use std::collections::HashMap;
use std::hash::Hash;

use super::retry::scaled;
use crate::model::{Millis, Outcome, Processed, ThrottleScope};

/// Breakers that are kept at a time.
pub const BREAKERS_MAX: usize = 16_384;

/// Slots of the sliding window.
const SLOTS: usize = 10;
/// A slot, ms: together ten seconds.
const SLOT: Millis = 1_000;
/// Answers below which the share of failures is not judged.
const JUDGED_FROM: u32 = 20;
/// Connect failures in a row that open it.
const CONNECT_FAILURES: u32 = 5;
/// Reconnects are a second apart; failures that come closer together are one, seen by several requests, ms.
const ONE_CONNECT: Millis = 500;
/// First rest, ms; doubles up to `REST_MAX`.
const REST: Millis = 5_000;
/// Longest rest, ms.
const REST_MAX: Millis = 60_000;
/// Closed for this long, the next rest is the first again, ms.
const STABLE: Millis = 60_000;
/// A probe of which nothing was heard for this long is lost, ms: twice the longest request deadline.
const PROBE_MAX: Millis = 60_000;
/// How soon to ask again while a probe is out, ms.
const PROBE_LOOK: Millis = 1_000;

/// How the window grows back after a rest: from nothing to all within this time, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp(pub Millis);

impl Ramp {
    /// Ten per cent a second.
    pub const APNS: Self = Self(10_000);
    /// Google asks for at least a minute.
    pub const FCM: Self = Self(60_000);
}

/// Whether to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Yes, within the share that [`Breakers::share`] names.
    Yes,
    /// One slice, to see whether the provider is back. What comes of it must be recorded, or
    /// [`Breakers::probe_unused`] called.
    Probe,
    /// Not before this instant.
    No {
        /// When to ask again.
        until: Millis,
    },
}

/// What an outcome says about the provider's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It answers.
    Success,
    /// It answers that it cannot.
    Failure,
    /// It was handed a request and does not answer.
    Unanswered,
    /// It could not be reached.
    ConnectFailure,
}

impl Signal {
    /// What an outcome says. A throttled or refused credential says nothing here: it is paused.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Accepted | Outcome::Unregistered { .. } | Outcome::Rejected { .. } => {
                Some(Self::Success)
            }
            Outcome::Throttled { scope, .. } => {
                (*scope == ThrottleScope::DeviceToken).then_some(Self::Success)
            }
            Outcome::Unavailable { processed, .. } => Some(match processed {
                Processed::No => Self::ConnectFailure,
                Processed::Answered => Self::Failure,
                Processed::Unknown => Self::Unanswered,
            }),
            Outcome::Unauthorized { .. } => None,
        }
    }
}

/// A breaker changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened.
    Opened {
        /// The first probe may go at this instant.
        until: Millis,
    },
    /// The provider is back.
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Millis },
    Probing { since: Millis },
}

/// The breaker of one credential.
#[derive(Clone, Debug)]
struct Breaker {
    state: State,
    slots: [Slot; SLOTS],
    connects: u32,
    last_connect: Millis,
    /// The last rest before scaling; 0 before the first.
    rest: Millis,
    closed_at: Option<Millis>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: Millis,
    all: u32,
    failed: u32,
}

/// The breakers of all credentials of one provider.
#[derive(Debug)]
pub struct Breakers<K> {
    breakers: HashMap<K, Breaker>,
    ramp: Millis,
    scale: f64,
}

impl<K: Eq + Hash + Clone> Breakers<K> {
    /// All closed. `scale` is that of the retry policy: a factor on every time here.
    #[must_use]
    pub fn new(ramp: Ramp, scale: f64) -> Self {
        Self {
            breakers: HashMap::new(),
            ramp: scaled(ramp.0, scale),
            scale,
        }
    }

    /// Whether to send for this credential now. [`Allow::Probe`] is handed out once.
    pub fn allow(&mut self, key: &K, now: Millis) -> Allow {
        let (look, lost) = (self.scaled(PROBE_LOOK), self.scaled(PROBE_MAX));
        let Some(breaker) = self.breakers.get_mut(key) else {
            return Allow::Yes;
        };
        match breaker.state {
            State::Closed => Allow::Yes,
            State::Open { until } if now < until => Allow::No { until },
            State::Probing { since } if now < since.saturating_add(lost) => Allow::No {
                until: now.saturating_add(look),
            },
            State::Open { .. } | State::Probing { .. } => {
                breaker.state = State::Probing { since: now };
                Allow::Probe
            }
        }
    }

    /// Whether the breaker is closed: an unanswered request is repeated only then.
    #[must_use]
    pub fn is_closed(&self, key: &K) -> bool {
        let breaker = self.breakers.get(key);
        breaker.is_none_or(|breaker| matches!(breaker.state, State::Closed))
    }

    /// Which share of its window a credential may use, 0 to 1: after a rest it grows back in the provider's time.
    #[must_use]
    pub fn share(&self, key: &K, now: Millis) -> f64 {
        let breaker = self.breakers.get(key);
        let Some(closed_at) = breaker.and_then(|breaker| breaker.closed_at) else {
            return 1.0;
        };
        // The first second counts as over, so that there is something to begin with.
        let first = self.scaled(SLOT).min(self.ramp);
        let since = now.saturating_sub(closed_at).clamp(first, self.ramp);
        #[expect(
            clippy::cast_precision_loss,
            reason = "both are at most minutes in milliseconds"
        )]
        let share = since as f64 / self.ramp as f64;
        share
    }

    /// What came of a request, or of a connect.
    pub fn record(&mut self, key: &K, signal: Signal, now: Millis) -> Option<Change> {
        self.record_all(key, [signal], now)
    }

    /// What came of some requests; the last change that they bring about.
    pub fn record_all(
        &mut self,
        key: &K,
        signals: impl IntoIterator<Item = Signal>,
        now: Millis,
    ) -> Option<Change> {
        let scale = self.scale;
        let mut signals = signals.into_iter().peekable();
        signals.peek()?;
        let breaker = self.entry(key, now)?;
        let changes = signals.filter_map(|signal| breaker.record(signal, now, scale));
        changes.last()
    }

    /// The credential rests until then: refused, throttled as a whole, or without a connection. A probe follows.
    pub fn pause(&mut self, key: &K, until: Millis, now: Millis) {
        let Some(breaker) = self.entry(key, now) else {
            return;
        };
        let until = match breaker.state {
            State::Open { until: known } => known.max(until),
            State::Closed | State::Probing { .. } => until,
        };
        breaker.open(until);
    }

    /// The probe was not sent after all: the next caller gets it.
    pub fn probe_unused(&mut self, key: &K, now: Millis) {
        if let Some(breaker) = self.breakers.get_mut(key)
            && matches!(breaker.state, State::Probing { .. })
        {
            breaker.state = State::Open { until: now };
        }
    }

    /// The credential was replaced or removed: what was known of it is void.
    pub fn forget(&mut self, key: &K) {
        self.breakers.remove(key);
    }

    /// How many credentials are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.breakers.len()
    }

    /// Whether nothing is known of any credential.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.breakers.is_empty()
    }

    fn scaled(&self, time: Millis) -> Millis {
        scaled(time, self.scale)
    }

    /// The breaker of a key. With all places taken the closed ones are forgotten, and if none is closed, nothing is
    /// known of a new key: it is allowed.
    fn entry(&mut self, key: &K, now: Millis) -> Option<&mut Breaker> {
        if self.breakers.len() >= BREAKERS_MAX && !self.breakers.contains_key(key) {
            self.breakers
                .retain(|_, breaker| !matches!(breaker.state, State::Closed));
            if self.breakers.len() >= BREAKERS_MAX {
                return None;
            }
        }
        let slot = self.breakers.entry(key.clone());
        Some(slot.or_insert_with(|| Breaker::closed(now)))
    }
}

impl Breaker {
    fn closed(now: Millis) -> Self {
        Self {
            state: State::Closed,
            slots: [Slot::default(); SLOTS],
            connects: 0,
            last_connect: now.saturating_sub(STABLE),
            rest: 0,
            closed_at: None,
        }
    }

    fn record(&mut self, signal: Signal, now: Millis, scale: f64) -> Option<Change> {
        match self.state {
            // Late answers to what was sent before it opened.
            State::Open { .. } => None,
            State::Probing { .. } if signal == Signal::Success => {
                *self = Self {
                    rest: self.rest,
                    closed_at: Some(now),
                    ..Self::closed(now)
                };
                Some(Change::Closed)
            }
            State::Probing { .. } => Some(self.trip(now, scale)),
            State::Closed => {
                let bad = match signal {
                    Signal::ConnectFailure => self.connect_failed(now, scale),
                    Signal::Success | Signal::Failure | Signal::Unanswered => {
                        self.connects = 0;
                        self.answered(signal != Signal::Success, now, scale)
                    }
                };
                bad.then(|| self.trip(now, scale))
            }
        }
    }

    fn connect_failed(&mut self, now: Millis, scale: f64) -> bool {
        if self.connects > 0 && now.saturating_sub(self.last_connect) < scaled(ONE_CONNECT, scale) {
            return false;
        }
        self.connects += 1;
        self.last_connect = now;
        self.connects >= CONNECT_FAILURES
    }

    fn answered(&mut self, failed: bool, now: Millis, scale: f64) -> bool {
        let number = now.div_euclid(scaled(SLOT, scale));
        let index = usize::try_from(number.rem_euclid(SLOTS as Millis)).unwrap_or_default();
        let slot = &mut self.slots[index];
        if slot.number != number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        slot.all += 1;
        slot.failed += u32::from(failed);
        let recent = number - SLOTS as Millis + 1..=number;
        let live = self
            .slots
            .iter()
            .filter(|slot| recent.contains(&slot.number));
        let (all, failures) = live.fold((0, 0), |(all, failures), slot| {
            (all + slot.all, failures + slot.failed)
        });
        all >= JUDGED_FROM && failures * 2 >= all
    }

    /// Opens for the first rest, or for twice the last one if it was not closed for long.
    fn trip(&mut self, now: Millis, scale: f64) -> Change {
        let stable = match (self.state, self.closed_at) {
            (State::Closed, Some(at)) => now.saturating_sub(at) >= scaled(STABLE, scale),
            (State::Closed, None) => true,
            (State::Open { .. } | State::Probing { .. }, _) => false,
        };
        self.rest = match self.rest {
            0 => REST,
            _ if stable => REST,
            last => (2 * last).min(REST_MAX),
        };
        let until = now.saturating_add(scaled(self.rest, scale));
        self.open(until);
        Change::Opened { until }
    }

    fn open(&mut self, until: Millis) {
        self.state = State::Open { until };
        self.slots = [Slot::default(); SLOTS];
        self.connects = 0;
    }
}

#[cfg(test)]
mod tests;
