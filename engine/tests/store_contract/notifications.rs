//! Clauses about notifications, their counts and their failures. They must not know tables.

use clarion_engine::model::{FinalState, JobKind, Platform};
use clarion_engine::store::{DeadFilter, DeadOrigin};
use clarion_engine::store::{Error, Failure, NewDead, NotificationState, Settlement};

use crate::contract;
use crate::place::{
    ME, NOW, Place, all_accepted, child_job, first_job, notification, pages, part, settlement,
    waiting_row,
};

contract!(
    a_bulk_is_stored_whole_or_not_at_all,
    a_direct_notification_gets_its_row_with_its_first_part,
    a_notification_finishes_when_its_pages_and_jobs_have_ended,
    a_child_that_ends_before_the_last_page_does_not_finish_it,
    a_replayed_dead_job_opens_its_notification_again,
    failures_are_read_in_order_from_a_cursor_on,
    the_backlog_is_what_has_not_ended,
);

async fn a_bulk_is_stored_whole_or_not_at_all(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    assert_eq!(
        store.notification_status(&acme, bulk.id).await.unwrap(),
        None
    );
    store
        .create_notification(&bulk, &pages(3, 10))
        .await
        .unwrap();
    let again = store.create_notification(&bulk, &pages(3, 10)).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let stranger = notification(&"nobody".parse().unwrap(), 2);
    let refused = store.create_notification(&stranger, &pages(1, 1)).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
    let reopened = place.open().await;
    let status = reopened
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.entries, status.recipients, status.waiting),
        (30, 0, 0)
    );
    assert!(status.paging);
    assert_eq!(status.state, NotificationState::Running);
    assert_eq!(status.expires_at, bulk.expires_at);
    assert_eq!(status.lane, bulk.lane);
    let other = "other".parse().unwrap();
    assert_eq!(
        store.notification_status(&other, bulk.id).await.unwrap(),
        None
    );
}

async fn a_direct_notification_gets_its_row_with_its_first_part(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let direct = notification(&acme, 1);
    let job = first_job(&direct, 0, 3);
    let open = Settlement {
        part: part(0, &[(0, 0)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    store.commit(ME, &[open], NOW).await.unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((status.entries, status.recipients), (3, 0));
    assert_eq!(status.counts.get(FinalState::Accepted), 1);
    assert_eq!(
        (status.state, status.paging),
        (NotificationState::Running, false)
    );
    let end = Settlement {
        resolved: 3,
        part: part(1, &[(1, 0), (2, 0)], FinalState::Rejected, true),
        ..settlement(&job)
    };
    store.commit(ME, &[end], NOW + 7).await.unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((status.entries, status.recipients), (3, 3));
    assert_eq!(status.counts.get(FinalState::Rejected), 2);
    assert_eq!(status.state, NotificationState::Finished);
    assert_eq!(status.finished_at, Some(NOW + 7));
}

async fn a_notification_finishes_when_its_pages_and_jobs_have_ended(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let direct = notification(&acme, 1);
    let job = first_job(&direct, 0, 4);
    let row = waiting_row(&acme, direct.id, 77);
    let parked = Settlement {
        resolved: 4,
        part: part(0, &[(0, 0)], FinalState::Accepted, true),
        waiting: vec![row.clone()],
        ..settlement(&job)
    };
    store.commit(ME, &[parked], NOW).await.unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.state, status.waiting),
        (NotificationState::Running, 3)
    );
    store
        .delete_released(&[(acme.clone(), row.job)])
        .await
        .unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.state, status.waiting),
        (NotificationState::Running, 0)
    );
    let child = child_job(&job, &row);
    let end = Settlement {
        part: part(0, &[(1, 0), (2, 0), (3, 0)], FinalState::Exhausted, true),
        ..settlement(&child)
    };
    store.commit(ME, &[end], NOW + 1).await.unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Finished);
    assert_eq!((status.recipients, status.counts.total()), (4, 4));
}

async fn a_child_that_ends_before_the_last_page_does_not_finish_it(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(2, 4))
        .await
        .unwrap();
    let first = first_job(&bulk, 0, 4);
    let row = waiting_row(&acme, bulk.id, 77);
    let parked = Settlement {
        part: part(0, &[], FinalState::Accepted, true),
        waiting: vec![row.clone()],
        ..settlement(&first)
    };
    // Page and child in one group.
    let child = all_accepted(&child_job(&first, &row));
    store.commit(ME, &[parked, child], NOW).await.unwrap();
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Running);
    store
        .commit(ME, &[all_accepted(&first_job(&bulk, 1, 4))], NOW)
        .await
        .unwrap();
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Finished);
}

async fn a_replayed_dead_job_opens_its_notification_again(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let direct = notification(&acme, 1);
    let job = first_job(&direct, 0, 3);
    let poisoned = |seq_job: &clarion_engine::model::Job| Settlement {
        part: part(0, &[(0, 0), (1, 0), (2, 0)], FinalState::Dead, true),
        dead: Some(NewDead {
            tenant: acme.clone(),
            origin: DeadOrigin::Internal,
            reason: "poison".into(),
            detail: "five claims without progress".into(),
            notification: Some(direct.id),
            job: Some(seq_job.id),
            recipients: 3,
            body: vec![1, 0, 2],
        }),
        ..settlement(seq_job)
    };
    store.commit(ME, &[poisoned(&job)], NOW).await.unwrap();
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.get(FinalState::Dead), 3);
    assert_eq!(status.state, NotificationState::Finished);
    let dead = store.dead(&DeadFilter::default(), 0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].replays), (1, 0));
    assert_eq!(dead[0].dead.body, [1, 0, 2]);
    let row = waiting_row(&acme, direct.id, 99);
    assert!(store.replay(dead[0].id, &row, NOW).await.unwrap());
    assert!(!store.replay(dead[0].id, &row, NOW).await.unwrap());
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.counts.get(FinalState::Dead), status.waiting),
        (0, 3)
    );
    assert_eq!(
        (status.state, status.finished_at),
        (NotificationState::Running, None)
    );
    let mut again = child_job(&job, &row);
    again.kind = JobKind::Replay;
    store.commit(ME, &[poisoned(&again)], NOW).await.unwrap();
    let dead = store.dead(&DeadFilter::default(), 0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].replays), (1, 1));
    let status = store
        .notification_status(&acme, direct.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Finished);
    assert_eq!(status.counts.get(FinalState::Dead), 3);
}

async fn failures_are_read_in_order_from_a_cursor_on(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let direct = notification(&acme, 1);
    let failure = |ordinal| Failure {
        ordinal,
        device: i64::from(ordinal),
        platform: (ordinal > 0).then_some(Platform::Android),
        user_id: Some("ada".into()),
        device_token: None,
        state: FinalState::Rejected,
        reason: "a reason with a NUL \0".into(),
    };
    let settled = Settlement {
        failures: (0..70).map(failure).collect(),
        ..all_accepted(&first_job(&direct, 0, 70))
    };
    store.commit(ME, &[settled], NOW).await.unwrap();
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let some = store.failures(&acme, direct.id, after, 32).await.unwrap();
        let Some(last) = some.last() else { break };
        after = last.id;
        read.extend(some);
    }
    let ordinals: Vec<u32> = read.iter().map(|row| row.ordinal).collect();
    assert_eq!(ordinals, (0..70).collect::<Vec<u32>>());
    assert_eq!(
        (read[0].platform, read[1].platform),
        (None, Some(Platform::Android))
    );
    assert_eq!(read[1].reason, "a reason with a NUL \0");
    assert_eq!((read[1].user_id.as_deref(), read[1].at), (Some("ada"), NOW));
    let other = "other".parse().unwrap();
    assert_eq!(store.failures(&other, direct.id, 0, 10).await.unwrap(), []);
}

async fn the_backlog_is_what_has_not_ended(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    assert_eq!(store.backlog(&acme).await.unwrap(), 0);
    store
        .create_notification(&bulk, &pages(2, 10))
        .await
        .unwrap();
    assert_eq!(store.backlog(&acme).await.unwrap(), 20);
    let row = waiting_row(&acme, bulk.id, 5);
    let parked = Settlement {
        part: part(0, &[], FinalState::Accepted, true),
        waiting: vec![row.clone()],
        ..settlement(&first_job(&bulk, 0, 10))
    };
    store.commit(ME, &[parked], NOW).await.unwrap();
    assert_eq!(store.backlog(&acme).await.unwrap(), 10 + 3);
    store
        .commit(ME, &[all_accepted(&first_job(&bulk, 1, 10))], NOW)
        .await
        .unwrap();
    store
        .delete_released(&[(acme.clone(), row.job)])
        .await
        .unwrap();
    assert_eq!(store.backlog(&acme).await.unwrap(), 0);
}
