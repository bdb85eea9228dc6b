//! An engine process: a real worker and a driver that lets its actions happen, late, in groups and sometimes in vain.
//! It must not decide anything that the worker could decide.

use std::collections::BTreeMap;

use clarion_engine::broker::{LeaseId, QueueName};
use clarion_engine::delivery::releaser::Released;
use clarion_engine::delivery::worker::{Action, JobHandle, Message, SliceOut, Worker};
use clarion_engine::model::{Envelope, JobId, JobKind, Millis, Outcome};
use clarion_engine::store::{ClaimRequest, CommitAnswer, Settlement, WaitingRow};

use crate::broker::Connection;
use crate::calls::{Answer, Call};
use crate::store::Broken;
use crate::world::{Event, Variant, World};

/// How long the driver rests before it repeats a commit, ms.
const RECOMMIT: Millis = 200;
/// A tenant's suspension holds everywhere after this, ms.
const CONTROL_LEASE: Millis = 1_000;

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) serial: u32,
    pub(crate) worker: Worker,
    pub(crate) generation: u32,
    /// The current connection to the broker; a new one has another number.
    pub(crate) connection: u32,
    pub(crate) leases: BTreeMap<LeaseId, Vec<JobId>>,
    claims: Vec<(JobHandle, ClaimRequest)>,
    commits: Vec<(JobHandle, Box<Settlement>)>,
    acks: Vec<LeaseId>,
    claiming: bool,
    committing: bool,
    acking: bool,
    reading_control: bool,
    control_version: i64,
    pub(crate) stalled_until: Millis,
    pub(crate) released: Released,
}

impl Process {
    pub(crate) fn new(serial: u32, worker: Worker) -> Self {
        Self {
            serial,
            worker,
            generation: 0,
            connection: 0,
            leases: BTreeMap::new(),
            claims: Vec::new(),
            commits: Vec::new(),
            acks: Vec::new(),
            claiming: false,
            committing: false,
            acking: false,
            reading_control: false,
            control_version: -1,
            stalled_until: Millis::MIN,
            released: Released::default(),
        }
    }

    /// Whether a claim, a part or an ack is under way.
    pub(crate) fn awaits_answers(&self) -> bool {
        self.claiming || self.committing || self.acking
    }

    pub(crate) fn connection(&self) -> Connection {
        (self.serial, self.connection)
    }
}

impl World {
    /// Does what the worker asks for, and starts the groups that have come together.
    pub(crate) fn act(&mut self, serial: u32) -> Result<(), Broken> {
        let now = self.now;
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        let actions = process.worker.take_actions(now);
        for action in actions {
            self.perform(serial, action)?;
        }
        self.notice_generation(serial)?;
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        let (writer, connection) = (process.worker.writer(), process.connection());
        let mut calls = Vec::new();
        if !process.commits.is_empty() && !std::mem::replace(&mut process.committing, true) {
            calls.push(Call::Commit(std::mem::take(&mut process.commits), writer));
        }
        if !process.claims.is_empty() && !std::mem::replace(&mut process.claiming, true) {
            calls.push(Call::Claim(std::mem::take(&mut process.claims), writer));
        }
        if !process.acks.is_empty() && !std::mem::replace(&mut process.acking, true) {
            calls.push(Call::Ack(connection, std::mem::take(&mut process.acks)));
        }
        for call in calls {
            self.call(serial, call);
        }
        Ok(())
    }

    /// A generation ends only through a fault: in a calm world that is no excuse for anything.
    fn notice_generation(&mut self, serial: u32) -> Result<(), Broken> {
        let (calm, ledger_only) = (self.plan.calm, self.store.ledger_only);
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        let mut writer = process.worker.writer();
        let before = std::mem::replace(&mut process.generation, writer.generation);
        if before == writer.generation {
            return Ok(());
        }
        if calm {
            return if ledger_only {
                Ok(())
            } else {
                Err("an engine dropped its leases in a calm world".to_owned())
            };
        }
        for generation in before..writer.generation {
            writer.generation = generation;
            self.ledger.generation_ended(writer);
        }
        Ok(())
    }

    fn perform(&mut self, serial: u32, action: Action) -> Result<(), Broken> {
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        match action {
            Action::Claim(job, request) => process.claims.push((job, request)),
            Action::Commit(job, settlement) => self.commit(serial, job, settlement),
            Action::Ack(lease) => {
                if process.leases.remove(&lease).is_some() {
                    process.acks.push(lease);
                }
            }
            Action::GiveBack(lease) => {
                let connection = process.connection();
                if process.leases.remove(&lease).is_some() {
                    self.broker.give_back(connection, lease);
                }
            }
            Action::Resolve { job, tenant, users } => {
                self.call(serial, Call::Resolve(job, tenant, users))
            }
            Action::LoadRoute(tenant, class) => self.call(serial, Call::Route(tenant, class)),
            Action::Dispatch(slice) => self.hand_over(serial, &slice)?,
            Action::Bury(lease, _) => self.call(serial, Call::Bury(lease)),
            Action::Credit(queue, credit) => self.credit(serial, queue, credit),
            Action::Alert(alert) => self.trace(|| format!("alert {alert:?}")),
        }
        Ok(())
    }

    fn credit(&mut self, serial: u32, queue: QueueName, credit: u32) {
        if let Some(connection) = self.process(serial).map(|process| process.connection()) {
            self.broker.set_credit(connection, queue, credit);
        }
    }

    fn commit(&mut self, serial: u32, job: JobHandle, mut settlement: Box<Settlement>) {
        let variant = self.variant;
        if variant == Variant::ParkedKeepsId {
            let parent = settlement.key.job;
            settlement
                .waiting
                .iter_mut()
                .for_each(|row| keep_id(row, parent));
        }
        let Some(process) = self.process(serial) else {
            return;
        };
        if variant == Variant::AckBeforeRecord && settlement.part.end {
            let of = |(lease, jobs): (&LeaseId, &Vec<JobId>)| {
                jobs.contains(&settlement.key.job).then_some(*lease)
            };
            for lease in process.leases.iter().filter_map(of).collect::<Vec<_>>() {
                process.leases.remove(&lease);
                process.acks.push(lease);
            }
        }
        process.commits.push((job, settlement));
    }

    fn hand_over(&mut self, serial: u32, slice: &SliceOut) -> Result<(), Broken> {
        let (now, max) = (self.now, self.plan.unrecorded_max);
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        let writer = process.worker.writer();
        if let Some(since) = self.suspended.get(&slice.tenant)
            && now >= since + CONTROL_LEASE
        {
            return Err(format!(
                "{} is sent to {} ms after its suspension",
                slice.tenant,
                now - since
            ));
        }
        let (mut numbers, mut outcomes) = (Vec::new(), Vec::new());
        for recipient in &slice.recipients[slice.range.clone()] {
            let number =
                self.ledger
                    .hand_over(writer, &slice.notification, recipient.key(), now)?;
            let (taken, outcome) = self.provider_takes(recipient);
            if taken {
                self.ledger.taken(number);
            }
            numbers.push(number);
            outcomes.push(outcome);
        }
        let in_flight = self.ledger.in_flight(writer);
        self.trace(|| {
            let who: Vec<_> = slice.recipients[slice.range.clone()]
                .iter()
                .map(|one| one.key())
                .collect();
            format!(
                "{serial} hands over slice {} {who:?}: {outcomes:?}, {in_flight} in flight",
                slice.id
            )
        });
        if in_flight > max {
            return Err(format!(
                "{in_flight} requests are in flight, at most {max} may be"
            ));
        }
        let at = now + self.rng.range(1, self.answer_time());
        self.at(at, Event::SliceDone(serial, slice.id, numbers, outcomes));
        Ok(())
    }

    pub(crate) fn slice_done(
        &mut self,
        serial: u32,
        id: u64,
        numbers: &[usize],
        outcomes: Vec<Outcome>,
    ) {
        let now = self.now;
        self.ledger.answered(numbers, &outcomes);
        if let Some(process) = self.process(serial) {
            process.worker.on_slice_done(id, outcomes, now);
        }
    }

    pub(crate) fn tick(&mut self, serial: u32) {
        let now = self.now;
        let heard = self.process(serial).map(|process| process.connection());
        let heard =
            heard.is_some_and(|connection| self.broker.connections.contains_key(&connection));
        let Some(process) = self.process(serial) else {
            return;
        };
        if heard {
            process.worker.on_heartbeat(now);
        }
        process.worker.on_tick(now);
        let idle = process.worker.is_idle();
        if !idle {
            self.read_control(serial);
        }
        let next = if idle {
            self.rng.range(800, 3_000)
        } else {
            self.rng.range(30, 300)
        };
        self.at(now + next, Event::Tick(serial));
    }

    pub(crate) fn read_control(&mut self, serial: u32) {
        let Some(process) = self.process(serial) else {
            return;
        };
        if !std::mem::replace(&mut process.reading_control, true) {
            let version = process.control_version;
            self.call(serial, Call::Control(version));
        }
    }

    pub(crate) fn deliver(
        &mut self,
        serial: u32,
        connection: Connection,
        lease: LeaseId,
    ) -> Result<(), Broken> {
        let now = self.now;
        let Some((holder, queue, message)) = self.broker.leased.get(&lease).cloned() else {
            return Ok(());
        };
        let Some(process) = self.process(serial) else {
            return Ok(());
        };
        if process.connection() != connection || holder != connection {
            return Ok(());
        }
        process.leases.insert(lease, message.jobs.clone());
        process.worker.on_leased(
            &Message {
                lease,
                queue: &queue,
                body: &message.body,
                redelivered: message.redelivered,
                published_at: Some(message.published_at),
            },
            now,
        );
        self.trace(|| {
            format!(
                "{serial} leases {lease:?} {:?} redelivered {}",
                message.jobs, message.redelivered
            )
        });
        for job in &message.jobs {
            if self.store.born.get(job).is_some_and(|due| *due > now) {
                return Err(format!("{job} is released before it is due"));
            }
        }
        self.read_control(serial);
        Ok(())
    }

    pub(crate) fn leases_lost(&mut self, serial: u32, connection: Connection) {
        let now = self.now;
        let Some(process) = self.process(serial) else {
            return;
        };
        if process.connection() != connection {
            return;
        }
        process.worker.on_leases_lost(now);
        process.leases.clear();
        process.connection += 1;
        let at = now + self.rng.range(1, 2_000);
        self.at(at, Event::Connect(serial));
    }

    pub(crate) fn answer(&mut self, serial: u32, answer: Answer) {
        let Some(answer) = self.loop_answer(serial, answer) else {
            return;
        };
        let now = self.now;
        let Some(process) = self.process(serial) else {
            return;
        };
        match answer {
            Answer::Claimed(answers) => {
                process.claiming = false;
                for (job, answer) in answers {
                    match answer {
                        Some(answer) => process.worker.on_claimed(job, answer, now),
                        None => process.worker.on_claim_failed(job, now),
                    }
                }
            }
            Answer::Committed(group, answers) => self.committed(serial, group, answers),
            Answer::Resolved(job, Ok(devices)) => process.worker.on_resolved(job, devices, now),
            Answer::Resolved(job, Err(())) => process.worker.on_resolve_failed(job, now),
            Answer::Routed(tenant, class, Ok(exists)) => {
                process.worker.on_route(&tenant, class, exists);
                let streams = self.rng.pick(&[1, 8, 64]);
                let process = self.process(serial).expect("it lives");
                process.worker.on_window(&tenant, class, streams);
            }
            Answer::Routed(tenant, class, Err(())) => self.call(serial, Call::Route(tenant, class)),
            Answer::Control(read_at, state) => {
                process.reading_control = false;
                if let Ok(state) = state {
                    process.control_version = state.version;
                    process.worker.on_control(&state, read_at, now);
                }
            }
            Answer::Buried(lease, Ok(())) if process.leases.remove(&lease).is_some() => {
                process.acks.push(lease);
            }
            Answer::Buried(lease, Err(())) => {
                let connection = process.connection();
                process.leases.remove(&lease);
                process.worker.on_given_back(lease);
                self.broker.give_back(connection, lease);
            }
            Answer::Acked(connection, leases, counted) => {
                process.acking = false;
                for (place, lease) in leases.iter().enumerate() {
                    let counted = counted.as_ref().is_ok_and(|counted| counted[place]);
                    process.worker.on_acked(*lease, counted, now);
                }
                if counted.is_err() {
                    leases
                        .iter()
                        .for_each(|lease| self.broker.give_back(connection, *lease));
                }
            }
            _ => {}
        }
    }

    fn committed(
        &mut self,
        serial: u32,
        group: Vec<(JobHandle, Box<Settlement>)>,
        answers: Result<Vec<CommitAnswer>, ()>,
    ) {
        let now = self.now;
        let Some(process) = self.process(serial) else {
            return;
        };
        process.worker.on_commit_failing(answers.is_err());
        let Ok(answers) = answers else {
            return self.at(now + RECOMMIT, Event::Recommit(serial, group));
        };
        process.committing = false;
        for ((job, settlement), answer) in group.into_iter().zip(answers) {
            if let Some(process) = self.process(serial)
                && answer == CommitAnswer::Taken
                && settlement.part.end
                && settlement.kind != JobKind::First
            {
                let key = &settlement.key;
                process.released.end(&key.tenant, settlement.lane, key.job);
            }
            if let Some(process) = self.process(serial) {
                process.worker.on_committed(job, answer, now);
            }
        }
    }

    pub(crate) fn recommit(&mut self, serial: u32, group: Vec<(JobHandle, Box<Settlement>)>) {
        let writer = self.process(serial).map(|process| process.worker.writer());
        if let Some(writer) = writer {
            self.call(serial, Call::Commit(group, writer));
        }
    }
}

/// A broken variant: what waits keeps the id of the job it is left of.
fn keep_id(row: &mut WaitingRow, parent: JobId) {
    let mut jobs = Envelope::decode(&row.body).expect("an envelope").jobs;
    if jobs[0].kind == JobKind::Parked {
        jobs[0].id = parent;
        row.job = parent;
        row.body = Envelope::encode(&jobs).expect("an envelope");
    }
}
