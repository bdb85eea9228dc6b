//! The ledger: every request that was handed over, what the provider made of it, and whether it was recorded.
//! It must not know how an engine decides; it compares what was promised with what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clarion_engine::model::{
    DeviceId, Entry, FinalState, Millis, Notification, NotificationId, Outcome, Processed, Target,
    recipient_id,
};
use clarion_engine::store::{Settlement, WaitingWhy, Writer};

use crate::store::{Broken, Row, job_of};

/// What an engine knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    None,
    /// Accepted.
    Accepted,
    /// Refused for good.
    Refused,
    /// Handed over, and no answer came.
    Silence,
    /// Certainly not taken: it may be tried again without harm.
    NotTaken,
}

#[derive(Debug)]
struct Request {
    recipient: (NotificationId, u32, DeviceId),
    writer: Writer,
    /// The provider took it, whether or not the engine heard of it.
    taken: bool,
    answer: Answer,
    /// Its outcome is in the store, as a final state or as a counted retry.
    recorded: bool,
    id: uuid::Uuid,
}

/// One engine process, for the bound on what is in flight.
#[derive(Debug, Default)]
struct Process {
    /// Requests that are not recorded yet.
    open: Vec<usize>,
    /// Generations that a fault ended.
    ended: BTreeSet<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    requests: Vec<Request>,
    processes: HashMap<uuid::Uuid, Process>,
    /// Silent requests per recipient that were recorded as to be tried again.
    silent: HashMap<(NotificationId, u32, DeviceId), u32>,
    /// Requests that the provider took more than once, of all recipients.
    pub(crate) duplicates: u32,
}

impl Ledger {
    /// A request leaves the engine. Returns its number.
    pub(crate) fn hand_over(
        &mut self,
        writer: Writer,
        notification: &Notification,
        key: (u32, DeviceId),
        now: Millis,
    ) -> Result<usize, Broken> {
        let recipient = (notification.id, key.0, key.1);
        if notification.expires_at <= now {
            return Err(format!("{recipient:?} is sent after its expiry"));
        }
        let number = self.requests.len();
        self.requests.push(Request {
            recipient,
            writer,
            taken: false,
            answer: Answer::None,
            recorded: false,
            id: recipient_id(notification.id, key.0, key.1),
        });
        self.processes
            .entry(writer.process)
            .or_default()
            .open
            .push(number);
        Ok(number)
    }

    /// Requests of a process that are handed over and not recorded. What an ended generation left behind is lost, and
    /// counted as such.
    pub(crate) fn in_flight(&mut self, writer: Writer) -> usize {
        let process = self.processes.entry(writer.process).or_default();
        let requests = &self.requests;
        process.open.retain(|number| {
            let request = &requests[*number];
            let lost =
                request.answer != Answer::None && request.writer.generation != writer.generation;
            !(request.recorded || lost || request.answer == Answer::NotTaken)
        });
        process.open.len()
    }

    pub(crate) fn taken(&mut self, number: usize) {
        self.requests[number].taken = true;
    }

    pub(crate) fn answered(&mut self, numbers: &[usize], outcomes: &[Outcome]) {
        for (number, outcome) in numbers.iter().zip(outcomes) {
            self.requests[*number].answer = match outcome {
                Outcome::Accepted => Answer::Accepted,
                Outcome::Unregistered { .. } | Outcome::Rejected { .. } => Answer::Refused,
                Outcome::Unavailable {
                    processed: Processed::Unknown,
                    ..
                } => Answer::Silence,
                _ => Answer::NotTaken,
            };
        }
    }

    /// A settlement was written.
    pub(crate) fn recorded(
        &mut self,
        writer: Writer,
        settlement: &Settlement,
    ) -> Result<(), Broken> {
        let notification = settlement.key.notification;
        for (ordinal, device, state) in &settlement.part.block {
            let recipient = (notification, *ordinal, *device);
            let answers: &[Answer] = match state {
                FinalState::Accepted => &[Answer::Accepted],
                FinalState::Unregistered => &[Answer::Refused],
                FinalState::Exhausted | FinalState::Expired | FinalState::Unknown => {
                    &[Answer::Silence, Answer::NotTaken]
                }
                _ => continue,
            };
            let found = self.record(writer, recipient, answers);
            if *state == FinalState::Accepted && found.is_none() {
                return Err(format!(
                    "{recipient:?} is recorded as accepted, and no provider took it"
                ));
            }
        }
        let retries = settlement
            .waiting
            .iter()
            .filter(|row| row.why == WaitingWhy::Retry);
        for job in retries.map(job_of).filter(|job| job.attempts.ambiguous > 0) {
            for (ordinal, device) in job.entries.iter().map(Entry::key) {
                let recipient = (notification, ordinal, device);
                if self.record(writer, recipient, &[Answer::Silence]).is_some() {
                    let silent = self.silent.entry(recipient).or_default();
                    *silent = (*silent).max(u32::from(job.attempts.ambiguous));
                }
            }
        }
        Ok(())
    }

    /// Marks the last request of this process for this recipient with such an answer. The writer is the one that commits:
    /// an earlier generation may have sent it.
    fn record(
        &mut self,
        writer: Writer,
        recipient: (NotificationId, u32, DeviceId),
        answers: &[Answer],
    ) -> Option<usize> {
        let process = self.processes.get(&writer.process)?;
        let matches = |number: &&usize| {
            let request = &self.requests[**number];
            request.recipient == recipient && !request.recorded && answers.contains(&request.answer)
        };
        let number = process.open.iter().rev().find(matches).copied();
        // A generation that ended may have been dropped from the open ones while its outcome was still to be recorded.
        let number = number.or_else(|| {
            let of = |request: &Request| {
                request.writer.process == writer.process
                    && request.recipient == recipient
                    && !request.recorded
                    && answers.contains(&request.answer)
            };
            self.requests.iter().rposition(of)
        })?;
        self.requests[number].recorded = true;
        Some(number)
    }

    /// A fault ended a generation: what it has not recorded may be sent again by others.
    pub(crate) fn generation_ended(&mut self, writer: Writer) {
        self.processes
            .entry(writer.process)
            .or_default()
            .ended
            .insert(writer.generation);
    }

    /// The end of all things: duplicates against their causes.
    pub(crate) fn settle(&mut self, unrecorded_max: usize, retries: u8) -> Result<(), Broken> {
        let mut lost: BTreeMap<(uuid::Uuid, u32), usize> = BTreeMap::new();
        let mut taken: BTreeMap<(NotificationId, u32, DeviceId), (u32, uuid::Uuid)> =
            BTreeMap::new();
        for request in self.requests.iter().filter(|request| request.taken) {
            let first = taken.entry(request.recipient).or_insert((0, request.id));
            first.0 += 1;
            self.duplicates += u32::from(first.0 > 1);
            if first.1 != request.id {
                return Err(format!("{:?} was sent with two ids", request.recipient));
            }
            if !request.recorded {
                *lost
                    .entry((request.writer.process, request.writer.generation))
                    .or_default() += 1;
            }
        }
        for ((process, generation), requests) in lost {
            let ended = self
                .processes
                .get(&process)
                .is_some_and(|known| known.ended.contains(&generation));
            if !ended {
                return Err(format!(
                    "{requests} requests of {process}/{generation}, which lives, have no record"
                ));
            }
            if requests > unrecorded_max {
                return Err(format!(
                    "{requests} requests of {process}/{generation} were taken and not recorded"
                ));
            }
        }
        match self
            .silent
            .iter()
            .find(|(_, times)| **times > u32::from(retries))
        {
            Some((who, times)) => Err(format!(
                "{who:?} was tried again after silence {times} times"
            )),
            None => Ok(()),
        }
    }
}

/// Whether every accepted entry has its final states and nothing else has one. `devices_of` lists the devices that a user
/// ever had, and whether they were pruned: those may have been gone when the entry was resolved.
pub(crate) fn complete(
    row: &Row,
    entries: &[Entry],
    devices_of: &dyn Fn(&str) -> Vec<(DeviceId, bool)>,
) -> Result<(), Broken> {
    let total = row.counts.total();
    if row.recipients != row.counts.recipients() {
        return Err(format!(
            "{} recipients, and {:?} ended",
            row.recipients, row.counts
        ));
    }
    if total != row.finals.len() as u64 {
        return Err(format!("{total} counted, {} ended", row.finals.len()));
    }
    let mut known = BTreeSet::new();
    for entry in entries {
        let ordinal = entry.ordinal;
        let Target::User { user_id, .. } = &entry.target else {
            known.insert(entry.key());
            if !row.finals.contains_key(&entry.key()) {
                return Err(format!("entry {ordinal} has no final state"));
            }
            continue;
        };
        let devices = devices_of(user_id);
        let whole = row
            .finals
            .range((ordinal, DeviceId::MIN)..(ordinal, 0))
            .next();
        let of_devices = row
            .finals
            .range((ordinal, 0)..=(ordinal, DeviceId::MAX))
            .count();
        known.extend(devices.iter().map(|(device, _)| (ordinal, *device)));
        known.extend(whole.map(|(key, _)| *key));
        match whole {
            Some((_, FinalState::NoDevice)) if of_devices > 0 => {
                return Err(format!(
                    "entry {ordinal} has no device and {of_devices} of them"
                ));
            }
            Some(_) => {}
            None => {
                let has = |device: DeviceId| row.finals.contains_key(&(ordinal, device));
                let missing = devices
                    .iter()
                    .find(|(device, pruned)| !pruned && !has(*device));
                if missing.is_some() || of_devices == 0 {
                    return Err(format!(
                        "entry {ordinal} has {of_devices} final states, {missing:?} has none"
                    ));
                }
            }
        }
    }
    match row.finals.keys().find(|key| !known.contains(key)) {
        Some(stranger) => Err(format!("{stranger:?} ended and was never accepted")),
        None => Ok(()),
    }
}
