//! The retry schedule as tables, and as properties over any outcome and history.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const NOW: Millis = 1_800_000_000_000;
const DAY: Millis = 24 * 60 * MINUTE;

fn unavailable(processed: Processed, retry_after: Option<Millis>) -> Outcome {
    Outcome::Unavailable {
        reason: "busy".into(),
        processed,
        retry_after,
    }
}

fn throttled(scope: ThrottleScope, retry_after: Option<Millis>) -> Outcome {
    Outcome::Throttled {
        reason: "slow".into(),
        scope,
        retry_after,
    }
}

fn history(total: u8, unsent: u8, ambiguous: u8) -> Attempts {
    Attempts {
        total,
        unsent,
        ambiguous,
    }
}

fn trial(is_apple: bool, attempts: Attempts) -> Trial {
    Trial {
        is_apple,
        delivery: DeliveryMode::AtLeastOnce,
        attempts,
        expires_at: NOW + DAY,
        now: NOW,
        jitter: 0.0,
    }
}

/// The shortest and the longest delay in seconds, and the history after.
fn delays(policy: &Policy, outcome: &Outcome, trial: &Trial) -> Option<(f64, f64, Attempts)> {
    let at = |jitter| match policy.next(outcome, &Trial { jitter, ..*trial }) {
        Fate::Again { due, attempts, .. } => Some(((due - NOW) as f64 / 1_000.0, attempts)),
        Fate::Final { .. } => None,
    };
    let (shortest, attempts) = at(0.0)?;
    let (longest, _) = at(1.0)?;
    Some((shortest, longest, attempts))
}

#[test]
fn final_answers_end_whatever_the_history() {
    let table = [
        (Outcome::Accepted, FinalState::Accepted),
        (
            Outcome::Unregistered {
                reason: "x".into(),
                since: None,
            },
            FinalState::Unregistered,
        ),
        (
            Outcome::Rejected {
                reason: "x".into(),
                suspect: false,
            },
            FinalState::Rejected,
        ),
        (
            Outcome::Rejected {
                reason: "x".into(),
                suspect: true,
            },
            FinalState::Rejected,
        ),
    ];
    for (outcome, expected) in table {
        for attempts in [history(0, 0, 0), history(7, 3, 1), history(255, 255, 0)] {
            for expires_at in [NOW - 1, NOW, NOW + DAY] {
                let trial = Trial {
                    expires_at,
                    ..trial(true, attempts)
                };
                let fate = Policy::default().next(&outcome, &trial);
                assert!(
                    matches!(fate, Fate::Final { state, .. } if state == expected),
                    "{outcome:?} after {attempts:?} became {fate:?}"
                );
            }
        }
    }
}

/// provider, outcome, `Retry-After` in seconds, history (total/unsent/ambiguous) → shortest and longest delay in seconds,
/// history after
const DELAYS: &str = "
    apns unsent     -     0/0/0 → 1    1.2   1/1/0
    apns unsent     -     1/1/0 → 5    6     2/2/0
    apns unsent     -     2/2/0 → 30   36    3/3/0
    apns unsent     -     3/3/0 → 48   72    4/4/0
    apns unsent     -     4/4/0 → 240  360   5/5/0
    apns unsent     7     0/0/0 → 7    7     1/1/0
    fcm  unsent     -     0/0/0 → 1    1.2   1/1/0
    fcm  unsent     -     3/3/0 → 10   12    4/4/0
    fcm  unsent     -     4/4/0 → 20   24    5/5/0

    apns answered   -     0/0/0 → 48   72    1/0/0
    apns answered   -     1/0/0 → 240  360   2/0/0
    apns answered   -     2/0/0 → 720  1080  3/0/0
    apns answered   -     3/0/0 → 1440 2160  4/0/0
    apns answered   -     4/0/0 → 2880 4320  5/0/0
    apns answered   -     6/0/0 → 2880 4320  7/0/0
    apns answered   -     3/2/1 → 48   72    4/2/1
    apns answered   90    0/0/0 → 90   90    1/0/0
    fcm  answered   -     0/0/0 → 10   12    1/0/0
    fcm  answered   -     3/0/0 → 80   96    4/0/0
    fcm  answered   1     0/0/0 → 10   12    1/0/0
    fcm  answered   44    0/0/0 → 44   44    1/0/0

    apns token      -     0/0/0 → 60   72    1/0/0
    apns token      -     2/0/0 → 240  288   3/0/0
    apns credential 1200  0/0/0 → 1200 1200  1/0/0
    apns credential -     3/0/0 → 480  576   4/0/0
    fcm  token      5     1/0/0 → 120  144   2/0/0
    fcm  credential -     0/0/0 → 60   72    1/0/0
    fcm  credential 300   0/0/0 → 300  300   1/0/0

    apns unanswered -     0/0/0 → 5    6     1/0/1
    apns unanswered -     5/5/0 → 5    6     6/5/1
    fcm  unanswered -     0/0/0 → 10   12    1/0/1
";

/// As [`DELAYS`] up to the history; what follows is the reason with which all attempts are used up.
const EXHAUSTED: &str = "
    apns answered   -     7/0/0 → busy
    fcm  answered   -     7/0/0 → busy
    apns unsent     -     7/7/0 → busy
    apns token      -     3/0/0 → slow
    apns credential -     7/0/0 → slow
    fcm  token      -     7/0/0 → slow
    apns unanswered -     1/0/1 → unconfirmed
    apns unanswered -     7/0/0 → unconfirmed
    fcm  unanswered -     7/0/0 → unconfirmed
";

fn attempts_of(cell: &str) -> Attempts {
    let numbers: Vec<u8> = cell.split('/').map(|n| n.parse().unwrap()).collect();
    history(numbers[0], numbers[1], numbers[2])
}

/// The trial and the outcome of each row, and what is expected of it.
fn rows(table: &'static str) -> impl Iterator<Item = (Trial, Outcome, Vec<&'static str>)> {
    let lines = table.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| {
        let (given, expected) = line.split_once('→').unwrap();
        let given: Vec<&str> = given.split_whitespace().collect();
        let retry_after = given[2]
            .parse()
            .ok()
            .map(|seconds: Millis| seconds * SECOND);
        let outcome = match given[1] {
            "unsent" => unavailable(Processed::No, retry_after),
            "answered" => unavailable(Processed::Answered, retry_after),
            "unanswered" => unavailable(Processed::Unknown, retry_after),
            "token" => throttled(ThrottleScope::DeviceToken, retry_after),
            "credential" => throttled(ThrottleScope::Credential, retry_after),
            other => panic!("{other}"),
        };
        let trial = trial(given[0] == "apns", attempts_of(given[3]));
        (trial, outcome, expected.split_whitespace().collect())
    })
}

#[test]
fn every_delay_is_that_of_the_decisions() {
    for (trial, outcome, expected) in rows(DELAYS) {
        let got = delays(&Policy::default(), &outcome, &trial);
        let seconds = |cell: &str| cell.parse::<f64>().unwrap();
        let (shortest, longest) = (seconds(expected[0]), seconds(expected[1]));
        let expected = (shortest, longest, attempts_of(expected[2]));
        assert_eq!(got, Some(expected), "{outcome:?}, {trial:?}");
    }
}

#[test]
fn attempts_are_used_up_and_the_reason_stays() {
    for (trial, outcome, expected) in rows(EXHAUSTED) {
        let expected = Fate::Final {
            state: FinalState::Exhausted,
            reason: expected[0].into(),
        };
        let got = Policy::default().next(&outcome, &trial);
        assert_eq!(got, expected, "{outcome:?}, {trial:?}");
    }
}

#[test]
fn what_would_be_due_at_its_expiry_or_later_expires() {
    use Processed::{Answered, No, Unknown};
    let table = [
        (unavailable(No, None), 1_000),
        (unavailable(Unknown, None), 5_000),
        (unavailable(Answered, None), 48_000),
        (throttled(ThrottleScope::DeviceToken, None), 60_000),
        (
            Outcome::Unauthorized {
                reason: "x".into(),
                pause: 90_000,
            },
            90_000,
        ),
    ];
    for (outcome, delay) in table {
        let at = |expires_at| {
            let trial = Trial {
                expires_at,
                ..trial(true, Attempts::default())
            };
            Policy::default().next(&outcome, &trial)
        };
        assert!(matches!(at(NOW + delay + 1), Fate::Again { due, .. } if due == NOW + delay));
        for late in [NOW + delay, NOW, NOW - DAY] {
            let fate = at(late);
            let expired = matches!(
                fate,
                Fate::Final {
                    state: FinalState::Expired,
                    ..
                }
            );
            assert!(expired, "{outcome:?}, {late}: {fate:?}");
        }
    }
}

#[test]
fn at_most_once_ends_as_unknown_only_where_nobody_knows() {
    let once = Trial {
        delivery: DeliveryMode::AtMostOnce,
        ..trial(true, Attempts::default())
    };
    let next = |processed| Policy::default().next(&unavailable(processed, None), &once);
    assert_eq!(
        next(Processed::Unknown),
        Fate::Final {
            state: FinalState::Unknown,
            reason: UNCONFIRMED.into(),
        }
    );
    assert!(matches!(next(Processed::No), Fate::Again { .. }));
    assert!(matches!(next(Processed::Answered), Fate::Again { .. }));
}

#[test]
fn ambiguous_retries_are_counted_by_themselves() {
    for allowed in 0..=3_u8 {
        let policy = Policy {
            ambiguous_retries: allowed,
            ..Policy::default()
        };
        let mut attempts = Attempts::default();
        let mut retries = 0;
        loop {
            // A request that was never handed over lies between any two.
            let unsent = unavailable(Processed::No, None);
            let Fate::Again {
                attempts: after, ..
            } = policy.next(&unsent, &trial(true, attempts))
            else {
                break;
            };
            let lost = unavailable(Processed::Unknown, None);
            match policy.next(&lost, &trial(true, after)) {
                Fate::Again { attempts: more, .. } => {
                    retries += 1;
                    attempts = more;
                }
                Fate::Final { state, .. } => {
                    assert_eq!(state, FinalState::Exhausted);
                    break;
                }
            }
        }
        assert_eq!(retries, allowed);
    }
}

#[test]
fn a_refused_credential_costs_no_attempt() {
    let refused = Outcome::Unauthorized {
        reason: "InvalidProviderToken".into(),
        pause: 1,
    };
    for attempts in [history(0, 0, 0), history(7, 2, 1)] {
        let expected = Fate::Again {
            due: NOW + MINUTE,
            why: WaitingWhy::Breaker,
            attempts,
        };
        assert_eq!(
            Policy::default().next(&refused, &trial(true, attempts)),
            expected
        );
    }
}

#[test]
fn strict_mode_and_scale_change_the_delays_and_nothing_else() {
    let busy = unavailable(Processed::Answered, None);
    let strict = Policy {
        strict: true,
        ..Policy::default()
    };
    let first = delays(&strict, &busy, &trial(true, Attempts::default()));
    assert_eq!(first, Some((900.0, 1_080.0, history(1, 0, 0))));
    let scaled = Policy {
        scale: 0.001,
        ..Policy::default()
    };
    let demo = delays(&scaled, &busy, &trial(false, Attempts::default()));
    assert_eq!(demo, Some((0.010, 0.012, history(1, 0, 0))));
    let unsent = delays(
        &scaled,
        &unavailable(Processed::No, Some(3)),
        &trial(false, Attempts::default()),
    );
    assert_eq!(
        unsent,
        Some((0.001, 0.002, history(1, 1, 0))),
        "never below 1 ms"
    );
}

#[test]
fn google_is_left_alone_after_an_hour_of_retries() {
    let policy = Policy {
        attempts_max: 50,
        ..Policy::default()
    };
    let busy = unavailable(Processed::Answered, None);
    let (mut attempts, mut sum) = (Attempts::default(), 0);
    while let Fate::Again {
        due,
        attempts: after,
        ..
    } = policy.next(&busy, &trial(false, attempts))
    {
        sum += due - NOW;
        attempts = after;
    }
    assert_eq!((attempts.total, sum), (8, 2_550 * SECOND));
}

pub(in crate::delivery) fn any_outcome() -> impl Strategy<Value = Outcome> {
    let after = || proptest::option::of(0..7_200_000_i64);
    let scope = prop_oneof![
        Just(ThrottleScope::DeviceToken),
        Just(ThrottleScope::Credential)
    ];
    let processed = prop_oneof![
        Just(Processed::No),
        Just(Processed::Answered),
        Just(Processed::Unknown)
    ];
    prop_oneof![
        Just(Outcome::Accepted),
        proptest::option::of(0..NOW).prop_map(|since| Outcome::Unregistered {
            reason: "Unregistered".into(),
            since
        }),
        any::<bool>().prop_map(|suspect| Outcome::Rejected {
            reason: "BadDeviceToken".into(),
            suspect
        }),
        (scope, after()).prop_map(|(scope, after)| throttled(scope, after)),
        (processed, after()).prop_map(|(processed, after)| unavailable(processed, after)),
        (0..3_600_000_i64).prop_map(|pause| Outcome::Unauthorized {
            reason: "InvalidProviderToken".into(),
            pause
        }),
    ]
}

pub(in crate::delivery) fn any_history() -> impl Strategy<Value = Attempts> {
    (0..=7_u8, 0..=7_u8, 0..=3_u8).prop_map(|(answered, unsent, ambiguous)| {
        let total = (answered + unsent + ambiguous).min(7);
        let unsent = unsent.min(total);
        history(total, unsent, ambiguous.min(total - unsent))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_due_too_early_or_too_late_or_too_often(
        outcome in any_outcome(),
        attempts in any_history(),
        is_apple in any::<bool>(),
        life in -1_000..3 * DAY,
        jitter in 0.0..=1.0_f64,
        allowed in 0..=3_u8,
    ) {
        let policy = Policy { ambiguous_retries: allowed, ..Policy::default() };
        let trial = Trial { expires_at: NOW + life, jitter, ..trial(is_apple, attempts) };
        let Fate::Again { due, why, attempts: after } = policy.next(&outcome, &trial) else {
            return Ok(());
        };
        let delay = due - NOW;
        prop_assert!(due < trial.expires_at);
        prop_assert!(after.total < policy.attempts_max);
        prop_assert!(after.ambiguous <= attempts.ambiguous.max(allowed));
        let (floor, counted, waits) = match &outcome {
            Outcome::Unavailable { processed, retry_after, .. } => {
                let floor = match processed {
                    Processed::No => 1_000,
                    Processed::Unknown => if is_apple { 5_000 } else { 10_000 },
                    Processed::Answered => if is_apple { 48_000 } else { 10_000 },
                };
                (floor.max(retry_after.unwrap_or_default()), 1, WaitingWhy::Retry)
            }
            Outcome::Throttled { retry_after, .. } => {
                (MINUTE.max(retry_after.unwrap_or_default()), 1, WaitingWhy::Retry)
            }
            Outcome::Unauthorized { pause, .. } => (MINUTE.max(*pause), 0, WaitingWhy::Breaker),
            settled => return Err(TestCaseError::fail(format!("{settled:?} is final"))),
        };
        prop_assert!(delay >= floor, "{outcome:?} after {delay} ms");
        prop_assert_eq!(after.total, attempts.total + counted);
        prop_assert_eq!(why, waits);
    }
}
