//! Clauses about two that are at one store at the same time. They must not know how a store keeps them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clarion_engine::model::{FinalState, Job, Lane};
use clarion_engine::store::{
    Begun, ClaimAnswer, ClaimRequest, CommitAnswer, CredentialKind, CredentialRecord, DeadOrigin,
    Error, NewDead, NotificationState, Registration, Settlement, StalePages, Store, TenantPatch,
    WaitingRow,
};
use uuid::Uuid;

use crate::contract;
use crate::place::{
    FRESH, ME, NOW, OTHER, PROCESS, Place, all_accepted, child_job, create, first_job,
    notification, pages, part, registration, settlement, waiting_row,
};

contract!(
    of_two_that_begin_a_key_at_once_one_starts,
    of_two_that_find_a_request_abandoned_one_takes_it_over,
    of_two_that_claim_a_job_at_once_one_is_granted,
    of_two_that_write_one_place_one_is_fenced_job_by_job,
    two_feeders_never_reserve_the_same_page,
    a_stuck_page_is_handed_to_one_of_two,
    pages_may_end_while_they_are_marked_as_fed,
    what_two_commit_to_one_notification_adds_up,
    two_releasers_share_what_is_due,
    two_may_register_the_same_devices,
    a_control_version_is_never_read_before_its_change,
    of_two_that_replay_a_dead_row_one_does,
    of_two_that_replace_a_credential_one_does,
);

/// How often two are set on each other.
const ROUNDS: u8 = 12;

/// The store as two processes have it open, with a tenant; or as two parts of the only process have it.
async fn two(place: &Place) -> (Arc<dyn Store>, Arc<dyn Store>, clarion_auth::TenantId) {
    let (one, acme) = place.with_tenant().await;
    let two = if place.is_of_one_process() {
        Arc::clone(&one)
    } else {
        place.open_as(Uuid::from_u128(2)).await
    };
    (one, two, acme)
}

async fn of_two_that_begin_a_key_at_once_one_starts(place: Place) {
    let (one, two, acme) = two(&place).await;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let ids = [1, 2].map(|n| notification(&acme, 2 * round + n).id);
        let (first, second) = tokio::join!(
            one.begin(&acme, &key, &[1; 32], ids[0], NOW),
            two.begin(&acme, &key, &[1; 32], ids[1], NOW),
        );
        let met = [first.unwrap(), second.unwrap()];
        let started = met
            .iter()
            .filter(|begun| matches!(begun, Begun::Started { .. }));
        assert_eq!(started.count(), 1, "{met:?}");
        assert!(met.contains(&Begun::Running), "{met:?}");
    }
}

async fn of_two_that_find_a_request_abandoned_one_takes_it_over(place: Place) {
    let (one, two, acme) = two(&place).await;
    let (id, other) = (notification(&acme, 1).id, notification(&acme, 2).id);
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        one.begin(&acme, &key, &[1; 32], id, NOW).await.unwrap();
        let late = NOW + 30_000;
        let (first, second) = tokio::join!(
            one.begin(&acme, &key, &[1; 32], other, late),
            two.begin(&acme, &key, &[1; 32], other, late),
        );
        let taken_over = Begun::Started {
            notification: id,
            recheck: true,
        };
        let met = [first.unwrap(), second.unwrap()];
        assert!(
            met.contains(&taken_over) && met.contains(&Begun::Running),
            "{met:?}"
        );
    }
}

async fn of_two_that_claim_a_job_at_once_one_is_granted(place: Place) {
    let (one, acme) = place.with_tenant().await;
    let two = place.open_as(PROCESS).await;
    for round in 0..ROUNDS {
        let jobs = [0, 1, 2].map(|page| first_job(&notification(&acme, round), page, 3));
        let asked = jobs.map(|job| ClaimRequest {
            key: settlement(&job).key,
            digest: job.digest(),
        });
        let mut backwards = asked.clone();
        backwards.reverse();
        let (first, second) = tokio::join!(
            one.claim(ME, &asked, NOW),
            two.claim(OTHER, &backwards, NOW),
        );
        let (first, mut second) = (first.unwrap(), second.unwrap());
        second.reverse();
        for (first, second) in first.iter().zip(&second) {
            let granted = [first, second].map(|a| matches!(a, ClaimAnswer::Granted { .. }));
            let held = [first, second].map(|a| *a == ClaimAnswer::Held);
            assert_eq!(granted, [held[1], held[0]], "{first:?} {second:?}");
            assert_ne!(granted[0], granted[1], "{first:?} {second:?}");
        }
    }
}

async fn of_two_that_write_one_place_one_is_fenced_job_by_job(place: Place) {
    let (one, two, acme) = two(&place).await;
    for round in 0..ROUNDS {
        let bulk = notification(&acme, round);
        one.create_notification(&bulk, &pages(9, 4)).await.unwrap();
        let jobs: Vec<Job> = (0..9).map(|page| first_job(&bulk, page, 4)).collect();
        let end = |job: &Job, state| {
            let ended: Vec<(u32, i64)> = job.entries.iter().map(|entry| entry.key()).collect();
            Settlement {
                part: part(0, &ended, state, true),
                ..settlement(job)
            }
        };
        let mine: Vec<_> = jobs
            .iter()
            .map(|job| end(job, FinalState::Accepted))
            .collect();
        let theirs = jobs.iter().rev().map(|job| end(job, FinalState::Rejected));
        let theirs: Vec<_> = theirs.collect();
        let (first, second) =
            tokio::join!(one.commit(ME, &mine, NOW), two.commit(OTHER, &theirs, NOW),);
        let (first, mut second) = (first.unwrap(), second.unwrap());
        second.reverse();
        for (first, second) in first.iter().zip(&second) {
            assert_ne!(first, second, "one of two is taken, the other fenced");
        }
        let taken = |answers: &[CommitAnswer]| {
            let taken = answers
                .iter()
                .filter(|answer| **answer == CommitAnswer::Taken);
            4 * taken.count() as u64
        };
        let status = one
            .notification_status(&acme, bulk.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.counts.get(FinalState::Accepted), taken(&first));
        assert_eq!(status.counts.get(FinalState::Rejected), taken(&second));
        assert_eq!(status.state, NotificationState::Finished);
    }
}

async fn two_feeders_never_reserve_the_same_page(place: Place) {
    let (one, two, acme) = two(&place).await;
    let tenants = [
        acme,
        create(&*one, "bravo").await,
        create(&*one, "coyote").await,
    ];
    for tenant in &tenants {
        let bulk = notification(tenant, 1);
        one.create_notification(&bulk, &pages(20, 2)).await.unwrap();
    }
    let mut had = BTreeSet::new();
    // Either may come away empty-handed, but not both for ever.
    for _ in 0..100 {
        let (first, second) = tokio::join!(
            one.reserve_pages(100, 7, FRESH, NOW),
            two.reserve_pages(100, 5, FRESH, NOW),
        );
        for page in first.unwrap().into_iter().chain(second.unwrap()) {
            let key = (page.notification.tenant.clone(), page.page);
            assert!(!page.recheck);
            assert!(had.insert(key), "a page was reserved twice");
        }
    }
    assert_eq!(had.len(), 60);
}

async fn a_stuck_page_is_handed_to_one_of_two(place: Place) {
    let (one, two, acme) = two(&place).await;
    let bulk = notification(&acme, 1);
    one.create_notification(&bulk, &pages(6, 2)).await.unwrap();
    one.reserve_pages(9, 9, FRESH, NOW).await.unwrap();
    for round in 1..=i64::from(ROUNDS) {
        let now = NOW + 10 * round;
        let stale = StalePages {
            reserved_before: now,
            fed_before: now,
        };
        let (first, second) = tokio::join!(
            one.reserve_pages(9, 9, stale, now),
            two.reserve_pages(9, 9, stale, now),
        );
        let again = first.unwrap().into_iter().chain(second.unwrap());
        let mut again: Vec<u32> = again.map(|page| page.page).collect();
        again.sort_unstable();
        assert_eq!(again, [0, 1, 2, 3, 4, 5]);
    }
}

async fn pages_may_end_while_they_are_marked_as_fed(place: Place) {
    let (one, two, acme) = two(&place).await;
    for round in 0..ROUNDS {
        let bulk = notification(&acme, round);
        one.create_notification(&bulk, &pages(12, 2)).await.unwrap();
        one.reserve_pages(12, 12, FRESH, NOW).await.unwrap();
        let fed: Vec<_> = (0..12)
            .rev()
            .map(|page| (acme.clone(), bulk.id, page))
            .collect();
        let ended = (0..12).map(|page| all_accepted(&first_job(&bulk, page, 2)));
        let ended: Vec<_> = ended.collect();
        let (marked, committed) =
            tokio::join!(one.mark_fed(&fed, NOW), two.commit(ME, &ended, NOW));
        marked.unwrap();
        assert_eq!(committed.unwrap(), [CommitAnswer::Taken; 12]);
        let status = one
            .notification_status(&acme, bulk.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.state, NotificationState::Finished);
    }
}

async fn what_two_commit_to_one_notification_adds_up(place: Place) {
    let (one, two, acme) = two(&place).await;
    let bulk = notification(&acme, 1);
    one.create_notification(&bulk, &pages(24, 4)).await.unwrap();
    // Each page leaves a job with three recipients behind.
    let parked = |page: u32| {
        let job = first_job(&bulk, page, 4);
        let row = waiting_row(&acme, bulk.id, u128::from(page) + 1);
        let parked = Settlement {
            resolved: 4,
            part: part(0, &[(page * 4, 0)], FinalState::Accepted, true),
            waiting: vec![row.clone()],
            ..settlement(&job)
        };
        (parked, row.job, all_accepted(&child_job(&job, &row)))
    };
    let work = async |store: &dyn Store, mine: u32| {
        for round in 0..4 {
            let pages = (0..3).map(|n| parked(mine + 2 * (3 * round + n)));
            let pages: Vec<_> = pages.collect();
            let group: Vec<_> = pages.iter().map(|(parked, _, _)| parked.clone()).collect();
            store.commit(ME, &group, NOW).await.unwrap();
            let jobs: Vec<_> = pages
                .iter()
                .map(|(_, job, _)| (acme.clone(), *job))
                .collect();
            store.delete_released(&jobs).await.unwrap();
            let children: Vec<_> = pages.into_iter().map(|(_, _, child)| child).collect();
            store.commit(ME, &children, NOW).await.unwrap();
        }
    };
    tokio::join!(work(&*one, 0), work(&*two, 1));
    let status = one
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Finished);
    assert_eq!((status.recipients, status.waiting), (96, 0));
    assert_eq!(status.counts.get(FinalState::Accepted), 24 + 24 * 4);
    assert_eq!(one.backlog(&acme).await.unwrap(), 0);
}

/// Parks rows of a tenant: they are born when a job closes.
async fn park(store: &dyn Store, tenant: &clarion_auth::TenantId, rows: u128) -> BTreeSet<u128> {
    let bulk = notification(tenant, 1);
    let row = |n: u128| WaitingRow {
        lane: if n.is_multiple_of(5) {
            Lane::Transactional
        } else {
            Lane::Bulk
        },
        ..waiting_row(tenant, bulk.id, n)
    };
    let parked = Settlement {
        part: part(0, &[], FinalState::Accepted, true),
        waiting: (0..rows).map(row).collect(),
        ..settlement(&first_job(&bulk, 0, 2))
    };
    store.commit(ME, &[parked], NOW).await.unwrap();
    (0..rows).collect()
}

async fn two_releasers_share_what_is_due(place: Place) {
    let (one, two, acme) = two(&place).await;
    let bravo = create(&*one, "bravo").await;
    let all = park(&*one, &acme, 60).await.len() + park(&*one, &bravo, 30).await.len();
    let late = NOW + 1_000;
    let mut times: BTreeMap<(String, Uuid), u32> = BTreeMap::new();
    while times.len() < all {
        let (first, second) = tokio::join!(
            one.due(late, 16, 64, &[]),
            // Of one process only, there is nobody to share with.
            async {
                if place.is_of_one_process() {
                    Ok(Vec::new())
                } else {
                    two.due(late, 16, 64, &[]).await
                }
            },
        );
        let rows = [first.unwrap(), second.unwrap()].concat();
        for row in &rows {
            *times
                .entry((row.tenant.to_string(), row.job.0))
                .or_default() += 1;
        }
        let (left, right) = rows.split_at(rows.len() / 2);
        let keys = |rows: &[WaitingRow]| -> Vec<_> {
            rows.iter()
                .map(|row| (row.tenant.clone(), row.job))
                .collect()
        };
        let (left, right) = (keys(left), [keys(right), keys(left)].concat());
        let (first, second) = tokio::join!(one.delete_released(&left), two.delete_released(&right));
        first.unwrap();
        second.unwrap();
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert_eq!(one.backlog(&acme).await.unwrap(), 0);
    // What a process took and did not release is its own for a while, and then anybody's.
    let id = notification(&acme, 2);
    let left = Settlement {
        part: part(0, &[], FinalState::Accepted, true),
        waiting: vec![waiting_row(&acme, id.id, 900)],
        ..settlement(&first_job(&id, 0, 2))
    };
    one.commit(ME, &[left], NOW).await.unwrap();
    assert_eq!(one.due(late, 9, 9, &[]).await.unwrap().len(), 1);
    assert_eq!(
        one.due(late, 9, 9, &[]).await.unwrap().len(),
        1,
        "its publish failed"
    );
    if !place.is_of_one_process() {
        assert_eq!(two.due(late + 29_999, 9, 9, &[]).await.unwrap(), []);
        assert_eq!(two.next_due().await.unwrap(), Some(late + 30_000));
    }
    assert_eq!(two.due(late + 30_000, 9, 9, &[]).await.unwrap().len(), 1);
}

async fn two_may_register_the_same_devices(place: Place) {
    let (one, two, acme) = two(&place).await;
    let mine: Vec<Registration> = (0..200)
        .map(|n| registration("ada", &format!("{n:064x}")))
        .collect();
    let theirs: Vec<Registration> = (100..300)
        .rev()
        .map(|n| registration("bob", &format!("{n:064x}")))
        .collect();
    for round in 0..i64::from(ROUNDS) {
        let (first, second) = tokio::join!(
            one.register(&acme, &mine, NOW + round),
            two.register(&acme, &theirs, NOW + round),
        );
        first.unwrap();
        second.unwrap();
    }
    let all = one.devices(&acme, None, 0, 1_000).await.unwrap();
    let tokens: BTreeSet<&str> = all.iter().map(|device| &*device.device_token).collect();
    assert_eq!((all.len(), tokens.len()), (300, 300));
}

async fn a_control_version_is_never_read_before_its_change(place: Place) {
    let (one, two, acme) = two(&place).await;
    let bravo = create(&*one, "bravo").await;
    let three = place.open_as(Uuid::from_u128(3)).await;
    let start = three.control(0).await.unwrap().version;
    let changes = async |store: &dyn Store, tenant, start: u32| {
        for rate in start..start + u32::from(ROUNDS) {
            let patch = TenantPatch {
                rate: Some(Some(rate)),
                ..TenantPatch::default()
            };
            store.update_tenant(tenant, &patch, NOW).await.unwrap();
        }
    };
    // Each read asks only for what is newer than the version that the last one told.
    let watch = async {
        let (mut version, mut rates) = (start, BTreeMap::new());
        while version < start + 2 * i64::from(ROUNDS) {
            let state = three.control(version).await.unwrap();
            for tenant in state.changed {
                rates.insert(tenant.id, tenant.limits.rate);
            }
            version = state.version;
        }
        rates
    };
    let ((), (), rates) =
        tokio::join!(changes(&*one, &acme, 1), changes(&*two, &bravo, 100), watch);
    let last = u32::from(ROUNDS) - 1;
    assert_eq!(rates[&acme], Some(1 + last));
    assert_eq!(rates[&bravo], Some(100 + last));
}

async fn of_two_that_replay_a_dead_row_one_does(place: Place) {
    let (one, two, acme) = two(&place).await;
    let direct = notification(&acme, 1);
    for round in 0..ROUNDS {
        let dead = NewDead {
            tenant: acme.clone(),
            origin: DeadOrigin::Internal,
            reason: "poison".into(),
            detail: String::new(),
            notification: Some(direct.id),
            job: None,
            recipients: 3,
            body: vec![1],
        };
        let id = one.bury(&dead, NOW).await.unwrap();
        let row = waiting_row(&acme, direct.id, u128::from(round));
        let (first, second) = tokio::join!(one.replay(id, &row, NOW), two.replay(id, &row, NOW));
        assert_ne!(first.unwrap(), second.unwrap());
    }
    let status = one
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.waiting, 3 * u64::from(ROUNDS));
}

async fn of_two_that_replace_a_credential_one_does(place: Place) {
    let (one, two, acme) = two(&place).await;
    for version in 1..=i64::from(ROUNDS) {
        let record = CredentialRecord {
            tenant: acme.clone(),
            credential_id: "fcm".into(),
            kind: CredentialKind::Fcm,
            environment: clarion_engine::model::Environment::Production,
            version,
            public: "{}".into(),
            sealed: vec![0, 1],
            created_at: NOW,
        };
        let (first, second) =
            tokio::join!(one.put_credential(&record), two.put_credential(&record));
        let refused = |answer: &Result<(), Error>| matches!(answer, Err(Error::Conflict(_)));
        assert_eq!(u8::from(refused(&first)) + u8::from(refused(&second)), 1);
        assert!(first.is_ok() || second.is_ok());
    }
}
