//! What follows each outcome, as a table; and that no recipient is lost or doubled, as properties.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use clarion_auth::MacKey;
use proptest::prelude::*;

use super::*;
use crate::delivery::retry::tests::{any_history, any_outcome};
use crate::model::{
    Address, Content, DeliveryMode, Lane, Notification, NotificationId, Options, TenantId,
};

const NOW: Millis = 1_800_000_000_000;
const STARTED: Millis = NOW - 50;
const DAY: Millis = 24 * 3_600_000;

fn job(attempts: Attempts, expires_at: Millis, delivery: DeliveryMode) -> Job {
    let tenant: TenantId = "acme".parse().unwrap();
    let id = NotificationId::mint(&MacKey::new(&[7; 32]), &tenant, NOW, [3; 10]);
    let options = Options {
        delivery,
        ..Options::default()
    };
    let notification = Notification {
        id,
        tenant,
        lane: Lane::Bulk,
        created_at: NOW - 1_000,
        expires_at,
        content: Content::default(),
        options,
    };
    let mut job = Job::first(Arc::new(notification), 0, Vec::new());
    job.attempts = attempts;
    job
}

fn fresh() -> Job {
    job(Attempts::default(), NOW + DAY, DeliveryMode::AtLeastOnce)
}

fn recipient(ordinal: u32, device: DeviceId, platform: Platform) -> Recipient {
    Recipient {
        ordinal,
        address: Address {
            device,
            platform,
            environment: Environment::Production,
            device_token: format!("token-{ordinal}-{device}").into(),
        },
    }
}

fn user_of(ordinal: u32) -> Option<Box<str>> {
    Some(format!("user-{ordinal}").into())
}

fn settle_with(job: &Job, outcomes: Vec<(Recipient, Outcome)>, jitter: f64) -> Settled {
    let context = Context {
        policy: &Policy::default(),
        users: &user_of,
        frozen: &|platform| platform == Platform::Watchos,
        now: NOW,
        request_started: STARTED,
        jitter,
    };
    let (recipients, outcomes): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    settle(job, &recipients, outcomes, &context)
}

fn settle_one(recipient: Recipient, outcome: Outcome) -> Settled {
    settle_with(&fresh(), vec![(recipient, outcome)], 0.0)
}

fn unregistered(since: Option<Millis>) -> Outcome {
    Outcome::Unregistered {
        reason: "Unregistered".into(),
        since,
    }
}

fn unavailable(processed: Processed, retry_after: Option<Millis>) -> Outcome {
    Outcome::Unavailable {
        reason: "no_connection".into(),
        processed,
        retry_after,
    }
}

#[test]
fn an_accepted_push_has_no_failure_row() {
    let settled = settle_one(recipient(4, 9, Platform::Ios), Outcome::Accepted);
    let mut counts = Counts::default();
    counts.add(FinalState::Accepted);
    let expected = Settled {
        finals: vec![(4, 9, FinalState::Accepted)],
        counts,
        accepted: vec![9],
        ..Settled::default()
    };
    assert_eq!(settled, expected);
    // A device token given directly has no row to be written to.
    let raw = settle_one(recipient(4, 0, Platform::Ios), Outcome::Accepted);
    assert_eq!(raw.finals, [(4, 0, FinalState::Accepted)]);
    assert!(raw.accepted.is_empty());
}

#[test]
fn only_the_providers_word_on_a_registered_device_prunes() {
    // (device, platform, since, prune as (dead_since, frozen))
    let table = [
        (9, Platform::Ios, Some(NOW - DAY), Some((NOW - DAY, false))),
        (9, Platform::Ios, None, Some((STARTED, false))),
        (9, Platform::Android, None, Some((STARTED, false))),
        (9, Platform::Watchos, Some(5), Some((5, true))),
        (0, Platform::Ios, Some(5), None),
    ];
    for (device, platform, since, prune) in table {
        let settled = settle_one(recipient(1, device, platform), unregistered(since));
        let expected = prune.map(|(dead_since, frozen)| Prune {
            device,
            platform,
            dead_since,
            reason: "Unregistered".into(),
            frozen,
        });
        assert_eq!(settled.prunes, Vec::from_iter(expected));
        assert_eq!(settled.finals, [(1, device, FinalState::Unregistered)]);
        let failure = &settled.failures[0];
        assert_eq!(failure.user_id.as_deref(), Some("user-1"));
        assert_eq!(failure.platform, Some(platform));
        assert_eq!(
            failure.device_token,
            Some(format!("token-1-{device}").into())
        );
        assert_eq!(
            (failure.state, failure.reason.as_str()),
            (FinalState::Unregistered, "Unregistered")
        );
    }
}

#[test]
fn a_refusal_is_final_and_at_most_makes_a_suspect() {
    for (device, suspect, suspects) in [(9, true, vec![9]), (9, false, vec![]), (0, true, vec![])] {
        let outcome = Outcome::Rejected {
            reason: "BadDeviceToken".into(),
            suspect,
        };
        let settled = settle_one(recipient(1, device, Platform::Ios), outcome);
        assert_eq!(settled.suspects, suspects);
        assert_eq!(settled.counts.get(FinalState::Rejected), 1);
        assert_eq!(settled.failures.len(), 1);
        assert!(settled.prunes.is_empty() && settled.again.is_empty());
    }
}

#[test]
fn what_concerns_the_credential_pauses_it_and_nothing_else_does() {
    let throttled = |scope, retry_after| Outcome::Throttled {
        reason: "slow".into(),
        scope,
        retry_after,
    };
    let refused = Outcome::Unauthorized {
        reason: "InvalidProviderToken".into(),
        pause: 90_000,
    };
    let apns = PauseScope::Apns(Environment::Production);
    // (platform, outcome, pause as (scope, milliseconds))
    let table = [
        (
            Platform::Ios,
            throttled(ThrottleScope::DeviceToken, Some(9_000)),
            None,
        ),
        (
            Platform::Ios,
            throttled(ThrottleScope::Credential, Some(1_200_000)),
            Some((apns, 1_200_000)),
        ),
        (
            Platform::Android,
            throttled(ThrottleScope::Credential, None),
            Some((PauseScope::Fcm, 60_000)),
        ),
        (
            Platform::Android,
            throttled(ThrottleScope::Credential, Some(90_000)),
            Some((PauseScope::Fcm, 90_000)),
        ),
        (Platform::Watchos, refused.clone(), Some((apns, 90_000))),
        (
            Platform::Ios,
            unavailable(Processed::No, Some(4_000)),
            Some((apns, 4_000)),
        ),
        (Platform::Ios, unavailable(Processed::No, None), None),
        (
            Platform::Ios,
            unavailable(Processed::Answered, Some(4_000)),
            None,
        ),
        (
            Platform::Ios,
            unavailable(Processed::Unknown, Some(4_000)),
            None,
        ),
        (Platform::Ios, Outcome::Accepted, None),
    ];
    for (platform, outcome, pause) in table {
        let settled = settle_one(recipient(1, 9, platform), outcome.clone());
        let got: Vec<_> = settled
            .pause
            .iter()
            .map(|p| (p.scope, p.until - NOW))
            .collect();
        assert_eq!(got, Vec::from_iter(pause), "{outcome:?}");
    }
}

#[test]
fn each_credential_has_one_pause_the_longest() {
    let refused = |ordinal, platform, pause| {
        let outcome = Outcome::Unauthorized {
            reason: "InvalidProviderToken".into(),
            pause,
        };
        (recipient(ordinal, 9, platform), outcome)
    };
    let outcomes = vec![
        refused(1, Platform::Ios, 1_000),
        refused(2, Platform::Ios, 3_000),
        refused(3, Platform::Ios, 2_000),
        refused(4, Platform::Android, 1_000),
    ];
    let settled = settle_with(&fresh(), outcomes, 0.0);
    let rests = settled.pause.iter();
    let got: Vec<_> = rests.map(|p| (p.scope, p.until - NOW)).collect();
    let apns = PauseScope::Apns(Environment::Production);
    assert_eq!(got, [(apns, 3_000), (PauseScope::Fcm, 1_000)]);
}

#[test]
fn ends_without_a_send_have_their_rows() {
    let recipients = [
        recipient(1, 9, Platform::Ios),
        recipient(2, 0, Platform::Android),
    ];
    let expired = expire(&recipients, &user_of);
    assert_eq!(
        expired.finals,
        [(1, 9, FinalState::Expired), (2, 0, FinalState::Expired)]
    );
    assert_eq!(expired.failures[1].user_id.as_deref(), Some("user-2"));
    assert_eq!(expired.failures[1].reason, "expired");
    let cancelled = cancel(&recipients, &user_of);
    assert_eq!(cancelled.counts.get(FinalState::Cancelled), 2);
    assert!(cancelled.failures.is_empty(), "nobody failed");
    let user = Entry {
        ordinal: 7,
        target: Target::User {
            user_id: "ada".into(),
            after: 0,
        },
    };
    let nobody = no_device(std::slice::from_ref(&user));
    assert_eq!(nobody.finals, [(7, -1, FinalState::NoDevice)]);
    assert_eq!(nobody.counts.recipients(), 0);
    let failure = &nobody.failures[0];
    assert_eq!(failure.user_id.as_deref(), Some("ada"));
    assert_eq!(
        (failure.device, failure.platform, &failure.device_token),
        (0, None, &None)
    );
    let mixed = [user, recipients[0].clone().into()];
    let late = end_entries(&mixed, FinalState::Expired, "expired");
    assert_eq!(
        late.finals,
        [(7, -1, FinalState::Expired), (1, 9, FinalState::Expired)]
    );
    let mut all = expired;
    all.merge(late);
    assert_eq!(
        (all.counts.get(FinalState::Expired), all.failures.len()),
        (4, 4)
    );
}

fn again(ordinal: u32, due: Millis, total: u8, why: WaitingWhy) -> Again {
    let attempts = Attempts {
        total,
        ..Attempts::default()
    };
    Again {
        recipient: recipient(ordinal, i64::from(ordinal) + 1, Platform::Ios),
        due,
        why,
        attempts,
    }
}

#[test]
fn children_share_a_history_a_reason_and_a_second() {
    use WaitingWhy::{Breaker, Retry};
    let waits = vec![
        again(5, NOW + 900, 1, Retry),
        again(3, NOW, 1, Retry),
        again(4, NOW + 1_001, 1, Retry),
        again(9, NOW + 1_000, 1, Retry),
        again(1, NOW, 2, Retry),
        again(2, NOW, 1, Breaker),
    ];
    let parent = fresh();
    let mut got: Vec<_> = children(&parent, waits.clone())
        .into_iter()
        .map(|(child, due, why)| {
            assert!(child.recheck && child.page.is_none() && child.id != parent.id);
            assert_eq!(
                child.id,
                crate::model::JobId::derived(parent.id, child.kind, child.attempts, &child.entries)
            );
            let ordinals: Vec<u32> = child.entries.iter().map(|entry| entry.ordinal).collect();
            (ordinals, due - NOW, why, child.kind, child.attempts.total)
        })
        .collect();
    got.sort_by_key(|child| child.0.clone());
    assert_eq!(
        got,
        [
            (vec![1], 0, Retry, JobKind::Retry, 2),
            (vec![2], 0, Breaker, JobKind::Parked, 1),
            (vec![3, 5, 9], 1_000, Retry, JobKind::Retry, 1),
            (vec![4], 1_001, Retry, JobKind::Retry, 1),
        ]
    );
    let mut reversed = waits.clone();
    reversed.reverse();
    assert_eq!(children(&parent, reversed), children(&parent, waits));
}

#[test]
fn a_parked_job_has_a_new_id_and_its_history_and_waits_no_longer_than_it_lives() {
    let attempts = Attempts {
        total: 3,
        unsent: 1,
        ambiguous: 1,
    };
    let parent = job(attempts, NOW + DAY, DeliveryMode::AtLeastOnce);
    let entries: Vec<Entry> = (0..4_500)
        .rev()
        .map(|n| recipient(n, 1, Platform::Ios).into())
        .collect();
    let parts = parked(&parent, entries, NOW + 2 * DAY, WaitingWhy::Limited);
    let sizes: Vec<usize> = parts
        .iter()
        .map(|(child, ..)| child.entries.len())
        .collect();
    assert_eq!(sizes, [2_000, 2_000, 500]);
    for (child, due, why) in &parts {
        assert_eq!((*due, *why), (NOW + DAY, WaitingWhy::Limited));
        assert_eq!((child.attempts, child.kind), (attempts, JobKind::Parked));
        assert_ne!(child.id, parent.id);
        assert!(child.entries.is_sorted_by_key(Entry::key));
    }
    assert_eq!(parked(&parent, Vec::new(), NOW, WaitingWhy::Paused), []);
}

fn any_platform() -> impl Strategy<Value = Platform> {
    prop_oneof![
        Just(Platform::Ios),
        Just(Platform::Watchos),
        Just(Platform::Android)
    ]
}

proptest! {
    #[test]
    fn every_recipient_ends_or_waits_and_never_both(
        outcomes in prop::collection::vec((0..3_i64, any_platform(), any_outcome()), 0..80),
        attempts in any_history(),
        life in -1_000..2 * DAY,
        once in any::<bool>(),
        jitter in 0.0..=1.0_f64,
    ) {
        let delivery = if once { DeliveryMode::AtMostOnce } else { DeliveryMode::AtLeastOnce };
        let parent = job(attempts, NOW + life, delivery);
        let outcomes: Vec<_> = (0..).zip(outcomes)
            .map(|(ordinal, (device, platform, outcome))| (recipient(ordinal, device, platform), outcome))
            .collect();
        let settled = settle_with(&parent, outcomes.clone(), jitter);

        let mut seen = BTreeMap::new();
        for (ordinal, device, _) in &settled.finals {
            *seen.entry((*ordinal, *device)).or_insert(0) += 1;
        }
        for one in &settled.again {
            *seen.entry(one.recipient.key()).or_insert(0) += 1;
            prop_assert!(one.due > NOW && one.due < NOW + life);
        }
        let expected: BTreeMap<_, _> = outcomes.iter().map(|(who, _)| (who.key(), 1)).collect();
        prop_assert_eq!(&seen, &expected);

        prop_assert_eq!(settled.counts.total(), settled.finals.len() as u64);
        for state in FinalState::ALL {
            let of_state = settled.finals.iter().filter(|(_, _, s)| *s == state).count();
            prop_assert_eq!(settled.counts.get(state), of_state as u64);
        }
        let failed = settled.finals.len() as u64 - settled.counts.get(FinalState::Accepted);
        prop_assert_eq!(settled.failures.len() as u64, failed);
        let registered = |id: &DeviceId| *id != 0;
        prop_assert!(settled.accepted.iter().chain(&settled.suspects).all(registered));
        prop_assert!(settled.prunes.iter().all(|prune| prune.device != 0));
        if once {
            prop_assert!(settled.again.iter().all(|one| one.attempts.ambiguous == attempts.ambiguous));
        }
    }

    #[test]
    fn children_hold_exactly_what_waits_and_none_is_early(
        waits in prop::collection::vec((0..5_000_i64, 1..4_u8, any::<bool>()), 0..200),
    ) {
        let waits: Vec<Again> = (0..).zip(waits).map(|(ordinal, (after, total, refused))| {
            let why = if refused { WaitingWhy::Breaker } else { WaitingWhy::Retry };
            again(ordinal, NOW + after, total, why)
        }).collect();
        let due_of: BTreeMap<_, _> = waits.iter().map(|one| (one.recipient.key(), one.clone())).collect();
        let jobs = children(&fresh(), waits);
        let mut ids: Vec<_> = jobs.iter().map(|(child, ..)| child.id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), jobs.len());
        let mut held = 0;
        for (child, due, why) in &jobs {
            prop_assert!(child.entries.is_sorted_by_key(Entry::key));
            for entry in &child.entries {
                let one = &due_of[&entry.key()];
                prop_assert!((one.due..=one.due + DUE_BUCKET).contains(due));
                prop_assert_eq!((one.why, one.attempts), (*why, child.attempts));
                held += 1;
            }
        }
        prop_assert_eq!(held, due_of.len());
    }
}
