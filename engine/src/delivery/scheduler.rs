//! Whose turn it is: deficit round robin over tenants in each lane, the transactional lane first within a share.
//! It must not know jobs, leases, limits, credentials or the clock.
//!
//! # The bound
//!
//! A lane gives each tenant a turn of `weight × 32` recipients (its quantum), handed out in slices of at most 32; what is
//! left of a turn is lost when the tenant has no more work or may not send. A tenant that arrives or comes back enters at
//! the end of the round with one quantum. So between the arrival of work of a tenant that may send and its first slice,
//! at most [`foreign_max`] recipients of others are handed out, whatever their backlog is.

mod lane;

use std::collections::HashMap;
use std::hash::Hash;

use self::lane::{End, Round};
use crate::limits::SLICE_RECIPIENTS_MAX;
use crate::model::{Lane, Millis, TenantId};

/// Recipients of one slice, at most.
#[expect(clippy::cast_possible_truncation, reason = "it is 32")]
const SLICE: u32 = SLICE_RECIPIENTS_MAX as u32;

/// Of five recipients handed out while both lanes have work, how many may be transactional: 80 %.
const TRANSACTIONAL_OF_FIVE: u32 = 4;

/// Transactional recipients after which a slice of bulk goes first, if bulk has work.
const BULK_TURN: u32 = TRANSACTIONAL_OF_FIVE * SLICE;

/// The largest weight; above it a turn would hold up everybody else.
pub const WEIGHT_MAX: u32 = 100;

/// Whether a tenant may send in a lane now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Up to so many recipients are handed out with this pick: the smaller of this and what was wanted. 0 is as
    /// [`Ready::No`].
    Yes(u32),
    /// Not before this instant: the lane of the tenant is set aside until then or a [`Scheduler::wake`].
    NotBefore(Millis),
    /// The lane of the tenant is set aside until a [`Scheduler::wake`].
    No,
}

/// What is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<H> {
    /// Whose.
    pub tenant: TenantId,
    /// In which lane.
    pub lane: Lane,
    /// The job.
    pub handle: H,
    /// So many of its recipients, in their order.
    pub recipients: u32,
    /// With these all of the job's recipients are handed out, and the scheduler has forgotten it.
    pub last: bool,
}

/// The scheduler of all jobs that are leased and resolved. `H` is the caller's cheap handle of a job.
#[derive(Debug)]
pub struct Scheduler<H> {
    transactional: Round<H>,
    bulk: Round<H>,
    /// Where each job is.
    places: HashMap<H, (TenantId, Lane)>,
    weights: HashMap<TenantId, u32>,
    /// Transactional recipients that went ahead of waiting bulk.
    ahead: u32,
}

impl<H> Default for Scheduler<H> {
    fn default() -> Self {
        Self {
            transactional: Round::default(),
            bulk: Round::default(),
            places: HashMap::new(),
            weights: HashMap::new(),
            ahead: 0,
        }
    }
}

/// N: at most so many foreign recipients are handed out between the arrival of a tenant's work in `lane` and its first
/// slice, if the tenant may send. `quanta` is the sum of `weight × 32` over the other tenants with work in that lane, and
/// `other_lane` says whether the other lane has work.
#[must_use]
pub const fn foreign_max(lane: Lane, quanta: u32, other_lane: bool) -> u32 {
    if !other_lane {
        return quanta;
    }
    // `ahead` stays below this, grows with every transactional recipient and shrinks by four with one of bulk.
    let ahead = BULK_TURN + SLICE;
    match lane {
        Lane::Transactional => quanta + (quanta + ahead) / TRANSACTIONAL_OF_FIVE,
        Lane::Bulk => quanta + TRANSACTIONAL_OF_FIVE * quanta + ahead,
    }
}

impl<H: Clone + Eq + Hash> Scheduler<H> {
    /// Nothing to do.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A job with `recipients` joins the end of its tenant's queue. Answers false, and changes nothing, if the handle is
    /// here already or there is nobody to send to.
    pub fn enqueue(&mut self, tenant: &TenantId, lane: Lane, handle: H, recipients: u32) -> bool {
        self.insert((tenant, lane), handle, recipients, End::Back)
    }

    /// As [`Scheduler::enqueue`], at the front: a job that had its turn already and comes back to it.
    pub fn enqueue_front(
        &mut self,
        tenant: &TenantId,
        lane: Lane,
        handle: H,
        recipients: u32,
    ) -> bool {
        self.insert((tenant, lane), handle, recipients, End::Front)
    }

    fn insert(&mut self, of: (&TenantId, Lane), handle: H, recipients: u32, end: End) -> bool {
        let (tenant, lane) = of;
        if recipients == 0 || self.places.contains_key(&handle) {
            return false;
        }
        self.places.insert(handle.clone(), (tenant.clone(), lane));
        self.round(lane).push(tenant, handle, recipients, end);
        true
    }

    /// The tenant's share in each lane, from its next turn on; 1 unless set, at most [`WEIGHT_MAX`].
    pub fn set_weight(&mut self, tenant: &TenantId, weight: u32) {
        match weight.clamp(1, WEIGHT_MAX) {
            1 => self.weights.remove(tenant),
            weight => self.weights.insert(tenant.clone(), weight),
        };
    }

    /// The next slice, or nothing if nobody may send.
    ///
    /// `ready` is asked for the tenant, lane and job whose turn it is and how many recipients are wanted. What it grants is
    /// handed out at once, so that it may take them out of a limiter.
    pub fn next(
        &mut self,
        now: Millis,
        mut ready: impl FnMut(&TenantId, Lane, &H, u32) -> Ready,
    ) -> Option<Slice<H>> {
        self.transactional.wake_due(now);
        self.bulk.wake_due(now);
        let first = if self.ahead >= BULK_TURN {
            Lane::Bulk
        } else {
            Lane::Transactional
        };
        let slice = self
            .pick(first, &mut ready)
            .or_else(|| self.pick(other(first), &mut ready))?;
        self.count(&slice);
        if slice.last {
            self.places.remove(&slice.handle);
        }
        Some(slice)
    }

    /// The tenant may send again: the end of a pause, a new limit, a closed breaker.
    pub fn wake(&mut self, tenant: &TenantId) {
        self.transactional.wake(tenant);
        self.bulk.wake(tenant);
    }

    /// Everybody may send again.
    pub fn wake_all(&mut self) {
        self.transactional.wake_all();
        self.bulk.wake_all();
    }

    /// Takes a job out; answers how many of its recipients were not handed out.
    pub fn remove(&mut self, handle: &H) -> Option<u32> {
        let (tenant, lane) = self.places.remove(handle)?;
        self.round(lane).remove(&tenant, handle)
    }

    /// Drops all jobs: every lease is gone.
    pub fn clear(&mut self) {
        self.transactional = Round::default();
        self.bulk = Round::default();
        self.places.clear();
        self.ahead = 0;
    }

    /// Jobs of which not all recipients are handed out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Recipients that are not handed out, in one lane of all tenants.
    #[must_use]
    pub fn recipients(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Transactional => self.transactional.recipients(),
            Lane::Bulk => self.bulk.recipients(),
        }
    }

    /// When the first of those set aside until an instant may be asked again.
    #[must_use]
    pub fn next_wake(&self) -> Option<Millis> {
        let wakes = [self.transactional.next_wake(), self.bulk.next_wake()];
        wakes.into_iter().flatten().min()
    }

    fn pick(
        &mut self,
        lane: Lane,
        ready: &mut impl FnMut(&TenantId, Lane, &H, u32) -> Ready,
    ) -> Option<Slice<H>> {
        let weights = &self.weights;
        let quantum = |tenant: &TenantId| SLICE * weights.get(tenant).copied().unwrap_or(1);
        let round = match lane {
            Lane::Transactional => &mut self.transactional,
            Lane::Bulk => &mut self.bulk,
        };
        let picked = round.pick(quantum, |tenant, handle, wanted| {
            ready(tenant, lane, handle, wanted)
        })?;
        Some(Slice {
            tenant: picked.tenant,
            lane,
            handle: picked.handle,
            recipients: picked.recipients,
            last: picked.last,
        })
    }

    /// Keeps the transactional lane to its share while bulk could go.
    fn count(&mut self, slice: &Slice<H>) {
        self.ahead = match slice.lane {
            Lane::Bulk => {
                let made_up = TRANSACTIONAL_OF_FIVE * slice.recipients;
                self.ahead.saturating_sub(made_up)
            }
            Lane::Transactional if self.bulk.is_idle() => 0,
            Lane::Transactional => (self.ahead + slice.recipients).min(BULK_TURN + SLICE),
        };
    }

    fn round(&mut self, lane: Lane) -> &mut Round<H> {
        match lane {
            Lane::Transactional => &mut self.transactional,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

fn other(lane: Lane) -> Lane {
    match lane {
        Lane::Transactional => Lane::Bulk,
        Lane::Bulk => Lane::Transactional,
    }
}

#[cfg(test)]
mod tests;
