//! Clauses about leases on a tenant's rate. They must not know how leases are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use clarion_auth::TenantId;
use clarion_engine::store::{RateWish, Store, TenantPatch};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::contract;
use crate::place::{NOW, Place, create, tenant};

contract!(
    a_process_alone_has_what_it_wishes_up_to_the_rate,
    a_tenant_that_is_stopped_has_no_rate,
    processes_share_a_rate_within_two_renewals,
    what_a_process_does_not_renew_goes_to_the_others,
    a_rate_smaller_than_the_processes_goes_round,
    what_is_leased_at_the_same_time_never_exceeds_the_rate,
);

/// The rate of a tenant without one of its own.
const DEFAULT: u32 = 2_000;
/// Leases lapse after this, milliseconds.
const LAPSE: i64 = 3_000;

async fn lease(
    store: &dyn Store,
    process: u128,
    wishes: &[(&TenantId, u32)],
    now: i64,
) -> Vec<u32> {
    let wishes: Vec<RateWish> = wishes
        .iter()
        .map(|(tenant, recipients)| RateWish {
            tenant: (*tenant).clone(),
            recipients: *recipients,
        })
        .collect();
    let process = Uuid::from_u128(process);
    store
        .lease_rates(process, &wishes, DEFAULT, now)
        .await
        .unwrap()
}

async fn limited(store: &dyn Store, id: &str, rate: u32) -> TenantId {
    let mut new = tenant(id);
    new.limits.rate = Some(rate);
    store.create_tenant(&new, &[]).await.unwrap();
    new.id
}

async fn a_process_alone_has_what_it_wishes_up_to_the_rate(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bravo = limited(&*store, "bravo", 10).await;
    let nobody: TenantId = "nobody".parse().unwrap();
    for now in [NOW, NOW + 1_000, NOW + 60_000] {
        let wishes = [(&bravo, 99), (&nobody, 5), (&acme, u32::MAX)];
        assert_eq!(lease(&*store, 1, &wishes, now).await, [10, 0, DEFAULT]);
    }
    assert_eq!(lease(&*store, 1, &[(&acme, 7)], NOW).await, [7]);
    assert_eq!(lease(&*store, 1, &[(&acme, 0)], NOW).await, [0]);
    assert!(lease(&*store, 1, &[], NOW).await.is_empty());
}

async fn a_tenant_that_is_stopped_has_no_rate(place: Place) {
    let (store, acme) = place.with_tenant().await;
    assert_eq!(lease(&*store, 1, &[(&acme, 7)], NOW).await, [7]);
    let stop = TenantPatch {
        suspended: Some(true),
        ..TenantPatch::default()
    };
    store.update_tenant(&acme, &stop, NOW).await.unwrap();
    assert_eq!(lease(&*store, 1, &[(&acme, 7)], NOW).await, [0]);
    let other = create(&*store, "other").await;
    store.delete_tenant(&other, NOW).await.unwrap();
    assert_eq!(lease(&*store, 1, &[(&other, 7)], NOW).await, [0]);
}

async fn processes_share_a_rate_within_two_renewals(place: Place) {
    if place.is_of_one_process() {
        return;
    }
    let store = place.open().await;
    let acme = limited(&*store, "acme", 1_000).await;
    assert_eq!(lease(&*store, 1, &[(&acme, 5_000)], NOW).await, [1_000]);
    // All is held: nothing until the first renews.
    assert_eq!(lease(&*store, 2, &[(&acme, 5_000)], NOW).await, [0]);
    assert_eq!(lease(&*store, 1, &[(&acme, 5_000)], NOW + 500).await, [500]);
    assert_eq!(lease(&*store, 2, &[(&acme, 5_000)], NOW + 600).await, [500]);
    // What one does not wish the other has.
    assert_eq!(lease(&*store, 2, &[(&acme, 100)], NOW + 700).await, [100]);
    assert_eq!(lease(&*store, 1, &[(&acme, 5_000)], NOW + 800).await, [900]);
    assert_eq!(lease(&*store, 2, &[(&acme, 0)], NOW + 900).await, [0]);
    assert_eq!(
        lease(&*store, 1, &[(&acme, 5_000)], NOW + 900).await,
        [1_000]
    );
}

async fn what_a_process_does_not_renew_goes_to_the_others(place: Place) {
    if place.is_of_one_process() {
        return;
    }
    let store = place.open().await;
    let acme = limited(&*store, "acme", 900).await;
    for round in 0..2 {
        for process in 1..=3 {
            lease(&*store, process, &[(&acme, 900)], NOW + round).await;
        }
    }
    // The third is stopped.
    let late = NOW + 1 + LAPSE;
    assert_eq!(lease(&*store, 1, &[(&acme, 900)], late - 1).await, [300]);
    assert_eq!(lease(&*store, 2, &[(&acme, 900)], late - 1).await, [300]);
    assert_eq!(lease(&*store, 1, &[(&acme, 900)], late).await, [450]);
    assert_eq!(lease(&*store, 2, &[(&acme, 900)], late).await, [450]);
    // The second wishes no more.
    assert_eq!(lease(&*store, 2, &[(&acme, 0)], late).await, [0]);
    assert_eq!(lease(&*store, 1, &[(&acme, 900)], late).await, [900]);
}

async fn a_rate_smaller_than_the_processes_goes_round(place: Place) {
    if place.is_of_one_process() {
        return;
    }
    let store = place.open().await;
    let acme = limited(&*store, "acme", 1).await;
    let mut turns: BTreeMap<u128, u32> = BTreeMap::new();
    for second in 0..120 {
        for process in 1..=3 {
            let now = NOW + 1_000 * second + i64::try_from(process).unwrap();
            let share = lease(&*store, process, &[(&acme, 9)], now).await;
            *turns.entry(process).or_default() += share[0];
        }
    }
    assert!(turns.values().all(|turns| *turns >= 20), "{turns:?}");
}

async fn what_is_leased_at_the_same_time_never_exceeds_the_rate(place: Place) {
    if place.is_of_one_process() {
        return;
    }
    let one = place.open().await;
    let two = place.open_as(Uuid::from_u128(2)).await;
    let (acme, bravo) = (
        limited(&*one, "acme", 1_000).await,
        limited(&*one, "bravo", 10).await,
    );
    for round in 0..20 {
        let now = NOW + LAPSE * 2 * round;
        let wishes = [(&acme, 800), (&bravo, 9)];
        let backwards = [wishes[1], wishes[0]];
        let (first, second) = tokio::join!(
            lease(&*one, 1, &wishes, now),
            lease(&*two, 2, &backwards, now),
        );
        assert!(first[0] + second[1] <= 1_000, "{first:?} {second:?}");
        assert!(first[1] + second[0] <= 10, "{first:?} {second:?}");
    }
}

/// (process, what it wishes, milliseconds since the last step)
type Step = (u128, u32, i64);

fn steps() -> impl Strategy<Value = (u32, Vec<Step>)> {
    let step = (1..5_u128, prop_oneof![Just(0), 1..2_000_u32], 0..1_500_i64);
    (1..1_500_u32, prop::collection::vec(step, 1..40))
}

/// Plays renewals; what has been granted and not lapsed never sums up to more than the rate.
async fn play(store: &dyn Store, tenant: &str, rate: u32, steps: Vec<Step>) {
    let acme = limited(store, tenant, rate).await;
    let mut now = NOW;
    let mut held: BTreeMap<u128, (u32, i64)> = BTreeMap::new();
    for (process, wish, later) in steps {
        now += later;
        let share = lease(store, process, &[(&acme, wish)], now).await[0];
        assert!(share <= wish);
        held.insert(process, (share, now + LAPSE));
        held.retain(|_, (_, until)| *until > now);
        let sum: u32 = held.values().map(|(share, _)| share).sum();
        assert!(sum <= rate, "{held:?} of {rate}");
    }
    // All want all: after a few renewals nothing is left over and nobody is short.
    now += LAPSE;
    for _ in 0..4 {
        for process in 1..=3 {
            held.insert(
                process,
                (lease(store, process, &[(&acme, 9_999)], now).await[0], 0),
            );
        }
    }
    let shares = (1..=3).map(|process| held[&process].0);
    assert_eq!(shares.clone().sum::<u32>(), rate);
    assert!(shares.clone().max().unwrap() - shares.min().unwrap() <= 1);
}

#[test]
fn what_is_leased_never_exceeds_the_rate() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let place = Place::postgres();
    let store: Arc<dyn Store> = runtime.block_on(place.open());
    let tenants = AtomicU32::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(32));
    let held = runner.run(&steps(), |(rate, steps)| {
        let tenant = format!("tenant-{}", tenants.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(play(&*store, &tenant, rate, steps));
        Ok(())
    });
    held.unwrap();
}
