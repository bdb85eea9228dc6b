//! Random waits between attempts to connect.
//! It must not know the clock, nor what is tried.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::limits::{OPEN_BACKOFF_FIRST, OPEN_BACKOFF_MAX, OPEN_GAP};

/// Doublings after which every ceiling is the last.
const DOUBLINGS_MAX: u32 = 6;

/// A small generator (SplitMix64) for spreading waits; of no use for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// Seeded by the process's own hash randomness.
    pub(crate) fn seeded() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random part of `most`.
    pub(crate) fn part_of(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.next() % millis.saturating_add(1))
    }
}

/// How long after the `failures`th failure in a row (from 1) the next attempt may start: full jitter under a ceiling
/// that doubles from 1 s to 60 s, and never sooner than the gap between any two attempts.
pub(super) fn after_failure(failures: u32, jitter: &mut Jitter) -> Duration {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    let ceiling = (OPEN_BACKOFF_FIRST * (1 << doublings)).min(OPEN_BACKOFF_MAX);
    jitter.part_of(ceiling).max(OPEN_GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_stay_apart() {
        let mut jitter = Jitter::seeded();
        for failures in 1..100 {
            let ceiling = Duration::from_secs(60).min(Duration::from_secs(1 << failures.min(6)));
            let wait = after_failure(failures, &mut jitter);
            assert!(wait >= OPEN_GAP && wait <= ceiling, "{failures}: {wait:?}");
        }
        let longest = (0..200).map(|_| after_failure(50, &mut jitter)).max();
        assert!(
            longest > Some(Duration::from_secs(40)),
            "the whole minute is used: {longest:?}"
        );
    }
}
