//! What follows a send: finals, counts, failure rows, prunes, pauses and what is tried again, in one pure function.
//! It must not know connections, queues, transactions or the clock.

use crate::limits::JOB_RECIPIENTS_MAX;
use crate::model::{
    Attempts, Counts, DeviceId, Entry, Environment, FinalState, Job, JobKind, Millis, Outcome,
    Platform, Processed, Reason, Recipient, Target, ThrottleScope,
};
use crate::store::{Failure, Prune, WaitingWhy};

pub use super::retry::Fate;
use super::retry::{Policy, Trial};

/// Recipients whose retries fall due within this time share a job, milliseconds.
pub const DUE_BUCKET: Millis = 1_000;

/// The user of an entry, where the entry named one.
pub type Users<'a> = &'a dyn Fn(u32) -> Option<Box<str>>;

/// What a settlement depends on beside the job and its outcomes.
pub struct Context<'a> {
    /// When something is tried again.
    pub policy: &'a Policy,
    /// The user behind an ordinal, for failure rows.
    pub users: Users<'a>,
    /// Whether the prune brake of the tenant is on for a platform.
    pub frozen: &'a dyn Fn(Platform) -> bool,
    /// Now.
    pub now: Millis,
    /// When the first of the requests was handed over: a device that registered later is not pruned.
    pub request_started: Millis,
    /// A random number, 0 to 1; one for all, so that what failed together is tried again together.
    pub jitter: f64,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("policy", &self.policy)
            .field("now", &self.now)
            .field("request_started", &self.request_started)
            .finish_non_exhaustive()
    }
}

/// A recipient that is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// Who.
    pub recipient: Recipient,
    /// Not before this instant.
    pub due: Millis,
    /// Why it waits.
    pub why: WaitingWhy,
    /// Its history, with the last attempt in it.
    pub attempts: Attempts,
}

/// Which credential of the job's tenant rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PauseScope {
    /// The APNs credential for an environment.
    Apns(Environment),
    /// The FCM credential.
    Fcm,
}

impl PauseScope {
    /// The credential that a push to this address uses.
    #[must_use]
    pub fn of(recipient: &Recipient) -> Self {
        if recipient.address.platform.is_apple() {
            Self::Apns(recipient.address.environment)
        } else {
            Self::Fcm
        }
    }
}

/// A credential rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Which.
    pub scope: PauseScope,
    /// Until when.
    pub until: Millis,
    /// The provider's word, or the transport's.
    pub reason: Reason,
    /// The credential is refused: somebody must look at it.
    pub alert: bool,
}

/// All that follows some outcomes of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// (ordinal, device, state) of everything that ended; an entry that was never resolved stands as [`Entry::key`].
    pub finals: Vec<(u32, DeviceId, FinalState)>,
    /// How many ended in each state.
    pub counts: Counts,
    /// A row for everything that ended otherwise than accepted or cancelled.
    pub failures: Vec<Failure>,
    /// Registered devices that the provider called dead.
    pub prunes: Vec<Prune>,
    /// Registered devices whose device token looks wrong.
    pub suspects: Vec<DeviceId>,
    /// Registered devices for which the provider took a push.
    pub accepted: Vec<DeviceId>,
    /// What is tried again.
    pub again: Vec<Again>,
    /// Credentials that rest; at most one pause each, the longest.
    pub pause: Vec<Pause>,
}

impl Settled {
    /// Adds what followed from another slice of the same job.
    pub fn merge(&mut self, other: Self) {
        self.finals.extend(other.finals);
        for (sum, more) in self.counts.0.iter_mut().zip(other.counts.0) {
            *sum += more;
        }
        self.failures.extend(other.failures);
        self.prunes.extend(other.prunes);
        self.suspects.extend(other.suspects);
        self.accepted.extend(other.accepted);
        self.again.extend(other.again);
        for pause in other.pause {
            self.rest(pause);
        }
    }

    fn rest(&mut self, pause: Pause) {
        match self.pause.iter_mut().find(|p| p.scope == pause.scope) {
            Some(known) if known.until >= pause.until => {}
            Some(known) => *known = pause,
            None => self.pause.push(pause),
        }
    }

    fn end(&mut self, recipient: &Recipient, state: FinalState, reason: &Reason, users: Users<'_>) {
        let Recipient { ordinal, address } = recipient;
        let ordinal = *ordinal;
        self.finals.push((ordinal, address.device, state));
        self.counts.add(state);
        if has_failure_row(state) {
            self.failures.push(Failure {
                ordinal,
                device: address.device,
                platform: Some(address.platform),
                user_id: users(ordinal),
                device_token: Some(address.device_token.clone()),
                state,
                reason: reason.to_string(),
            });
        }
    }

    fn end_entry(&mut self, entry: &Entry, state: FinalState, reason: &Reason) {
        let Target::User { user_id, .. } = &entry.target else {
            if let Some(recipient) = as_recipient(entry) {
                self.end(&recipient, state, reason, &|_| None);
            }
            return;
        };
        let (ordinal, key) = entry.key();
        self.finals.push((ordinal, key, state));
        self.counts.add(state);
        if has_failure_row(state) {
            self.failures.push(Failure {
                ordinal,
                device: 0,
                platform: None,
                user_id: Some(user_id.clone()),
                device_token: None,
                state,
                reason: reason.to_string(),
            });
        }
    }
}

/// A success has no failure row, and neither has what somebody called off on purpose.
fn has_failure_row(state: FinalState) -> bool {
    !matches!(state, FinalState::Accepted | FinalState::Cancelled)
}

fn as_recipient(entry: &Entry) -> Option<Recipient> {
    match &entry.target {
        Target::User { .. } => None,
        Target::Device(address) => Some(Recipient {
            ordinal: entry.ordinal,
            address: address.clone(),
        }),
    }
}

/// What follows these outcomes. Every recipient given ends, or is tried again; none does both.
#[must_use]
pub fn settle(
    job: &Job,
    recipients: &[Recipient],
    outcomes: Vec<Outcome>,
    context: &Context<'_>,
) -> Settled {
    let mut settled = Settled::default();
    settled.finals.reserve(outcomes.len());
    for (recipient, outcome) in recipients.iter().zip(outcomes) {
        if let Some(pause) = pause_of(recipient, &outcome, context) {
            settled.rest(pause);
        }
        settled.note_device(recipient, &outcome, context);
        let trial = Trial {
            is_apple: recipient.address.platform.is_apple(),
            delivery: job.notification.options.delivery,
            attempts: job.attempts,
            expires_at: job.notification.expires_at,
            now: context.now,
            jitter: context.jitter,
        };
        match context.policy.next(&outcome, &trial) {
            Fate::Final { state, reason } => settled.end(recipient, state, &reason, context.users),
            Fate::Again { due, why, attempts } => settled.again.push(Again {
                recipient: recipient.clone(),
                due,
                why,
                attempts,
            }),
        }
    }
    settled
}

impl Settled {
    /// What the outcome says about the device, if it is registered.
    fn note_device(&mut self, recipient: &Recipient, outcome: &Outcome, context: &Context<'_>) {
        let device = recipient.address.device;
        if device == 0 {
            return;
        }
        match outcome {
            Outcome::Accepted => self.accepted.push(device),
            Outcome::Rejected { suspect: true, .. } => self.suspects.push(device),
            Outcome::Unregistered { reason, since } => self.prunes.push(Prune {
                device,
                platform: recipient.address.platform,
                dead_since: since.unwrap_or(context.request_started),
                reason: reason.to_string(),
                frozen: (context.frozen)(recipient.address.platform),
            }),
            _ => {}
        }
    }
}

/// The pause that an outcome asks for: the whole credential is throttled or refused, or the pool has no connection and
/// says for how long.
fn pause_of(recipient: &Recipient, outcome: &Outcome, context: &Context<'_>) -> Option<Pause> {
    let policy = context.policy;
    let (rest, reason) = match outcome {
        Outcome::Throttled {
            reason,
            scope: ThrottleScope::Credential,
            retry_after,
        } => {
            let rest = policy.throttle_rest(recipient.address.platform.is_apple());
            (retry_after.unwrap_or_default().max(rest), reason)
        }
        Outcome::Unauthorized { reason, pause } => (*pause, reason),
        Outcome::Unavailable {
            reason,
            processed: Processed::No,
            retry_after: Some(rest),
        } => (*rest, reason),
        _ => return None,
    };
    Some(Pause {
        scope: PauseScope::of(recipient),
        until: context.now.saturating_add(policy.scaled(rest)),
        reason: reason.clone(),
        alert: matches!(outcome, Outcome::Unauthorized { .. }),
    })
}

/// Recipients whose time is over.
#[must_use]
pub fn expire(recipients: &[Recipient], users: Users<'_>) -> Settled {
    end_recipients(recipients, FinalState::Expired, "expired", users)
}

/// Recipients of a cancelled notification, or of a tenant that is gone.
#[must_use]
pub fn cancel(recipients: &[Recipient], users: Users<'_>) -> Settled {
    end_recipients(recipients, FinalState::Cancelled, "cancelled", users)
}

/// Entries whose user has no device.
#[must_use]
pub fn no_device(entries: &[Entry]) -> Settled {
    end_entries(entries, FinalState::NoDevice, "no_device")
}

/// Recipients that end without a send.
#[must_use]
pub fn end_recipients(
    recipients: &[Recipient],
    state: FinalState,
    reason: &'static str,
    users: Users<'_>,
) -> Settled {
    let mut settled = Settled::default();
    for recipient in recipients {
        settled.end(recipient, state, &Reason::Borrowed(reason), users);
    }
    settled
}

/// Entries that end without a send, resolved or not: a job that was late or cancelled before its users were looked up.
#[must_use]
pub fn end_entries(entries: &[Entry], state: FinalState, reason: &'static str) -> Settled {
    let mut settled = Settled::default();
    for entry in entries {
        settled.end_entry(entry, state, &Reason::Borrowed(reason));
    }
    settled
}

/// The jobs in which recipients wait that are tried again: recipients of the same history and reason whose instants lie
/// within [`DUE_BUCKET`] share one, which is due at the latest of them. Entries are sorted by (ordinal, device), so that
/// the same set gives the same job.
#[must_use]
pub fn children(job: &Job, mut again: Vec<Again>) -> Vec<(Job, Millis, WaitingWhy)> {
    again.sort_by_key(|one| {
        let Attempts {
            total,
            unsent,
            ambiguous,
        } = one.attempts;
        let group = (one.why.as_str(), total, unsent, ambiguous);
        (group, one.due, one.recipient.key())
    });
    let same = |a: &Again, b: &Again| {
        a.why == b.why && a.attempts == b.attempts && b.due.saturating_sub(a.due) <= DUE_BUCKET
    };
    let mut jobs = Vec::new();
    let mut rest = again.into_iter().peekable();
    while let Some(first) = rest.next() {
        let (why, attempts) = (first.why, first.attempts);
        let mut bucket = vec![first];
        while let Some(next) = rest.next_if(|next| same(&bucket[0], next)) {
            bucket.push(next);
        }
        let due = bucket.iter().map(|one| one.due).max().unwrap_or_default();
        let mut entries: Vec<Entry> = bucket.into_iter().map(|one| one.recipient.into()).collect();
        jobs.extend(
            split(job, kind_of(why), attempts, &mut entries).map(|child| (child, due, why)),
        );
    }
    jobs
}

/// The jobs in which recipients or entries wait that were not tried: a limit, a pause, a schedule, a breaker, or what one
/// resolve could not hold. They are due at the expiry at the latest, to end then.
#[must_use]
pub fn parked(
    job: &Job,
    mut entries: Vec<Entry>,
    due: Millis,
    why: WaitingWhy,
) -> Vec<(Job, Millis, WaitingWhy)> {
    let due = due.min(job.notification.expires_at);
    split(job, kind_of(why), job.attempts, &mut entries)
        .map(|child| (child, due, why))
        .collect()
}

fn split<'a>(
    job: &'a Job,
    kind: JobKind,
    attempts: Attempts,
    entries: &'a mut [Entry],
) -> impl Iterator<Item = Job> + 'a {
    entries.sort_unstable_by_key(Entry::key);
    entries
        .chunks(JOB_RECIPIENTS_MAX)
        .map(move |chunk| job.child(kind, attempts, chunk.to_vec()))
}

fn kind_of(why: WaitingWhy) -> JobKind {
    match why {
        WaitingWhy::Retry => JobKind::Retry,
        WaitingWhy::Continued => JobKind::Continuation,
        WaitingWhy::Limited | WaitingWhy::Paused | WaitingWhy::Scheduled | WaitingWhy::Breaker => {
            JobKind::Parked
        }
    }
}

#[cfg(test)]
mod tests;
