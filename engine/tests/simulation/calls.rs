//! Calls to store and broker: they leave a process, happen later or never, and their answers may be lost.
//! It must not know what a process makes of an answer.

use clarion_engine::broker::{LeaseId, QueueName};
use clarion_engine::delivery::worker::{Class, JobHandle};
use clarion_engine::limits::{FED_PAGE_TTL, JOB_RECIPIENTS_MAX, RESERVATION_TTL};
use clarion_engine::model::{Envelope, Job, JobId, Lane, Millis, NotificationId, TenantId};
use clarion_engine::store::{
    ClaimAnswer, ClaimRequest, CommitAnswer, ControlState, ReservedPage, ResolvedDevice,
    Settlement, StalePages, UserCursor, WaitingRow, Writer,
};

use crate::broker::Connection;
use crate::store::Broken;
use crate::world::World;

/// Rows and pages of one round of a releaser or feeder.
const ROUND_MAX: usize = 4;

/// What a process asks for.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Claim(Vec<(JobHandle, ClaimRequest)>, Writer),
    Commit(Vec<(JobHandle, Box<Settlement>)>, Writer),
    Resolve(JobHandle, TenantId, Vec<UserCursor>),
    Route(TenantId, Class),
    Control(i64),
    Bury(LeaseId),
    Ack(Connection, Vec<LeaseId>),
    Reserve(u32),
    /// A broken variant's: what could be reserved.
    Peek,
    PublishPages(Vec<ReservedPage>),
    MarkFed(Vec<(NotificationId, u32)>),
    Due(Vec<(TenantId, Lane, u32)>, u32),
    PublishRows(Vec<WaitingRow>),
    DeleteRows(Vec<JobId>),
}

/// What came of it; `Err` when nothing is known.
#[derive(Debug)]
pub(crate) enum Answer {
    Claimed(Vec<(JobHandle, Option<ClaimAnswer>)>),
    Committed(
        Vec<(JobHandle, Box<Settlement>)>,
        Result<Vec<CommitAnswer>, ()>,
    ),
    Resolved(JobHandle, Result<Vec<ResolvedDevice>, ()>),
    Routed(TenantId, Class, Result<bool, ()>),
    Control(Millis, Result<ControlState, ()>),
    Buried(LeaseId, Result<(), ()>),
    Acked(Connection, Vec<LeaseId>, Result<Vec<bool>, ()>),
    Reserved(Result<Vec<ReservedPage>, ()>),
    PagesPublished(Vec<(NotificationId, u32)>, Result<(), ()>),
    MarkedFed(Result<(), ()>),
    Due(Result<(Vec<WaitingRow>, Option<Millis>), ()>),
    RowsPublished(Vec<(TenantId, Lane, JobId)>, Result<(), ()>),
    RowsDeleted(Result<(), ()>),
}

/// Whether a call happens, and whether its answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    DoneUnanswered,
    NotDone,
}

impl Fate {
    pub(crate) fn answer<T>(self, done: T) -> Result<T, ()> {
        if self == Self::Done {
            Ok(done)
        } else {
            Err(())
        }
    }
}

impl World {
    /// What becomes of a call at the moment it would happen.
    pub(crate) fn fate(&mut self, of_store: bool) -> Fate {
        if self.is_healed() {
            return Fate::Done;
        }
        if of_store && self.now < self.store_back_at {
            return Fate::NotDone;
        }
        if self.rng.permille(self.plan.call_lost) {
            return Fate::NotDone;
        }
        if self.rng.permille(self.plan.answer_lost) {
            return Fate::DoneUnanswered;
        }
        Fate::Done
    }

    /// Lets a call happen that was made at `at`. The caller's clock is what the store is told.
    pub(crate) fn happen(
        &mut self,
        serial: u32,
        call: Call,
        at: Millis,
    ) -> Result<Option<Answer>, Broken> {
        let answer = match call {
            Call::Claim(claims, writer) => self.claims_happen(claims, writer, at),
            Call::Commit(group, writer) => self.commits_happen(group, writer, at)?,
            Call::Resolve(job, tenant, users) => {
                let found = self.store.resolve(&tenant, &users, JOB_RECIPIENTS_MAX);
                Answer::Resolved(job, self.fate(true).answer(found))
            }
            Call::Route(tenant, class) => {
                let without = self
                    .plan
                    .without_fcm
                    .map(|number| &self.store.tenants[number].0.id);
                let exists = !(class == Class::Fcm && without == Some(&tenant));
                Answer::Routed(tenant, class, self.fate(true).answer(exists))
            }
            Call::Control(after) => {
                let state = self.store.control(after);
                Answer::Control(at, self.fate(true).answer(state))
            }
            Call::Bury(lease) => Answer::Buried(lease, self.fate(true).answer(())),
            Call::Ack(connection, leases) => self.acks_happen(connection, leases)?,
            Call::Peek => Answer::Reserved(Ok(self.store.peek_pages(ROUND_MAX))),
            Call::Reserve(ahead) => {
                let stale = StalePages {
                    reserved_before: at - RESERVATION_TTL.as_millis() as Millis,
                    fed_before: at - FED_PAGE_TTL.as_millis() as Millis,
                };
                let fate = self.fate(true);
                if fate == Fate::NotDone {
                    Answer::Reserved(Err(()))
                } else {
                    Answer::Reserved(fate.answer(self.store.reserve(ahead, ROUND_MAX, stale, at)))
                }
            }
            Call::PublishPages(pages) => self.pages_happen(serial, pages)?,
            Call::MarkFed(pages) => {
                let fate = self.fate(true);
                if fate != Fate::NotDone {
                    self.store.mark_fed(&pages, at);
                }
                Answer::MarkedFed(fate.answer(()))
            }
            Call::Due(released, ahead) => {
                let rows = self.store.due(at, ROUND_MAX, ahead, &released);
                let next = self.store.next_due();
                Answer::Due(self.fate(true).answer((rows, next)))
            }
            Call::PublishRows(rows) => self.rows_happen(serial, rows),
            Call::DeleteRows(jobs) => {
                let fate = self.fate(true);
                if fate != Fate::NotDone {
                    self.store.delete_released(&jobs);
                }
                Answer::RowsDeleted(fate.answer(()))
            }
        };
        Ok(Some(answer))
    }

    fn claims_happen(
        &mut self,
        claims: Vec<(JobHandle, ClaimRequest)>,
        writer: Writer,
        at: Millis,
    ) -> Answer {
        let fate = self.fate(true);
        let (jobs, requests): (Vec<_>, Vec<_>) = claims.into_iter().unzip();
        let mut answers = Vec::new();
        if fate != Fate::NotDone {
            answers = self.store.claim(writer, &requests, at);
            self.trace(|| format!("claims by {}: {answers:?}", writer.process.as_u128()));
        }
        let answered = fate == Fate::Done;
        let answer = |place: usize| answers.get(place).filter(|_| answered).cloned();
        Answer::Claimed(
            jobs.into_iter()
                .enumerate()
                .map(|(place, job)| (job, answer(place)))
                .collect(),
        )
    }

    fn commits_happen(
        &mut self,
        group: Vec<(JobHandle, Box<Settlement>)>,
        writer: Writer,
        at: Millis,
    ) -> Result<Answer, Broken> {
        let fate = self.fate(true);
        if fate == Fate::NotDone {
            return Ok(Answer::Committed(group, Err(())));
        }
        let settlements: Vec<Settlement> = group
            .iter()
            .map(|(_, settlement)| (**settlement).clone())
            .collect();
        let answers = self.store.commit(writer, &settlements, at)?;
        for (settlement, (answer, fresh)) in settlements.iter().zip(&answers) {
            let (job, part) = (settlement.key.job, &settlement.part);
            let by = (writer.process.as_u128(), writer.generation);
            self.trace(|| {
                format!(
                    "part {} of {job} by {by:?}, end {}: {answer:?}",
                    part.seq, part.end
                )
            });
            if *fresh {
                self.ledger.recorded(writer, settlement)?;
            }
        }
        let answers = answers.into_iter().map(|(answer, _)| answer).collect();
        Ok(Answer::Committed(group, fate.answer(answers)))
    }

    fn acks_happen(
        &mut self,
        connection: Connection,
        leases: Vec<LeaseId>,
    ) -> Result<Answer, Broken> {
        // In a calm world the connection to the broker holds.
        let mut fate = self.fate(false);
        if self.plan.calm {
            fate = Fate::Done;
        }
        let failing = self
            .failing_ack
            .take_if(|slot| self.slots[*slot] == Some(connection.0))
            .is_some();
        if fate == Fate::NotDone {
            return Ok(Answer::Acked(connection, leases, Err(())));
        }
        let mut counted = Vec::new();
        for lease in &leases {
            if failing {
                self.broker.give_back(connection, *lease);
            }
            let message = self.broker.ack(connection, *lease);
            counted.push(message.is_some());
            for job in message.into_iter().flat_map(|message| message.jobs) {
                if !self.store.has_end(job) && !self.store.ledger_only {
                    return Err(format!(
                        "a message is acked before its job {job} has an end"
                    ));
                }
            }
        }
        self.trace(|| format!("acks of {connection:?}: {leases:?} {counted:?} {fate:?}"));
        Ok(Answer::Acked(connection, leases, fate.answer(counted)))
    }

    fn pages_happen(&mut self, serial: u32, pages: Vec<ReservedPage>) -> Result<Answer, Broken> {
        let fate = self.publish_fate(serial);
        let marks = pages
            .iter()
            .map(|page| (page.notification.id, page.page))
            .collect();
        let most = self.published_of(fate, pages.len());
        for page in pages.into_iter().take(most) {
            if self.store.is_unreserved(page.notification.id, page.page) && !self.store.ledger_only
            {
                return Err(format!(
                    "page {} is published before it is reserved",
                    page.page
                ));
            }
            let mut job = Job::first(page.notification, page.page, page.entries);
            job.recheck = page.recheck;
            self.publish(&job);
        }
        Ok(Answer::PagesPublished(marks, fate.answer(())))
    }

    fn rows_happen(&mut self, serial: u32, rows: Vec<WaitingRow>) -> Answer {
        let fate = self.publish_fate(serial);
        let keys = rows
            .iter()
            .map(|row| (row.tenant.clone(), row.lane, row.job))
            .collect();
        let most = self.published_of(fate, rows.len());
        for row in rows.into_iter().take(most) {
            self.trace(|| format!("released {}", row.job));
            let queue = QueueName {
                tenant: row.tenant,
                lane: row.lane,
            };
            self.broker
                .publish(queue, row.body, vec![row.job], self.now);
        }
        Answer::RowsPublished(keys, fate.answer(()))
    }

    /// A process without a connection to the broker cannot publish.
    fn publish_fate(&mut self, serial: u32) -> Fate {
        let connected = self.broker.connections.keys().any(|(of, _)| *of == serial);
        let fate = self.fate(false);
        if connected { fate } else { Fate::NotDone }
    }

    /// How many of a group of messages reach the queue: of an unconfirmed group, some.
    pub(crate) fn published_of(&mut self, fate: Fate, all: usize) -> usize {
        match fate {
            Fate::Done => all,
            Fate::NotDone => 0,
            Fate::DoneUnanswered => 1 + self.rng.index(all),
        }
    }

    pub(crate) fn publish(&mut self, job: &Job) {
        self.trace(|| {
            format!(
                "published {}, {} entries, recheck {}",
                job.id,
                job.entries.len(),
                job.recheck
            )
        });
        let queue = QueueName {
            tenant: job.notification.tenant.clone(),
            lane: job.notification.lane,
        };
        let body = Envelope::encode(std::slice::from_ref(job)).expect("an envelope");
        self.broker.publish(queue, body, vec![job.id], self.now);
    }
}
