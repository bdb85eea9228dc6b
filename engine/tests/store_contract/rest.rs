//! Clauses about what waits, what died, idempotency, upkeep and opening. They must not know tables.

use clarion_engine::model::{FinalState, JobId, Lane, NotificationId};
use clarion_engine::store::{
    Begun, ClaimAnswer, ClaimRequest, DeadFilter, DeadOrigin, Error, Failure, NewDead,
    RequestOrigin, Settlement, StalePages, Store, StoredAnswer, SweepHorizon, WaitingRow,
};
use uuid::Uuid;

use crate::contract;
use crate::place::{
    FRESH, ME, NOW, Place, all_accepted, create, first_job, notification, pages, part,
    registration, settlement, waiting_row,
};

contract!(
    due_rows_come_with_tenants_in_turn_and_within_the_room_of_each_queue,
    what_is_not_due_waits_and_next_due_says_until_when,
    dead_rows_are_filtered_paged_and_purged,
    a_dead_request_keeps_its_routing_key_and_its_path,
    a_replay_for_another_notification_is_refused,
    an_idempotency_key_is_one_request_and_one_answer,
    a_request_of_another_process_is_running_unless_it_is_proven_dead,
    a_request_that_never_finished_is_taken_over_after_thirty_seconds,
    a_sweep_forgets_what_is_old_and_nothing_else,
    a_sweep_goes_by_the_age_of_dead_and_idempotency_rows_and_pruned_devices,
    a_record_outlives_its_retention_while_its_notification_could_be_sent,
    a_closed_store_is_not_ready_and_takes_nothing,
);

/// Waiting rows are born when a job closes: closes one of `tenant` with these.
async fn park(store: &dyn Store, number: u8, rows: Vec<WaitingRow>) {
    let notification = notification(&rows[0].tenant, number);
    let parked = Settlement {
        part: part(0, &[], FinalState::Accepted, true),
        waiting: rows
            .into_iter()
            .map(|row| WaitingRow {
                notification: notification.id,
                ..row
            })
            .collect(),
        ..settlement(&first_job(&notification, 0, 2))
    };
    store.commit(ME, &[parked], NOW).await.unwrap();
}

async fn due_rows_come_with_tenants_in_turn_and_within_the_room_of_each_queue(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let id = NotificationId(Uuid::nil());
    let mut rows: Vec<WaitingRow> = (0..50).map(|n| waiting_row(&acme, id, n)).collect();
    rows[49].lane = Lane::Transactional;
    park(&*store, 1, rows).await;
    park(
        &*store,
        2,
        (0..3).map(|n| waiting_row(&other, id, n)).collect(),
    )
    .await;
    let late = NOW + 1_000;
    let due = store.due(late, 4, 10, &[]).await.unwrap();
    let of_other = due.iter().filter(|row| row.tenant == other).count();
    assert_eq!((due.len(), of_other), (4, 1), "three queues in turn");
    let all = store.due(late, 100, 10, &[]).await.unwrap();
    assert_eq!(all.len(), 10 + 1 + 3);
    let busy = [
        (acme.clone(), Lane::Bulk, 8),
        (other.clone(), Lane::Bulk, 99),
    ];
    let all = store.due(late, 100, 10, &busy).await.unwrap();
    let bulk = all.iter().filter(|row| row.lane == Lane::Bulk);
    assert_eq!((all.len(), bulk.count()), (3, 2));
    let released: Vec<_> = all
        .iter()
        .map(|row| (row.tenant.clone(), row.job))
        .collect();
    store.delete_released(&released).await.unwrap();
    store.delete_released(&released).await.unwrap();
    let left = store.due(late, 100, 100, &[]).await.unwrap();
    assert_eq!(left.len(), 50);
    assert!(
        left.iter()
            .all(|row| !released.contains(&(row.tenant.clone(), row.job)))
    );
    assert_eq!(store.backlog(&acme).await.unwrap(), 47 * 3);
}

async fn what_is_not_due_waits_and_next_due_says_until_when(place: Place) {
    let (store, acme) = place.with_tenant().await;
    assert_eq!(store.next_due().await.unwrap(), None);
    let id = NotificationId(Uuid::nil());
    let mut rows: Vec<WaitingRow> = (1..=2).map(|n| waiting_row(&acme, id, n)).collect();
    rows[1].due = NOW + 500;
    park(&*store, 1, rows.clone()).await;
    assert_eq!(store.next_due().await.unwrap(), Some(NOW + 500));
    assert_eq!(store.due(NOW + 499, 9, 9, &[]).await.unwrap(), []);
    let due = store.due(NOW + 999, 9, 9, &[]).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].job, &due[0].body), (rows[1].job, &rows[1].body));
    assert_eq!((due[0].why, due[0].recipients), (rows[1].why, 3));
    let reopened = place.open().await;
    assert_eq!(reopened.due(NOW + 1_000, 9, 9, &[]).await.unwrap().len(), 2);
}

fn dead(tenant: &str, reason: &str) -> NewDead {
    NewDead {
        tenant: tenant.parse().unwrap(),
        origin: DeadOrigin::Unparsed,
        reason: reason.into(),
        detail: "not CBOR \0".into(),
        notification: None,
        job: None,
        recipients: 0,
        body: vec![0xff, 0, 1],
    }
}

async fn dead_rows_are_filtered_paged_and_purged(place: Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    let rows = [("a", "malformed"), ("b", "malformed"), ("a", "poison")];
    for (n, (tenant, reason)) in (0..).zip(rows) {
        ids.push(store.bury(&dead(tenant, reason), NOW + n).await.unwrap());
    }
    let read = |filter: DeadFilter| {
        let store = store.clone();
        async move {
            let rows = store.dead(&filter, 0, 10).await.unwrap();
            rows.iter().map(|row| row.id).collect::<Vec<i64>>()
        }
    };
    let all = DeadFilter::default;
    assert_eq!(read(all()).await, ids);
    let of_a = DeadFilter {
        tenant: Some("a".parse().unwrap()),
        ..all()
    };
    assert_eq!(read(of_a.clone()).await, [ids[0], ids[2]]);
    let poison = DeadFilter {
        reason: Some("poison".into()),
        ..all()
    };
    assert_eq!(read(poison).await, [ids[2]]);
    let before = DeadFilter {
        before: Some(NOW + 1),
        ..all()
    };
    assert_eq!(read(before).await, [ids[0]]);
    let these = DeadFilter {
        ids: Some(vec![ids[1], 999]),
        ..all()
    };
    assert_eq!(read(these.clone()).await, [ids[1]]);
    let page = store.dead(&all(), ids[0], 1).await.unwrap();
    assert_eq!((page.len(), page[0].id, page[0].at), (1, ids[1], NOW + 1));
    assert_eq!(page[0].dead, dead("b", "malformed"));
    assert_eq!(store.purge(&these).await.unwrap(), 1);
    assert_eq!(read(all()).await, [ids[0], ids[2]]);
    assert_eq!(store.purge(&of_a).await.unwrap(), 2);
}

async fn a_dead_request_keeps_its_routing_key_and_its_path(place: Place) {
    let store = place.open().await;
    let origin = RequestOrigin {
        routing_key: "acme.\0bulk".into(),
        path: "/data/\0".into(),
    };
    let origins = [
        DeadOrigin::External(origin),
        DeadOrigin::External(RequestOrigin::default()),
        DeadOrigin::Internal,
        DeadOrigin::Unparsed,
    ];
    for origin in origins.clone() {
        let row = NewDead {
            origin,
            ..dead("acme", "invalid")
        };
        store.bury(&row, NOW).await.unwrap();
    }
    let rows = store.dead(&DeadFilter::default(), 0, 10).await.unwrap();
    let read: Vec<DeadOrigin> = rows.into_iter().map(|row| row.dead.origin).collect();
    assert_eq!(read, origins);
}

async fn a_replay_for_another_notification_is_refused(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let direct = notification(&acme, 1);
    let mut internal = dead("acme", "poison");
    internal.notification = Some(direct.id);
    internal.job = Some(JobId(Uuid::from_u128(4)));
    let id = store.bury(&internal, NOW).await.unwrap();
    let row = waiting_row(&acme, notification(&acme, 2).id, 5);
    let refused = store.replay(id, &row, NOW).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    assert_eq!(store.next_due().await.unwrap(), None);
    // Its own is taken, even when the notification has been swept meanwhile.
    let row = waiting_row(&acme, direct.id, 5);
    assert!(store.replay(id, &row, NOW).await.unwrap());
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((status.waiting, status.paging), (3, false));
}

async fn an_idempotency_key_is_one_request_and_one_answer(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let (one, two) = (notification(&acme, 1).id, notification(&acme, 2).id);
    let started = |notification, recheck| Begun::Started {
        notification,
        recheck,
    };
    let begun = store.begin(&acme, "key", &[1; 32], one, NOW).await.unwrap();
    assert_eq!(begun, started(one, false));
    let begun = store
        .begin(&acme, "key", &[1; 32], two, NOW + 29_999)
        .await
        .unwrap();
    assert_eq!(begun, Begun::Running);
    let begun = store.begin(&acme, "key", &[2; 32], two, NOW).await.unwrap();
    assert_eq!(begun, Begun::OtherRequest);
    let begun = store
        .begin(&other, "key", &[2; 32], two, NOW)
        .await
        .unwrap();
    assert_eq!(begun, started(two, false));
    let answer = StoredAnswer {
        status: 202,
        body: b"{\"a\":0}\0".to_vec(),
    };
    store.finish(&acme, "key", &answer, NOW).await.unwrap();
    let begun = store
        .begin(&acme, "key", &[1; 32], two, NOW + 99_000)
        .await
        .unwrap();
    assert_eq!(begun, Begun::Done(answer.clone()));
    store.forget(&acme, "key").await.unwrap();
    let begun = store.begin(&acme, "key", &[1; 32], two, NOW).await.unwrap();
    assert_eq!(
        begun,
        Begun::Done(answer),
        "only an unfinished one is forgotten"
    );
    store.forget(&other, "key").await.unwrap();
    let begun = store
        .begin(&other, "key", &[3; 32], one, NOW)
        .await
        .unwrap();
    assert_eq!(begun, started(one, false));
}

async fn a_request_of_another_process_is_running_unless_it_is_proven_dead(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (one, two) = (notification(&acme, 1).id, notification(&acme, 2).id);
    store.begin(&acme, "key", &[1; 32], one, NOW).await.unwrap();
    drop(store);
    let store = place.open_as(Uuid::from_u128(2)).await;
    let begun = store.begin(&acme, "key", &[1; 32], two, NOW + 1).await;
    let taken_over = Begun::Started {
        notification: one,
        recheck: true,
    };
    let expected = if place.is_of_one_process() {
        taken_over
    } else {
        Begun::Running
    };
    assert_eq!(begun.unwrap(), expected);
    let begun = store.begin(&acme, "key", &[1; 32], two, NOW + 2).await;
    assert_eq!(begun.unwrap(), Begun::Running);
}

async fn a_request_that_never_finished_is_taken_over_after_thirty_seconds(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (one, two) = (notification(&acme, 1).id, notification(&acme, 2).id);
    store.begin(&acme, "key", &[1; 32], one, NOW).await.unwrap();
    let begin = |now| store.begin(&acme, "key", &[1; 32], two, now);
    let taken_over = Begun::Started {
        notification: one,
        recheck: true,
    };
    assert_eq!(begin(NOW + 30_000).await.unwrap(), taken_over);
    assert_eq!(begin(NOW + 30_001).await.unwrap(), Begun::Running);
}

async fn sweep_all(store: &dyn Store, before: i64) -> u64 {
    let horizon = SweepHorizon {
        receipts: before,
        payloads: before,
        dead: before,
        idempotency: before,
        audit: before,
        expired: before,
        analytics: before,
    };
    let mut swept = 0;
    loop {
        match store.sweep(&horizon, 3).await.unwrap() {
            0 => return swept,
            some => swept += some,
        }
    }
}

fn failure(ordinal: u32) -> Failure {
    Failure {
        ordinal,
        device: 0,
        platform: None,
        user_id: None,
        device_token: None,
        state: FinalState::Rejected,
        reason: "x".into(),
    }
}

async fn a_sweep_forgets_what_is_old_and_nothing_else(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (old, running) = (notification(&acme, 1), notification(&acme, 2));
    for bulk in [&old, &running] {
        store.create_notification(bulk, &pages(4, 3)).await.unwrap();
    }
    store.reserve_pages(9, 5, FRESH, NOW).await.unwrap();
    for page in 0..4 {
        let settled = Settlement {
            failures: (0..3).map(failure).collect(),
            ..all_accepted(&first_job(&old, page, 3))
        };
        store.commit(ME, &[settled], NOW).await.unwrap();
    }
    store
        .commit(ME, &[all_accepted(&first_job(&running, 0, 3))], NOW)
        .await
        .unwrap();
    assert_eq!(
        sweep_all(&*store, NOW).await,
        0,
        "nothing is older than now"
    );
    // Parts, failures, pages, the notification, its body, and the counts of its day.
    let swept = sweep_all(&*store, old.expires_at + 1).await;
    assert_eq!(swept, 4 + 12 + 4 + 2 + 1);
    assert_eq!(
        store.notification_status(&acme, old.id).await.unwrap(),
        None
    );
    assert_eq!(store.failures(&acme, old.id, 0, 9).await.unwrap(), []);
    let status = store
        .notification_status(&acme, running.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.total(), 3);
    let all_stale = StalePages {
        reserved_before: NOW + 1,
        fed_before: 0,
    };
    let left = store.reserve_pages(9, 9, all_stale, NOW).await.unwrap();
    assert_eq!(left.len(), 3, "its pages that have not ended");
}

async fn a_sweep_goes_by_the_age_of_dead_and_idempotency_rows_and_pruned_devices(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let kept = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await
        .unwrap();
    store.bury(&dead("acme", "poison"), NOW).await.unwrap();
    let id = notification(&acme, 1).id;
    store.begin(&acme, "key", &[1; 32], id, NOW).await.unwrap();
    assert_eq!(
        sweep_all(&*store, NOW).await,
        0,
        "nothing is older than now"
    );
    assert_eq!(sweep_all(&*store, NOW + 1).await, 2);
    assert_eq!(store.dead(&DeadFilter::default(), 0, 9).await.unwrap(), []);
    let begun = store.begin(&acme, "key", &[2; 32], id, NOW).await.unwrap();
    assert!(matches!(begun, Begun::Started { .. }));
    assert_eq!(store.devices(&acme, None, 0, 9).await.unwrap(), kept);
}

async fn a_record_outlives_its_retention_while_its_notification_could_be_sent(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 3);
    let settled = all_accepted(&job);
    let request = [ClaimRequest {
        key: settled.key.clone(),
        digest: settled.digest,
    }];
    store.commit(ME, &[settled], NOW).await.unwrap();
    sweep_all(&*store, job.notification.expires_at).await;
    let answers = store.claim(ME, &request, NOW).await.unwrap();
    assert_eq!(answers, [ClaimAnswer::Ended]);
}

async fn a_closed_store_is_not_ready_and_takes_nothing(place: Place) {
    let (store, acme) = place.with_tenant().await;
    assert!(store.is_ready().await);
    assert!(store.clock().await.unwrap() > NOW - 400 * 86_400_000);
    store.close().await;
    assert!(!store.is_ready().await);
    let refused = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    assert!(store.tenant(&acme).await.is_err());
    store.close().await;
    let reopened = place.open().await;
    assert!(reopened.tenant(&acme).await.unwrap().is_some());
}
