//! One lane: the round of tenants that have work, and those that are set aside until they may send again.
//! It must not know the other lane or weights.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Ready, SLICE};
use crate::model::{Millis, TenantId};

/// The tenants of a lane. A tenant with work is either in `turns` or set aside, never both.
#[derive(Debug)]
pub(super) struct Round<H> {
    queues: HashMap<TenantId, Queue<H>>,
    /// Tenants in the order of their turns; the first has its turn.
    turns: VecDeque<TenantId>,
    /// Tenants set aside until an instant.
    timers: BTreeSet<(Millis, TenantId)>,
    /// What is left of the first tenant's turn, recipients; 0 when its turn has not begun.
    deficit: u32,
    recipients: u64,
}

#[derive(Debug)]
struct Queue<H> {
    jobs: VecDeque<Pending<H>>,
    place: Place,
}

#[derive(Debug)]
struct Pending<H> {
    handle: H,
    remaining: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    InTurns,
    Until(Millis),
    UntilWoken,
}

/// Where a job joins its tenant's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Back,
    Front,
}

#[derive(Debug)]
pub(super) struct Picked<H> {
    pub(super) tenant: TenantId,
    pub(super) handle: H,
    pub(super) recipients: u32,
    pub(super) last: bool,
}

impl<H> Default for Round<H> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            turns: VecDeque::new(),
            timers: BTreeSet::new(),
            deficit: 0,
            recipients: 0,
        }
    }
}

impl<H: Clone + Eq> Round<H> {
    pub(super) fn push(&mut self, tenant: &TenantId, handle: H, recipients: u32, end: End) {
        self.recipients += u64::from(recipients);
        let job = Pending {
            handle,
            remaining: recipients,
        };
        if let Some(queue) = self.queues.get_mut(tenant) {
            match end {
                End::Back => queue.jobs.push_back(job),
                End::Front => queue.jobs.push_front(job),
            }
            return;
        }
        self.turns.push_back(tenant.clone());
        let queue = Queue {
            jobs: VecDeque::from([job]),
            place: Place::InTurns,
        };
        self.queues.insert(tenant.clone(), queue);
    }

    /// The next slice of this lane. A tenant that may not send leaves the round, so that it is asked once and not again.
    pub(super) fn pick(
        &mut self,
        quantum: impl Fn(&TenantId) -> u32,
        mut ready: impl FnMut(&TenantId, &H, u32) -> Ready,
    ) -> Option<Picked<H>> {
        while let Some(tenant) = self.turns.front().cloned() {
            let head = self
                .queues
                .get_mut(&tenant)
                .and_then(|q| q.jobs.front_mut());
            let Some(job) = head else {
                // A queue never stays empty; if it did, its tenant simply has no turn.
                self.leave(&tenant);
                continue;
            };
            if self.deficit == 0 {
                self.deficit = quantum(&tenant).max(1);
            }
            let wanted = job.remaining.min(self.deficit).min(SLICE);
            let granted = match ready(&tenant, &job.handle, wanted) {
                Ready::Yes(0) | Ready::No => {
                    self.set_aside(&tenant, Place::UntilWoken);
                    continue;
                }
                Ready::NotBefore(at) => {
                    self.set_aside(&tenant, Place::Until(at));
                    continue;
                }
                Ready::Yes(max) => max.min(wanted),
            };
            job.remaining -= granted;
            let (handle, last) = (job.handle.clone(), job.remaining == 0);
            self.recipients -= u64::from(granted);
            self.deficit -= granted;
            self.after(&tenant, last);
            return Some(Picked {
                tenant,
                handle,
                recipients: granted,
                last,
            });
        }
        None
    }

    /// After a slice of the first tenant: drops its finished job, and ends its turn if it is over.
    fn after(&mut self, tenant: &TenantId, last: bool) {
        let mut has_work = true;
        if last && let Some(queue) = self.queues.get_mut(tenant) {
            queue.jobs.pop_front();
            has_work = !queue.jobs.is_empty();
        }
        if !has_work {
            self.leave(tenant);
        } else if self.deficit == 0 {
            self.turns.rotate_left(1);
        }
    }

    /// The first tenant has no more work.
    fn leave(&mut self, tenant: &TenantId) {
        self.turns.pop_front();
        self.deficit = 0;
        self.queues.remove(tenant);
    }

    /// The first tenant may not send.
    fn set_aside(&mut self, tenant: &TenantId, place: Place) {
        self.turns.pop_front();
        self.deficit = 0;
        if let Some(queue) = self.queues.get_mut(tenant) {
            queue.place = place;
        }
        if let Place::Until(at) = place {
            self.timers.insert((at, tenant.clone()));
        }
    }

    pub(super) fn wake(&mut self, tenant: &TenantId) {
        let Some(queue) = self.queues.get_mut(tenant) else {
            return;
        };
        let place = std::mem::replace(&mut queue.place, Place::InTurns);
        if let Place::Until(at) = place {
            self.timers.remove(&(at, tenant.clone()));
        }
        if place != Place::InTurns {
            self.turns.push_back(tenant.clone());
        }
    }

    pub(super) fn wake_all(&mut self) {
        let aside = |queue: &Queue<H>| queue.place != Place::InTurns;
        let mut tenants: Vec<TenantId> = self
            .queues
            .iter()
            .filter(|(_, queue)| aside(queue))
            .map(|(tenant, _)| tenant.clone())
            .collect();
        // The map's order is random; the round's must not be.
        tenants.sort_unstable();
        for tenant in &tenants {
            self.wake(tenant);
        }
    }

    pub(super) fn wake_due(&mut self, now: Millis) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, tenant)) = self.timers.pop_first()
        {
            self.wake(&tenant);
        }
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, handle: &H) -> Option<u32> {
        let queue = self.queues.get_mut(tenant)?;
        let index = queue.jobs.iter().position(|job| job.handle == *handle)?;
        let remaining = queue.jobs.remove(index)?.remaining;
        self.recipients -= u64::from(remaining);
        if queue.jobs.is_empty() {
            self.forget(tenant);
        }
        Some(remaining)
    }

    /// A tenant without work, wherever it stands.
    fn forget(&mut self, tenant: &TenantId) {
        let place = self.queues.remove(tenant).map(|queue| queue.place);
        match place {
            Some(Place::InTurns) => {
                if self.turns.front() == Some(tenant) {
                    self.deficit = 0;
                }
                self.turns.retain(|other| other != tenant);
            }
            Some(Place::Until(at)) => {
                self.timers.remove(&(at, tenant.clone()));
            }
            Some(Place::UntilWoken) | None => {}
        }
    }
}

impl<H> Round<H> {
    pub(super) fn recipients(&self) -> u64 {
        self.recipients
    }

    /// Whether nobody has a turn: no work, or all are set aside.
    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn next_wake(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }
}
