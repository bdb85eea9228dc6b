//! Routes: a tenant's way to a provider, with the window its connections offer and the breaker that closes it.
//! It must not know connections or credentials.

use std::collections::HashMap;

use clarion_auth::TenantId;

use crate::delivery::breaker::{Allow, Breakers, Ramp, Signal};
use crate::delivery::retry::Policy;
use crate::limits::SLICE_RECIPIENTS_MAX;
use crate::model::{Address, Environment, Lane, Millis, Outcome, Platform};

/// Which of a tenant's credentials serves a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Apple's production environment.
    ApnsProduction,
    /// Apple's sandbox.
    ApnsSandbox,
    /// Google.
    Fcm,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::ApnsProduction, Self::ApnsSandbox, Self::Fcm];

    /// The class of an address.
    #[must_use]
    pub fn of(address: &Address) -> Self {
        match (address.platform, address.environment) {
            (Platform::Android, _) => Self::Fcm,
            (Platform::Ios | Platform::Watchos, Environment::Production) => Self::ApnsProduction,
            (Platform::Ios | Platform::Watchos, Environment::Sandbox) => Self::ApnsSandbox,
        }
    }

    /// The credential's id in the store.
    #[must_use]
    pub fn credential_id(self) -> &'static str {
        match self {
            Self::ApnsProduction => "apns-production",
            Self::ApnsSandbox => "apns-sandbox",
            Self::Fcm => "fcm",
        }
    }

    /// Whether Apple serves it.
    #[must_use]
    pub fn is_apple(self) -> bool {
        !matches!(self, Self::Fcm)
    }
}

/// Whether a route takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// This many requests.
    Yes(usize),
    /// Not before this instant.
    NotBefore(Millis),
    /// Not before something comes back.
    Full,
    /// It is being loaded.
    Loading,
    /// Nobody knows it: ask for it.
    Unknown,
    /// The tenant has no such credential.
    Missing,
}

#[derive(Debug)]
enum State {
    /// To be asked for.
    Unknown,
    Loading,
    Missing,
    Ready,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Requests the connections offer to hold.
    window: usize,
    out: usize,
}

/// All routes in use.
#[derive(Debug)]
pub(super) struct Routes {
    slots: HashMap<(TenantId, Class), Slot>,
    apple: Breakers<(TenantId, Class)>,
    google: Breakers<(TenantId, Class)>,
}

impl Routes {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            slots: HashMap::new(),
            apple: Breakers::new(Ramp::APNS, policy.scale),
            google: Breakers::new(Ramp::FCM, policy.scale),
        }
    }

    fn breakers(&mut self, class: Class) -> &mut Breakers<(TenantId, Class)> {
        if class.is_apple() {
            &mut self.apple
        } else {
            &mut self.google
        }
    }

    /// Whether a slice of `lane` may go this way now. Bulk leaves an eighth of the window to the transactional lane.
    pub(super) fn room(
        &mut self,
        tenant: &TenantId,
        class: Class,
        lane: Lane,
        now: Millis,
    ) -> Room {
        let key = (tenant.clone(), class);
        let Some(slot) = self.slots.get(&key) else {
            return Room::Unknown;
        };
        match slot.state {
            State::Unknown => return Room::Unknown,
            State::Loading => return Room::Loading,
            State::Missing => return Room::Missing,
            State::Ready => {}
        }
        let reserve = if lane == Lane::Bulk {
            slot.window / 8
        } else {
            0
        };
        // One slice more than the connections hold, so that they never run dry between two turns.
        let (window, out) = (slot.window - reserve + SLICE_RECIPIENTS_MAX, slot.out);
        let breakers = self.breakers(class);
        let window = match breakers.allow(&key, now) {
            Allow::No { until } => return Room::NotBefore(until),
            Allow::Probe => return Room::Yes(1),
            Allow::Yes => share_of(window, breakers.share(&key, now)),
        };
        match window.saturating_sub(out) {
            0 => Room::Full,
            room => Room::Yes(room),
        }
    }

    pub(super) fn loading(&mut self, tenant: &TenantId, class: Class) {
        let slot = Slot {
            state: State::Loading,
            window: SLICE_RECIPIENTS_MAX,
            out: 0,
        };
        self.slots
            .entry((tenant.clone(), class))
            .or_insert(slot)
            .state = State::Loading;
    }

    pub(super) fn loaded(&mut self, tenant: &TenantId, class: Class, exists: bool) {
        if let Some(slot) = self.slots.get_mut(&(tenant.clone(), class)) {
            slot.state = if exists { State::Ready } else { State::Missing };
        }
    }

    pub(super) fn window(&mut self, tenant: &TenantId, class: Class, streams: usize) {
        if let Some(slot) = self.slots.get_mut(&(tenant.clone(), class)) {
            slot.window = streams.max(1);
        }
    }

    pub(super) fn sent(&mut self, tenant: &TenantId, class: Class, requests: usize) {
        if let Some(slot) = self.slots.get_mut(&(tenant.clone(), class)) {
            slot.out += requests;
        }
    }

    pub(super) fn returned(&mut self, tenant: &TenantId, class: Class, requests: usize) {
        if let Some(slot) = self.slots.get_mut(&(tenant.clone(), class)) {
            slot.out = slot.out.saturating_sub(requests);
        }
    }

    /// What a slice's answers say about the provider.
    pub(super) fn record(
        &mut self,
        tenant: &TenantId,
        class: Class,
        outcomes: &[Outcome],
        now: Millis,
    ) {
        let signals = outcomes.iter().filter_map(Signal::of);
        self.breakers(class)
            .record_all(&(tenant.clone(), class), signals, now);
    }

    /// The credential rests until then.
    pub(super) fn pause(&mut self, tenant: &TenantId, class: Class, until: Millis, now: Millis) {
        self.breakers(class)
            .pause(&(tenant.clone(), class), until, now);
    }

    /// A probe was allowed, and nothing was sent after all.
    pub(super) fn probe_unused(&mut self, tenant: &TenantId, class: Class, now: Millis) {
        self.breakers(class)
            .probe_unused(&(tenant.clone(), class), now);
    }

    /// The tenant or its credentials changed: its routes are asked for again, and a new credential starts with a closed
    /// breaker. What is out under the old ones still counts.
    pub(super) fn forget(&mut self, tenant: &TenantId) {
        for class in Class::ALL {
            let key = (tenant.clone(), class);
            self.breakers(class).forget(&key);
            if self.slots.get(&key).is_some_and(|slot| slot.out == 0) {
                self.slots.remove(&key);
            } else if let Some(slot) = self.slots.get_mut(&key) {
                slot.state = State::Unknown;
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share, 0 to 1, of a window of at most 2^16"
)]
fn share_of(window: usize, share: f64) -> usize {
    ((window as f64 * share) as usize).max(1)
}
