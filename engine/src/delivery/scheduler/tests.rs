//! Turns by hand, and fairness and the bound as properties over random traffic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: Millis = 1_800_000_000_000;
const BULK: Lane = Lane::Bulk;
const FAST: Lane = Lane::Transactional;

fn tenant(number: usize) -> TenantId {
    format!("t{number}").parse().unwrap()
}

fn yes<H>(_: &TenantId, _: Lane, _: &H, wanted: u32) -> Ready {
    Ready::Yes(wanted)
}

/// (tenant, handle, recipients) of the next slices.
fn take(scheduler: &mut Scheduler<u32>, slices: usize) -> Vec<(String, u32, u32)> {
    let next = |_| scheduler.next(NOW, yes);
    let all = (0..slices).map_while(next);
    all.map(|slice| (slice.tenant.to_string(), slice.handle, slice.recipients))
        .collect()
}

fn row(tenant: &str, handle: u32, recipients: u32) -> (String, u32, u32) {
    (tenant.to_owned(), handle, recipients)
}

#[test]
fn a_job_stays_at_the_head_until_all_its_recipients_are_handed_out() {
    let mut scheduler = Scheduler::new();
    assert!(scheduler.enqueue(&tenant(1), BULK, 10, 70));
    assert!(scheduler.enqueue(&tenant(1), BULK, 11, 1));
    assert!(
        !scheduler.enqueue(&tenant(1), BULK, 10, 5),
        "it is here already"
    );
    assert!(!scheduler.enqueue(&tenant(1), BULK, 12, 0), "nobody");
    assert_eq!((scheduler.len(), scheduler.recipients(BULK)), (2, 71));
    let got = take(&mut scheduler, 9);
    assert_eq!(
        got,
        [
            row("t1", 10, 32),
            row("t1", 10, 32),
            row("t1", 10, 6),
            row("t1", 11, 1)
        ]
    );
    assert!(scheduler.is_empty());
    assert!(
        scheduler.enqueue(&tenant(1), BULK, 10, 5),
        "it was forgotten"
    );
}

#[test]
fn tenants_take_turns_by_their_weight() {
    let mut scheduler = Scheduler::new();
    scheduler.set_weight(&tenant(2), 2);
    for number in 1..=2 {
        scheduler.enqueue(&tenant(number), BULK, u32::try_from(number).unwrap(), 500);
    }
    let got: Vec<String> = take(&mut scheduler, 6)
        .into_iter()
        .map(|slice| slice.0)
        .collect();
    assert_eq!(got, ["t1", "t2", "t2", "t1", "t2", "t2"]);
}

#[test]
fn small_jobs_fill_a_turn_and_an_empty_queue_loses_the_rest_of_it() {
    let mut scheduler = Scheduler::new();
    for handle in 0..40 {
        scheduler.enqueue(&tenant(1), BULK, handle, 1);
    }
    scheduler.enqueue(&tenant(2), BULK, 100, 3);
    scheduler.enqueue(&tenant(3), BULK, 101, 40);
    let got = take(&mut scheduler, 100);
    assert!(got[..32].iter().all(|slice| slice.0 == "t1"));
    let rest: Vec<_> = got[32..]
        .iter()
        .map(|slice| (slice.0.as_str(), slice.2))
        .collect();
    assert_eq!(rest[..2], [("t2", 3), ("t3", 32)]);
    assert_eq!(rest[2..10], [("t1", 1); 8]);
    assert_eq!(rest[10..], [("t3", 8)]);
}

#[test]
fn transactional_goes_first_and_leaves_a_fifth() {
    let mut scheduler = Scheduler::new();
    scheduler.enqueue(&tenant(1), BULK, 1, 2_000);
    assert_eq!(
        take(&mut scheduler, 2),
        [row("t1", 1, 32), row("t1", 1, 32)]
    );
    scheduler.enqueue(&tenant(2), FAST, 2, 1_000);
    let mut shares = BTreeMap::new();
    let got = take(&mut scheduler, 25);
    assert_eq!(got[0], row("t2", 2, 32), "nothing goes ahead of it");
    for (tenant, _, recipients) in got {
        *shares.entry(tenant).or_insert(0) += recipients;
    }
    assert_eq!(
        shares,
        BTreeMap::from([("t1".into(), 160), ("t2".into(), 640)])
    );
    // Without bulk there is nothing to leave.
    scheduler.remove(&1);
    assert_eq!(
        take(&mut scheduler, 99)
            .iter()
            .map(|slice| slice.2)
            .sum::<u32>(),
        360
    );
}

#[test]
fn who_may_not_send_is_asked_once_and_waits_for_its_instant_or_a_wake() {
    let mut scheduler = Scheduler::new();
    for number in 0..1_000 {
        scheduler.enqueue(&tenant(number), BULK, u32::try_from(number).unwrap(), 40);
    }
    let mut asked = 0;
    let mut gate = |tenant: &TenantId, _: Lane, _: &_, wanted: u32| {
        asked += 1;
        match tenant.as_str() {
            "t7" => Ready::Yes(wanted),
            "t8" => Ready::NotBefore(NOW + 500),
            "t9" => Ready::NotBefore(NOW + 300),
            _ => Ready::No,
        }
    };
    assert_eq!(scheduler.next(NOW, &mut gate).unwrap().tenant, tenant(7));
    assert_eq!(scheduler.next(NOW, &mut gate).unwrap().recipients, 8);
    assert!(scheduler.next(NOW, &mut gate).is_none());
    assert_eq!(asked, 1_001);
    assert_eq!(
        (scheduler.next_wake(), scheduler.len()),
        (Some(NOW + 300), 999)
    );
    assert!(scheduler.next(NOW + 299, yes).is_none());
    assert_eq!(scheduler.next(NOW + 300, yes).unwrap().tenant, tenant(9));
    scheduler.wake(&tenant(8));
    scheduler.wake(&tenant(8));
    scheduler.wake(&tenant(500_000));
    let rest = std::iter::from_fn(|| scheduler.next(NOW + 300, yes));
    let rest: Vec<_> = rest.map(|slice| (slice.tenant, slice.recipients)).collect();
    assert_eq!(rest, [(tenant(9), 8), (tenant(8), 32), (tenant(8), 8)]);
    assert_eq!(scheduler.next_wake(), None);
    scheduler.wake_all();
    assert_eq!(
        std::iter::from_fn(|| scheduler.next(NOW, yes)).count(),
        2 * 997
    );
}

#[test]
fn more_work_does_not_wake_who_may_not_send() {
    let mut scheduler = Scheduler::new();
    scheduler.enqueue(&tenant(1), FAST, 1, 1);
    assert!(scheduler.next(NOW, |_, _, _, _| Ready::No).is_none());
    scheduler.enqueue(&tenant(1), FAST, 2, 1);
    scheduler.enqueue(&tenant(1), BULK, 3, 1);
    assert_eq!(
        scheduler.next(NOW, yes).unwrap().handle,
        3,
        "the other lane is free"
    );
    assert!(scheduler.next(NOW, yes).is_none());
    scheduler.wake(&tenant(1));
    assert_eq!(take(&mut scheduler, 9), [row("t1", 1, 1), row("t1", 2, 1)]);
}

#[test]
fn a_grant_may_be_smaller_and_nothing_is_granted_beyond_it() {
    let mut scheduler = Scheduler::new();
    scheduler.enqueue(&tenant(1), BULK, 1, 40);
    let slice = scheduler.next(NOW, |_, _, _, wanted| {
        assert_eq!(wanted, 32);
        Ready::Yes(5)
    });
    assert_eq!(
        slice.map(|slice| (slice.recipients, slice.last)),
        Some((5, false))
    );
    // The rest of the turn.
    let slice = scheduler.next(NOW, |_, _, _, wanted| {
        assert_eq!(wanted, 27);
        Ready::Yes(u32::MAX)
    });
    assert_eq!(slice.map(|slice| slice.recipients), Some(27));
    assert!(scheduler.next(NOW, |_, _, _, _| Ready::Yes(0)).is_none());
    assert_eq!(scheduler.remove(&1), Some(8));
}

#[test]
fn a_removed_job_leaves_nothing_behind() {
    for place in [
        Ready::Yes(0),
        Ready::No,
        Ready::NotBefore(NOW + 9),
        Ready::Yes(1),
    ] {
        let mut scheduler = Scheduler::new();
        scheduler.enqueue(&tenant(1), BULK, 1, 50);
        scheduler.enqueue(&tenant(2), BULK, 2, 50);
        let _first = scheduler.next(NOW, |tenant, _, _, _| match tenant.as_str() {
            "t1" => place,
            _ => Ready::No,
        });
        assert!(scheduler.remove(&1).is_some());
        assert_eq!(scheduler.remove(&1), None);
        assert_eq!((scheduler.len(), scheduler.recipients(BULK)), (1, 50));
        scheduler.wake_all();
        let got: u32 = take(&mut scheduler, 99).iter().map(|slice| slice.2).sum();
        assert_eq!(got, 50);
        assert_eq!(scheduler.next_wake(), None);
    }
    let mut scheduler = Scheduler::new();
    scheduler.enqueue(&tenant(1), FAST, 1, 50);
    scheduler.clear();
    assert!(scheduler.is_empty() && scheduler.next(NOW, yes).is_none());
    assert_eq!(scheduler.recipients(FAST), 0);
}

#[test]
fn nobody_inherits_the_rest_of_a_turn() {
    for removed in [false, true] {
        let mut scheduler = Scheduler::new();
        for number in 1..=3 {
            scheduler.enqueue(&tenant(number), BULK, u32::try_from(number).unwrap(), 100);
        }
        let five = scheduler.next(NOW, |_, _, _, _| Ready::Yes(5));
        assert_eq!(five.map(|slice| slice.recipients), Some(5));
        if removed {
            assert_eq!(scheduler.remove(&1), Some(95));
        }
        let next = scheduler.next(NOW, |who, _, _, wanted| match who.as_str() {
            "t1" => Ready::No,
            _ => Ready::Yes(wanted),
        });
        let next = next.map(|slice| (slice.handle, slice.recipients));
        assert_eq!(next, Some((2, 32)), "removed: {removed}");
    }
}

#[test]
fn bulk_that_was_not_waiting_has_nothing_to_make_up_for() {
    let mut scheduler = Scheduler::new();
    scheduler.enqueue(&tenant(1), FAST, 1, 1_000);
    assert_eq!(take(&mut scheduler, 20).len(), 20);
    scheduler.enqueue(&tenant(2), BULK, 2, 1_000);
    let got = take(&mut scheduler, 5);
    let handles: Vec<u32> = got.into_iter().map(|slice| slice.1).collect();
    assert_eq!(handles, [1, 1, 1, 1, 2]);
}

#[test]
fn the_bound_is_reached_and_not_passed() {
    let mut scheduler = Scheduler::new();
    for number in 1..=10 {
        scheduler.set_weight(&tenant(number), 2);
        scheduler.enqueue(&tenant(number), BULK, u32::try_from(number).unwrap(), 1_000);
    }
    assert!(scheduler.enqueue(&tenant(11), BULK, 11, 1));
    let until_newcomer = |slice: &(String, u32, u32)| slice.1 != 11;
    let got = take(&mut scheduler, 99)
        .into_iter()
        .take_while(until_newcomer);
    let foreign: u32 = got.map(|slice| slice.2).sum();
    assert_eq!(foreign, foreign_max(BULK, 10 * 2 * SLICE, false));
}

/// A tenant's weight, its backlog as jobs in one lane, and how large a slice its limiter grants at once.
fn any_crowd() -> impl Strategy<Value = Vec<(u32, Vec<u32>, u32)>> {
    let jobs = prop::collection::vec(1..120_u32, 1..6);
    prop::collection::vec((1..=5_u32, jobs, 1..=40_u32), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is queued and whatever went before, a tenant that arrives waits for at most N foreign recipients.
    #[test]
    fn at_most_n_foreign_recipients_go_before_an_arrival(
        fast in any_crowd(),
        bulk in any_crowd(),
        before in 0..200_usize,
        to_bulk in any::<bool>(),
    ) {
        let mut scheduler = Scheduler::new();
        let mut grants = BTreeMap::new();
        let mut weights = BTreeMap::new();
        let mut handle = 0;
        for (lane, crowd) in [(FAST, &fast), (BULK, &bulk)] {
            for (number, (weight, jobs, grant)) in crowd.iter().enumerate() {
                let number = number + 100 * usize::from(lane == BULK);
                scheduler.set_weight(&tenant(number), *weight);
                weights.insert((lane == BULK, number), *weight);
                grants.insert(tenant(number), *grant);
                for recipients in jobs {
                    scheduler.enqueue(&tenant(number), lane, handle, *recipients);
                    handle += 1;
                }
            }
        }
        let mut gate = |tenant: &TenantId, _: Lane, _: &_, wanted: u32| {
            Ready::Yes(grants.get(tenant).copied().unwrap_or(wanted))
        };
        for _ in 0..before {
            scheduler.next(NOW, &mut gate);
        }
        let lane = if to_bulk { BULK } else { FAST };
        let others: u32 = weights.iter()
            .filter(|((is_bulk, _), _)| *is_bulk == to_bulk)
            .map(|(_, weight)| weight * SLICE)
            .sum();
        let other_lane = scheduler.recipients(other(lane)) > 0;
        let newcomer = tenant(999);
        scheduler.enqueue(&newcomer, lane, u32::MAX, 1);
        let mut foreign = 0;
        loop {
            let slice = scheduler.next(NOW, &mut gate).unwrap();
            prop_assert!(slice.recipients >= 1 && slice.recipients <= SLICE);
            if slice.tenant == newcomer {
                break;
            }
            foreign += slice.recipients;
        }
        let bound = foreign_max(lane, others, other_lane);
        prop_assert!(foreign <= bound, "{foreign} went before, the bound is {bound}");
    }

    /// Over any window in which they all have work, tenants get shares by their weights, within one turn each.
    #[test]
    fn shares_are_proportional_within_one_quantum(
        crowd in prop::collection::vec((1..=5_u32, 1..=40_u32, 1..90_u32), 2..8),
        skip in 0..100_usize,
        window in 1..400_usize,
    ) {
        let mut scheduler = Scheduler::new();
        let mut grants = BTreeMap::new();
        let mut handle = 0;
        for (number, (weight, grant, size)) in crowd.iter().enumerate() {
            scheduler.set_weight(&tenant(number), *weight);
            grants.insert(tenant(number), *grant);
            // More than all the slices of this test can hand out to one.
            for _ in 0..=(500 * SLICE / size) {
                scheduler.enqueue(&tenant(number), BULK, handle, *size);
                handle += 1;
            }
        }
        let mut gate = |tenant: &TenantId, _: Lane, _: &_, _| Ready::Yes(grants[tenant]);
        for _ in 0..skip {
            scheduler.next(NOW, &mut gate).unwrap();
        }
        let mut served = vec![0_u32; crowd.len()];
        for _ in 0..window {
            let slice = scheduler.next(NOW, &mut gate).unwrap();
            let number = (0..crowd.len()).find(|n| tenant(*n) == slice.tenant).unwrap();
            served[number] += slice.recipients;
            // After each step, so that every shorter window is checked too.
            for (a, (weight_a, ..)) in crowd.iter().enumerate() {
                for (b, (weight_b, ..)) in crowd.iter().enumerate() {
                    let turns_a = f64::from(served[a]) / f64::from(weight_a * SLICE);
                    let turns_b = f64::from(served[b]) / f64::from(weight_b * SLICE);
                    prop_assert!((turns_a - turns_b).abs() <= 1.0 + 1e-9);
                }
            }
        }
    }

    /// Whatever is enqueued, removed, set aside and woken, every recipient is handed out or taken back exactly once.
    #[test]
    fn nothing_is_lost_or_doubled(
        steps in prop::collection::vec((0..6_u8, 0..6_usize, 1..100_u32, any::<bool>()), 1..300),
    ) {
        let mut scheduler = Scheduler::new();
        let mut owed: BTreeMap<u32, u32> = BTreeMap::new();
        for (index, (step, who, number, to_bulk)) in (0..).zip(steps) {
            let lane = if to_bulk { BULK } else { FAST };
            match step {
                0 | 1 => {
                    prop_assert!(scheduler.enqueue(&tenant(who), lane, index, number));
                    owed.insert(index, number);
                }
                2 => {
                    let handle = number * 3;
                    let known = owed.remove(&handle).filter(|remaining| *remaining > 0);
                    prop_assert_eq!(scheduler.remove(&handle), known);
                }
                3 => scheduler.wake(&tenant(who)),
                _ => {
                    let now = NOW + Millis::from(index);
                    let blocked = tenant(who);
                    let slice = scheduler.next(now, |tenant, _, _, wanted| match number % 3 {
                        0 if *tenant == blocked => Ready::No,
                        1 if *tenant == blocked => Ready::NotBefore(now + Millis::from(number)),
                        _ => Ready::Yes(wanted.min(number)),
                    });
                    if let Some(slice) = slice {
                        let left = owed.get_mut(&slice.handle).unwrap();
                        prop_assert!(slice.recipients <= *left);
                        *left -= slice.recipients;
                        prop_assert_eq!(slice.last, *left == 0);
                    }
                }
            }
            let jobs = owed.values().filter(|left| **left > 0).count();
            prop_assert_eq!(scheduler.len(), jobs);
        }
        scheduler.wake_all();
        while let Some(slice) = scheduler.next(NOW, yes) {
            *owed.get_mut(&slice.handle).unwrap() -= slice.recipients;
        }
        prop_assert!(owed.values().all(|left| *left == 0));
        prop_assert_eq!((scheduler.recipients(FAST), scheduler.recipients(BULK)), (0, 0));
    }
}
