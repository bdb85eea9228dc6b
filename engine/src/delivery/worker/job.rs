//! One job in the worker: its phase, what is left of it and what it owes the record.
//! It must not decide what follows an outcome.

use std::collections::HashSet;
use std::sync::Arc;

use super::route::Class;
use crate::broker::LeaseId;
use crate::delivery::settle::{self, Again, Settled};
use crate::model::{
    Counts, DeviceId, Entry, Envelope, FinalState, Job, JobKind, Lane, Millis, Recipient, Target,
};
use crate::store::{DeadOrigin, Failure, JobKey, NewDead, Prune, WaitingWhy};

/// A job that has written nothing since its hand-out writes a part after this long, with or without an outcome: only then
/// can the holder of a copy know of it, ms.
const KEEP_FIRST: Millis = 1_000;
/// A job whose log is this old writes another part, ms: far less than a claim holds, so that slow answers and waiting for
/// a rate do not lose it to the holder of a copy.
const KEEP: Millis = 5_000;
/// Unwritten for so many times as long, it may belong to somebody else by now: nothing of it is sent before a part of it
/// is taken.
const KEPT_MAX: Millis = 3;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It may have been handed out before and is claimed when its turn comes, so that a crash counts only against jobs
    /// that were about to be sent.
    Unclaimed,
    /// Its claim is being written.
    Claiming,
    /// Somebody else holds it; looked at again at this instant.
    Held(Millis),
    /// Its devices are being looked up.
    Resolving,
    /// They could not be; looked up again at this instant.
    Unresolved(Millis),
    /// It is being handed over.
    Sending,
    /// Everything has come back; its end is being written.
    Ending,
}

/// Recipients of one class.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) class: Class,
    pub(super) recipients: Arc<Vec<Recipient>>,
    /// Handed out up to here.
    pub(super) next: usize,
}

impl Group {
    pub(super) fn remaining(&self) -> usize {
        self.recipients.len() - self.next
    }
}

/// What has come up since the last part was cut.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) counts: Counts,
    pub(super) block: Vec<(u32, DeviceId, FinalState)>,
    pub(super) failures: Vec<Failure>,
    pub(super) prunes: Vec<Prune>,
    pub(super) suspects: Vec<DeviceId>,
    pub(super) accepted: Vec<DeviceId>,
    /// Requests whose record this is; they leave the bound when it is committed.
    pub(super) covers: usize,
    /// When the first of it came up.
    pub(super) since: Option<Millis>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.block.is_empty()
    }
}

/// A job in the worker.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) job: Job,
    pub(super) key: JobKey,
    pub(super) digest: [u8; 32],
    /// Entries it came with. Those that name devices are taken out of the job when it is resolved, so that a job that waits
    /// for its turn holds every device token once.
    pub(super) entries: u32,
    /// `None` once the lease is lost: its outcomes are still recorded if nobody else has taken it.
    pub(super) lease: Option<LeaseId>,
    pub(super) phase: Phase,
    pub(super) groups: Vec<Group>,
    /// Requests out.
    pub(super) out: usize,
    /// The next place in the log.
    pub(super) next_seq: u32,
    /// What earlier deliveries have settled.
    pub(super) settled: HashSet<(u32, DeviceId)>,
    pub(super) pending: Pending,
    /// A part is being committed, covering this many requests.
    pub(super) committing: Option<usize>,
    /// To be tried again; becomes waiting rows with the end.
    pub(super) again: Vec<Again>,
    /// Set aside unsent; becomes waiting rows with the end.
    pub(super) children: Vec<(Job, Millis, WaitingWhy)>,
    /// Unanswered requests among them: they stay in the bound until the end is committed.
    pub(super) ambiguous: usize,
    /// Entries that one resolve could not hold.
    pub(super) rest: Vec<Entry>,
    /// Recipients resolved.
    pub(super) resolved: u32,
    pub(super) dead: Option<NewDead>,
    /// When the last claim or part that was taken was asked for; before the first, when the job was handed out.
    kept: Millis,
    /// When the claim or part under way was asked for.
    asked: Millis,
    /// When it last got on.
    pub(super) progress: Millis,
    /// Recipients for which it counts among the jobs of its queue that are claimed and not begun.
    pub(super) begun: usize,
    /// It was begun before without getting on: its first outcomes are recorded at once, so that whatever ends the
    /// process next is not blamed on it.
    pub(super) urgent: bool,
    /// Runs alone in the process.
    pub(super) alone: bool,
    /// It was begun too often without getting on: nothing of it is sent.
    pub(super) poisoned: bool,
}

impl JobState {
    pub(super) fn new(job: Job, lease: LeaseId, phase: Phase, now: Millis) -> Self {
        let notification = &job.notification;
        let key = JobKey {
            tenant: notification.tenant.clone(),
            notification: notification.id,
            job: job.id,
        };
        Self {
            digest: job.digest(),
            entries: u32::try_from(job.entries.len()).unwrap_or(u32::MAX),
            key,
            job,
            lease: Some(lease),
            phase,
            groups: Vec::new(),
            out: 0,
            next_seq: 0,
            settled: HashSet::new(),
            pending: Pending::default(),
            committing: None,
            again: Vec::new(),
            children: Vec::new(),
            ambiguous: 0,
            rest: Vec::new(),
            resolved: 0,
            dead: None,
            kept: now,
            asked: now,
            progress: now,
            begun: 0,
            urgent: false,
            alone: false,
            poisoned: false,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        self.job.notification.lane
    }

    /// Recipients not handed out yet.
    pub(super) fn remaining(&self) -> usize {
        self.groups.iter().map(Group::remaining).sum()
    }

    /// Recipients that count as resolved with this job's end; those of other jobs were counted before.
    pub(super) fn resolved_here(&self) -> u32 {
        match self.job.kind {
            JobKind::First | JobKind::Continuation => self.resolved,
            JobKind::Retry | JobKind::Parked | JobKind::Replay => 0,
        }
    }

    /// A claim or part is about to be written.
    pub(super) fn ask(&mut self, now: Millis) {
        self.asked = now;
    }

    /// The claim or part was taken; the next place in the log is `next_seq`.
    pub(super) fn keep(&mut self, next_seq: u32) {
        self.next_seq = next_seq;
        self.kept = self.asked;
    }

    fn keep_interval(&self) -> Millis {
        if self.next_seq == 0 { KEEP_FIRST } else { KEEP }
    }

    /// Whether a part must be written, be it empty, so that nobody else takes the job.
    pub(super) fn must_write(&self, now: Millis) -> bool {
        self.phase == Phase::Sending
            && self.lease.is_some()
            && self.committing.is_none()
            && now.saturating_sub(self.kept) >= self.keep_interval()
    }

    /// Whether somebody else may have taken the job, as far as this process can know.
    pub(super) fn may_be_lost(&self, now: Millis) -> bool {
        now.saturating_sub(self.kept) >= KEPT_MAX * self.keep_interval()
    }

    /// Whether everything has come back and nothing is left to hand out.
    pub(super) fn is_spent(&self) -> bool {
        self.phase == Phase::Sending && self.out == 0 && self.remaining() == 0
    }

    /// The user an entry names, for failure rows.
    pub(super) fn user_of(&self, ordinal: u32) -> Option<Box<str>> {
        let entries = &self.job.entries;
        let index = entries
            .binary_search_by_key(&ordinal, |entry| entry.ordinal)
            .ok()?;
        match &entries[index].target {
            Target::User { user_id, .. } => Some(user_id.clone()),
            Target::Device(_) => None,
        }
    }

    /// Takes in what a settling said; `covers` requests of the bound are recorded with it.
    pub(super) fn absorb(&mut self, settled: Settled, covers: usize, now: Millis) {
        let pending = &mut self.pending;
        if !settled.finals.is_empty() {
            pending.since.get_or_insert(now);
        }
        for (sum, more) in pending.counts.0.iter_mut().zip(settled.counts.0) {
            *sum += more;
        }
        pending.block.extend(settled.finals);
        pending.failures.extend(settled.failures);
        pending.prunes.extend(settled.prunes);
        pending.suspects.extend(settled.suspects);
        pending.accepted.extend(settled.accepted);
        pending.covers += covers;
        self.again.extend(settled.again);
        self.progress = now;
    }

    /// Takes every recipient that is not handed out yet.
    pub(super) fn drain_remaining(&mut self) -> Vec<Recipient> {
        let mut taken = Vec::with_capacity(self.remaining());
        for group in &mut self.groups {
            taken.extend_from_slice(&group.recipients[group.next..]);
            group.next = group.recipients.len();
        }
        taken
    }

    /// Takes the recipients of one class that are not handed out yet.
    pub(super) fn drain_class(&mut self, class: Class) -> Vec<Recipient> {
        let mut taken = Vec::new();
        for group in self.groups.iter_mut().filter(|group| group.class == class) {
            taken.extend_from_slice(&group.recipients[group.next..]);
            group.next = group.recipients.len();
        }
        taken
    }

    /// Nothing more of it is sent: whoever is not handed out yet ends as dead.
    pub(super) fn die(&mut self, reason: &'static str, detail: String, now: Millis) {
        let mut left = self.drain_remaining();
        left.sort_unstable_by_key(Recipient::key);
        let settled = settle::end_recipients(&left, FinalState::Dead, reason, &|ordinal| {
            self.user_of(ordinal)
        });
        // Recipients, not users: a replay must not send again to the devices that have their final states.
        let job = Job {
            entries: left.into_iter().map(Entry::from).collect(),
            ..self.job.clone()
        };
        self.dead = Some(NewDead {
            tenant: self.key.tenant.clone(),
            origin: DeadOrigin::Internal,
            reason: reason.to_owned(),
            detail,
            notification: Some(self.key.notification),
            job: Some(self.key.job),
            recipients: u32::try_from(job.entries.len()).unwrap_or(u32::MAX),
            body: Envelope::encode(&[job]).unwrap_or_default(),
        });
        self.absorb(settled, 0, now);
    }
}
