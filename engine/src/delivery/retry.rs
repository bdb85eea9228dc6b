//! When a recipient is tried again, and when it has its final state: a pure function of outcome, history and time.
//! It must not know jobs, devices, queues or stores.

use crate::limits::ATTEMPTS_MAX;
use crate::model::{
    Attempts, DeliveryMode, FinalState, Millis, Outcome, Processed, Reason, ThrottleScope,
};
use crate::store::WaitingWhy;

/// The reason of a final state that follows a request whose answer never came.
pub const UNCONFIRMED: &str = "unconfirmed";

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;

/// Doublings beyond this change nothing: every delay is past any expiry by then.
const DOUBLINGS_MAX: u32 = 20;

/// The retry schedule. Every delay is in milliseconds before `scale`; the default is that of `decisions.md`.
///
/// Jitter lengthens a delay by up to `jitter`; only APNs' own ladder is spread to both sides, so that what Google
/// documents as a floor stays one.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Attempts of one recipient, the first included.
    pub attempts_max: u8,
    /// Delays after requests that were never handed over; what follows them is as after a 5xx.
    pub unsent: Vec<Millis>,
    /// Delays after an APNs 5xx; the last repeats.
    pub apns_unavailable: Vec<Millis>,
    /// Follow Apple's text to the letter: no delay after an APNs 5xx is shorter than `strict_first`.
    pub strict: bool,
    /// See `strict`.
    pub strict_first: Millis,
    /// First delay after an APNs 429, doubling.
    pub apns_throttled: Millis,
    /// Retries after which a device token that APNs throttles is given up.
    pub apns_throttled_retries: u8,
    /// First delay after an FCM 429, doubling (Google: one minute at least).
    pub fcm_throttled_floor: Millis,
    /// First delay after an FCM 5xx, doubling (Google: ten seconds at least).
    pub fcm_unavailable_floor: Millis,
    /// The FCM 5xx delays may come to this in sum (Google: give up by 60 minutes).
    pub fcm_unavailable_total: Millis,
    /// Retries of a request that was handed over and never answered, 0 to 3.
    pub ambiguous_retries: u8,
    /// Delay before such a retry, at least; with FCM at least `fcm_unavailable_floor`.
    pub ambiguous_delay: Millis,
    /// Delay after a refused credential, at least.
    pub unauthorized_delay: Millis,
    /// Share of a delay by which it may vary.
    pub jitter: f64,
    /// Factor on every delay, the provider's `Retry-After` included; 1 but for the demo and tests. No delay is ever
    /// shorter than 1 ms.
    pub scale: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts_max: ATTEMPTS_MAX,
            unsent: vec![SECOND, 5 * SECOND, 30 * SECOND],
            apns_unavailable: [1, 5, 15, 30, 60].map(|minutes| minutes * MINUTE).to_vec(),
            strict: false,
            strict_first: 15 * MINUTE,
            apns_throttled: MINUTE,
            apns_throttled_retries: 3,
            fcm_throttled_floor: MINUTE,
            fcm_unavailable_floor: 10 * SECOND,
            fcm_unavailable_total: 60 * MINUTE,
            ambiguous_retries: 1,
            ambiguous_delay: 5 * SECOND,
            unauthorized_delay: MINUTE,
            jitter: 0.2,
            scale: 1.0,
        }
    }
}

/// What a decision depends on beside the outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// APNs answered; otherwise FCM.
    pub is_apple: bool,
    /// What happens to an unanswered request.
    pub delivery: DeliveryMode,
    /// The history before this attempt.
    pub attempts: Attempts,
    /// Nothing is tried again at or after this instant.
    pub expires_at: Millis,
    /// Now.
    pub now: Millis,
    /// A random number, 0 to 1.
    pub jitter: f64,
}

/// What becomes of one recipient after one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It has its final state.
    Final {
        /// The state.
        state: FinalState,
        /// The provider's word, or ours.
        reason: Reason,
    },
    /// It is tried again.
    Again {
        /// Not before this instant.
        due: Millis,
        /// Why it waits.
        why: WaitingWhy,
        /// The history with this attempt in it.
        attempts: Attempts,
    },
}

impl Policy {
    /// What becomes of a recipient whose request came to `outcome`.
    ///
    /// Every attempt counts in `attempts.total` but a refused credential: the provider did not look at the push then,
    /// which waits for the credential and ends at its expiry.
    #[must_use]
    pub fn next(&self, outcome: &Outcome, trial: &Trial) -> Fate {
        match outcome {
            Outcome::Accepted => ended(FinalState::Accepted, &Reason::Borrowed("accepted")),
            Outcome::Unregistered { reason, .. } => ended(FinalState::Unregistered, reason),
            Outcome::Rejected { reason, .. } => ended(FinalState::Rejected, reason),
            Outcome::Throttled {
                reason,
                scope,
                retry_after,
            } => {
                let delay = self.throttled(*scope, trial);
                self.again(trial, delay, *retry_after, reason)
            }
            Outcome::Unavailable {
                reason,
                processed,
                retry_after,
            } => match processed {
                Processed::Answered => {
                    let delay = self.unavailable(trial, answered(trial.attempts));
                    self.again(trial, delay, *retry_after, reason)
                }
                Processed::No => self.unsent(trial, *retry_after, reason),
                Processed::Unknown => self.ambiguous(trial, *retry_after),
            },
            Outcome::Unauthorized { reason, pause } => {
                let delay = Delay::at_least(self.unauthorized_delay.max(*pause));
                let due = self.due(trial, delay, 0);
                if due >= trial.expires_at {
                    return ended(FinalState::Expired, reason);
                }
                Fate::Again {
                    due,
                    why: WaitingWhy::Breaker,
                    attempts: trial.attempts,
                }
            }
        }
    }

    /// A delay in the scale of this policy; at least 1 ms.
    #[must_use]
    pub fn scaled(&self, delay: Millis) -> Millis {
        scaled(delay, self.scale)
    }

    /// How long a credential rests that is throttled without a `Retry-After`, before scaling.
    #[must_use]
    pub fn throttle_rest(&self, is_apple: bool) -> Millis {
        if is_apple {
            self.apns_throttled
        } else {
            self.fcm_throttled_floor
        }
    }

    fn throttled(&self, scope: ThrottleScope, trial: &Trial) -> Option<Delay> {
        let nth = answered(trial.attempts);
        let one_token = scope == ThrottleScope::DeviceToken;
        if trial.is_apple && one_token && nth >= self.apns_throttled_retries {
            return None;
        }
        let floor = self.throttle_rest(trial.is_apple);
        Some(Delay::at_least(doubled(floor, nth)))
    }

    fn unavailable(&self, trial: &Trial, nth: u8) -> Option<Delay> {
        if trial.is_apple {
            let ladder = &self.apns_unavailable;
            let step = ladder.get(usize::from(nth)).or(ladder.last());
            let base = step.copied().unwrap_or(MINUTE);
            return Some(if self.strict {
                Delay::at_least(base.max(self.strict_first))
            } else {
                Delay::around(base)
            });
        }
        let floor = self.fcm_unavailable_floor;
        // The delays so far and this one: a geometric sum.
        let sum = doubled(floor, nth.saturating_add(1)).saturating_sub(floor);
        (sum <= self.fcm_unavailable_total).then(|| Delay::at_least(doubled(floor, nth)))
    }

    fn unsent(&self, trial: &Trial, retry_after: Option<Millis>, reason: &Reason) -> Fate {
        let nth = trial.attempts.unsent;
        let delay = match self.unsent.get(usize::from(nth)) {
            Some(delay) => Some(Delay::at_least(*delay)),
            None => {
                let quick = u8::try_from(self.unsent.len()).unwrap_or(u8::MAX);
                let beyond = nth.saturating_sub(quick);
                self.unavailable(trial, answered(trial.attempts).saturating_add(beyond))
            }
        };
        let mut fate = self.again(trial, delay, retry_after, reason);
        if let Fate::Again { attempts, .. } = &mut fate {
            attempts.unsent = attempts.unsent.saturating_add(1);
        }
        fate
    }

    fn ambiguous(&self, trial: &Trial, retry_after: Option<Millis>) -> Fate {
        let reason = Reason::Borrowed(UNCONFIRMED);
        if trial.delivery == DeliveryMode::AtMostOnce {
            return ended(FinalState::Unknown, &reason);
        }
        let floor = if trial.is_apple {
            0
        } else {
            self.fcm_unavailable_floor
        };
        let delay = Delay::at_least(self.ambiguous_delay.max(floor));
        let delay = (trial.attempts.ambiguous < self.ambiguous_retries).then_some(delay);
        let mut fate = self.again(trial, delay, retry_after, &reason);
        if let Fate::Again { attempts, .. } = &mut fate {
            attempts.ambiguous = attempts.ambiguous.saturating_add(1);
        }
        fate
    }

    /// One attempt more, unless there is no further delay, all attempts are used up or the time is over before it.
    fn again(
        &self,
        trial: &Trial,
        delay: Option<Delay>,
        retry_after: Option<Millis>,
        reason: &Reason,
    ) -> Fate {
        let mut attempts = trial.attempts;
        attempts.total = attempts.total.saturating_add(1);
        let Some(delay) = delay.filter(|_| attempts.total < self.attempts_max) else {
            return ended(FinalState::Exhausted, reason);
        };
        let due = self.due(trial, delay, retry_after.unwrap_or_default());
        if due >= trial.expires_at {
            return ended(FinalState::Expired, reason);
        }
        let why = WaitingWhy::Retry;
        Fate::Again { due, why, attempts }
    }

    /// The instant after `delay`, varied by the trial's jitter, and never before `retry_after` is over.
    fn due(&self, trial: &Trial, delay: Delay, retry_after: Millis) -> Millis {
        let jitter = trial.jitter.clamp(0.0, 1.0);
        let varied = if delay.both_sides {
            1.0 + self.jitter * (2.0 * jitter - 1.0)
        } else {
            1.0 + self.jitter * jitter
        };
        let wait = scaled(delay.base, self.scale * varied).max(self.scaled(retry_after));
        trial.now.saturating_add(wait)
    }
}

/// A delay before jitter and scale.
#[derive(Clone, Copy)]
struct Delay {
    base: Millis,
    both_sides: bool,
}

impl Delay {
    fn at_least(base: Millis) -> Self {
        Self {
            base,
            both_sides: false,
        }
    }

    fn around(base: Millis) -> Self {
        Self {
            base,
            both_sides: true,
        }
    }
}

fn ended(state: FinalState, reason: &Reason) -> Fate {
    Fate::Final {
        state,
        reason: reason.clone(),
    }
}

/// Attempts to which the provider gave an answer.
fn answered(attempts: Attempts) -> u8 {
    let silent = attempts.unsent.saturating_add(attempts.ambiguous);
    attempts.total.saturating_sub(silent)
}

fn doubled(base: Millis, times: u8) -> Millis {
    base.saturating_mul(1 << u32::from(times).min(DOUBLINGS_MAX))
}

/// `delay` times `factor`, rounded up; at least 1 ms.
pub(super) fn scaled(delay: Millis, factor: f64) -> Millis {
    // Delays are far below 2^53 ms, beyond which a float would not hold them exactly; the cast saturates.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "see above"
    )]
    let product = (delay as f64 * factor).ceil() as Millis;
    product.max(1)
}

#[cfg(test)]
pub(super) mod tests;
