//! Buckets under chosen and under random draws; time is passed in.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const NOW: Millis = 1_800_000_000_000;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn drain(limiter: &mut Limiter, tenant: &TenantId, lane: Lane, now: Millis) -> u32 {
    let mut taken = 0;
    while limiter.try_take(tenant, 1, lane, now) == Take::Ok {
        taken += 1;
    }
    taken
}

#[test]
fn bulk_leaves_a_tenth_of_the_burst_to_transactional() {
    let mut limiter = Limiter::new(Rate::new(100, None));
    let acme = tenant("acme");
    assert_eq!(drain(&mut limiter, &acme, Lane::Bulk, NOW), 90);
    assert_eq!(drain(&mut limiter, &acme, Lane::Transactional, NOW), 10);
    // One comes back every 10 ms, and bulk has to refill the reserve first.
    assert_eq!(
        limiter.try_take(&acme, 1, Lane::Transactional, NOW),
        Take::Wait { until: NOW + 10 }
    );
    assert_eq!(
        limiter.try_take(&acme, 1, Lane::Bulk, NOW),
        Take::Wait { until: NOW + 110 }
    );
    assert_eq!(
        limiter.try_take(&acme, 1, Lane::Bulk, NOW + 109),
        Take::Wait { until: NOW + 110 }
    );
    assert_eq!(limiter.try_take(&acme, 1, Lane::Bulk, NOW + 110), Take::Ok);
    assert_eq!(
        drain(&mut limiter, &acme, Lane::Transactional, NOW + 110),
        10
    );
}

#[test]
fn tenants_do_not_draw_on_each_other() {
    let mut limiter = Limiter::new(Rate::new(10, Some(5)));
    assert_eq!(
        drain(&mut limiter, &tenant("a"), Lane::Transactional, NOW),
        5
    );
    assert_eq!(
        drain(&mut limiter, &tenant("b"), Lane::Transactional, NOW),
        5
    );
}

#[test]
fn a_slice_fits_into_the_burst_and_goes_whole_or_not_at_all() {
    for (burst, transactional, bulk) in [
        (1, 1, 1),
        (5, 5, 5),
        (10, 10, 9),
        (33, 32, 30),
        (2_000, 32, 32),
    ] {
        let rate = Rate::new(2_000, Some(burst));
        assert_eq!(rate.max_slice(Lane::Transactional), transactional);
        assert_eq!(rate.max_slice(Lane::Bulk), bulk);
        for lane in [Lane::Transactional, Lane::Bulk] {
            let mut limiter = Limiter::new(rate);
            assert_eq!(
                limiter.try_take(&tenant("a"), u32::MAX, lane, NOW),
                Take::Ok
            );
        }
    }
    let mut limiter = Limiter::new(Rate::new(10, Some(10)));
    let acme = tenant("acme");
    assert_eq!(
        limiter.try_take(&acme, 7, Lane::Transactional, NOW),
        Take::Ok
    );
    assert_eq!(
        limiter.try_take(&acme, 5, Lane::Transactional, NOW),
        Take::Wait { until: NOW + 200 }
    );
    assert_eq!(
        drain(&mut limiter, &acme, Lane::Transactional, NOW),
        3,
        "nothing was taken"
    );
}

#[test]
fn a_changed_rate_hands_out_no_burst() {
    let acme = tenant("acme");
    // (burst before, drawn, burst after, left after)
    for (before, drawn, after, left) in [
        (100, 100, 200, 0),
        (100, 40, 200, 60),
        (100, 0, 200, 100),
        (100, 0, 50, 50),
        (100, 80, 50, 20),
    ] {
        let mut limiter = Limiter::new(Rate::new(before, None));
        for _ in 0..drawn {
            assert_eq!(
                limiter.try_take(&acme, 1, Lane::Transactional, NOW),
                Take::Ok
            );
        }
        limiter.set_rate(&acme, Rate::new(after, None), NOW);
        assert_eq!(drain(&mut limiter, &acme, Lane::Transactional, NOW), left);
        assert_eq!(limiter.rate(&acme), Rate::new(after, None));
    }
}

#[test]
fn a_clock_that_goes_back_gives_nothing() {
    let mut limiter = Limiter::new(Rate::new(10, None));
    let acme = tenant("acme");
    assert_eq!(drain(&mut limiter, &acme, Lane::Transactional, NOW), 10);
    assert_eq!(
        drain(&mut limiter, &acme, Lane::Transactional, NOW - 60_000),
        0
    );
    assert_eq!(
        drain(&mut limiter, &acme, Lane::Transactional, NOW + 100),
        1
    );
}

#[test]
fn a_clock_that_goes_back_takes_nothing_away() {
    let mut limiter = Limiter::new(Rate::new(10, None));
    let acme = tenant("acme");
    assert_eq!(drain(&mut limiter, &acme, Lane::Transactional, NOW), 10);
    limiter.set_rate(&tenant("other"), Rate::new(1, None), NOW + 100);
    let back = NOW - 60_000;
    assert_eq!(drain(&mut limiter, &acme, Lane::Transactional, back), 1);
}

#[test]
fn a_rate_that_does_not_divide_a_second_is_not_exceeded() {
    let rate = Rate::new(700_000, Some(1_000));
    let (mut limiter, acme) = (Limiter::new(rate), tenant("acme"));
    let (mut now, mut taken) = (NOW, 0);
    while now <= NOW + 1_000 {
        match limiter.try_take(&acme, 25, Lane::Transactional, now) {
            Take::Ok => taken += 25,
            Take::Wait { until } => now = until,
        }
    }
    assert!(taken <= 701_000, "{taken}");
    assert!(taken >= 700_000, "{taken}");
}

#[test]
fn full_buckets_are_dropped_at_the_bound_and_drawn_ones_are_not() {
    let mut limiter = Limiter::new(Rate::new(10, None));
    let drawn = tenant("drawn");
    assert_eq!(drain(&mut limiter, &drawn, Lane::Transactional, NOW), 10);
    for number in 0..BUCKETS_MAX {
        // Asking for nothing makes a bucket and leaves it full.
        let idle = tenant(&format!("t{number}"));
        assert_eq!(limiter.try_take(&idle, 0, Lane::Bulk, NOW), Take::Ok);
    }
    assert!(limiter.buckets.len() <= BUCKETS_MAX);
    assert_eq!(drain(&mut limiter, &drawn, Lane::Transactional, NOW), 0);
}

proptest! {
    #[test]
    fn no_window_exceeds_rate_times_time_plus_burst(
        per_second in 1..5_000_u32,
        burst in 1..300_u32,
        draws in prop::collection::vec((0..400_i64, 1..40_u32, any::<bool>()), 1..200),
    ) {
        let rate = Rate::new(per_second, Some(burst));
        let (mut limiter, acme) = (Limiter::new(rate), tenant("acme"));
        let (mut now, mut taken) = (NOW, Vec::new());
        for (pause, n, bulk) in draws {
            now += pause;
            let lane = if bulk { Lane::Bulk } else { Lane::Transactional };
            let n = n.min(rate.max_slice(lane));
            match limiter.try_take(&acme, n, lane, now) {
                Take::Ok => taken.push((now, n)),
                Take::Wait { until } => {
                    prop_assert!(until > now);
                    // The promise holds: at that instant it goes.
                    now = until;
                    prop_assert_eq!(limiter.try_take(&acme, n, lane, now), Take::Ok);
                    taken.push((now, n));
                }
            }
        }
        for (index, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0.0;
            for (to, n) in &taken[index..] {
                sum += f64::from(*n);
                let allowed = f64::from(per_second) * (to - from) as f64 / 1_000.0 + f64::from(burst);
                prop_assert!(sum <= allowed + 1e-6, "{sum} within {} ms", to - from);
            }
        }
    }

    #[test]
    fn changing_the_rate_does_not_exceed_the_larger_one(
        changes in prop::collection::vec((1..500_u32, 1..100_u32, 0..300_i64), 1..30),
    ) {
        let (mut limiter, acme) = (Limiter::new(Rate::new(500, Some(100))), tenant("acme"));
        let (mut now, mut taken) = (NOW, 0);
        for (per_second, burst, pause) in changes {
            now += pause;
            limiter.set_rate(&acme, Rate::new(per_second, Some(burst)), now);
            taken += drain(&mut limiter, &acme, Lane::Transactional, now);
        }
        let allowed = 500.0 * (now - NOW) as f64 / 1_000.0 + 100.0;
        prop_assert!(f64::from(taken) <= allowed);
    }
}

#[test]
fn a_peek_says_what_a_take_would_and_takes_nothing() {
    let mut limiter = Limiter::new(Rate::new(10, Some(10)));
    let who: TenantId = "peeked".parse().unwrap();
    for _ in 0..100 {
        assert_eq!(limiter.peek(&who, 10, Lane::Transactional, 0), Take::Ok);
    }
    assert_eq!(limiter.try_take(&who, 10, Lane::Transactional, 0), Take::Ok);
    let peeked = limiter.peek(&who, 10, Lane::Transactional, 0);
    assert!(matches!(peeked, Take::Wait { .. }), "{peeked:?}");
    assert_eq!(limiter.try_take(&who, 10, Lane::Transactional, 0), peeked);
}
