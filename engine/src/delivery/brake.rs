//! The prune brake: whether the provider's word on dead devices is believed, per tenant and platform.
//! It must not know devices, candidates or how an operator is told.

use std::collections::HashMap;

use crate::model::{Outcome, Platform, TenantId};

/// Outcomes that are remembered.
pub const WINDOW: u32 = 256;
/// Outcomes before which nothing is judged.
pub const JUDGED_FROM: u32 = 200;
/// Of a hundred outcomes, how many may say dead.
pub const DEAD_PERCENT_MAX: u32 = 20;
/// Tenants that are watched at a time.
pub const BRAKED_TENANTS_MAX: usize = 16_384;

const WORDS: usize = (WINDOW / 64) as usize;
const PLATFORMS: usize = 3;

/// The brake of one tenant and platform: it freezes when more than 20 % of the last 200 to 256 outcomes say dead, and
/// stays frozen until an operator settles it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brake {
    dead: [u64; WORDS],
    filled: u32,
    next: u32,
    frozen: bool,
}

/// A brake went on: somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Froze {
    /// Outcomes that said dead …
    pub dead: u32,
    /// … of so many.
    pub of: u32,
}

impl Brake {
    /// A brake that is on: what a process finds after a restart where candidates are kept.
    #[must_use]
    pub fn on() -> Self {
        Self {
            frozen: true,
            ..Self::default()
        }
    }

    /// What an outcome says about a device: dead, alive, or nothing.
    #[must_use]
    pub fn verdict(outcome: &Outcome) -> Option<bool> {
        match outcome {
            Outcome::Unregistered { .. } => Some(true),
            Outcome::Accepted | Outcome::Rejected { .. } => Some(false),
            Outcome::Throttled { .. }
            | Outcome::Unavailable { .. }
            | Outcome::Unauthorized { .. } => None,
        }
    }

    /// One outcome more. Answers when the brake goes on with it.
    pub fn observe(&mut self, dead: bool) -> Option<Froze> {
        let (word, bit) = ((self.next / 64) as usize, self.next % 64);
        self.dead[word] = self.dead[word] & !(1 << bit) | u64::from(dead) << bit;
        self.next = (self.next + 1) % WINDOW;
        self.filled = (self.filled + 1).min(WINDOW);
        let froze = Froze {
            dead: self.dead.iter().map(|word| word.count_ones()).sum(),
            of: self.filled,
        };
        let too_many = froze.of >= JUDGED_FROM && froze.dead * 100 > froze.of * DEAD_PERCENT_MAX;
        if self.frozen || !too_many {
            return None;
        }
        self.frozen = true;
        Some(froze)
    }

    /// Whether dead devices are kept as candidates instead of being pruned.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// An operator settled it, releasing or discarding the candidates: judging starts anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The brakes of all tenants of a process.
#[derive(Debug, Default)]
pub struct Brakes {
    brakes: HashMap<TenantId, [Brake; PLATFORMS]>,
}

impl Brakes {
    /// Some outcomes of a tenant more; those that say nothing about the device are passed over. Answers which brakes go
    /// on with them. Observe a batch before settling it, so that the batch that freezes is itself frozen.
    pub fn observe<'o>(
        &mut self,
        tenant: &TenantId,
        outcomes: impl IntoIterator<Item = (Platform, &'o Outcome)>,
    ) -> Vec<(Platform, Froze)> {
        let verdict = |(platform, outcome)| Some((platform, Brake::verdict(outcome)?));
        let mut verdicts = outcomes.into_iter().filter_map(verdict).peekable();
        if verdicts.peek().is_none() {
            return Vec::new();
        }
        let brakes = self.brakes(tenant);
        let observe = |(platform, dead)| {
            let froze = brakes[platform as usize].observe(dead)?;
            Some((platform, froze))
        };
        verdicts.filter_map(observe).collect()
    }

    /// Whether the brake is on.
    #[must_use]
    pub fn is_frozen(&self, tenant: &TenantId, platform: Platform) -> bool {
        let brakes = self.brakes.get(tenant);
        brakes.is_some_and(|brakes| brakes[platform as usize].is_frozen())
    }

    /// Puts a brake on: a process found kept candidates at its start, or another process froze.
    pub fn freeze(&mut self, tenant: &TenantId, platform: Platform) {
        self.brakes(tenant)[platform as usize] = Brake::on();
    }

    /// The operator released the candidates: they are pruned, and judging starts anew.
    pub fn release(&mut self, tenant: &TenantId, platform: Platform) {
        self.brakes(tenant)[platform as usize].reset();
    }

    /// The operator discarded the candidates: they stay, and judging starts anew.
    pub fn discard(&mut self, tenant: &TenantId, platform: Platform) {
        self.brakes(tenant)[platform as usize].reset();
    }

    /// The tenant is gone.
    pub fn forget(&mut self, tenant: &TenantId) {
        self.brakes.remove(tenant);
    }

    fn brakes(&mut self, tenant: &TenantId) -> &mut [Brake; PLATFORMS] {
        if self.brakes.len() >= BRAKED_TENANTS_MAX && !self.brakes.contains_key(tenant) {
            // What is dropped has to collect its outcomes again; a brake that is on is never dropped.
            self.brakes
                .retain(|_, brakes| brakes.iter().any(Brake::is_frozen));
        }
        self.brakes.entry(tenant.clone()).or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn observe(brakes: &mut Brakes, tenant: &TenantId, outcome: &Outcome) -> Option<Froze> {
        let froze = brakes.observe(tenant, [(Platform::Ios, outcome)]);
        froze.first().map(|(_, froze)| *froze)
    }

    fn feed(brake: &mut Brake, dead: u32, alive: u32) -> Option<Froze> {
        let deaths = (0..dead)
            .filter_map(|_| brake.observe(true))
            .collect::<Vec<_>>();
        let rest = (0..alive)
            .filter_map(|_| brake.observe(false))
            .collect::<Vec<_>>();
        assert!(deaths.len() + rest.len() <= 1, "it freezes once");
        deaths.into_iter().chain(rest).next()
    }

    #[test]
    fn it_freezes_above_a_fifth_of_two_hundred_and_not_before() {
        // (dead first, then alive, frozen)
        for (dead, alive, frozen) in [
            (199, 0, false),
            (200, 0, true),
            (40, 160, false),
            (41, 158, false),
            (41, 159, true),
            (0, 400, false),
            (51, 205, true),
        ] {
            let mut brake = Brake::default();
            let froze = feed(&mut brake, dead, alive);
            assert_eq!(brake.is_frozen(), frozen, "{dead} dead, then {alive} alive");
            assert_eq!(froze.is_some(), frozen);
        }
    }

    #[test]
    fn it_forgets_what_left_the_window() {
        let mut brake = Brake::default();
        assert_eq!(feed(&mut brake, 40, 216), None);
        assert_eq!(feed(&mut brake, 0, 256), None);
        // 51 of 256 is below a fifth, 52 is above.
        assert_eq!(feed(&mut brake, 51, 0), None);
        assert_eq!(brake.observe(true), Some(Froze { dead: 52, of: 256 }));
    }

    #[test]
    fn it_stays_on_until_an_operator_settles_it_and_then_judges_anew() {
        let tenant: TenantId = "acme".parse().expect("an id");
        let dead = Outcome::Unregistered {
            reason: "Unregistered".into(),
            since: None,
        };
        let mut brakes = Brakes::default();
        let mut froze = 0;
        for _ in 0..JUDGED_FROM {
            froze += usize::from(observe(&mut brakes, &tenant, &dead).is_some());
        }
        assert_eq!(froze, 1);
        for _ in 0..1_000 {
            assert_eq!(observe(&mut brakes, &tenant, &Outcome::Accepted), None);
        }
        assert!(brakes.is_frozen(&tenant, Platform::Ios));
        assert!(!brakes.is_frozen(&tenant, Platform::Android));
        assert!(!brakes.is_frozen(&"other".parse().expect("an id"), Platform::Ios));
        brakes.release(&tenant, Platform::Ios);
        assert!(!brakes.is_frozen(&tenant, Platform::Ios));
        for _ in 1..JUDGED_FROM {
            assert_eq!(observe(&mut brakes, &tenant, &dead), None);
        }
        assert!(observe(&mut brakes, &tenant, &dead).is_some());
    }

    #[test]
    fn a_batch_is_judged_outcome_by_outcome_for_each_platform() {
        let tenant: TenantId = "acme".parse().expect("an id");
        let dead = Outcome::Unregistered {
            reason: "Unregistered".into(),
            since: None,
        };
        let many = JUDGED_FROM as usize;
        let phones = std::iter::repeat_n((Platform::Ios, &dead), many);
        let watches = std::iter::repeat_n((Platform::Watchos, &Outcome::Accepted), many);
        let mut brakes = Brakes::default();
        let (dead, of) = (JUDGED_FROM, JUDGED_FROM);
        let expected = vec![(Platform::Ios, Froze { dead, of })];
        assert_eq!(brakes.observe(&tenant, phones.chain(watches)), expected);
        assert!(!brakes.is_frozen(&tenant, Platform::Watchos));
    }

    #[test]
    fn a_provider_in_trouble_says_nothing_about_devices() {
        let unavailable = Outcome::Unavailable {
            reason: "ServiceUnavailable".into(),
            processed: crate::model::Processed::Answered,
            retry_after: None,
        };
        assert_eq!(Brake::verdict(&unavailable), None);
        assert_eq!(Brake::verdict(&Outcome::Accepted), Some(false));
    }

    #[test]
    fn a_brake_that_is_on_survives_the_bound_on_tenants() {
        let mut brakes = Brakes::default();
        let frozen: TenantId = "frozen".parse().expect("an id");
        brakes.freeze(&frozen, Platform::Watchos);
        for number in 0..=BRAKED_TENANTS_MAX {
            let tenant: TenantId = format!("t{number}").parse().expect("an id");
            assert_eq!(observe(&mut brakes, &tenant, &Outcome::Accepted), None);
        }
        assert!(brakes.brakes.len() <= BRAKED_TENANTS_MAX);
        assert!(brakes.is_frozen(&frozen, Platform::Watchos));
    }
}
