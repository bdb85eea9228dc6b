//! Handing over: which recipients go next, and what follows when they come back.
//! It must not know providers: it sees classes, windows and outcomes.

use super::draw_jitter;
use super::job::{JobState, Phase};
use super::route::{Class, Room};
use super::{Action, Alert, InFlight, JobHandle, SliceOut, Worker};
use crate::delivery::limiter::Take;
use crate::delivery::scheduler::Ready;
use crate::delivery::settle::{self, Context, Pause, Settled};
use crate::limits::{
    CONTROL_LEASE, HOLD_MAX, LEASE_HEARTBEAT, RECORD_INTERVAL, SLICE_RECIPIENTS_MAX,
};
use crate::model::{Entry, FinalState, Lane, Millis, Outcome, Processed};
use crate::store::WaitingWhy;

/// What shall be done with the job that is next in line.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// It must be claimed first.
    Begin,
    Send(Class, usize),
    /// Its time is over.
    Expire,
    /// The tenant has no credential for these recipients.
    NoCredential(Class),
    /// The way is closed for longer than a job is held.
    Park(Class, Millis),
}

impl Worker {
    /// Hands over slices until something is exhausted: the work, the rates, the windows, the bound.
    pub(super) fn pump(&mut self, now: Millis) {
        if self.may_send(now) && !self.pump_alone(now) {
            while let Some((handle, turn)) = self.next_turn(now) {
                self.take_turn(handle, turn, now);
            }
        }
        if self.is_pressed() {
            self.cut_all(now);
        }
    }

    /// A slice goes out only while this process may trust what it knows: the control state is fresh, the leases are good and
    /// the record is being written.
    fn may_send(&self, now: Millis) -> bool {
        let fresh = self
            .control
            .is_some_and(|read| now - read < CONTROL_LEASE.as_millis() as Millis);
        let good = now.saturating_sub(self.heard) < LEASE_HEARTBEAT.as_millis() as Millis;
        fresh && good && !self.commit_failing && !self.stopping
    }

    fn next_turn(&mut self, now: Millis) -> Option<(JobHandle, Turn)> {
        let max = self.options.unrecorded_max;
        let left = max.saturating_sub(self.unrecorded);
        if left == 0 {
            return None;
        }
        // An eighth of the bound is the transactional lane's.
        let bulk_left = left.saturating_sub(max / 8);
        let Self {
            scheduler,
            routes,
            limiter,
            shares,
            jobs,
            actions,
            starved,
            begun,
            ..
        } = self;
        let mut turn = None;
        let pick = scheduler.next(now, |tenant, lane, handle, wanted| {
            let state = jobs.get(handle);
            let Some(state) = state.filter(|_| shares.may_send(tenant, now)) else {
                return Ready::No;
            };
            let left = if lane == Lane::Bulk { bulk_left } else { left };
            if left == 0 {
                *starved = true;
                return Ready::No;
            }
            if state.phase == Phase::Unclaimed {
                // A claim counts against the job: none before something of it may be sent, nor more than that at once.
                let idle = begun.get(&(tenant.clone(), lane));
                if idle.is_some_and(|idle| idle.is_enough(left)) {
                    return Ready::No;
                }
                if let Take::Wait { until } = limiter.peek(tenant, wanted, lane, now) {
                    return Ready::NotBefore(until);
                }
                turn = Some(Turn::Begin);
                return Ready::Yes(1);
            }
            let (decision, ready) = match decide(state, lane, routes, now) {
                Decision::Turn(Turn::Send(class, room)) => {
                    let slice = room.min(left).min(wanted as usize);
                    let slice = u32::try_from(slice)
                        .unwrap_or(1)
                        .min(limiter.max_slice(tenant, lane));
                    match limiter.try_take(tenant, slice, lane, now) {
                        Take::Ok => (Some(Turn::Send(class, slice as usize)), Ready::Yes(slice)),
                        Take::Wait { until } => {
                            routes.probe_unused(tenant, class, now);
                            (None, Ready::NotBefore(until))
                        }
                    }
                }
                Decision::Turn(turn) => (Some(turn), Ready::Yes(1)),
                Decision::NotBefore(at) => (None, Ready::NotBefore(at)),
                Decision::Blocked => (None, Ready::No),
                Decision::Load(class) => {
                    routes.loading(tenant, class);
                    actions.push(Action::LoadRoute(tenant.clone(), class));
                    (None, Ready::No)
                }
            };
            turn = decision;
            ready
        })?;
        turn.map(|turn| (pick.handle, turn))
    }

    fn take_turn(&mut self, handle: JobHandle, turn: Turn, now: Millis) {
        match turn {
            Turn::Begin => self.begin(handle, now),
            Turn::Send(class, slice) => self.hand_over(handle, class, slice, now),
            Turn::Expire => self.finish_remaining(handle, now, settle::expire),
            Turn::NoCredential(class) => self.set_class_aside(handle, class, None, now),
            Turn::Park(class, until) => self.set_class_aside(handle, class, Some(until), now),
        }
    }

    /// Takes the recipients of one class out of a job: they wait until `until`, or end because there is no credential.
    fn set_class_aside(
        &mut self,
        handle: JobHandle,
        class: Class,
        until: Option<Millis>,
        now: Millis,
    ) {
        self.scheduler.remove(&handle);
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let left = state.drain_class(class);
        let settled = match until {
            Some(until) => {
                let entries = left.into_iter().map(Entry::from).collect();
                state.children.extend(settle::parked(
                    &state.job,
                    entries,
                    until,
                    WaitingWhy::Breaker,
                ));
                Settled::default()
            }
            None => {
                let users = |ordinal| state.user_of(ordinal);
                settle::end_recipients(&left, FinalState::Rejected, "MissingCredential", &users)
            }
        };
        state.absorb(settled, 0, now);
        let (remaining, lane, tenant) = (state.remaining(), state.lane(), state.key.tenant.clone());
        if remaining == 0 {
            self.end_if_spent(handle, now);
        } else {
            self.scheduler.enqueue(
                &tenant,
                lane,
                handle,
                u32::try_from(remaining).unwrap_or(u32::MAX),
            );
        }
    }

    fn hand_over(&mut self, handle: JobHandle, class: Class, slice: usize, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let Some(group) = state
            .groups
            .iter_mut()
            .find(|group| group.class == class && group.remaining() > 0)
        else {
            return;
        };
        let range = group.next..(group.next + slice).min(group.recipients.len());
        group.next = range.end;
        let recipients = std::sync::Arc::clone(&group.recipients);
        let id = self.next_slice;
        self.next_slice += 1;
        state.out += range.len();
        state.progress = now;
        self.unrecorded += range.len();
        let begun = std::mem::take(&mut state.begun);
        let tenant = state.key.tenant.clone();
        self.routes.sent(&tenant, class, range.len());
        self.in_flight.insert(
            id,
            InFlight {
                job: handle,
                tenant: tenant.clone(),
                class,
                recipients: std::sync::Arc::clone(&recipients),
                range: range.clone(),
                started: now,
            },
        );
        let notification = std::sync::Arc::clone(&state.job.notification);
        self.uncount(&(tenant.clone(), notification.lane), begun);
        self.actions.push(Action::Dispatch(SliceOut {
            id,
            tenant,
            class,
            notification,
            recipients,
            range,
        }));
    }

    /// Runs a job that ended its processes before with nothing beside it. `true` while nobody else may send: something is out,
    /// or it is this job's turn. While its own way is closed, the others may go.
    fn pump_alone(&mut self, now: Millis) -> bool {
        let Some(handle) = self.alone.front().copied() else {
            return false;
        };
        let Some(state) = self.jobs.get(&handle) else {
            self.alone.pop_front();
            return true;
        };
        // Unanswered requests stay in the bound until their jobs end, and are waited for by nobody.
        let silent: usize = self.jobs.values().map(|state| state.ambiguous).sum();
        if state.out > 0 || self.unrecorded - silent > state.pending.covers {
            return true;
        }
        let left = self.options.unrecorded_max.saturating_sub(self.unrecorded);
        let (tenant, lane) = (state.key.tenant.clone(), state.lane());
        match decide(state, lane, &mut self.routes, now) {
            Decision::Turn(Turn::Send(class, room)) => {
                let most = self.limiter.max_slice(&tenant, lane);
                let slice = u32::try_from(room.min(left)).unwrap_or(most).min(most);
                let taken = slice > 0
                    && self.shares.may_send(&tenant, now)
                    && self.limiter.try_take(&tenant, slice, lane, now) == Take::Ok;
                if !taken {
                    self.routes.probe_unused(&tenant, class, now);
                    return false;
                }
                self.hand_over(handle, class, slice as usize, now);
                true
            }
            Decision::Turn(turn) => {
                self.take_turn(handle, turn, now);
                true
            }
            Decision::Load(class) => {
                self.routes.loading(&tenant, class);
                self.actions.push(Action::LoadRoute(tenant, class));
                false
            }
            Decision::NotBefore(_) | Decision::Blocked => false,
        }
    }

    /// Everything of a slice came back, one outcome per recipient, in order.
    pub fn on_slice_done(&mut self, id: u64, mut outcomes: Vec<Outcome>, now: Millis) {
        let Some(slice) = self.in_flight.remove(&id) else {
            return;
        };
        let requests = slice.range.len();
        // Nobody may be left without an outcome: of what was not answered, nothing is known.
        outcomes.resize(
            requests,
            Outcome::Unavailable {
                reason: "no_outcome".into(),
                processed: Processed::Unknown,
                retry_after: None,
            },
        );
        self.routes.returned(&slice.tenant, slice.class, requests);
        self.scheduler.wake(&slice.tenant);
        self.observe(&slice, &outcomes, now);
        let Some(state) = self.jobs.get_mut(&slice.job) else {
            // The job was fenced: its outcomes are recorded by whoever holds it now.
            self.release(requests);
            return;
        };
        let recipients = &slice.recipients[slice.range.clone()];
        let brakes = &self.brakes;
        let context = Context {
            policy: self
                .policies
                .get(&slice.tenant)
                .unwrap_or(&self.options.policy),
            users: &|ordinal| state.user_of(ordinal),
            frozen: &|platform| brakes.is_frozen(&slice.tenant, platform),
            request_started: slice.started,
            now,
            jitter: draw_jitter(&mut self.jitter),
        };
        let settled = settle::settle(&state.job, recipients, outcomes, &context);
        self.recordable += settled.finals.len();
        let finals = settled.finals.len();
        let before = state.job.attempts.ambiguous;
        let ambiguous = settled
            .again
            .iter()
            .filter(|again| again.attempts.ambiguous > before)
            .count();
        state.out -= requests;
        state.ambiguous += ambiguous;
        let pauses = settled.pause.clone();
        state.absorb(settled, finals, now);
        self.release(requests - finals - ambiguous);
        self.rest_credentials(&slice, pauses, now);
        self.after_slice(slice.job, now);
    }

    fn rest_credentials(&mut self, slice: &InFlight, pauses: Vec<Pause>, now: Millis) {
        for pause in pauses {
            self.routes
                .pause(&slice.tenant, slice.class, pause.until, now);
            if pause.alert {
                let alert = Alert::CredentialPaused(
                    slice.tenant.clone(),
                    slice.class,
                    pause.reason.into_owned(),
                );
                self.actions.push(Action::Alert(alert));
            }
        }
    }

    fn after_slice(&mut self, handle: JobHandle, now: Millis) {
        let pressed = self.is_pressed();
        let Some(state) = self.jobs.get(&handle) else {
            return;
        };
        if state.lease.is_none() {
            self.orphan_done(handle, now);
        } else if state.is_spent() || ((pressed || state.urgent) && !state.pending.is_empty()) {
            self.cut_part(handle, now);
        }
    }

    /// What breaker and brake learn from a slice.
    fn observe(&mut self, slice: &InFlight, outcomes: &[Outcome], now: Millis) {
        self.routes
            .record(&slice.tenant, slice.class, outcomes, now);
        let recipients = slice.recipients[slice.range.clone()].iter();
        let platforms = recipients.map(|recipient| recipient.address.platform);
        let froze = self.brakes.observe(&slice.tenant, platforms.zip(outcomes));
        let alerts = froze.into_iter().map(|(platform, _)| {
            Action::Alert(Alert::PruningFrozen(slice.tenant.clone(), platform))
        });
        self.actions.extend(alerts);
    }

    fn cut_all(&mut self, now: Millis) {
        let pending = self
            .jobs
            .iter()
            .filter(|(_, state)| !state.pending.is_empty() && state.committing.is_none());
        let mut handles: Vec<JobHandle> = pending.map(|(handle, _)| *handle).collect();
        handles.sort_unstable();
        for handle in handles {
            self.cut_part(handle, now);
        }
    }
}

enum Decision {
    Turn(Turn),
    NotBefore(Millis),
    /// Something will come back and wake the tenant.
    Blocked,
    Load(Class),
}

/// Looks for the first class of a job whose way is open.
fn decide(
    state: &JobState,
    lane: Lane,
    routes: &mut super::route::Routes,
    now: Millis,
) -> Decision {
    if state.job.notification.expires_at <= now {
        return Decision::Turn(Turn::Expire);
    }
    if state.may_be_lost(now) {
        return Decision::NotBefore(now + RECORD_INTERVAL.as_millis() as Millis);
    }
    let tenant = &state.key.tenant;
    let mut not_before: Option<Millis> = None;
    for group in state.groups.iter().filter(|group| group.remaining() > 0) {
        match routes.room(tenant, group.class, lane, now) {
            Room::Yes(room) => {
                let whole = group.remaining().min(SLICE_RECIPIENTS_MAX);
                return Decision::Turn(Turn::Send(group.class, room.min(whole)));
            }
            Room::NotBefore(until) if until - now > HOLD_MAX.as_millis() as Millis => {
                return Decision::Turn(Turn::Park(group.class, until));
            }
            Room::NotBefore(until) => {
                not_before = Some(not_before.map_or(until, |at| at.min(until)))
            }
            Room::Full | Room::Loading => {}
            Room::Unknown => return Decision::Load(group.class),
            Room::Missing => return Decision::Turn(Turn::NoCredential(group.class)),
        }
    }
    not_before.map_or(Decision::Blocked, Decision::NotBefore)
}
