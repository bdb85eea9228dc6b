//! How long a refused credential rests: longer each time, back to the start once it is accepted.
//! It must not know the clock (`now` is passed) or what the credential is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::Millis;

/// The longest rest.
const REST_MAX: Millis = 60 * 60 * 1_000;
/// Doublings after which every rest is the longest anyway.
const DOUBLINGS_MAX: u32 = 12;

/// The refusals of one credential.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rests: u32,
    until: Millis,
}

impl Refusals {
    /// Notes a refusal; how long to rest from `now`. Refusals of requests that were already under way when a rest
    /// began do not lengthen it.
    pub(super) fn refused(&self, first: Millis, now: Millis) -> Millis {
        self.any.store(true, Ordering::Release);
        let mut state = self.state.lock().unwrap_or_else(|lock| lock.into_inner());
        if now >= state.until {
            let rest = first
                .saturating_mul(1 << state.rests.min(DOUBLINGS_MAX))
                .min(REST_MAX);
            state.rests = state.rests.saturating_add(1);
            state.until = now.saturating_add(rest);
        }
        state.until - now
    }

    /// The provider accepts the credential again.
    pub(super) fn accepted(&self) {
        if self.any.load(Ordering::Acquire) && self.any.swap(false, Ordering::AcqRel) {
            *self.state.lock().unwrap_or_else(|lock| lock.into_inner()) = State::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;

    #[test]
    fn rests_double_up_to_an_hour_and_start_over_once_accepted() {
        let refusals = Refusals::default();
        let mut now = 1_000_000;
        let mut rests = Vec::new();
        for _ in 0..8 {
            let rest = refusals.refused(MINUTE, now);
            assert_eq!(
                refusals.refused(MINUTE, now + 500),
                rest - 500,
                "a burst is one refusal"
            );
            rests.push(rest / MINUTE);
            now += rest;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
        refusals.accepted();
        assert_eq!(refusals.refused(MINUTE, now), MINUTE);
    }
}
