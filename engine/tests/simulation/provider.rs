//! A model of the providers: what they make of a push, whether they say so, and how fast.
//! It must not know engines or records.

use clarion_engine::model::{Millis, Outcome, Processed, Recipient, ThrottleScope};

use crate::world::World;

/// Of a hundred device tokens, how many are dead.
const DEAD: u64 = 8;

/// Whether a device token is dead is a fact about it, not chance.
pub(crate) fn is_dead(recipient: &Recipient) -> bool {
    let spread = u64::from(recipient.ordinal) * 7 + recipient.address.device.unsigned_abs() * 13;
    spread % 100 < DEAD
}

impl World {
    /// Whether the provider takes a push, and the outcome that the engine will see.
    pub(crate) fn provider_takes(&mut self, recipient: &Recipient) -> (bool, Outcome) {
        if let Some((taken, outcome)) = self.trouble() {
            return (taken && !is_dead(recipient), outcome);
        }
        if is_dead(recipient) {
            let (reason, since) = ("simulated".into(), None);
            return (false, Outcome::Unregistered { reason, since });
        }
        (true, Outcome::Accepted)
    }

    /// What goes wrong with a push before anybody looks at its device token.
    fn trouble(&mut self) -> Option<(bool, Outcome)> {
        if self.is_healed() {
            return None;
        }
        let rates = self.plan.provider;
        let mut draw = u32::try_from(self.rng.below(1_000)).expect("small");
        let mut is = |share: u32| {
            let hit = draw < share;
            draw = if hit { u32::MAX } else { draw - share };
            hit
        };
        let silent = is(rates.silent).then_some(Processed::Unknown);
        let not_sent = is(rates.not_sent).then_some(Processed::No);
        let unavailable = is(rates.unavailable).then_some(Processed::Answered);
        let one_token = is(rates.throttled).then_some(ThrottleScope::DeviceToken);
        let all = is(rates.throttled_credential).then_some(ThrottleScope::Credential);
        let unauthorized = is(rates.unauthorized);
        let reason = "simulated".into();
        if let Some(processed) = silent.or(not_sent).or(unavailable) {
            let (taken, retry_after) = (silent.is_some() && self.rng.permille(500), None);
            let outcome = Outcome::Unavailable {
                reason,
                processed,
                retry_after,
            };
            return Some((taken, outcome));
        }
        if let Some(scope) = one_token.or(all) {
            let retry_after = all.map(|_| self.rng.range(1, 90_000));
            let outcome = Outcome::Throttled {
                reason,
                scope,
                retry_after,
            };
            return Some((false, outcome));
        }
        let pause = self.rng.range(1, 120_000);
        unauthorized.then_some((false, Outcome::Unauthorized { reason, pause }))
    }

    /// The longest an answer may take now, ms.
    pub(crate) fn answer_time(&self) -> Millis {
        if self.is_healed() {
            50
        } else {
            self.plan.slow_answer
        }
    }
}
