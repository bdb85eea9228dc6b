//! Google's access token of one service account: one refresh at a time, the old token serves meanwhile.
//! It must not know connections; the time and randomness are passed in.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use http::HeaderValue;
use serde::Deserialize;

use crate::http2::Response;
use crate::model::{Millis, Reason};
use crate::provider::refusals::Refusals;

const SECOND: Millis = 1_000;
/// A refresh without an answer is given up after this, and another may start.
const FLIGHT_MAX: Millis = 20 * SECOND;
/// First and last ceiling of the random wait after a failed refresh.
const BACKOFF_FIRST: Millis = SECOND;
const BACKOFF_MAX: Millis = 60 * SECOND;
/// Doublings after which every ceiling is the last.
const DOUBLINGS_MAX: u32 = 6;
/// A token is not sent in its last moments.
const EXPIRY_MARGIN: Millis = 30 * SECOND;
/// What Google grants; more is not believed.
const LIFE_MAX: i64 = 3_600;
/// An access token refused this soon after a forced refresh means that the credential is refused.
const FORCED_TRIAL: Millis = 300 * SECOND;
/// How long a refused service account rests the first time.
const REST: Millis = 60 * SECOND;
/// Tasks that wait for a token: one per delivery thread.
const WAITERS_MAX: usize = 256;

/// What a request of this credential may be sent with.
#[derive(Debug)]
pub enum Authorization {
    /// Send with this header.
    Ready {
        /// `Bearer …`, marked sensitive.
        header: HeaderValue,
        /// Which token it is, to tell stragglers apart.
        generation: u16,
        /// The caller now holds the one refresh and must make it.
        refresh: bool,
    },
    /// No token yet; the waker is woken when that changes.
    Wait {
        /// The caller now holds the one refresh and must make it.
        refresh: bool,
    },
    /// Google refuses the service account.
    Refused(Refusal),
}

/// A refused service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Google's word.
    pub reason: Reason,
    /// How long to rest, milliseconds.
    pub pause: Millis,
}

/// The access tokens of one service account.
#[derive(Default)]
pub struct AccessTokens {
    state: Mutex<State>,
    refusals: Refusals,
}

#[derive(Default)]
struct State {
    current: Option<Token>,
    generation: u16,
    flight_until: Millis,
    retry_at: Millis,
    failures: u32,
    forced: bool,
    refused: Option<(Reason, Millis)>,
    waiters: Vec<Waker>,
}

struct Token {
    header: HeaderValue,
    issued_at: Millis,
    refresh_at: Millis,
    expires_at: Millis,
    forced: bool,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Denied {
    error: String,
}

impl AccessTokens {
    /// What to send with now. A caller that is told to `refresh` is the only one, until it finishes or 20 s pass.
    pub fn authorization(&self, now: Millis, waker: &Waker) -> Authorization {
        let mut state = self.lock();
        if let Some((reason, until)) = &state.refused
            && now < *until
        {
            let (reason, pause) = (reason.clone(), until - now);
            return Authorization::Refused(Refusal { reason, pause });
        }
        state.refused = None;
        let live = |token: &&Token| now < token.expires_at - EXPIRY_MARGIN;
        if let Some(token) = state.current.as_ref().filter(live) {
            let header = token.header.clone();
            let due = now >= token.refresh_at;
            return Authorization::Ready {
                header,
                generation: state.generation,
                refresh: due && state.take_off(now),
            };
        }
        let known = state.waiters.iter().any(|waiting| waiting.will_wake(waker));
        if !known && state.waiters.len() < WAITERS_MAX {
            state.waiters.push(waker.clone());
        }
        Authorization::Wait {
            refresh: state.take_off(now),
        }
    }

    /// The token endpoint's answer, or `None` when there was none. `random` spreads the next try.
    ///
    /// # Errors
    /// When Google refuses the service account.
    pub fn refreshed(
        &self,
        answer: Option<&Response>,
        random: u64,
        now: Millis,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.flight_until = 0;
        let result = match read(answer) {
            Answer::Granted(granted) => {
                state.land(granted, now);
                Ok(())
            }
            Answer::Failed { retry_after } => {
                state.fail(random, retry_after, now);
                Ok(())
            }
            Answer::Denied(reason) => {
                let pause = self.refusals.refused(REST, now);
                state.refuse(reason.clone(), now + pause);
                Err(Refusal { reason, pause })
            }
        };
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
        result
    }

    /// FCM answered 401 to a request with token `generation`: a new token once; refused again, the account rests.
    ///
    /// # Errors
    /// When a token from a forced refresh is refused as well.
    pub fn rejected(&self, generation: u16, reason: Reason, now: Millis) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.generation != generation {
            return Ok(());
        }
        let Some(token) = state.current.take() else {
            return Ok(());
        };
        if token.forced && now - token.issued_at < FORCED_TRIAL {
            let pause = self.refusals.refused(REST, now);
            state.refuse(reason.clone(), now + pause);
            return Err(Refusal { reason, pause });
        }
        state.forced = true;
        Ok(())
    }

    /// FCM accepted a request: the account is in order.
    pub fn accepted(&self) {
        self.refusals.accepted();
    }

    /// FCM refuses the account itself; how long it rests.
    pub(super) fn refused(&self, first: Millis, now: Millis) -> Millis {
        self.refusals.refused(first, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl State {
    fn take_off(&mut self, now: Millis) -> bool {
        let free = now >= self.flight_until && now >= self.retry_at;
        if free {
            self.flight_until = now + FLIGHT_MAX;
        }
        free
    }

    fn land(&mut self, granted: (HeaderValue, Millis), now: Millis) {
        let (header, life) = granted;
        self.generation = self.generation.wrapping_add(1);
        self.failures = 0;
        self.retry_at = 0;
        self.current = Some(Token {
            header,
            issued_at: now,
            // 85 %: between the 80 and 90 that leave time for retries without wasting tokens.
            refresh_at: now + life * 85 / 100,
            expires_at: now + life,
            forced: std::mem::take(&mut self.forced),
        });
    }

    fn fail(&mut self, random: u64, retry_after: Option<Millis>, now: Millis) {
        let ceiling = BACKOFF_FIRST << self.failures.min(DOUBLINGS_MAX);
        let ceiling = ceiling.min(BACKOFF_MAX).unsigned_abs();
        self.failures = self.failures.saturating_add(1);
        let wait = Millis::try_from(random % (ceiling + 1)).unwrap_or(BACKOFF_MAX);
        let asked = retry_after.unwrap_or(0).min(BACKOFF_MAX);
        self.retry_at = now + wait.max(asked);
    }

    fn refuse(&mut self, reason: Reason, until: Millis) {
        self.current = None;
        self.forced = false;
        self.refused = Some((reason, until));
    }
}

enum Answer {
    Granted((HeaderValue, Millis)),
    Denied(Reason),
    Failed { retry_after: Option<Millis> },
}

fn read(answer: Option<&Response>) -> Answer {
    let Some(response) = answer else {
        return Answer::Failed { retry_after: None };
    };
    let failed = Answer::Failed {
        retry_after: response.retry_after,
    };
    match response.status {
        200 => grant(&response.body).map_or(failed, Answer::Granted),
        408 | 429 => failed,
        400..=499 => {
            let denied: Denied = serde_json::from_slice(&response.body).unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let word: String = denied
                .error
                .chars()
                .filter(|c| plain(*c))
                .take(64)
                .collect();
            Answer::Denied(match word.is_empty() {
                true => Reason::Owned(format!("HTTP {}", response.status)),
                false => Reason::Owned(word),
            })
        }
        _ => failed,
    }
}

fn grant(body: &[u8]) -> Option<(HeaderValue, Millis)> {
    let granted: Granted = serde_json::from_slice(body).ok()?;
    let life = granted.expires_in.clamp(0, LIFE_MAX) * SECOND;
    let mut header = HeaderValue::try_from(format!("Bearer {}", granted.access_token)).ok()?;
    header.set_sensitive(true);
    (life > EXPIRY_MARGIN && !granted.access_token.is_empty()).then_some((header, life))
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
