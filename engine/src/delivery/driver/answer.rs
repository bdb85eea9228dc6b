//! What came of the worker's actions, told to the worker.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Done, Driver, Group, RETRY_REST};
use crate::broker::{LeaseId, QueueName};
use crate::delivery::dispatch::DispatchEvent;
use crate::delivery::routes::Routed;
use crate::delivery::worker::{Class, JobHandle};
use crate::model::{JobKind, Lane, Millis, Outcome};
use crate::store::{CommitAnswer, ControlState, Error, RateWish, Settlement};

impl Driver {
    pub(super) fn on_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Claimed(jobs, answers) => {
                self.claiming = false;
                match answers {
                    Ok(answers) => {
                        for (job, answer) in jobs.into_iter().zip(answers) {
                            self.worker.on_claimed(job, answer, now);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "jobs could not be claimed; they are looked at again");
                        jobs.into_iter()
                            .for_each(|job| self.worker.on_claim_failed(job, now));
                    }
                }
            }
            Done::Resolved(job, Ok(devices)) => self.worker.on_resolved(job, devices, now),
            Done::Resolved(job, Err(error)) => {
                tracing::warn!(%error, "devices could not be looked up; the job is looked at again");
                self.worker.on_resolve_failed(job, now);
            }
            Done::Routed(tenant, class, routed) => self.on_routed(&tenant, class, routed),
            Done::Committed(group, began, answers) => {
                self.parts.metrics.committed(group.len(), now - began);
                self.on_committed(group, answers, now);
            }
            Done::Unrecordable(job, answers) => self.on_unrecordable(job, answers, now),
            Done::Acked(leases, answers) => self.on_acked(&leases, answers, now),
            Done::Buried(lease, Ok(_)) => self.ack(lease),
            Done::Buried(lease, Err(error)) => {
                tracing::warn!(%error, "a dead row could not be written; its message stays in the queue");
                drop(self.leases.remove(&lease));
                self.worker.on_given_back(lease);
            }
            Done::Shared(wishes, asked, granted) => self.on_shared(wishes, asked, granted),
            Done::Forgotten => {}
            Done::Control(read_at, state) => self.on_control(read_at, state, now),
        }
    }

    fn on_routed(
        &mut self,
        tenant: &clarion_auth::TenantId,
        class: Class,
        routed: Result<Routed, Error>,
    ) {
        match routed {
            Ok(Routed::Route(route)) => {
                self.classes.insert(route.key(), class);
                self.routes.insert((tenant.clone(), class), route);
                self.worker.on_route(tenant, class, true);
            }
            Ok(Routed::Missing) => self.worker.on_route(tenant, class, false),
            Ok(Routed::Unusable(error)) => {
                let credential = class.credential_id();
                tracing::error!(%tenant, credential, %error, "a stored credential cannot be used");
                self.worker.on_route(tenant, class, false);
            }
            Err(error) => {
                tracing::warn!(%tenant, %error, "a credential could not be read; it is tried again");
                let loader = Arc::clone(&self.parts.loader);
                let tenant = tenant.clone();
                self.running.push(Box::pin(async move {
                    tokio::time::sleep(RETRY_REST).await;
                    let routed = loader.load(&tenant, class).await;
                    Done::Routed(tenant, class, routed)
                }));
            }
        }
    }

    fn on_committed(
        &mut self,
        group: Group,
        answers: Result<Vec<CommitAnswer>, Error>,
        now: Millis,
    ) {
        self.committing = false;
        match answers {
            Ok(answers) => {
                self.worker.on_commit_failing(false);
                for ((job, settlement), answer) in group.into_iter().zip(answers) {
                    self.tell_others(&settlement, answer);
                    self.worker.on_committed(job, answer, now);
                }
            }
            Err(Error::Data(cause)) => self.isolate(group, &cause.to_string(), now),
            Err(error) => {
                let jobs = group.len();
                tracing::error!(%error, jobs, "the record cannot be written: nothing is handed over");
                self.worker.on_commit_failing(true);
                self.recommit(group);
            }
        }
    }

    /// The same commit again after a rest. The group keeps its place before later ones.
    fn recommit(&mut self, group: Group) {
        self.committing = true;
        let (store, writer, clock) = (
            Arc::clone(&self.parts.store),
            self.worker.writer(),
            Arc::clone(&self.parts.clock),
        );
        self.running.push(Box::pin(async move {
            tokio::time::sleep(RETRY_REST).await;
            let (jobs, settlements): (Vec<_>, Vec<_>) =
                group.into_iter().map(|(job, it)| (job, *it)).unzip();
            let answers = store.commit(writer, &settlements, clock()).await;
            let group = jobs
                .into_iter()
                .zip(settlements.into_iter().map(Box::new))
                .collect();
            Done::Committed(group, clock(), answers)
        }));
    }

    /// One of a group cannot be written: each is committed alone, and the culprit becomes a dead row.
    fn isolate(&mut self, mut group: Group, cause: &str, now: Millis) {
        if group.len() == 1
            && let Some((job, settlement)) = group.pop()
        {
            tracing::error!(job = %settlement.key.job, cause, "unrecordable: a dead row instead");
            let minimal = self.worker.unrecordable(job, &settlement, cause);
            let (store, writer) = (Arc::clone(&self.parts.store), self.worker.writer());
            self.running.push(Box::pin(async move {
                Done::Unrecordable(
                    job,
                    store
                        .commit(writer, std::slice::from_ref(&minimal), now)
                        .await,
                )
            }));
            return;
        }
        for (job, settlement) in group {
            let (store, writer) = (Arc::clone(&self.parts.store), self.worker.writer());
            self.running.push(Box::pin(async move {
                let answers = store
                    .commit(writer, std::slice::from_ref(&*settlement), now)
                    .await;
                Done::Committed(vec![(job, settlement)], now, answers)
            }));
        }
    }

    fn on_unrecordable(
        &mut self,
        job: JobHandle,
        answers: Result<Vec<CommitAnswer>, Error>,
        now: Millis,
    ) {
        match answers.as_deref() {
            Ok([CommitAnswer::Taken]) => self.worker.on_unrecordable(job),
            Ok(_) => self.worker.on_committed(job, CommitAnswer::Fenced, now),
            Err(error) => {
                // As if fenced: the job is given up, and its message comes again.
                tracing::error!(%error, "not even a dead row could be written; the message stays");
                self.worker.on_committed(job, CommitAnswer::Fenced, now);
            }
        }
    }

    /// Pages that ended make room for the feeder, rows that wait and released jobs that ended concern the releaser.
    fn tell_others(&self, settlement: &Settlement, answer: CommitAnswer) {
        if answer == CommitAnswer::Taken {
            self.parts
                .metrics
                .recorded(&settlement.part.counts, settlement.waiting.len());
            if settlement.event.is_some() {
                self.parts.reporter.notify_one();
            }
        }
        if answer != CommitAnswer::Taken || !settlement.part.end {
            return;
        }
        if settlement.page.is_some() {
            self.parts.feeder.notify_one();
        }
        if settlement.kind != JobKind::First {
            let key = &settlement.key;
            self.parts
                .released
                .end(&key.tenant, settlement.lane, key.job);
        }
        if settlement.kind != JobKind::First || !settlement.waiting.is_empty() {
            self.parts.releaser.notify_one();
        }
    }

    fn on_acked(
        &mut self,
        leases: &[LeaseId],
        answers: Result<Vec<bool>, crate::broker::Error>,
        now: Millis,
    ) {
        self.acking = false;
        let counted = match answers {
            Ok(counted) => counted,
            Err(error) => {
                tracing::warn!(%error, "messages could not be acked; they come again and find their records");
                vec![false; leases.len()]
            }
        };
        for (lease, counted) in leases.iter().zip(counted) {
            self.worker.on_acked(*lease, counted, now);
        }
    }

    fn on_control(&mut self, read_at: Millis, state: Result<ControlState, Error>, now: Millis) {
        self.reading_control = false;
        match state {
            Ok(state) => {
                self.control_version = state.version;
                self.watch_queues(&state);
                for tenant in &state.changed {
                    self.routes.retain(|(known, _), _| *known != tenant.id);
                    self.classes.retain(|key, _| key.tenant != tenant.id);
                    self.prepared.clear();
                    let (dispatcher, tenant) =
                        (Arc::clone(&self.parts.dispatcher), tenant.id.clone());
                    self.running.push(Box::pin(async move {
                        dispatcher.forget(&tenant).await;
                        Done::Forgotten
                    }));
                }
                self.worker.on_control(&state, read_at, now);
                self.hearing.clear();
                if !self.unheard.is_empty() {
                    self.read_control();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the control state cannot be read; nothing is handed over without it")
            }
        }
    }

    fn on_shared(
        &mut self,
        wishes: Vec<RateWish>,
        asked: Millis,
        granted: Result<Vec<u32>, Error>,
    ) {
        self.sharing = false;
        match granted {
            Ok(granted) => {
                let tenants = wishes.into_iter().map(|wish| wish.tenant);
                let granted: Vec<_> = tenants.zip(granted).collect();
                self.worker.on_shares(&granted, asked, self.now());
            }
            Err(error) => {
                tracing::warn!(%error, "no shares of the tenants' rates; they are asked for again");
            }
        }
    }

    /// The queues of tenants that are new here: a broker that many processes share may hold messages for them already.
    fn watch_queues(&self, state: &ControlState) {
        let tenants = state
            .changed
            .iter()
            .filter(|tenant| tenant.deleted_at.is_none());
        let queues: Vec<QueueName> = tenants
            .flat_map(|tenant| {
                [Lane::Transactional, Lane::Bulk].map(|lane| QueueName {
                    tenant: tenant.id.clone(),
                    lane,
                })
            })
            .collect();
        if !queues.is_empty() {
            self.parts.broker.watch_queues(&queues);
        }
    }

    pub(super) fn on_dispatched(
        &mut self,
        first: DispatchEvent,
        more: &mut mpsc::Receiver<DispatchEvent>,
    ) {
        let now = self.now();
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                DispatchEvent::Done(slices) => {
                    for slice in slices {
                        self.on_answered(slice.id, &slice.outcomes, now);
                        self.worker.on_slice_done(slice.id, slice.outcomes, now);
                    }
                }
                DispatchEvent::Window { key, streams } => {
                    if let Some(class) = self.classes.get(&key) {
                        self.worker.on_window(&key.tenant, *class, streams);
                    }
                }
                DispatchEvent::Credential { key, alert } => {
                    tracing::warn!(route = ?key, ?alert, "a provider credential needs attention");
                }
            }
            next = more.try_recv().ok();
        }
        self.send_stalled();
    }

    fn on_answered(&mut self, slice: u64, outcomes: &[Outcome], now: Millis) {
        let unanswered = outcomes
            .iter()
            .filter(|outcome| outcome.is_unanswered())
            .count();
        if unanswered > 0 {
            self.parts.metrics.unanswered(unanswered);
        }
        let Some((lane, accepted_at, requests)) = self.out.remove(&slice) else {
            return;
        };
        self.parts
            .metrics
            .answered(lane, now - accepted_at, requests);
        if let Some(hook) = &self.parts.on_answered {
            hook(lane, now - accepted_at, requests);
        }
    }
}
