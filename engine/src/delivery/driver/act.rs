//! The worker's actions, performed.

use std::sync::Arc;

use super::{Action, Done, Driver, GROUP_MAX, PREPARED_MAX, SliceOut};
use crate::delivery::dispatch::Slice;
use crate::delivery::worker::Alert;
use crate::limits::JOB_RECIPIENTS_MAX;
use crate::model::{Millis, Outcome};
use crate::provider::{self, EncodeError, Prepared};

impl Driver {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Claim(job, request) => self.claims.push((job, request)),
            Action::Commit(job, settlement) => self.commits.push((job, settlement)),
            Action::Ack(lease) => self.ack(lease),
            Action::GiveBack(lease) => drop(self.leases.remove(&lease)),
            Action::Dispatch(slice) => self.dispatch(slice),
            Action::Credit(queue, unacked) => self.parts.broker.set_credit(&queue, unacked),
            Action::Alert(alert) => {
                self.parts.metrics.alert();
                report(&alert);
            }
            Action::Resolve { job, tenant, users } => {
                let store = Arc::clone(&self.parts.store);
                self.running.push(Box::pin(async move {
                    Done::Resolved(
                        job,
                        store.resolve(&tenant, &users, JOB_RECIPIENTS_MAX).await,
                    )
                }));
            }
            Action::LoadRoute(tenant, class) => {
                let loader = Arc::clone(&self.parts.loader);
                self.running.push(Box::pin(async move {
                    let routed = loader.load(&tenant, class).await;
                    Done::Routed(tenant, class, routed)
                }));
            }
            Action::Bury(lease, dead) => {
                let (store, now) = (Arc::clone(&self.parts.store), self.now());
                self.running.push(Box::pin(async move {
                    Done::Buried(lease, store.bury(&dead, now).await)
                }));
            }
        }
    }

    /// Starts the next group of each kind that is not under way.
    pub(super) fn start_groups(&mut self) {
        if !self.commits.is_empty() && !self.committing {
            self.committing = true;
            let group: Vec<_> = take_group(&mut self.commits);
            let (store, writer, now) = (
                Arc::clone(&self.parts.store),
                self.worker.writer(),
                self.now(),
            );
            self.running.push(Box::pin(async move {
                let (jobs, settlements): (Vec<_>, Vec<_>) =
                    group.into_iter().map(|(job, it)| (job, *it)).unzip();
                let answers = store.commit(writer, &settlements, now).await;
                let group = jobs
                    .into_iter()
                    .zip(settlements.into_iter().map(Box::new))
                    .collect();
                Done::Committed(group, now, answers)
            }));
        }
        if !self.claims.is_empty() && !self.claiming {
            self.claiming = true;
            let (jobs, requests): (Vec<_>, Vec<_>) =
                take_group(&mut self.claims).into_iter().unzip();
            let (store, writer, now) = (
                Arc::clone(&self.parts.store),
                self.worker.writer(),
                self.now(),
            );
            self.running.push(Box::pin(async move {
                Done::Claimed(jobs, store.claim(writer, &requests, now).await)
            }));
        }
        if !self.acks.is_empty() && !self.acking {
            self.acking = true;
            let leases = take_group(&mut self.acks);
            let ids = leases.iter().map(|lease| lease.id).collect();
            let broker = Arc::clone(&self.parts.broker);
            self.running.push(Box::pin(async move {
                Done::Acked(ids, broker.ack(leases).await)
            }));
        }
    }

    /// Asks for the shares of rates that are due, one question at a time.
    pub(super) fn ask_for_shares(&mut self, now: Millis) {
        if self.sharing {
            return;
        }
        let wishes = self.worker.shares_due(now);
        if wishes.is_empty() {
            return;
        }
        self.sharing = true;
        let (process, default) = (self.worker.writer().process, self.worker.default_rate());
        let store = Arc::clone(&self.parts.store);
        self.running.push(Box::pin(async move {
            let granted = store.lease_rates(process, &wishes, default, now).await;
            Done::Shared(wishes, now, granted)
        }));
    }

    fn dispatch(&mut self, slice: SliceOut) {
        let key = (slice.tenant.clone(), slice.class);
        let Some(route) = self.routes.get(&key).cloned() else {
            // The route was forgotten between the worker's decision and now; the requests were never handed over.
            let outcome = Outcome::Unavailable {
                reason: "route_changed".into(),
                processed: crate::model::Processed::No,
                retry_after: None,
            };
            return self.answer_all(&slice, &outcome);
        };
        let prepared = match self.prepare(&slice, &route) {
            Ok(prepared) => prepared,
            Err(error) => {
                let outcome = Outcome::Rejected {
                    reason: error.reason().into(),
                    suspect: false,
                };
                return self.answer_all(&slice, &outcome);
            }
        };
        let lane = slice.notification.lane;
        let notification = slice.notification.id;
        let accepted_at = slice.notification.created_at;
        let SliceOut {
            id,
            recipients,
            range,
            ..
        } = slice;
        self.out.insert(id, (lane, accepted_at, range.len()));
        self.parts.metrics.handed_over(lane, range.len());
        self.stalled.push_back(Slice {
            id,
            lane,
            route,
            prepared,
            notification,
            recipients,
            range,
        });
        self.send_stalled();
    }

    pub(super) fn send_stalled(&mut self) {
        while let Some(slice) = self.stalled.pop_front() {
            if let Err(slice) = self.parts.dispatcher.send(slice) {
                self.stalled.push_front(slice);
                return;
            }
        }
    }

    /// The content, encoded once for all slices of a notification that go the same way.
    fn prepare(
        &mut self,
        slice: &SliceOut,
        route: &provider::Route,
    ) -> Result<Arc<Prepared>, EncodeError> {
        let key = (slice.notification.id, slice.class);
        if let Some(prepared) = self.prepared.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(provider::encode(&slice.notification, route, self.now())?);
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(key, Arc::clone(&prepared));
        Ok(prepared)
    }

    fn answer_all(&mut self, slice: &SliceOut, outcome: &Outcome) {
        let outcomes = slice.range.clone().map(|_| outcome.clone()).collect();
        let now = self.now();
        self.worker.on_slice_done(slice.id, outcomes, now);
    }
}

fn take_group<T>(from: &mut Vec<T>) -> Vec<T> {
    if from.len() <= GROUP_MAX {
        std::mem::take(from)
    } else {
        from.drain(..GROUP_MAX).collect()
    }
}

fn report(alert: &Alert) {
    match alert {
        Alert::PruningFrozen(tenant, platform) => {
            tracing::warn!(%tenant, platform = platform.as_str(), "too many dead devices: pruning is frozen");
        }
        Alert::CredentialPaused(tenant, class, reason) => {
            let credential = class.credential_id();
            tracing::warn!(%tenant, credential, reason, "the provider refuses this credential");
        }
        Alert::Poison(tenant, detail) => {
            tracing::error!(%tenant, detail, "a job became a dead row")
        }
    }
}
