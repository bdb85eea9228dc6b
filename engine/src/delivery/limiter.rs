//! How many recipients a tenant may send now: a GCRA bucket per tenant, of which a share is kept for transactional.
//! It must not know queues, jobs, leases on a rate or where the limits come from.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::direct::NotKeyed;
use governor::{NotUntil, Quota, RateLimiter};

use crate::limits::{RATE_DEFAULT, SLICE_RECIPIENTS_MAX};
use crate::model::{Lane, Millis, TenantId};

/// Tenants whose buckets are kept at a time; a full bucket is dropped without loss.
pub const BUCKETS_MAX: usize = 16_384;

/// The part of the burst that bulk leaves to transactional: one in so many.
const RESERVED: u32 = 10;

/// Nanoseconds of a second and of a millisecond.
const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// A tenant's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Recipients a second.
    pub per_second: NonZeroU32,
    /// Recipients at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate from configured numbers; the burst is one second's worth unless given, and 0 means 1.
    #[must_use]
    pub fn new(per_second: u32, burst: Option<u32>) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            per_second: at_least_one(per_second),
            burst: at_least_one(burst.unwrap_or(per_second)),
        }
    }

    /// Recipients that bulk leaves to transactional.
    #[must_use]
    pub fn reserved(self) -> u32 {
        self.burst.get() / RESERVED
    }

    /// The most one slice of a lane may hold, at least 1.
    #[must_use]
    pub fn max_slice(self, lane: Lane) -> u32 {
        let slice = u32::try_from(SLICE_RECIPIENTS_MAX).unwrap_or(u32::MAX);
        let room = match lane {
            Lane::Transactional => self.burst.get(),
            Lane::Bulk => self.burst.get() - self.reserved(),
        };
        room.min(slice)
    }

    fn quota(self) -> Quota {
        // Rounded up, so that the rate is never exceeded.
        let interval = SECOND.div_ceil(u64::from(self.per_second.get()));
        Quota::with_period(Duration::from_nanos(interval))
            .unwrap_or(Quota::per_second(self.per_second))
            .allow_burst(self.burst)
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self::new(RATE_DEFAULT, None)
    }
}

/// Whether a slice may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is taken.
    Ok,
    /// Nothing is taken; ask again then.
    Wait {
        /// The first instant at which it could be taken, if nobody else takes before.
        until: Millis,
    },
}

/// The buckets of all tenants with work here; the caller forgets a tenant whose work has ended.
#[derive(Debug, Default)]
pub struct Limiter {
    clock: Told,
    buckets: HashMap<TenantId, Bucket>,
    default: Rate,
}

impl Limiter {
    /// Full buckets; tenants without a rate of their own have `default`.
    #[must_use]
    pub fn new(default: Rate) -> Self {
        Self {
            default,
            ..Self::default()
        }
    }

    /// Takes `n` recipients out of the tenant's bucket, all or none.
    ///
    /// `n` is held to [`Limiter::max_slice`], so that it can always be taken at some time; the caller slices by it.
    pub fn try_take(&mut self, tenant: &TenantId, n: u32, lane: Lane, now: Millis) -> Take {
        self.clock.tell(now);
        let bucket = self.bucket(tenant);
        let reserved = match lane {
            Lane::Transactional => 0,
            Lane::Bulk => bucket.rate.reserved(),
        };
        let Some(n) = NonZeroU32::new(n.min(bucket.rate.max_slice(lane))) else {
            return Take::Ok;
        };
        let wait = bucket.would_wait(n.saturating_add(reserved));
        match wait.or_else(|| bucket.take(n)) {
            None => Take::Ok,
            Some(until) => Take::Wait {
                until: until.max(now.saturating_add(1)),
            },
        }
    }

    /// As [`Limiter::try_take`], without taking.
    pub fn peek(&mut self, tenant: &TenantId, n: u32, lane: Lane, now: Millis) -> Take {
        self.clock.tell(now);
        let bucket = self.bucket(tenant);
        let reserved = match lane {
            Lane::Transactional => 0,
            Lane::Bulk => bucket.rate.reserved(),
        };
        let Some(n) = NonZeroU32::new(n.min(bucket.rate.max_slice(lane))) else {
            return Take::Ok;
        };
        match bucket.would_wait(n.saturating_add(reserved)) {
            None => Take::Ok,
            Some(until) => Take::Wait {
                until: until.max(now.saturating_add(1)),
            },
        }
    }

    /// The most one slice of a tenant's lane may hold, at least 1.
    #[must_use]
    pub fn max_slice(&self, tenant: &TenantId, lane: Lane) -> u32 {
        self.rate(tenant).max_slice(lane)
    }

    /// The tenant's rate.
    #[must_use]
    pub fn rate(&self, tenant: &TenantId) -> Rate {
        let bucket = self.buckets.get(tenant);
        bucket.map_or(self.default, |bucket| bucket.rate)
    }

    /// The tenant's rate from now on. What is left in the bucket carries over, as far as it fits: no change of a rate
    /// hands out a burst.
    pub fn set_rate(&mut self, tenant: &TenantId, rate: Rate, now: Millis) {
        self.clock.tell(now);
        let clock = self.clock.clone();
        let bucket = self.bucket(tenant);
        if bucket.rate == rate {
            return;
        }
        let left = bucket.left();
        *bucket = Bucket::full(rate, clock);
        bucket.own = true;
        if let Some(spent) = NonZeroU32::new(rate.burst.get().saturating_sub(left)) {
            // A full bucket holds its burst, of which this is a part.
            let _taken = bucket.take(spent);
        }
    }

    /// Forgets a tenant's bucket and rate.
    pub fn forget(&mut self, tenant: &TenantId) {
        self.buckets.remove(tenant);
    }

    fn bucket(&mut self, tenant: &TenantId) -> &mut Bucket {
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(tenant) {
            self.buckets
                .retain(|_, bucket| bucket.own || bucket.would_wait(bucket.rate.burst).is_some());
        }
        let (default, clock) = (self.default, &self.clock);
        let entry = self.buckets.entry(tenant.clone());
        entry.or_insert_with(|| Bucket::full(default, clock.clone()))
    }
}

type Gcra = RateLimiter<NotKeyed, Theoretical, Told, NoOpMiddleware<Instant>>;

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// The rate is the tenant's own, not the default.
    own: bool,
    gcra: Gcra,
    dry: Arc<AtomicBool>,
}

impl Bucket {
    fn full(rate: Rate, clock: Told) -> Self {
        let dry = Arc::new(AtomicBool::new(false));
        let state = Theoretical {
            arrival: AtomicU64::new(NEVER),
            dry: Arc::clone(&dry),
        };
        Self {
            rate,
            own: false,
            gcra: RateLimiter::new(rate.quota(), state, clock),
            dry,
        }
    }

    /// Takes `n`, or says when it could.
    fn take(&self, n: NonZeroU32) -> Option<Millis> {
        match self.gcra.check_n(n) {
            Ok(Ok(())) => None,
            Ok(Err(not_until)) => Some(millis_of(&not_until)),
            // More than the burst. Nobody asks for that: `max_slice` and the reserve keep below it.
            Err(_) => Some(Millis::MAX),
        }
    }

    /// As [`Bucket::take`], without taking.
    fn would_wait(&self, n: NonZeroU32) -> Option<Millis> {
        self.dry.store(true, Ordering::Relaxed);
        let answer = self.take(n);
        self.dry.store(false, Ordering::Relaxed);
        answer
    }

    /// How many could be taken now.
    fn left(&self) -> u32 {
        let (mut fits, mut too_many) = (0, u64::from(self.rate.burst.get()) + 1);
        while fits + 1 < too_many {
            let middle = fits.midpoint(too_many);
            let n = u32::try_from(middle).ok().and_then(NonZeroU32::new);
            if n.is_some_and(|n| self.would_wait(n).is_none()) {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        u32::try_from(fits).unwrap_or(u32::MAX)
    }
}

fn millis_of(not_until: &NotUntil<Instant>) -> Millis {
    let Instant(nanos) = not_until.earliest_possible();
    Millis::try_from(nanos.div_ceil(MILLI)).unwrap_or(Millis::MAX)
}

/// The arrival time of a bucket that was never drawn on.
const NEVER: u64 = u64::MAX;

/// The state of one bucket: governor's theoretical arrival time. A dry check leaves it as it is.
///
/// Atomics only because governor's trait works on shared references; [`Limiter`] is used through `&mut`.
#[derive(Debug)]
struct Theoretical {
    arrival: AtomicU64,
    dry: Arc<AtomicBool>,
}

impl StateStore for Theoretical {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let known = self.arrival.load(Ordering::Relaxed);
        let (answer, arrival) = f((known != NEVER).then(|| Nanos::new(known)))?;
        if !self.dry.load(Ordering::Relaxed) {
            self.arrival.store(arrival.as_u64(), Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// A clock that stands still until it is told the time, and never goes back.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn tell(&self, now: Millis) {
        let nanos = u64::try_from(now).unwrap_or_default().saturating_mul(MILLI);
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }
}

/// Unix time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(u64);

impl std::ops::Add<Nanos> for Instant {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.as_u64()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests;
