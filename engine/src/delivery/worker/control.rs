//! What operators and time say: control state, routes and windows, cancelling, ticks.
//! It must not hand anything over.

use std::collections::HashMap;

use clarion_auth::TenantId;

use super::job::Phase;
use super::route::Class;
use super::{Action, JobHandle, Worker};
use crate::broker::LeaseId;
use crate::delivery::limiter::Rate;
use crate::delivery::retry::Policy;
use crate::delivery::settle;
use crate::delivery::settle::{Settled, Users};
use crate::limits::{HOLD_MAX, RECORD_INTERVAL};
use crate::model::{Entry, Lane, Millis, Platform, Recipient};
use crate::store::{ControlState, RateWish, Tenant, WaitingWhy};

/// How far the broker's clock may be ahead of or behind this process's when it says when a message was published, ms.
pub const CLOCK_MARGIN: Millis = 60_000;

/// How recipients end that are not sent.
pub(super) type Unsent = for<'a, 'b> fn(&'a [Recipient], Users<'b>) -> Settled;

/// What time asks of a job.
#[derive(Clone, Copy, Debug)]
enum Upkeep {
    /// Somebody else held it.
    LookAgain,
    /// Its devices could not be looked up.
    Resolve,
    /// It has waited for its turn as long as a job may be held: it is claimed, to be set aside.
    Claim,
    SetAside,
    Record,
}

impl Worker {
    /// The control state, read by a query that was *started* at `read_at`.
    pub fn on_control(&mut self, control: &ControlState, read_at: Millis, now: Millis) {
        self.control = Some(read_at);
        // The lists are empty when nothing changed since the version last read.
        if self.control_version != Some(control.version) {
            self.control_version = Some(control.version);
            self.stopped = control.stopped.iter().cloned().collect();
        }
        for tenant in &control.changed {
            self.configure(tenant, now);
            self.scheduler
                .set_weight(&tenant.id, tenant.limits.weight.unwrap_or(1));
            self.routes.forget(&tenant.id);
            self.scheduler.wake(&tenant.id);
        }
        let stopped = &self.stopped;
        let jobs = self
            .jobs
            .iter()
            .filter(|(_, state)| stopped.contains_key(&state.key.tenant));
        let mut jobs: Vec<JobHandle> = jobs
            .filter(|(_, state)| state.remaining() > 0)
            .map(|(handle, _)| *handle)
            .collect();
        jobs.sort_unstable();
        for handle in jobs {
            self.cancel(handle, now);
        }
    }

    fn configure(&mut self, tenant: &Tenant, now: Millis) {
        let own = &tenant.limits;
        let default = self.options.rate;
        let rate = match (own.rate, own.burst) {
            (None, None) => default,
            (rate, burst) => Rate::new(rate.unwrap_or(default.per_second.get()), burst),
        };
        self.shares.configure(&tenant.id, rate);
        if !self.options.shares_rates {
            self.limiter.set_rate(&tenant.id, rate, now);
        }
        match own.ambiguous_retries {
            None => drop(self.policies.remove(&tenant.id)),
            Some(ambiguous_retries) => {
                let policy = Policy {
                    ambiguous_retries,
                    ..self.options.policy.clone()
                };
                self.policies.insert(tenant.id.clone(), policy);
            }
        }
    }

    /// The shares of rates that this process wants now, to be answered with [`Worker::on_shares`]. Asked for once, they are not
    /// named again for a second.
    pub fn shares_due(&mut self, now: Millis) -> Vec<RateWish> {
        let Self { shares, jobs, .. } = self;
        shares.due(now, || {
            let mut queued: HashMap<TenantId, usize> = HashMap::new();
            for state in jobs.values() {
                let left = match state.phase {
                    Phase::Sending => state.remaining(),
                    _ => state.job.entries.len(),
                };
                *queued.entry(state.key.tenant.clone()).or_default() += left;
            }
            queued
        })
    }

    /// So many recipients a second were granted of what was asked for at `asked`.
    pub fn on_shares(&mut self, granted: &[(TenantId, u32)], asked: Millis, now: Millis) {
        for (tenant, granted) in granted {
            if let Some(rate) = self.shares.granted(tenant, *granted, asked) {
                self.limiter.set_rate(tenant, rate, now);
                self.scheduler.wake(tenant);
            }
        }
    }

    /// Ends what is left of a job as cancelled.
    pub(super) fn cancel(&mut self, handle: JobHandle, now: Millis) {
        self.finish_remaining(handle, now, settle::cancel);
    }

    /// Ends what is left of a job without sending it.
    pub(super) fn finish_remaining(&mut self, handle: JobHandle, now: Millis, how: Unsent) {
        self.scheduler.remove(&handle);
        self.alone.retain(|alone| *alone != handle);
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let left = state.drain_remaining();
        let settled = how(&left, &|ordinal| state.user_of(ordinal));
        state.absorb(settled, 0, now);
        // What one resolve could not hold is met by the continuation, which ends the same way.
        self.end_if_spent(handle, now);
    }

    /// A route was loaded, or the tenant has no such credential.
    pub fn on_route(&mut self, tenant: &TenantId, class: Class, exists: bool) {
        self.routes.loaded(tenant, class, exists);
        self.scheduler.wake(tenant);
    }

    /// The connections of a route offer to hold this many requests.
    pub fn on_window(&mut self, tenant: &TenantId, class: Class, streams: usize) {
        self.routes.window(tenant, class, streams);
        self.scheduler.wake(tenant);
    }

    /// An operator settled the brake: pruning goes on.
    pub fn on_brake_released(&mut self, tenant: &TenantId, platform: Platform) {
        self.brakes.release(tenant, platform);
    }

    /// Time passed: held jobs are looked at again, records are cut, and what waited too long is set aside.
    pub fn on_tick(&mut self, now: Millis) {
        let interval = RECORD_INTERVAL.as_millis() as Millis;
        let hold = HOLD_MAX.as_millis() as Millis;
        // Unanswered requests stay in the bound until their job ends: if they alone fill what bulk may use, the jobs must end.
        let max = self.options.unrecorded_max;
        let stuck = self.unrecorded + max / 8 >= max && self.in_flight.is_empty();
        let mut due = Vec::new();
        for (handle, state) in &self.jobs {
            let held_long = state.progress + hold <= now;
            let since = state.pending.since;
            let upkeep = match state.phase {
                Phase::Held(at) if at <= now => Upkeep::LookAgain,
                Phase::Unresolved(at) if at <= now => Upkeep::Resolve,
                Phase::Unclaimed if held_long => Upkeep::Claim,
                Phase::Sending
                    if state.out == 0
                        && state.remaining() > 0
                        && (held_long || (stuck && state.ambiguous > 0)) =>
                {
                    Upkeep::SetAside
                }
                _ if since.is_some_and(|since| since + interval <= now) => Upkeep::Record,
                _ if state.must_write(now) => Upkeep::Record,
                _ => continue,
            };
            due.push((*handle, upkeep));
        }
        due.sort_unstable_by_key(|(handle, _)| *handle);
        for (handle, upkeep) in due {
            match upkeep {
                Upkeep::LookAgain => self.await_turn(handle),
                Upkeep::Resolve => self.resolve(handle, now),
                Upkeep::Claim => self.begin(handle, now),
                Upkeep::SetAside => self.set_aside(handle, now),
                Upkeep::Record => self.cut_part(handle, now),
            }
        }
    }

    /// A job that may not be sent for long is closed; what is left of it waits in the store, and its lease is free.
    fn set_aside(&mut self, handle: JobHandle, now: Millis) {
        self.scheduler.remove(&handle);
        self.alone.retain(|alone| *alone != handle);
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let left = state.drain_remaining();
        // Roughly when so many could go; what is still too early then is set aside again.
        let rate = Millis::from(self.limiter.rate(&state.key.tenant).per_second.get());
        let due = now + (left.len() as Millis * 1_000 / rate).max(1_000);
        let entries = left.into_iter().map(Entry::from).collect();
        state.children.extend(settle::parked(
            &state.job,
            entries,
            due,
            WaitingWhy::Limited,
        ));
        self.end_if_spent(handle, now);
    }

    /// The broker dropped this process's leases: nothing more of them is sent. What is out is still recorded, unless somebody
    /// else has taken the job.
    pub fn on_leases_lost(&mut self, now: Millis) {
        self.writer.generation += 1;
        // What was published before the next connection may have been handed out on this one.
        self.options.connection_since = self.options.connection_since.max(now + CLOCK_MARGIN);
        let leases = self.leases.clear(&mut self.actions);
        self.actions
            .extend(leases.into_iter().map(Action::GiveBack));
        let mut handles: Vec<JobHandle> = self.jobs.keys().copied().collect();
        handles.sort_unstable();
        for handle in handles {
            self.scheduler.remove(&handle);
            let Some(state) = self.jobs.get_mut(&handle) else {
                continue;
            };
            state.lease = None;
            drop(state.drain_remaining());
            if state.out == 0 && state.committing.is_none() {
                self.orphan_done(handle, now);
            }
        }
        self.alone.clear();
    }

    /// The lease of a message without jobs was given back.
    pub fn on_given_back(&mut self, lease: LeaseId) {
        self.leases.remove(lease, &mut self.actions);
    }

    /// The message was removed, or the ack did not count.
    pub fn on_acked(&mut self, lease: LeaseId, counted: bool, now: Millis) {
        let current = self.leases.remove(lease, &mut self.actions);
        // A lease of an earlier connection says nothing about those of this one.
        if !counted && current {
            self.on_leases_lost(now);
        }
    }

    /// The lanes with work in hand, for the operator's screen.
    #[must_use]
    pub fn depth(&self, lane: Lane) -> usize {
        self.jobs
            .values()
            .filter(|state| state.lane() == lane)
            .map(super::job::JobState::remaining)
            .sum()
    }
}
