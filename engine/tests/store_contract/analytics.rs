//! Clauses about daily counts. They must not know how these are kept.

use clarion_engine::model::FinalState;
use clarion_engine::store::{DailyCounts, Settlement, day_of};

use crate::contract;
use crate::place::{
    ME, NOW, OTHER, Place, all_accepted, create, first_job, notification, part, settlement,
};

contract!(
    what_ended_is_counted_on_its_day,
    a_fenced_part_counts_nothing,
);

const DAY: i64 = 24 * 3600 * 1_000;

fn counted(found: &[DailyCounts], state: FinalState) -> Vec<(i64, u64)> {
    let of = |one: &DailyCounts| (one.day - day_of(NOW), one.counts.get(state));
    found.iter().map(of).collect()
}

async fn what_ended_is_counted_on_its_day(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let (mine, theirs) = (notification(&acme, 1), notification(&other, 2));
    let first = Settlement {
        part: part(0, &[(0, 0), (1, 0)], FinalState::Accepted, false),
        ..settlement(&first_job(&mine, 0, 10))
    };
    let second = Settlement {
        part: part(1, &[(2, 0)], FinalState::Unregistered, true),
        ..settlement(&first_job(&mine, 0, 10))
    };
    let silent = settlement(&first_job(&mine, 2, 10));
    store
        .commit(ME, &[first.clone(), silent], NOW)
        .await
        .unwrap();
    // Its answer was lost, and it is written again: nothing counts twice.
    store.commit(ME, &[first], NOW).await.unwrap();
    let more = [
        second,
        all_accepted(&first_job(&mine, 1, 10)),
        all_accepted(&first_job(&theirs, 0, 7)),
    ];
    store.commit(ME, &more, NOW + DAY).await.unwrap();
    let today = day_of(NOW);
    let all = store
        .daily_counts(&acme, today - 5, today + 5)
        .await
        .unwrap();
    assert_eq!(counted(&all, FinalState::Accepted), [(0, 2), (1, 10)]);
    assert_eq!(counted(&all, FinalState::Unregistered), [(0, 0), (1, 1)]);
    let one = store.daily_counts(&acme, today, today).await.unwrap();
    assert_eq!(one, all[..1]);
    let of_other = store.daily_counts(&other, today, today + 1).await.unwrap();
    assert_eq!(counted(&of_other, FinalState::Accepted), [(1, 7)]);
    // Another process counts beside it.
    let reopened = place.open_as(uuid::Uuid::from_u128(77)).await;
    let third = all_accepted(&first_job(&mine, 3, 5));
    let writer = clarion_engine::store::Writer {
        process: uuid::Uuid::from_u128(77),
        generation: 1,
    };
    reopened.commit(writer, &[third], NOW).await.unwrap();
    let sum = reopened.daily_counts(&acme, today, today).await.unwrap();
    assert_eq!(counted(&sum, FinalState::Accepted), [(0, 7)]);
}

async fn a_fenced_part_counts_nothing(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 10);
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    store
        .commit(OTHER, &[all_accepted(&job)], NOW)
        .await
        .unwrap();
    let today = day_of(NOW);
    let found = store.daily_counts(&acme, today, today).await.unwrap();
    assert_eq!(counted(&found, FinalState::Accepted), [(0, 10)]);
}
