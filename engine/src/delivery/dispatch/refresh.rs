//! Access tokens: asked for over a pool of their own, one request per service account at a time.
//! It must not know how an access token is used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::{Carries, PoolState};
use super::thread::Thread;
use crate::http2::{Clock, Completion, Pool, Response, Ticket};
use crate::model::Outcome;
use crate::provider::fcm::Credential;
use crate::provider::{Credential as AnyCredential, CredentialAlert};

impl Thread {
    /// Asks for an access token for a route, whose credential has given this thread the one refresh.
    pub(super) fn refresh(&mut self, route: u32) {
        if let Some(state) = self.routes.get_mut(route) {
            state.refreshing = true;
            self.refreshes.push_back(route);
        }
        let number = self.token_pool();
        self.dirty.push(number);
    }

    fn token_pool(&mut self) -> u32 {
        if let Some(number) = self.token_pool {
            return number;
        }
        let options = self.pool_options(self.options.fcm_token_endpoint.origin(), true);
        let number = self.pools.next_number();
        let pool = Pool::new(number, options, &self.bell, &self.counters.pools);
        self.pools
            .insert(PoolState::new(pool, Carries::AccessTokens));
        self.token_pool = Some(number);
        number
    }

    fn account(&self, route: u32) -> Option<Arc<Credential>> {
        match &self.routes.get(route)?.credential {
            AnyCredential::Fcm(credential) => Some(Arc::clone(credential)),
            AnyCredential::Apns(_) => None,
        }
    }

    pub(super) fn send_refreshes(&mut self, number: u32, clock: Clock) {
        loop {
            let again = match self.pools.get_mut(number) {
                Some(pool) if pool.pool.free() > 0 => pool.pool.next_resend(),
                _ => return,
            };
            let next = again.or_else(|| self.refreshes.pop_front().map(u64::from).map(Ticket::new));
            let Some(ticket) = next else {
                return;
            };
            let Ok(route) = u32::try_from(ticket.number) else {
                continue;
            };
            let endpoint = &self.options.fcm_token_endpoint;
            let account = self.account(route);
            let request = account.map(|account| account.token_request(endpoint, clock.wall));
            match request {
                Some(Ok(request)) => {
                    self.counters.refreshes.fetch_add(1, Ordering::Relaxed);
                    if let Some(pool) = self.pools.get_mut(number) {
                        pool.stalled_since = None;
                        pool.pool
                            .send(ticket, request, clock.now, &mut self.completions);
                    }
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "an access token cannot be asked for");
                    self.refreshed(route, None, clock);
                }
                None => {}
            }
        }
    }

    pub(super) fn land_refresh(&mut self, completion: Completion, clock: Clock) {
        let Ok(route) = u32::try_from(completion.number) else {
            return;
        };
        match completion.result {
            Ok(response) => self.refreshed(route, Some(&response), clock),
            Err(error) => {
                tracing::warn!(%error, "no answer from the token endpoint");
                self.refreshed(route, None, clock);
            }
        }
    }

    /// The token endpoint cannot be reached.
    pub(super) fn end_refreshes(&mut self, clock: Clock) {
        for route in std::mem::take(&mut self.refreshes) {
            self.refreshed(route, None, clock);
        }
    }

    fn refreshed(&mut self, route: u32, answer: Option<&Response>, clock: Clock) {
        let Some(account) = self.account(route) else {
            return;
        };
        if let Some(state) = self.routes.get_mut(route) {
            state.refreshing = false;
        }
        let random = self.jitter.next();
        // Wakes every thread that waits for this token, this one included.
        if let Err(refusal) = account
            .access_tokens()
            .refreshed(answer, random, clock.wall)
        {
            let (reason, pause) = (refusal.reason, refusal.pause);
            let alert = CredentialAlert::Refused {
                reason: reason.clone(),
            };
            self.alert(route, alert);
            self.end_queued(route, &Outcome::Unauthorized { reason, pause });
        }
    }
}
