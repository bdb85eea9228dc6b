//! The worker, with the world played by the shortest possible answers: a leased job, its slices, its record, its ack.
//! It must not know how production carries an action out.

use anyhow::{Result, ensure};
use clarion_engine::broker::{LeaseId, QueueName};
use clarion_engine::delivery::events::Events;
use clarion_engine::delivery::limiter::Rate;
use clarion_engine::delivery::retry::Policy;
use clarion_engine::delivery::worker::{Action, Message, Options, SliceOut, Worker};
use clarion_engine::limits::UNRECORDED_MAX_DEFAULT;
use clarion_engine::model::{Envelope, Lane, Millis, Outcome, Platform};
use clarion_engine::store::{CommitAnswer, ControlState};
use uuid::Uuid;

use crate::samples::{ENTRIES, NOW, job};
use crate::stage::{Per, Stage};

/// Recipients a second: more than the worker can reach in the time that the rig pretends.
const RATE: u32 = 100_000_000;
/// Streams that the connections offer.
const STREAMS: usize = 4_000;
/// Pretended time between two jobs, milliseconds.
const STEP: Millis = 1;
/// Pretended time between two looks at the control state, milliseconds.
const CONTROL_EVERY: Millis = 500;

/// What a worker did with the jobs it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages acked.
    pub acks: u64,
    /// Recipients recorded as accepted.
    pub accepted: u64,
}

/// A worker and the world around it.
#[derive(Debug)]
pub struct Rig {
    worker: Worker,
    queue: QueueName,
    body: Vec<u8>,
    now: Millis,
    leases: u64,
    done: Done,
}

impl Rig {
    /// A rig whose every message holds the same job of `entries` raw device tokens.
    ///
    /// # Errors
    /// When the sample cannot be made.
    pub fn new(entries: u32) -> Result<Self> {
        let job = job(Platform::Ios, entries, Lane::Bulk)?;
        let queue = QueueName {
            tenant: job.notification.tenant.clone(),
            lane: Lane::Bulk,
        };
        let worker = Worker::new(Options {
            process: Uuid::from_u128(1),
            unrecorded_max: UNRECORDED_MAX_DEFAULT,
            connection_since: 0,
            policy: Policy::default(),
            rate: Rate::new(RATE, None),
            shares_rates: false,
            events: Events::Off,
            seed: 1,
        });
        let body = Envelope::encode(&[job])?;
        Ok(Self {
            worker,
            queue,
            body,
            now: NOW,
            leases: 0,
            done: Done::default(),
        })
    }

    /// Leases a message and drives it to its ack.
    pub fn job(&mut self) -> Done {
        self.now += STEP;
        if self.now % CONTROL_EVERY == 0 || self.leases == 0 {
            let control = ControlState {
                version: 1,
                changed: Vec::new(),
                stopped: Vec::new(),
            };
            self.worker.on_control(&control, self.now, self.now);
        }
        self.leases += 1;
        let message = Message {
            lease: LeaseId(self.leases),
            queue: &self.queue,
            body: &self.body,
            redelivered: false,
            published_at: Some(self.now),
        };
        self.worker.on_leased(&message, self.now);
        loop {
            let actions = self.worker.take_actions(self.now);
            if actions.is_empty() {
                return self.done;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        let (worker, now) = (&mut self.worker, self.now);
        match action {
            Action::LoadRoute(tenant, class) => {
                worker.on_route(&tenant, class, true);
                worker.on_window(&tenant, class, STREAMS);
            }
            Action::Dispatch(SliceOut { id, range, .. }) => {
                worker.on_slice_done(id, vec![Outcome::Accepted; range.len()], now);
            }
            Action::Commit(job, settlement) => {
                self.done.accepted += settlement.part.counts.total();
                worker.on_committed(job, CommitAnswer::Taken, now);
            }
            Action::Ack(lease) => {
                self.done.acks += 1;
                worker.on_acked(lease, true, now);
            }
            // A first delivery of raw device tokens asks for nothing else.
            _ => {}
        }
    }
}

/// A full job and a single recipient, from lease to ack.
///
/// # Errors
/// When the sample cannot be made, or does not come to its ack.
pub fn stages() -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    for entries in [ENTRIES, 1] {
        let mut rig = Rig::new(entries)?;
        let (acks, accepted) = (1, u64::from(entries));
        ensure!(rig.job() == Done { acks, accepted });
        let name = format!("worker: lease to ack, job of {entries}");
        stages.push(Stage::new(&name, Per::recipients(entries), move || {
            rig.job()
        }));
    }
    Ok(stages)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_job_comes_to_its_ack_with_all_its_recipients() {
        let mut rig = Rig::new(ENTRIES).unwrap();
        for acks in 1..=1_200 {
            let accepted = acks * u64::from(ENTRIES);
            assert_eq!(rig.job(), Done { acks, accepted });
            assert!(rig.worker.is_idle());
        }
    }
}
