//! How many requests of a second an API key may still make: a GCRA bucket that holds one second's worth.
//! It must not know keys or answers, and reads no clock: it is told the time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clarion_engine::model::Millis;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

/// A clock that shows what it was last told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// The bucket of one key.
pub(super) struct Pace {
    per_second: u32,
    clock: Told,
    bucket: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
}

impl Pace {
    /// A full bucket.
    pub(super) fn new(per_second: u32, now: Millis) -> Self {
        let clock = Told::default();
        clock.0.store(nanos(now), Ordering::Relaxed);
        let quota = Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        Self {
            per_second,
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
        }
    }

    /// Whether it was made for this rate.
    pub(super) fn is_of(&self, per_second: u32) -> bool {
        self.per_second == per_second
    }

    /// Takes one request out of the bucket, or says how long to wait.
    pub(super) fn take(&self, now: Millis) -> Result<(), Duration> {
        // Clocks of other machines may step back a little: the bucket's never does.
        self.clock.0.fetch_max(nanos(now), Ordering::Relaxed);
        self.bucket.check().map_err(|until| {
            let wait = until.earliest_possible().duration_since(self.clock.now());
            Duration::from_nanos(wait.as_u64())
        })
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace")
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

fn nanos(at: Millis) -> u64 {
    u64::try_from(at).unwrap_or_default().saturating_mul(MILLI)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_its_requests_and_then_one_comes_at_a_time() {
        let pace = Pace::new(4, 10_000);
        for _ in 0..4 {
            pace.take(10_000).unwrap();
        }
        assert_eq!(pace.take(10_000), Err(Duration::from_millis(250)));
        assert_eq!(pace.take(10_249), Err(Duration::from_millis(1)));
        pace.take(10_250).unwrap();
        // A clock that steps back gives nothing.
        assert!(pace.take(5_000).is_err());
        for _ in 0..4 {
            pace.take(20_000).unwrap();
        }
        assert!(pace.take(20_000).is_err());
    }
}
