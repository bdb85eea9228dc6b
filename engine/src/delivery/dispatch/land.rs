//! Answers: what each means, and what that does to connections, credentials and waiting recipients.
//! It must not know retries: an outcome is a value for others to settle.

use super::slices::Number;
use super::state::Carries;
use super::thread::Thread;
use super::types::DispatchEvent;
use crate::http2::{Clock, Completion, Response};
use crate::model::{Outcome, Processed, Reason};
use crate::provider::apns::Apns;
use crate::provider::fcm::Fcm;
use crate::provider::{ConnectionEffect, Credential, CredentialAlert, Provider};

impl Thread {
    /// Takes in what a pool has completed.
    pub(super) fn land(&mut self, number: u32, clock: Clock) {
        let Some(carries) = self.pools.get(number).map(|pool| pool.carries) else {
            self.completions.clear();
            return;
        };
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            if carries == Carries::AccessTokens {
                self.land_refresh(completion, clock);
            } else {
                self.land_push(number, completion, clock);
            }
        }
        if self.completions.is_empty() {
            self.completions = completions;
        }
    }

    fn land_push(&mut self, number: u32, completion: Completion, clock: Clock) {
        let place = Number::from(completion.number);
        let Some(route) = self.slices.get(place.slice).map(|open| open.route) else {
            return;
        };
        let outcome = match completion.result {
            Ok(response) => {
                if let (Some(hook), Some(state)) =
                    (&self.options.on_latency, self.routes.get(route))
                {
                    hook(&state.key, completion.elapsed);
                }
                self.judge(
                    (number, completion.connection),
                    (route, place),
                    &response,
                    clock,
                )
            }
            Err(error) => {
                tracing::debug!(%error, cause = ?error.source, "push without an answer");
                Outcome::Unavailable {
                    reason: Reason::Borrowed(error.kind.as_str()),
                    processed: error.processed,
                    retry_after: None,
                }
            }
        };
        if matches!(outcome, Outcome::Unauthorized { .. }) {
            // What waits behind it would only be refused as well.
            self.end_queued(route, &outcome);
        }
        self.land_one(route, place, outcome);
    }

    fn judge(
        &mut self,
        (number, connection): (u32, u32),
        (route, place): (u32, Number),
        response: &Response,
        clock: Clock,
    ) -> Outcome {
        let Some(state) = self.routes.get(route) else {
            return unavailable("forgotten", Processed::Answered);
        };
        let (verdict, applied, skew) = match &state.credential {
            Credential::Apns(credential) => {
                let verdict = Apns.decode(response);
                let outcome = verdict.outcome.clone();
                let (effect, generation) = (verdict.credential, place.generation);
                let skew = response
                    .date
                    .and_then(|date| credential.note_clock(date, clock.wall));
                let applied = credential.apply(effect, outcome, generation, clock.wall);
                (verdict, applied, skew)
            }
            Credential::Fcm(credential) => {
                let verdict = Fcm.decode(response);
                let outcome = verdict.outcome.clone();
                let (effect, generation) = (verdict.credential, place.generation);
                let applied = credential.apply(effect, outcome, generation, clock.wall);
                (verdict, applied, None)
            }
        };
        if verdict.connection != ConnectionEffect::Keep
            && let Some(pool) = self.pools.get_mut(number)
        {
            pool.pool.retire(connection);
        }
        let (outcome, alert) = applied;
        for alert in [alert, skew].into_iter().flatten() {
            self.alert(route, alert);
        }
        if outcome == Outcome::Accepted
            && let Some(state) = self.routes.get_mut(route)
        {
            state.alert = None;
        }
        outcome
    }

    /// The end of a recipient that was in flight.
    pub(super) fn land_one(&mut self, route: u32, place: Number, outcome: Outcome) {
        if let Some(state) = self.routes.get_mut(route) {
            state.in_flight -= 1;
        }
        self.finish(route, (place.slice, usize::from(place.recipient)), outcome);
    }

    fn finish(&mut self, route: u32, (slice, recipient): (u32, usize), outcome: Outcome) {
        self.tally.add(&outcome);
        if let Some(done) = self.slices.record(slice, recipient, outcome) {
            if let Some(state) = self.routes.get(route) {
                state.load.remove(self.index, done.outcomes.len());
            }
            self.outbox.done(done);
        }
    }

    /// Ends everything of a route that was not sent yet.
    pub(super) fn end_queued(&mut self, route: u32, outcome: &Outcome) {
        let Some(state) = self.routes.get_mut(route) else {
            return;
        };
        state.tokenless_since = None;
        let lanes = std::mem::take(&mut state.lanes);
        for slice in lanes.into_iter().flatten() {
            let Some(open) = self.slices.get_mut(slice) else {
                continue;
            };
            let unsent = open.next..open.len();
            open.next = unsent.end;
            for recipient in unsent {
                self.finish(route, (slice, recipient), outcome.clone());
            }
        }
    }

    /// Ends everything that waits for a pool: nothing of it was handed over.
    pub(super) fn end_waiting(&mut self, number: u32, reason: &'static str, clock: Clock) {
        let outcome = unavailable(reason, Processed::No);
        let routes: Vec<u32> = self.routes.iter().map(|(route, _)| route).collect();
        for route in routes {
            if self
                .routes
                .get(route)
                .is_some_and(|state| state.pool == number)
            {
                self.end_queued(route, &outcome);
            }
        }
        while let Some(ticket) = self
            .pools
            .get_mut(number)
            .and_then(|one| one.pool.next_resend())
        {
            let place = Number::from(ticket.number);
            if let Some(route) = self.slices.get(place.slice).map(|open| open.route) {
                self.land_one(route, place, outcome.clone());
            }
        }
        if self
            .pools
            .get(number)
            .is_some_and(|pool| pool.carries == Carries::AccessTokens)
        {
            self.end_refreshes(clock);
        }
    }

    /// Raises an alert, once until the credential is accepted again or something else is wrong with it.
    pub(super) fn alert(&mut self, route: u32, alert: CredentialAlert) {
        let Some(state) = self.routes.get_mut(route) else {
            return;
        };
        let same = |known: &CredentialAlert| {
            std::mem::discriminant(known) == std::mem::discriminant(&alert)
        };
        if !state.alert.as_ref().is_some_and(same) {
            tracing::warn!(route = ?state.key, ?alert, "provider credential");
            state.alert = Some(alert.clone());
            let key = state.key.clone();
            self.outbox.event(DispatchEvent::Credential { key, alert });
        }
    }
}

pub(super) fn unavailable(reason: &'static str, processed: Processed) -> Outcome {
    Outcome::Unavailable {
        reason: Reason::Borrowed(reason),
        processed,
        retry_after: None,
    }
}
