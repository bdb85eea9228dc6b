//! Clauses about the outbox: what is told is committed with the record it speaks of. They must not know what a row says.

use clarion_engine::limits::EVENT_LEASE;
use clarion_engine::model::{FinalState, Job, Millis, TenantId};
use clarion_engine::store::{CommitAnswer, OutboxRow, Settlement, Store};

use crate::contract;
use crate::place::{
    ME, NOW, OTHER, Place, all_accepted, create, first_job, notification, part, settlement,
};

contract!(
    an_event_is_there_with_its_record_and_once,
    a_fenced_settlement_tells_nothing_and_the_others_of_its_group_do,
    what_tells_nothing_leaves_nothing,
    rows_are_taken_in_their_order_within_both_bounds,
    what_is_taken_is_given_to_nobody_until_its_lease_is_over,
    what_is_deleted_does_not_come_again,
    an_outbox_survives_a_crash,
);

/// More than any clause asks for.
const PLENTY: (u32, u64) = (1_000, 1_000_000);

fn telling(job: &Job, body: &[u8]) -> Settlement {
    Settlement {
        event: Some(body.to_vec()),
        ..all_accepted(job)
    }
}

async fn take(store: &dyn Store, now: Millis) -> Vec<OutboxRow> {
    let (most, bytes) = PLENTY;
    store.take_events(most, bytes, now).await.unwrap()
}

/// Commits so many events of a tenant; each body is its number.
async fn fill(store: &dyn Store, tenant: &TenantId, count: u8) {
    for number in 0..count {
        let job = first_job(&notification(tenant, number), 0, 2);
        let told = telling(&job, &[number]);
        store.commit(ME, &[told], NOW).await.unwrap();
    }
}

fn bodies(rows: &[OutboxRow]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.body.clone()).collect()
}

fn lease() -> Millis {
    Millis::try_from(EVENT_LEASE.as_millis()).unwrap()
}

async fn an_event_is_there_with_its_record_and_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 2);
    let told = telling(&job, b"a NUL \0 in it");
    // The second time it is this writer's own commit, whose answer was lost.
    for _ in 0..2 {
        let answer = store.commit(ME, std::slice::from_ref(&told), NOW).await;
        assert_eq!(answer.unwrap(), [CommitAnswer::Taken]);
    }
    let rows = take(&*store, NOW).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].key, rows[0].seq), (&told.key, 0));
    assert_eq!(
        (rows[0].at, rows[0].body.as_slice()),
        (NOW, &b"a NUL \0 in it"[..])
    );
}

async fn a_fenced_settlement_tells_nothing_and_the_others_of_its_group_do(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (one, two) = (
        first_job(&notification(&acme, 1), 0, 2),
        first_job(&notification(&acme, 2), 0, 2),
    );
    store
        .commit(OTHER, &[all_accepted(&one)], NOW)
        .await
        .unwrap();
    let late = Settlement {
        part: part(0, &[(0, 0)], FinalState::Rejected, true),
        event: Some(vec![1]),
        ..settlement(&one)
    };
    let answers = store.commit(ME, &[late, telling(&two, &[2])], NOW).await;
    assert_eq!(
        answers.unwrap(),
        [CommitAnswer::Fenced, CommitAnswer::Taken]
    );
    assert_eq!(bodies(&take(&*store, NOW).await), [2]);
}

async fn what_tells_nothing_leaves_nothing(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 2);
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    assert_eq!(take(&*store, NOW).await, []);
}

async fn rows_are_taken_in_their_order_within_both_bounds(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 3).await;
    let globex = create(&*store, "globex").await;
    let large = first_job(&notification(&globex, 9), 0, 2);
    store
        .commit(ME, &[telling(&large, &[7; 100])], NOW)
        .await
        .unwrap();
    assert_eq!(
        bodies(&store.take_events(2, 1_000, NOW).await.unwrap()),
        [0, 1]
    );
    // What remains within the bytes; the one that goes beyond them comes alone.
    fill(&*store, &globex, 2).await;
    assert_eq!(store.take_events(9, 50, NOW).await.unwrap().len(), 2);
    assert_eq!(bodies(&store.take_events(9, 1, NOW).await.unwrap()), [0]);
    assert_eq!(bodies(&take(&*store, NOW).await), [1]);
    // Nothing is free before it was written.
    assert_eq!(take(&*store, NOW - 1).await, []);
}

async fn what_is_taken_is_given_to_nobody_until_its_lease_is_over(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 3).await;
    let taken = take(&*store, NOW).await;
    let other = match place.is_of_one_process() {
        true => store,
        false => place.open_as(uuid::Uuid::from_u128(2)).await,
    };
    assert_eq!(take(&*other, NOW + lease() - 1).await, []);
    assert_eq!(take(&*other, NOW + lease()).await, taken);
}

async fn what_is_deleted_does_not_come_again(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 3).await;
    let mut taken = take(&*store, NOW).await;
    let kept = taken.remove(1);
    store.delete_events(&taken).await.unwrap();
    store.delete_events(&taken).await.unwrap();
    store.delete_events(&[]).await.unwrap();
    assert_eq!(take(&*store, NOW + lease()).await, [kept]);
}

async fn an_outbox_survives_a_crash(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 2).await;
    drop(store);
    let store = place.open_as(uuid::Uuid::from_u128(2)).await;
    assert_eq!(bodies(&take(&*store, NOW).await), [0, 1]);
}
