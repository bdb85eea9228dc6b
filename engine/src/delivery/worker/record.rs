//! The record of a job: parts are cut, committed, and end it; then its lease is acked.
//! It must not know how a part is stored.

use super::job::{JobState, Pending, Phase};
use super::{Action, JobHandle, Worker};
use crate::broker::LeaseId;
use crate::delivery::events::{self, Events};
use crate::delivery::settle;
use crate::model::{DeviceId, Entry, Envelope, FinalState, Job, Millis, Recipient};
use crate::store::{CommitAnswer, DeadOrigin, NewDead, Part, Settlement, WaitingRow, WaitingWhy};

impl Worker {
    /// Ends a job whose recipients are all accounted for.
    pub(super) fn end_if_spent(&mut self, handle: JobHandle, now: Millis) {
        if self.jobs.get(&handle).is_some_and(JobState::is_spent) {
            self.cut_part(handle, now);
        }
    }

    /// Cuts what is pending into a part and sends it to be committed; with the end, if nothing is left. One part of a job is
    /// under way at a time, because each must follow the last.
    pub(super) fn cut_part(&mut self, handle: JobHandle, now: Millis) {
        let events = self.options.events;
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let end = state.is_spent() && state.lease.is_some();
        let due = end || !state.pending.is_empty() || state.must_write(now);
        if state.committing.is_some() || !due {
            return;
        }
        state.ask(now);
        let pending = std::mem::take(&mut state.pending);
        state.urgent = false;
        self.recordable -= pending.covers;
        let waiting = if end {
            waiting_rows(state, now)
        } else {
            Vec::new()
        };
        if end {
            state.phase = Phase::Ending;
        }
        state.committing = Some(pending.covers);
        let settlement = settlement(state, pending, waiting, (end, events));
        self.actions
            .push(Action::Commit(handle, Box::new(settlement)));
    }

    /// The store answered a commit.
    pub fn on_committed(&mut self, handle: JobHandle, answer: CommitAnswer, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let covers = state.committing.take().unwrap_or_default();
        match answer {
            CommitAnswer::Taken => {
                state.keep(state.next_seq + 1);
                self.release(covers);
                self.after_part(handle, now);
            }
            CommitAnswer::Fenced => {
                // Somebody else holds the job. What came back is theirs to find out again, and this process has slept:
                // none of its leases is good. Those of an orphan's connection are gone already, and others are not to blame.
                let orphan = state.lease.is_none();
                self.release(covers);
                self.abandon(handle);
                if !orphan {
                    self.on_leases_lost(now);
                }
            }
        }
    }

    fn after_part(&mut self, handle: JobHandle, now: Millis) {
        let pressed = self.is_pressed();
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        if state.phase == Phase::Ending {
            let ambiguous = state.ambiguous;
            self.release(ambiguous);
            self.forget(handle);
        } else if state.lease.is_none() {
            self.orphan_done(handle, now);
        } else if state.is_spent() || (pressed && !state.pending.is_empty()) {
            self.cut_part(handle, now);
        }
    }

    /// What is written in place of a settlement that cannot be written: its counts, its end and a dead row. It loses the rows
    /// that made it unwritable, and says so; whatever of the job has no final state ends as dead.
    #[must_use]
    pub fn unrecordable(
        &self,
        handle: JobHandle,
        settlement: &Settlement,
        cause: &str,
    ) -> Settlement {
        let state = self.jobs.get(&handle);
        let (tenant, job) = (settlement.key.tenant.clone(), settlement.key.job);
        let left = state.map_or_else(Vec::new, |state| self.unfinished(handle, state));
        let mut part = settlement.part.clone();
        // What an orphan has not begun is its next holder's.
        part.end |= state.is_some_and(|state| state.lease.is_some());
        if let Some(JobState { pending, .. }) = state {
            part.block.extend(&pending.block);
            for (sum, more) in part.counts.0.iter_mut().zip(pending.counts.0) {
                *sum += more;
            }
        }
        let waits = settlement.waiting.iter();
        let waits = waits.filter_map(|row| Envelope::decode(&row.body).ok());
        let waits = waits
            .flat_map(|envelope| envelope.jobs)
            .flat_map(|job| job.entries);
        for (ordinal, device) in waits.map(|entry| entry.key()).chain(left) {
            part.block.push((ordinal, device, FinalState::Dead));
            part.counts.add(FinalState::Dead);
        }
        let dead = NewDead {
            tenant,
            origin: DeadOrigin::Unparsed,
            reason: "unrecordable".to_owned(),
            detail: format!("the record of job {job} could not be written: {cause}"),
            notification: Some(settlement.key.notification),
            job: Some(job),
            recipients: u32::try_from(part.counts.get(FinalState::Dead)).unwrap_or(u32::MAX),
            body: Vec::new(),
        };
        Settlement {
            resolved: state.map_or(settlement.resolved, JobState::resolved_here),
            failures: Vec::new(),
            prunes: Vec::new(),
            suspects: Vec::new(),
            accepted: Vec::new(),
            waiting: Vec::new(),
            dead: Some(dead).filter(|_| part.end),
            event: events::keep(self.options.events, &part, &[]),
            part,
            ..settlement.clone()
        }
    }

    /// Everybody of a job who has no final state and stands in no waiting row: out, to be tried again, set aside, or not
    /// handed over.
    fn unfinished(&self, handle: JobHandle, state: &JobState) -> Vec<(u32, DeviceId)> {
        let out = self.in_flight.values().filter(|slice| slice.job == handle);
        let out = out.flat_map(|slice| &slice.recipients[slice.range.clone()]);
        let remaining = state
            .groups
            .iter()
            .flat_map(|group| &group.recipients[group.next..]);
        let again = state.again.iter().map(|again| &again.recipient);
        let aside = state.children.iter().flat_map(|(job, _, _)| &job.entries);
        let entries = aside.chain(&state.rest).map(Entry::key);
        out.chain(remaining)
            .chain(again)
            .map(Recipient::key)
            .chain(entries)
            .collect()
    }

    /// A part that cannot be written was replaced by a dead row, and the job has ended with it.
    pub fn on_unrecordable(&mut self, handle: JobHandle) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        let covers = state.committing.take().unwrap_or_default();
        self.release(covers);
        let lease = self.jobs.get(&handle).and_then(|state| state.lease);
        self.abandon(handle);
        self.close(lease);
    }

    /// The store does not take commits: nothing more is handed over until it does.
    pub fn on_commit_failing(&mut self, failing: bool) {
        self.commit_failing = failing;
    }

    /// A job without a lease is recorded as far as it got, and forgotten.
    pub(super) fn orphan_done(&mut self, handle: JobHandle, now: Millis) {
        let Some(state) = self.jobs.get_mut(&handle) else {
            return;
        };
        if state.out > 0 || state.committing.is_some() {
            return;
        }
        if state.pending.is_empty() {
            self.abandon(handle);
        } else {
            self.cut_part(handle, now);
        }
    }

    /// Forgets a job whose lease is not this process's any more. Its requests that are still out are forgotten when they return.
    fn abandon(&mut self, handle: JobHandle) {
        if let Some(state) = self.take_job(handle) {
            self.recordable -= state.pending.covers;
            self.release(state.pending.covers + state.ambiguous);
        }
    }

    /// Takes a job out of the worker's hands, and out of every line it stands in.
    pub(super) fn take_job(&mut self, handle: JobHandle) -> Option<JobState> {
        let state = self.jobs.remove(&handle)?;
        self.scheduler.remove(&handle);
        self.alone.retain(|alone| *alone != handle);
        if self.owners.get(&state.key.job) == Some(&handle) {
            self.owners.remove(&state.key.job);
        }
        let queue = (state.key.tenant.clone(), state.lane());
        self.uncount(&queue, state.begun);
        Some(state)
    }

    /// Forgets a job that has ended, and acks the message when it was its last.
    pub(super) fn forget(&mut self, handle: JobHandle) {
        let Some(state) = self.take_job(handle) else {
            return;
        };
        self.close(state.lease);
    }

    pub(super) fn close(&mut self, lease: Option<LeaseId>) {
        if let Some(lease) = lease
            && self.leases.close_job(lease)
        {
            let reused = self.leases.take_reused(lease);
            self.actions.push(match reused_row(&reused) {
                Some(dead) => Action::Bury(lease, Box::new(dead)),
                None => Action::Ack(lease),
            });
        }
    }

    /// So many requests leave the bound: whoever was not served because of it is asked again.
    pub(super) fn release(&mut self, requests: usize) {
        self.unrecorded -= requests;
        if requests > 0 && std::mem::take(&mut self.starved) {
            self.scheduler.wake_all();
        }
    }

    /// Whether the bound on unrecorded requests is near, and records would help.
    pub(super) fn is_pressed(&self) -> bool {
        let max = self.options.unrecorded_max;
        self.stopping || (self.unrecorded * 4 >= max * 3 && self.recordable * 8 >= max)
    }
}

/// The dead row of jobs whose ids came before with other recipients.
fn reused_row(jobs: &[Job]) -> Option<NewDead> {
    let first = jobs.first()?;
    let recipients = jobs.iter().map(|job| job.entries.len()).sum::<usize>();
    Some(NewDead {
        tenant: first.notification.tenant.clone(),
        origin: DeadOrigin::Unparsed,
        reason: "job_id_reused".to_owned(),
        detail: format!("job {} came with other recipients than before", first.id),
        notification: Some(first.notification.id),
        job: Some(first.id),
        recipients: u32::try_from(recipients).unwrap_or(u32::MAX),
        body: Envelope::encode(jobs).unwrap_or_default(),
    })
}

/// What is left of a job that ends, as rows that wait: retries, what was set aside, what one resolve could not hold.
fn waiting_rows(state: &mut JobState, now: Millis) -> Vec<WaitingRow> {
    let again = std::mem::take(&mut state.again);
    let rest = std::mem::take(&mut state.rest);
    let mut children = settle::children(&state.job, again);
    children.append(&mut state.children);
    if !rest.is_empty() {
        children.extend(settle::parked(&state.job, rest, now, WaitingWhy::Continued));
    }
    children
        .into_iter()
        .filter_map(|(job, due, why)| row(&job, due, why))
        .collect()
}

fn row(job: &crate::model::Job, due: Millis, why: WaitingWhy) -> Option<WaitingRow> {
    // The content was encoded before, and the bounds hold by construction.
    let body = Envelope::encode(std::slice::from_ref(job)).ok()?;
    Some(WaitingRow {
        tenant: job.notification.tenant.clone(),
        notification: job.notification.id,
        job: job.id,
        lane: job.notification.lane,
        due,
        why,
        recipients: u32::try_from(job.entries.len()).unwrap_or(u32::MAX),
        body,
    })
}

/// The settlement that ends a job of which nothing is out.
pub(super) fn last_settlement(state: &mut JobState, events: Events, now: Millis) -> Settlement {
    let pending = std::mem::take(&mut state.pending);
    let waiting = waiting_rows(state, now);
    settlement(state, pending, waiting, (true, events))
}

fn settlement(
    state: &mut JobState,
    pending: Pending,
    waiting: Vec<WaitingRow>,
    (end, events): (bool, Events),
) -> Settlement {
    let notification = &state.job.notification;
    let part = Part {
        seq: state.next_seq,
        counts: pending.counts,
        block: pending.block,
        end,
    };
    Settlement {
        key: state.key.clone(),
        kind: state.job.kind,
        page: state.job.page,
        lane: notification.lane,
        created_at: notification.created_at,
        expires_at: notification.expires_at,
        entries: state.entries,
        digest: state.digest,
        resolved: if end { state.resolved_here() } else { 0 },
        event: events::keep(events, &part, &pending.failures),
        part,
        failures: pending.failures,
        prunes: pending.prunes,
        suspects: pending.suspects,
        accepted: pending.accepted,
        waiting,
        dead: if end { state.dead.take() } else { None },
    }
}
