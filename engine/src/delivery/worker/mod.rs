//! The worker: the state machine that owns leases, jobs and their records. Events and `now` in, actions out.
//! It must not do I/O, read a clock or hold a lock: production and the seeded simulation drive the very same code.
//!
//! A job's way through it: leased → (claimed) → resolved → handed over in slices → outcomes settled → recorded in parts →
//! ended → its lease acked when all jobs of the message are ended. See the job protocol, sections 2, 3 and 6.

mod control;
mod given_up;
mod job;
mod lease;
mod pump;
mod record;
mod resolved;
mod route;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use clarion_auth::TenantId;
use uuid::Uuid;

pub use self::control::CLOCK_MARGIN;
pub use self::given_up::{Standing, close_given_up, users_of};
use self::job::JobState;
pub use self::lease::CREDIT_AT_REST;
use self::lease::Leases;
pub use self::resolved::Message;
pub use self::route::Class;
use self::route::Routes;
use crate::broker::{LeaseId, QueueName};
use crate::delivery::brake::Brakes;
use crate::delivery::events::Events;
use crate::delivery::limiter::{Limiter, Rate};
use crate::delivery::retry::Policy;
use crate::delivery::scheduler::Scheduler;
use crate::delivery::shares::Shares;
use crate::limits::{CLAIMS_AHEAD, JOB_ENTRIES_MAX};
use crate::model::{JobId, Lane, Millis, Notification, Platform, Recipient};
use crate::store::{ClaimRequest, NewDead, Settlement, Suspension, UserCursor, Writer};

/// A job in this worker; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobHandle(pub u64);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// This process.
    pub process: Uuid,
    /// Requests handed over and not yet recorded, at most.
    pub unrecorded_max: usize,
    /// Messages published before this instant (the start of the broker connection) may have been seen before: their jobs
    /// are claimed. An embedded broker marks such messages itself.
    pub connection_since: Millis,
    /// When what is tried again.
    pub policy: Policy,
    /// The rate of tenants without one of their own.
    pub rate: Rate,
    /// Other processes send for the same tenants: every rate is shared with them.
    pub shares_rates: bool,
    /// Of which recipients backends are told.
    pub events: Events,
    /// Seeds the jitter.
    pub seed: u64,
}

/// What the world shall do for the worker. The order matters only per job.
#[derive(Debug)]
pub enum Action {
    /// Append a claim and read the record; answer with [`Worker::on_claimed`].
    Claim(JobHandle, ClaimRequest),
    /// Look up the devices of these users; answer with [`Worker::on_resolved`].
    Resolve {
        /// For which job.
        job: JobHandle,
        /// Whose users.
        tenant: TenantId,
        /// The users, in the order of the job's entries.
        users: Vec<UserCursor>,
    },
    /// Load the credential of a class; answer with [`Worker::on_route`].
    LoadRoute(TenantId, Class),
    /// Hand these requests over; answer with [`Worker::on_slice_done`].
    Dispatch(SliceOut),
    /// Write this; answer with [`Worker::on_committed`] or [`Worker::on_commit_failed`].
    Commit(JobHandle, Box<Settlement>),
    /// Remove the message for good; answer with [`Worker::on_acked`].
    Ack(LeaseId),
    /// Drop the lease without an ack.
    GiveBack(LeaseId),
    /// Write a dead row, then ack the message; a failure gives the lease back.
    Bury(LeaseId, Box<NewDead>),
    /// How many messages of a queue may be unacked.
    Credit(QueueName, u32),
    /// Tell the operator.
    Alert(Alert),
}

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Too many device tokens of this tenant are called dead at once: pruning is frozen.
    PruningFrozen(TenantId, Platform),
    /// A credential is refused.
    CredentialPaused(TenantId, Class, String),
    /// A job killed its processes too often.
    Poison(TenantId, String),
}

/// Requests to hand over: some recipients of one job, one class.
#[derive(Clone, Debug)]
pub struct SliceOut {
    /// Its number, for the answer.
    pub id: u64,
    /// The tenant.
    pub tenant: TenantId,
    /// Which of the tenant's routes.
    pub class: Class,
    /// What is said.
    pub notification: Arc<Notification>,
    /// The recipients of the job in this class.
    pub recipients: Arc<Vec<Recipient>>,
    /// Which of them are in this slice.
    pub range: Range<usize>,
}

/// A slice that is out.
#[derive(Debug)]
struct InFlight {
    job: JobHandle,
    tenant: TenantId,
    class: Class,
    recipients: Arc<Vec<Recipient>>,
    range: Range<usize>,
    started: Millis,
}

/// Jobs of a queue that are claimed, and of which nothing was handed over yet.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    jobs: usize,
    entries: usize,
}

impl Begun {
    /// Whether no other job should be claimed while these wait, with `left` recipients that may be handed over now.
    fn is_enough(self, left: usize) -> bool {
        self.jobs >= CLAIMS_AHEAD || self.entries >= left.min(JOB_ENTRIES_MAX)
    }
}

/// The worker.
#[derive(Debug)]
pub struct Worker {
    options: Options,
    writer: Writer,
    leases: Leases,
    jobs: HashMap<JobHandle, JobState>,
    /// Which of several copies of a job in hand may be sent or still has something to record.
    owners: HashMap<JobId, JobHandle>,
    in_flight: HashMap<u64, InFlight>,
    scheduler: Scheduler<JobHandle>,
    limiter: Limiter,
    shares: Shares,
    /// Policies of tenants that differ in their ambiguous retries.
    policies: HashMap<TenantId, Policy>,
    brakes: Brakes,
    routes: Routes,
    /// Jobs that run alone in the process, because they ended several before.
    alone: VecDeque<JobHandle>,
    stopped: HashMap<TenantId, Suspension>,
    /// Jobs that are claimed and not begun, by queue.
    begun: HashMap<(TenantId, Lane), Begun>,
    /// Handed over and not recorded.
    unrecorded: usize,
    /// Of these, answered and in no part yet.
    recordable: usize,
    /// Somebody was not served because the bound was reached.
    starved: bool,
    /// When it was read.
    control: Option<Millis>,
    control_version: Option<i64>,
    commit_failing: bool,
    /// Nothing more is begun; what is out is recorded.
    stopping: bool,
    /// When the broker's connection was last heard from.
    heard: Millis,
    next_job: u64,
    next_slice: u64,
    jitter: u64,
    actions: Vec<Action>,
}

impl Worker {
    /// A worker without leases. It hands nothing over before [`Worker::on_control`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let writer = Writer {
            process: options.process,
            generation: 0,
        };
        let limiter = Limiter::new(options.rate);
        Self {
            writer,
            leases: Leases::default(),
            jobs: HashMap::new(),
            owners: HashMap::new(),
            in_flight: HashMap::new(),
            scheduler: Scheduler::new(),
            limiter,
            shares: Shares::new(options.rate, options.shares_rates),
            policies: HashMap::new(),
            starved: false,
            brakes: Brakes::default(),
            routes: Routes::new(&options.policy),
            alone: VecDeque::new(),
            stopped: HashMap::new(),
            begun: HashMap::new(),
            unrecorded: 0,
            recordable: 0,
            control: None,
            control_version: None,
            commit_failing: false,
            stopping: false,
            heard: Millis::MIN,
            next_job: 0,
            next_slice: 0,
            jitter: options.seed | 1,
            actions: Vec::new(),
            options,
        }
    }

    /// The actions that have come up since the last call. Call it after every event.
    pub fn take_actions(&mut self, now: Millis) -> Vec<Action> {
        self.pump(now);
        std::mem::take(&mut self.actions)
    }

    /// Who writes now. It changes when all leases are dropped.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// Requests handed over and not recorded.
    #[must_use]
    pub fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    /// Jobs in hand.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether nothing is in hand: no lease, no job, no request.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.in_flight.is_empty() && self.leases.is_empty()
    }

    /// Whether nothing is out and everything that came back is recorded.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let settled = |state: &JobState| state.committing.is_none() && state.pending.is_empty();
        self.in_flight.is_empty() && self.jobs.values().all(settled)
    }

    /// The rate of tenants without one of their own, recipients a second.
    #[must_use]
    pub fn default_rate(&self) -> u32 {
        self.options.rate.per_second.get()
    }

    /// When a limited tenant may send again.
    #[must_use]
    pub fn next_wake(&self) -> Option<Millis> {
        self.scheduler.next_wake()
    }

    /// When the broker's connection was last heard from.
    pub fn on_heartbeat(&mut self, heard: Millis) {
        self.heard = heard;
    }

    /// The process is about to end: nothing more is handed over, and what comes back is recorded at once.
    pub fn on_stopping(&mut self) {
        self.stopping = true;
    }
}

/// A number, evenly in 0..1, for a retry's jitter (xorshift64*: spread, not secrecy).
fn draw_jitter(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let number = bits as f64 / 16_777_216.0;
    number
}
