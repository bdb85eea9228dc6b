//! Sending: stream slots and waiting recipients brought together.
//! It must not know what answers mean.

use http::HeaderValue;
use http::uri::Authority;

use super::slices::Number;
use super::state::{Carries, lane_index};
use super::thread::Thread;
use crate::http2::{Clock, Request, Ticket};
use crate::limits::SLICE_RECIPIENTS_MAX;
use crate::model::{Lane, Outcome, Reason, recipient_id};
use crate::provider::apns::NotMinted;
use crate::provider::fcm::Authorization;
use crate::provider::{BadDeviceToken, Credential, CredentialAlert, DeviceTokenRef, Stamp};

/// Requests of one lane that a pool sends in a turn, so that others have theirs within a fraction of a millisecond.
const TURN_REQUESTS: usize = 64;
/// How long a credential rests while the clock is known to be wrong, milliseconds.
const CLOCK_REST: i64 = 60_000;

/// What a route's requests are sent with in this turn.
pub(super) struct Authorized {
    header: Option<HeaderValue>,
    generation: u16,
    authority: Authority,
}

/// Why nothing of a route can be sent in this turn.
enum Obstacle {
    /// An access token is on its way.
    Waits,
    /// What is queued ends so.
    Ends(Outcome),
}

impl Thread {
    /// Uses the free streams of a pool: what is to be sent again first, then transactional, then bulk pushes.
    pub(super) fn fill(&mut self, number: u32, clock: Clock) {
        let Some(pool) = self.pools.get(number) else {
            return;
        };
        if pool.carries == Carries::AccessTokens {
            self.send_refreshes(number, clock);
        } else {
            self.send_again(number, clock);
            self.fill_lane(number, Lane::Transactional, clock);
            self.fill_lane(number, Lane::Bulk, clock);
        }
        let waiting = self.waiting(number);
        if let Some(pool) = self.pools.get_mut(number) {
            pool.pool.grow(waiting, clock.now);
        }
    }

    /// Whether anybody waits for a stream of this pool: an indication, not a count.
    pub(super) fn waiting(&self, number: u32) -> usize {
        let Some(pool) = self.pools.get(number) else {
            return 0;
        };
        match pool.carries {
            Carries::AccessTokens => self.refreshes.len(),
            Carries::Apns | Carries::Fcm => pool.turns.iter().map(|turns| turns.len()).sum(),
        }
    }

    fn send_again(&mut self, number: u32, clock: Clock) {
        loop {
            let Some(pool) = self
                .pools
                .get_mut(number)
                .filter(|pool| pool.pool.free() > 0)
            else {
                return;
            };
            let Some(mut ticket) = pool.pool.next_resend() else {
                return;
            };
            let mut place = Number::from(ticket.number);
            let Some(route) = self.slices.get(place.slice).map(|open| open.route) else {
                continue;
            };
            match self.authorize(route, clock) {
                Ok(authorized) => {
                    place.generation = authorized.generation;
                    ticket.number = place.into();
                    match self.stamp(place, &authorized) {
                        Ok(request) => self.hand_over(number, (ticket, request), clock),
                        Err(BadDeviceToken) => self.land_one(route, place, bad_device_token()),
                    }
                }
                Err(Obstacle::Waits) => {
                    if let Some(pool) = self.pools.get_mut(number) {
                        pool.pool.put_back(ticket);
                    }
                    return;
                }
                Err(Obstacle::Ends(outcome)) => self.land_one(route, place, outcome),
            }
        }
    }

    fn fill_lane(&mut self, number: u32, lane: Lane, clock: Clock) {
        let index = lane_index(lane);
        let (mut idle, mut left) = (0, TURN_REQUESTS);
        loop {
            let Some(pool) = self.pools.get_mut(number) else {
                return;
            };
            let (free, routes) = (pool.free(lane), pool.turns[index].len());
            if free == 0 || idle >= routes {
                return;
            }
            if left == 0 {
                return self.unfinished.push(number);
            }
            let Some(route) = pool.turns[index].pop_front() else {
                return;
            };
            let turn = match routes {
                1 => left,
                _ => left.min(SLICE_RECIPIENTS_MAX),
            };
            let sent = self.send_some(route, lane, turn.min(free), clock);
            left -= sent;
            idle = if sent == 0 { idle + 1 } else { 0 };
            self.list_again(number, route, index);
        }
    }

    fn list_again(&mut self, number: u32, route: u32, lane: usize) {
        let Some(state) = self.routes.get_mut(route) else {
            return;
        };
        state.listed[lane] = !state.lanes[lane].is_empty();
        if let (true, Some(pool)) = (state.listed[lane], self.pools.get_mut(number)) {
            pool.turns[lane].push_back(route);
        }
    }

    /// Sends up to `most` recipients of a route's lane; how many.
    fn send_some(&mut self, route: u32, lane: Lane, most: usize, clock: Clock) -> usize {
        let Some(state) = self.routes.get(route) else {
            return 0;
        };
        let number = state.pool;
        let window = self.pools.get(number).map_or(0, |pool| pool.route_window());
        let most = most.min(window.saturating_sub(state.in_flight));
        if most == 0 || state.lanes[lane_index(lane)].is_empty() {
            return 0;
        }
        let authorized = match self.authorize(route, clock) {
            Ok(authorized) => authorized,
            Err(Obstacle::Waits) => return 0,
            Err(Obstacle::Ends(outcome)) => {
                self.end_queued(route, &outcome);
                return 0;
            }
        };
        let mut sent = 0;
        while sent < most {
            let Some(place) = self.next_place(route, lane, authorized.generation) else {
                break;
            };
            match self.stamp(place, &authorized) {
                Ok(request) => {
                    self.hand_over(number, (Ticket::new(place.into()), request), clock);
                    sent += 1;
                }
                Err(BadDeviceToken) => self.land_one(route, place, bad_device_token()),
            }
        }
        if let Some(pool) = self.pools.get_mut(number).filter(|_| sent > 0) {
            pool.stalled_since = None;
        }
        sent
    }

    /// The next unsent recipient of a lane; counted as in flight from now on.
    fn next_place(&mut self, route: u32, lane: Lane, generation: u16) -> Option<Number> {
        let state = self.routes.get_mut(route)?;
        let queue = &mut state.lanes[lane_index(lane)];
        let slice = *queue.front()?;
        let open = self.slices.get_mut(slice)?;
        let recipient = u16::try_from(open.next).unwrap_or(u16::MAX);
        open.next += 1;
        if open.unsent() == 0 {
            queue.pop_front();
        }
        state.in_flight += 1;
        Some(Number {
            slice,
            recipient,
            generation,
        })
    }

    fn stamp(&self, place: Number, authorized: &Authorized) -> Result<Request, BadDeviceToken> {
        let open = self.slices.get(place.slice).ok_or(BadDeviceToken)?;
        let recipient = open
            .recipient(usize::from(place.recipient))
            .ok_or(BadDeviceToken)?;
        let device = recipient.address.device;
        open.slice.prepared.stamp(&Stamp {
            authority: &authorized.authority,
            recipient_id: recipient_id(open.slice.notification, recipient.ordinal, device),
            device_token: DeviceTokenRef(&recipient.address.device_token),
            authorization: authorized.header.as_ref(),
        })
    }

    fn hand_over(&mut self, number: u32, (ticket, request): (Ticket, Request), clock: Clock) {
        if let Some(pool) = self.pools.get_mut(number) {
            pool.pool
                .send(ticket, request, clock.now, &mut self.completions);
        }
    }

    fn authorize(&mut self, route: u32, clock: Clock) -> Result<Authorized, Obstacle> {
        let state = self.routes.get_mut(route).ok_or(Obstacle::Waits)?;
        match &state.credential {
            Credential::Apns(credential) => {
                let origin = self.options.apns(state.key.environment);
                match credential.authorization(clock.wall) {
                    Ok((header, generation)) => Ok(Authorized {
                        header,
                        generation,
                        authority: origin.authority().clone(),
                    }),
                    Err(obstacle) => {
                        let (outcome, alert) = not_minted(obstacle);
                        self.alert(route, alert);
                        Err(Obstacle::Ends(outcome))
                    }
                }
            }
            Credential::Fcm(credential) => {
                let tokens = credential.access_tokens();
                let (result, refresh) = match tokens.authorization(clock.wall, &self.token_waker) {
                    Authorization::Ready {
                        header,
                        generation,
                        refresh,
                    } => {
                        state.tokenless_since = None;
                        let authorized = Authorized {
                            header: Some(header),
                            generation,
                            authority: self.options.fcm.authority().clone(),
                        };
                        (Ok(authorized), refresh)
                    }
                    Authorization::Wait { refresh } => {
                        state.tokenless_since.get_or_insert(clock.now);
                        (Err(Obstacle::Waits), refresh)
                    }
                    Authorization::Refused(refusal) => {
                        let (reason, pause) = (refusal.reason, refusal.pause);
                        (
                            Err(Obstacle::Ends(Outcome::Unauthorized { reason, pause })),
                            false,
                        )
                    }
                };
                if refresh {
                    self.refresh(route);
                }
                result
            }
        }
    }
}

fn bad_device_token() -> Outcome {
    Outcome::Rejected {
        reason: Reason::Borrowed("BadDeviceToken"),
        suspect: true,
    }
}

fn not_minted(obstacle: NotMinted) -> (Outcome, CredentialAlert) {
    let (reason, pause, alert) = match obstacle {
        NotMinted::Resting { retry_in } => (
            "TooManyProviderTokenUpdates",
            retry_in,
            CredentialAlert::MintingStopped,
        ),
        NotMinted::Clock { offset } => {
            ("wrong_clock", CLOCK_REST, CredentialAlert::Clock { offset })
        }
    };
    let reason = Reason::Borrowed(reason);
    (Outcome::Unauthorized { reason, pause }, alert)
}
