//! The breaker's life: what opens it, how long it rests, who may probe and how the window grows back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const NOW: Millis = 1_800_000_000_000;
const KEY: &str = "acme/production";

fn breakers() -> Breakers<&'static str> {
    Breakers::new(Ramp::APNS, 1.0)
}

fn feed(
    breakers: &mut Breakers<&'static str>,
    signal: Signal,
    times: u32,
    now: Millis,
) -> Option<Change> {
    (0..times)
        .filter_map(|_| breakers.record(&KEY, signal, now))
        .next()
}

fn open(breakers: &mut Breakers<&'static str>, now: Millis) -> Millis {
    match feed(breakers, Signal::Failure, 20, now) {
        Some(Change::Opened { until }) => until,
        other => panic!("expected it to open, got {other:?}"),
    }
}

#[test]
fn half_of_twenty_within_ten_seconds_open_it() {
    use Signal::{Failure, Success, Unanswered};
    // (successes, then bad ones, milliseconds between the two, opens)
    for (good, bad, kind, gap, opens) in [
        (10, 10, Failure, 0, true),
        (11, 10, Failure, 0, false),
        (10, 10, Unanswered, 0, true),
        (0, 19, Failure, 0, false),
        (0, 20, Unanswered, 0, true),
        (100, 99, Failure, 0, false),
        (100, 100, Failure, 0, true),
        (100, 20, Failure, 10_000, true),
        (100, 20, Failure, 8_000, false),
        (1, 19, Failure, 10_000, false),
    ] {
        let mut breakers = breakers();
        assert_eq!(feed(&mut breakers, Success, good, NOW), None);
        let change = feed(&mut breakers, kind, bad, NOW + gap);
        assert_eq!(
            change.is_some(),
            opens,
            "{good} good, {bad} {kind:?} after {gap} ms"
        );
        assert_eq!(breakers.is_closed(&KEY), !opens);
    }
}

#[test]
fn the_twentieth_answer_opens_it_even_if_it_is_the_first_good_one() {
    let mut breakers = breakers();
    assert_eq!(feed(&mut breakers, Signal::Failure, 19, NOW), None);
    let change = breakers.record(&KEY, Signal::Success, NOW);
    assert_eq!(change, Some(Change::Opened { until: NOW + 5_000 }));
}

#[test]
fn five_connect_failures_in_a_row_open_it() {
    let mut breakers = breakers();
    for second in 0..4 {
        // Many requests waited for the same connect.
        assert_eq!(
            feed(
                &mut breakers,
                Signal::ConnectFailure,
                30,
                NOW + second * 1_000
            ),
            None
        );
    }
    assert_eq!(feed(&mut breakers, Signal::Success, 1, NOW + 4_000), None);
    for second in 5..9 {
        assert_eq!(
            feed(
                &mut breakers,
                Signal::ConnectFailure,
                1,
                NOW + second * 1_000
            ),
            None
        );
    }
    let fifth = feed(&mut breakers, Signal::ConnectFailure, 1, NOW + 9_000);
    assert_eq!(
        fifth,
        Some(Change::Opened {
            until: NOW + 14_000
        })
    );
}

#[test]
fn one_probe_goes_out_and_its_success_closes() {
    let mut breakers = breakers();
    let until = open(&mut breakers, NOW);
    assert_eq!(until, NOW + 5_000);
    assert_eq!(breakers.allow(&KEY, until - 1), Allow::No { until });
    assert_eq!(
        breakers.record(&KEY, Signal::Success, until - 1),
        None,
        "a late answer"
    );
    assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
    assert_eq!(
        breakers.allow(&KEY, until),
        Allow::No {
            until: until + 1_000
        }
    );
    assert!(!breakers.is_closed(&KEY));
    assert_eq!(
        breakers.record(&KEY, Signal::Success, until + 50),
        Some(Change::Closed)
    );
    assert_eq!(breakers.allow(&KEY, until + 50), Allow::Yes);
}

#[test]
fn failed_probes_double_the_rest_up_to_a_minute() {
    let mut breakers = breakers();
    let mut until = open(&mut breakers, NOW);
    let mut rests = vec![until - NOW];
    for signal in [
        Signal::Failure,
        Signal::Unanswered,
        Signal::ConnectFailure,
        Signal::Failure,
        Signal::Failure,
    ] {
        assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
        match breakers.record(&KEY, signal, until) {
            Some(Change::Opened { until: next }) => {
                rests.push(next - until);
                until = next;
            }
            other => panic!("expected it to open, got {other:?}"),
        }
    }
    assert_eq!(rests, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
    // It comes back, and fails again soon: the rest is still long.
    assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
    assert_eq!(
        breakers.record(&KEY, Signal::Success, until),
        Some(Change::Closed)
    );
    assert_eq!(open(&mut breakers, until + 59_999) - until - 59_999, 60_000);
}

#[test]
fn after_a_quiet_minute_the_rest_is_the_first_again() {
    let mut breakers = breakers();
    let mut until = open(&mut breakers, NOW);
    for signal in [Signal::Failure, Signal::Success] {
        assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
        if let Some(Change::Opened { until: next }) = breakers.record(&KEY, signal, until) {
            until = next;
        }
    }
    let later = until + 60_000;
    assert_eq!(open(&mut breakers, later), later + 5_000);
}

#[test]
fn a_lost_or_unused_probe_does_not_close_the_door_for_ever() {
    let mut breakers = breakers();
    let until = open(&mut breakers, NOW);
    assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
    breakers.probe_unused(&KEY, until + 5);
    assert_eq!(breakers.allow(&KEY, until + 5), Allow::Probe);
    assert!(matches!(
        breakers.allow(&KEY, until + 60_004),
        Allow::No { .. }
    ));
    assert_eq!(breakers.allow(&KEY, until + 60_005), Allow::Probe);
}

#[test]
fn a_pause_holds_until_its_end_and_is_never_shortened() {
    let mut breakers = breakers();
    breakers.pause(&KEY, NOW + 60_000, NOW);
    breakers.pause(&KEY, NOW + 10_000, NOW);
    assert_eq!(
        breakers.allow(&KEY, NOW + 59_999),
        Allow::No {
            until: NOW + 60_000
        }
    );
    assert_eq!(breakers.allow(&"other", NOW), Allow::Yes);
    assert_eq!(breakers.allow(&KEY, NOW + 60_000), Allow::Probe);
    // Refused again.
    breakers.pause(&KEY, NOW + 180_000, NOW + 60_100);
    assert_eq!(
        breakers.allow(&KEY, NOW + 100_000),
        Allow::No {
            until: NOW + 180_000
        }
    );
    breakers.forget(&KEY);
    assert_eq!(breakers.allow(&KEY, NOW + 100_000), Allow::Yes);
}

#[test]
fn the_window_grows_back_in_the_providers_time() {
    for (ramp, shares) in [
        (
            Ramp::APNS,
            [
                (0, 0.1),
                (1_000, 0.1),
                (5_000, 0.5),
                (10_000, 1.0),
                (99_000, 1.0),
            ],
        ),
        (
            Ramp::FCM,
            [
                (0, 1.0 / 60.0),
                (6_000, 0.1),
                (30_000, 0.5),
                (59_999, 0.999_983),
                (60_000, 1.0),
            ],
        ),
    ] {
        let mut breakers: Breakers<&str> = Breakers::new(ramp, 1.0);
        assert!(
            (breakers.share(&KEY, NOW) - 1.0).abs() < f64::EPSILON,
            "never opened"
        );
        breakers.pause(&KEY, NOW, NOW - 1);
        assert_eq!(breakers.allow(&KEY, NOW), Allow::Probe);
        assert_eq!(
            breakers.record(&KEY, Signal::Success, NOW),
            Some(Change::Closed)
        );
        for (after, share) in shares {
            let got = breakers.share(&KEY, NOW + after);
            assert!(
                (got - share).abs() < 1e-5,
                "{ramp:?} after {after} ms: {got}"
            );
        }
    }
}

#[test]
fn scale_shortens_every_time() {
    let mut breakers: Breakers<&str> = Breakers::new(Ramp::FCM, 0.01);
    let until = open(&mut breakers, NOW);
    assert_eq!(until, NOW + 50);
    assert_eq!(breakers.allow(&KEY, until), Allow::Probe);
    assert_eq!(
        breakers.record(&KEY, Signal::Success, until),
        Some(Change::Closed)
    );
    assert!((breakers.share(&KEY, until + 300) - 0.5).abs() < 1e-9);
}

#[test]
fn at_the_bound_the_open_ones_are_kept() {
    let mut breakers: Breakers<usize> = Breakers::new(Ramp::APNS, 1.0);
    breakers.pause(&usize::MAX, NOW + 1_000, NOW);
    for key in 0..=BREAKERS_MAX {
        assert_eq!(breakers.record(&key, Signal::Success, NOW), None);
    }
    assert!(breakers.len() <= BREAKERS_MAX);
    assert!(!breakers.is_closed(&usize::MAX));
}

proptest! {
    #[test]
    fn between_two_probes_lies_a_rest_and_nothing_goes_while_it_is_open(
        events in prop::collection::vec((0..3_000_i64, 0..6_u8), 1..400),
    ) {
        let mut breakers = breakers();
        let (mut now, mut open_until, mut probing) = (NOW, None, false);
        for (pause, event) in events {
            now += pause;
            let signal = match event {
                0 => Signal::Success,
                1 | 2 => Signal::Failure,
                3 => Signal::Unanswered,
                4 => Signal::ConnectFailure,
                _ => {
                    match breakers.allow(&KEY, now) {
                        Allow::Yes => prop_assert!(open_until.is_none()),
                        Allow::No { until } => prop_assert!(until > now && open_until.is_some()),
                        Allow::Probe => {
                            prop_assert!(open_until.is_some_and(|until| now >= until));
                            probing = true;
                        }
                    }
                    continue;
                }
            };
            match breakers.record(&KEY, signal, now) {
                Some(Change::Opened { until }) => {
                    prop_assert!(open_until.is_none() || probing);
                    prop_assert!((5_000..=60_000).contains(&(until - now)));
                    (open_until, probing) = (Some(until), false);
                }
                Some(Change::Closed) => {
                    prop_assert!(probing && signal == Signal::Success);
                    (open_until, probing) = (None, false);
                }
                None => {}
            }
            prop_assert_eq!(breakers.is_closed(&KEY), open_until.is_none());
        }
    }
}
