//! This process's shares of the tenants' rates, where several processes send for the same tenants: what it may use, until when,
//! and what it must ask for. It must not know how shares are granted.

use std::collections::HashMap;

use super::limiter::Rate;
use crate::limits::{RATE_LEASE, RATE_LEASE_INTERVAL};
use crate::model::{Millis, TenantId};
use crate::store::RateWish;

/// Recipients that may come within a second without having been wished for.
const ROOM: u32 = 100;
/// The part of a rate that is left to newcomers: one in so many.
const RESERVE: u32 = 25;

/// A tenant of which nothing was to be sent for this long is not asked for any more, ms.
const RESTED: Millis = RATE_LEASE.as_millis() as Millis;

#[derive(Clone, Copy, Debug)]
struct Share {
    /// Recipients a second; 0 while others hold everything.
    granted: u32,
    /// Nothing may be sent from this instant on.
    until: Millis,
    /// When something was last to be sent.
    wanted: Millis,
}

/// The shares of all tenants with work here.
#[derive(Debug)]
pub struct Shares {
    is_shared: bool,
    /// Whole rates of tenants that differ from the default.
    whole: HashMap<TenantId, Rate>,
    default: Rate,
    held: HashMap<TenantId, Share>,
    /// Somebody wants a share and has none.
    is_urgent: bool,
    asked: Millis,
}

impl Shares {
    /// Without any share; where rates are not shared, every tenant has its whole rate here.
    #[must_use]
    pub fn new(default: Rate, is_shared: bool) -> Self {
        Self {
            is_shared,
            whole: HashMap::new(),
            default,
            held: HashMap::new(),
            is_urgent: false,
            asked: Millis::MIN,
        }
    }

    /// A tenant's whole rate; the share of it is asked for anew.
    pub fn configure(&mut self, tenant: &TenantId, rate: Rate) {
        if rate == self.default {
            self.whole.remove(tenant);
        } else {
            self.whole.insert(tenant.clone(), rate);
        }
        self.is_urgent |= self.held.contains_key(tenant);
    }

    /// The tenant's whole rate.
    #[must_use]
    pub fn whole(&self, tenant: &TenantId) -> Rate {
        self.whole.get(tenant).copied().unwrap_or(self.default)
    }

    /// Whether something of the tenant may go at `now`. Asking says that there is work.
    pub fn may_send(&mut self, tenant: &TenantId, now: Millis) -> bool {
        if !self.is_shared {
            return true;
        }
        match self.held.get_mut(tenant) {
            Some(share) => {
                share.wanted = now;
                share.granted > 0 && now < share.until
            }
            None => {
                let share = Share {
                    granted: 0,
                    until: now,
                    wanted: now,
                };
                self.held.insert(tenant.clone(), share);
                self.is_urgent = true;
                false
            }
        }
    }

    /// What to ask for now: tenants with work, with what they could send within a second; `queued` tells how many recipients of
    /// a tenant are here. Empty when there is nothing to ask yet.
    pub fn due(
        &mut self,
        now: Millis,
        queued: impl FnOnce() -> HashMap<TenantId, usize>,
    ) -> Vec<RateWish> {
        let interval = RATE_LEASE_INTERVAL.as_millis() as Millis;
        if !self.is_shared || (!self.is_urgent && now.saturating_sub(self.asked) < interval) {
            return Vec::new();
        }
        self.held.retain(|_, share| now - share.wanted < RESTED);
        self.asked = now;
        self.is_urgent = false;
        if self.held.is_empty() {
            return Vec::new();
        }
        let queued = queued();
        let mut wishes: Vec<RateWish> = self
            .held
            .keys()
            .map(|tenant| RateWish {
                tenant: tenant.clone(),
                recipients: wish(
                    self.whole(tenant).per_second.get(),
                    queued.get(tenant).copied().unwrap_or_default(),
                ),
            })
            .collect();
        wishes.sort_unstable_by(|one, other| one.tenant.cmp(&other.tenant));
        wishes
    }

    /// So much was granted of what was asked for at `asked`. Returns the rate to hold to, if anything may be sent.
    pub fn granted(&mut self, tenant: &TenantId, granted: u32, asked: Millis) -> Option<Rate> {
        let whole = self.whole(tenant);
        let share = self.held.get_mut(tenant)?;
        share.granted = granted.min(whole.per_second.get());
        share.until = asked + RATE_LEASE.as_millis() as Millis;
        (share.granted > 0).then(|| part_of(whole, share.granted))
    }
}

/// What to wish for with so many recipients in hand: room for as many as may come within a second, and never quite everything, so
/// that a process that has its first job of the tenant need not wait until the others have renewed.
fn wish(rate: u32, queued: usize) -> u32 {
    let queued = u32::try_from(queued).unwrap_or(u32::MAX);
    let likely = queued.saturating_add((rate / 8).max(ROOM));
    likely.min(rate - rate / RESERVE)
}

/// The part of a rate that `granted` recipients a second are, its burst included.
fn part_of(whole: Rate, granted: u32) -> Rate {
    let burst = u64::from(whole.burst.get()) * u64::from(granted);
    let burst = burst / u64::from(whole.per_second.get());
    Rate::new(granted, Some(u32::try_from(burst).unwrap_or(u32::MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> TenantId {
        id.parse().unwrap()
    }

    fn shared() -> Shares {
        Shares::new(Rate::new(1_000, Some(500)), true)
    }

    /// Wishes with so many recipients of everybody in hand.
    fn due(shares: &mut Shares, now: Millis, queued: usize) -> Vec<(String, u32)> {
        let all = || {
            ["acme"]
                .map(|id| (tenant(id), queued))
                .into_iter()
                .collect()
        };
        let wishes = shares.due(now, all).into_iter();
        wishes
            .map(|wish| (wish.tenant.to_string(), wish.recipients))
            .collect()
    }

    fn acme(recipients: u32) -> Vec<(String, u32)> {
        vec![("acme".to_owned(), recipients)]
    }

    #[test]
    fn a_process_alone_needs_no_share() {
        let mut shares = Shares::new(Rate::default(), false);
        assert!(shares.may_send(&tenant("acme"), 5));
        assert!(due(&mut shares, 10_000, 5).is_empty());
    }

    #[test]
    fn a_tenant_with_work_is_asked_for_at_once_and_then_each_second() {
        let (mut shares, id) = (shared(), tenant("acme"));
        assert!(due(&mut shares, 0, 0).is_empty());
        assert!(!shares.may_send(&id, 1_010), "nothing is granted yet");
        assert_eq!(due(&mut shares, 1_010, 500), acme(625));
        assert!(
            due(&mut shares, 1_011, 0).is_empty(),
            "it is being asked for"
        );
        assert_eq!(
            shares.granted(&id, 250, 1_010),
            Some(Rate::new(250, Some(125)))
        );
        assert!(shares.may_send(&id, 1_900));
        assert!(due(&mut shares, 2_009, 0).is_empty());
        assert_eq!(due(&mut shares, 2_010, 9_999), acme(960));
        // Without work for as long as a lease holds, others may have it.
        assert!(due(&mut shares, 4_900, 0).is_empty());
        assert!(!shares.may_send(&id, 5_000));
    }

    #[test]
    fn a_wish_leaves_room_for_what_comes_and_for_newcomers() {
        for (rate, queued, wished) in [
            (1_000, 0, 125),
            (1_000, 5_000, 960),
            (100, 0, 96),
            (10, 1, 10),
            (1, 0, 1),
            (1_000_000, 0, 125_000),
        ] {
            assert_eq!(wish(rate, queued), wished, "{rate} {queued}");
        }
    }

    #[test]
    fn a_share_that_was_not_renewed_lapses_and_one_of_nothing_sends_nothing() {
        let (mut shares, id) = (shared(), tenant("acme"));
        assert!(!shares.may_send(&id, 0));
        assert_eq!(due(&mut shares, 0, 0).len(), 1);
        shares.granted(&id, 1_000, 0);
        assert!(shares.may_send(&id, 2_999));
        assert!(!shares.may_send(&id, 3_000));
        assert_eq!(shares.granted(&id, 0, 3_000), None);
        assert!(!shares.may_send(&id, 3_001));
    }

    #[test]
    fn a_new_rate_is_asked_for_at_once_and_never_exceeded() {
        let (mut shares, id) = (shared(), tenant("acme"));
        assert!(!shares.may_send(&id, 0));
        assert_eq!(due(&mut shares, 0, 0).len(), 1);
        shares.granted(&id, 1_000, 0);
        shares.configure(&id, Rate::new(10, None));
        assert_eq!(due(&mut shares, 20, 0), acme(10));
        assert_eq!(shares.granted(&id, 1_000, 20), Some(Rate::new(10, None)));
    }
}
