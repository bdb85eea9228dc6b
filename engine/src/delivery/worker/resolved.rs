//! From a leased message to recipients: parsing, claims, devices.
//! It must not hand anything over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::given_up::users_of;
use super::job::{Group, JobState, Phase};
use super::route::Class;
use super::{Action, Alert, JobHandle, Worker};
use crate::broker::{LeaseId, QueueName};
use crate::delivery::settle;
use crate::limits::{CLAIMS_ALONE, CLAIMS_POISON, HELD_RECHECK, JOB_RECIPIENTS_MAX};
use crate::model::{
    DeviceId, Entry, Envelope, FinalState, Job, JobKind, Lane, Millis, Recipient, Target, TenantId,
};
use crate::store::{ClaimAnswer, ClaimRequest, NewDead, ResolvedDevice};

/// How long a first job that was published again rests before it is claimed, ms: the holder of its first copy writes a part
/// within a second or sends nothing of it, so that by then either its log or nobody else speaks for it.
const FIRST_COPY_REST: Millis = 5_000;

/// What a worker needs to know of a leased message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Its lease.
    pub lease: LeaseId,
    /// The queue it came by.
    pub queue: &'a QueueName,
    /// Its bytes.
    pub body: &'a [u8],
    /// The broker says, or cannot exclude, that it was handed out before.
    pub redelivered: bool,
    /// When the broker took it, where it says so.
    pub published_at: Option<Millis>,
}

impl Worker {
    /// A message was handed out to this process.
    pub fn on_leased(&mut self, message: &Message<'_>, now: Millis) {
        self.heard = now;
        let jobs = match Envelope::decode(message.body) {
            Ok(envelope) => envelope.jobs,
            Err(error) => return self.bury(message, error.reason(), error.to_string()),
        };
        let foreign = jobs.iter().find(|job| {
            job.notification.tenant != message.queue.tenant
                || job.notification.lane != message.queue.lane
        });
        if let Some(job) = foreign {
            let detail = format!(
                "job {} is not of the tenant and lane of the queue it came by",
                job.id
            );
            return self.bury(message, "foreign_tenant", detail);
        }
        self.leases.add(
            message.lease,
            message.queue,
            (message.body.len(), jobs.len()),
            &mut self.actions,
        );
        let maybe_seen = message.redelivered
            || message
                .published_at
                .is_none_or(|published| published < self.options.connection_since);
        for job in jobs {
            self.open(job, message.lease, maybe_seen, now);
        }
    }

    fn bury(&mut self, message: &Message<'_>, reason: &str, detail: String) {
        let tenant = message.queue.tenant.clone();
        let dead = NewDead::unparsed(tenant, reason, detail, message.body);
        self.leases.add(
            message.lease,
            message.queue,
            (message.body.len(), 1),
            &mut self.actions,
        );
        self.actions
            .push(Action::Bury(message.lease, Box::new(dead)));
    }

    fn open(&mut self, job: Job, lease: LeaseId, maybe_seen: bool, now: Millis) {
        let handle = JobHandle(self.next_job);
        self.next_job += 1;
        // A copy of what is in hand already must read what the other comes to.
        let claims = maybe_seen || job.recheck || self.owners.contains_key(&job.id);
        if !claims {
            self.owners.insert(job.id, handle);
        }
        // Its first copy may be on its way to its first part in another process, where no claim of this one is seen.
        let repeated = job.recheck && job.kind == JobKind::First;
        let phase = if repeated {
            Phase::Held(now + FIRST_COPY_REST)
        } else if claims {
            Phase::Unclaimed
        } else {
            Phase::Resolving
        };
        self.jobs
            .insert(handle, JobState::new(job, lease, phase, now));
        match phase {
            Phase::Unclaimed => self.await_turn(handle),
            Phase::Resolving => self.resolve(handle, now),
            _ => {}
        }
    }

    /// Puts a job in line that must be claimed before anything of it is sent.
    pub(super) fn await_turn(&mut self, handle: JobHandle) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        state.phase = Phase::Unclaimed;
        let (tenant, lane) = (state.key.tenant.clone(), state.lane());
        let entries = u32::try_from(state.job.entries.len().max(1)).unwrap_or(u32::MAX);
        self.scheduler.enqueue(&tenant, lane, handle, entries);
    }

    /// The turn of a job has come that must be claimed first. While another copy of it is in hand, a claim would be granted to
    /// both, because both are the same writer's: the later one waits for the earlier.
    pub(super) fn begin(&mut self, handle: JobHandle, now: Millis) {
        self.scheduler.remove(&handle);
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        if *self.owners.entry(state.key.job).or_insert(handle) != handle {
            state.phase = Phase::Held(now + HELD_RECHECK.as_millis() as Millis);
            return;
        }
        state.phase = Phase::Claiming;
        state.ask(now);
        state.begun = state.job.entries.len().max(1);
        let queue = (state.key.tenant.clone(), state.lane());
        let idle = self.begun.entry(queue).or_default();
        idle.jobs += 1;
        idle.entries += state.begun;
        let request = ClaimRequest {
            key: state.key.clone(),
            digest: state.digest,
        };
        self.actions.push(Action::Claim(handle, request));
    }

    /// A claimed job is being sent, or is not to be: the next of its queue may be claimed.
    pub(super) fn unbegin(&mut self, handle: JobHandle) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let begun = std::mem::take(&mut state.begun);
        let queue = (state.key.tenant.clone(), state.lane());
        self.uncount(&queue, begun);
    }

    /// Takes a job out of those that are claimed and not begun.
    pub(super) fn uncount(&mut self, queue: &(TenantId, Lane), begun: usize) {
        if begun == 0 {
            return;
        }
        self.scheduler.wake(&queue.0);
        if let Some(idle) = self.begun.get_mut(queue) {
            idle.jobs -= 1;
            idle.entries -= begun;
            if idle.jobs == 0 {
                self.begun.remove(queue);
            }
        }
    }

    /// The store answered a claim.
    pub fn on_claimed(&mut self, handle: JobHandle, answer: ClaimAnswer, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        if state.phase != Phase::Claiming {
            return;
        }
        match answer {
            ClaimAnswer::Granted {
                next_seq,
                settled,
                claims_without_progress,
            } => {
                state.keep(next_seq);
                state.settled = settled.into_iter().collect();
                state.alone = claims_without_progress >= CLAIMS_ALONE;
                state.urgent = claims_without_progress > 1;
                state.poisoned = claims_without_progress >= CLAIMS_POISON;
                self.resolve(handle, now);
            }
            ClaimAnswer::Held => {
                state.phase = Phase::Held(now + HELD_RECHECK.as_millis() as Millis);
                self.unbegin(handle);
            }
            ClaimAnswer::Ended => self.forget(handle),
            ClaimAnswer::IdReused => self.reused(handle),
        }
    }

    /// The claim could not be written: try again with the next look.
    pub fn on_claim_failed(&mut self, handle: JobHandle, now: Millis) {
        if let Some(state) = self.jobs.get_mut(&handle)
            && state.phase == Phase::Claiming
        {
            state.phase = Phase::Held(now + HELD_RECHECK.as_millis() as Millis);
            self.unbegin(handle);
        }
    }

    /// A job that ended its processes again and again is not sent again: what has no final state ends as dead.
    fn poison(&mut self, handle: JobHandle, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let detail = format!(
            "job {} was begun {CLAIMS_POISON} times without getting on",
            state.key.job
        );
        let alert = Alert::Poison(state.key.tenant.clone(), detail.clone());
        self.actions.push(Action::Alert(alert));
        state.die("poison", detail, now);
        self.end_if_spent(handle, now);
    }

    /// A foreign or corrupt message: what it holds becomes a dead row when the other jobs of its message are ended.
    fn reused(&mut self, handle: JobHandle) {
        let Some(state) = self.take_job(handle) else {
            return;
        };
        if let Some(lease) = state.lease {
            self.leases.keep_reused(lease, state.job);
        }
        self.close(state.lease);
    }

    pub(super) fn resolve(&mut self, handle: JobHandle, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let unsent = if self.stopped.contains_key(&state.key.tenant) {
            Some((FinalState::Cancelled, "cancelled"))
        } else if state.job.notification.expires_at <= now {
            Some((FinalState::Expired, "expired"))
        } else {
            None
        };
        if let Some((how, reason)) = unsent
            && state.settled.is_empty()
        {
            // Nobody needs to be looked up.
            let settled = settle::end_entries(&state.job.entries, how, reason);
            state.resolved = u32::try_from(settled.finals.len()).unwrap_or(u32::MAX);
            state.absorb(settled, 0, now);
            state.phase = Phase::Sending;
            return self.end_if_spent(handle, now);
        }
        state.phase = Phase::Resolving;
        if state.job.is_resolved() {
            return self.on_resolved(handle, Vec::new(), now);
        }
        let (tenant, users) = (state.key.tenant.clone(), users_of(&state.job));
        self.actions.push(Action::Resolve {
            job: handle,
            tenant,
            users,
        });
    }

    /// The devices could not be looked up: they are again after a rest.
    pub fn on_resolve_failed(&mut self, handle: JobHandle, now: Millis) {
        if let Some(state) = self.jobs.get_mut(&handle)
            && state.phase == Phase::Resolving
        {
            state.phase = Phase::Unresolved(now + HELD_RECHECK.as_millis() as Millis);
        }
    }

    /// The devices of the job's users, at most `JOB_RECIPIENTS_MAX` of them, by (user, device).
    pub fn on_resolved(&mut self, handle: JobHandle, devices: Vec<ResolvedDevice>, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        if state.phase != Phase::Resolving {
            return;
        }
        resolve_into(state, devices, now);
        state.phase = Phase::Sending;
        self.queue(handle, now);
    }

    /// Puts a job with recipients in line; a job without any ends.
    fn queue(&mut self, handle: JobHandle, now: Millis) {
        let Some(state) = self.jobs.get(&handle) else {
            return;
        };
        let remaining = state.remaining();
        if remaining == 0 {
            return self.end_if_spent(handle, now);
        }
        if let Some(_why) = self.stopped.get(&state.key.tenant) {
            return self.cancel(handle, now);
        }
        if state.poisoned {
            return self.poison(handle, now);
        }
        if state.alone {
            self.alone.push_back(handle);
            return;
        }
        let (tenant, lane) = (state.key.tenant.clone(), state.lane());
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        if state.begun > 0 {
            // It had its turn when it was claimed.
            self.scheduler
                .enqueue_front(&tenant, lane, handle, remaining);
            self.scheduler.wake(&tenant);
        } else {
            self.scheduler.enqueue(&tenant, lane, handle, remaining);
        }
    }
}

/// A job's devices are known: who is to be sent to, who has none, and who did not fit.
pub(super) fn resolve_into(state: &mut JobState, devices: Vec<ResolvedDevice>, now: Millis) {
    let found = if state.job.is_resolved() {
        named(std::mem::take(&mut state.job.entries))
    } else {
        expand(&state.job.entries, devices)
    };
    state.rest = found.rest;
    let settled = &state.settled;
    state.resolved = count_resolved(&found.recipients, settled);
    // A user whose devices were pruned after they had their final states is not one without devices.
    let had: HashSet<u32> = settled.iter().map(|(ordinal, _)| *ordinal).collect();
    let no_device = found
        .no_device
        .into_iter()
        .filter(|entry| !had.contains(&entry.ordinal));
    let outcome = settle::no_device(&no_device.collect::<Vec<_>>());
    let mut groups: HashMap<Class, Vec<Recipient>> = HashMap::new();
    for recipient in found.recipients {
        if !settled.contains(&recipient.key()) {
            groups
                .entry(Class::of(&recipient.address))
                .or_default()
                .push(recipient);
        }
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(class, recipients)| Group {
            class,
            recipients: Arc::new(recipients),
            next: 0,
        })
        .collect();
    groups.sort_by_key(|group| group.class);
    state.groups = groups;
    state.absorb(outcome, 0, now);
}

/// Recipients that a job has come to: those found now, and those that an earlier delivery settled and that are gone since.
fn count_resolved(found: &[Recipient], settled: &HashSet<(u32, DeviceId)>) -> u32 {
    let again = found
        .iter()
        .filter(|recipient| settled.contains(&recipient.key()));
    let again = again.count();
    let before = settled.iter().filter(|(_, device)| *device >= 0).count();
    u32::try_from(found.len() + before - again).unwrap_or(u32::MAX)
}

/// What a job's entries came to.
struct Found {
    recipients: Vec<Recipient>,
    /// Users without any device.
    no_device: Vec<Entry>,
    rest: Vec<Entry>,
}

/// Entries that name their devices to recipients.
fn named(entries: Vec<Entry>) -> Found {
    let recipients = entries.into_iter().filter_map(|entry| match entry.target {
        Target::Device(address) => Some(Recipient {
            ordinal: entry.ordinal,
            address,
        }),
        Target::User { .. } => None,
    });
    Found {
        recipients: recipients.collect(),
        no_device: Vec::new(),
        rest: Vec::new(),
    }
}

/// Entries and devices to recipients. `devices` is cut off at `JOB_RECIPIENTS_MAX`: then the user at the cut goes on after the
/// last device seen, and all users behind it are not resolved yet.
fn expand(entries: &[Entry], devices: Vec<ResolvedDevice>) -> Found {
    let cut = (devices.len() >= JOB_RECIPIENTS_MAX)
        .then(|| devices.last().map(|last| (last.user, last.device.id)));
    let cut = cut.flatten();
    let mut found = Found {
        recipients: Vec::with_capacity(devices.len()),
        no_device: Vec::new(),
        rest: Vec::new(),
    };
    let mut devices = devices.into_iter().peekable();
    let mut user = 0;
    for entry in entries {
        let (user_id, after) = match &entry.target {
            Target::Device(address) => {
                found.recipients.push(Recipient {
                    ordinal: entry.ordinal,
                    address: address.clone(),
                });
                continue;
            }
            Target::User { user_id, after } => (user_id, *after),
        };
        let mut any = false;
        while let Some(resolved) = devices.next_if(|resolved| resolved.user == user) {
            any = true;
            found.recipients.push(Recipient {
                ordinal: entry.ordinal,
                address: resolved.device.address(),
            });
        }
        let target = |after| Target::User {
            user_id: user_id.clone(),
            after,
        };
        match cut {
            Some((cut_user, last)) if user == cut_user => {
                found.rest.push(Entry {
                    ordinal: entry.ordinal,
                    target: target(last),
                });
            }
            Some((cut_user, _)) if user > cut_user => {
                found.rest.push(Entry {
                    ordinal: entry.ordinal,
                    target: target(after),
                });
            }
            _ if !any && after == 0 => found.no_device.push(entry.clone()),
            _ => {}
        }
        user += 1;
    }
    found
}
