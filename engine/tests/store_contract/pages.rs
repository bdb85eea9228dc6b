//! Clauses about pages. They must not know how pages are kept.

use std::collections::BTreeMap;

use clarion_engine::model::FinalState;
use clarion_engine::store::{Settlement, StalePages};

use crate::contract;
use crate::place::{
    FRESH, ME, NOW, Place, all_accepted, create, entries, first_job, notification, pages, part,
    settlement,
};

contract!(
    pages_come_in_order_with_their_entries_and_no_more_than_ahead,
    tenants_are_served_in_turn,
    a_page_reserved_long_ago_is_handed_out_again,
    a_fed_page_is_handed_out_again_only_when_nobody_is_at_it,
    an_ended_page_is_never_handed_out_again,
    paging_ends_with_the_last_reservation,
);

async fn pages_come_in_order_with_their_entries_and_no_more_than_ahead(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(5, 10))
        .await
        .unwrap();
    let reserved = store.reserve_pages(3, 2, FRESH, NOW).await.unwrap();
    let numbers: Vec<u32> = reserved.iter().map(|page| page.page).collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(reserved[1].entries, entries(10, 10));
    assert_eq!(*reserved[1].notification, bulk);
    assert!(!reserved[1].recheck);
    let reserved = store.reserve_pages(3, 10, FRESH, NOW).await.unwrap();
    assert_eq!(reserved.len(), 1, "three are on their way");
    let key = |page| (acme.clone(), bulk.id, page);
    store
        .mark_fed(&[key(0), key(1), key(2)], NOW)
        .await
        .unwrap();
    assert!(
        store
            .reserve_pages(3, 10, FRESH, NOW)
            .await
            .unwrap()
            .is_empty()
    );
    store
        .commit(ME, &[all_accepted(&first_job(&bulk, 1, 10))], NOW)
        .await
        .unwrap();
    let reserved = store.reserve_pages(3, 10, FRESH, NOW).await.unwrap();
    let numbers: Vec<u32> = reserved.iter().map(|page| page.page).collect();
    assert_eq!(numbers, [3]);
}

async fn tenants_are_served_in_turn(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let mut tenants = vec![acme];
    for name in ["bravo", "coyote", "zulu"] {
        tenants.push(create(&*store, name).await);
    }
    for (number, tenant) in tenants.iter().enumerate() {
        let bulk = notification(tenant, u8::try_from(number).unwrap());
        store
            .create_notification(&bulk, &pages(6, 2))
            .await
            .unwrap();
    }
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for round in 1..=6 {
        for page in store.reserve_pages(100, 4, FRESH, NOW).await.unwrap() {
            *served
                .entry(page.notification.tenant.to_string())
                .or_default() += 1;
        }
        assert_eq!(served.len(), 4);
        assert!(served.values().all(|pages| *pages == round), "{served:?}");
    }
    assert!(
        store
            .reserve_pages(100, 4, FRESH, NOW)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_page_reserved_long_ago_is_handed_out_again(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(1, 10))
        .await
        .unwrap();
    store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    let stale = |reserved_before| StalePages {
        reserved_before,
        fed_before: 0,
    };
    let reopened = place.open().await;
    assert!(
        reopened
            .reserve_pages(8, 8, stale(NOW), NOW + 9)
            .await
            .unwrap()
            .is_empty()
    );
    let again = reopened
        .reserve_pages(8, 8, stale(NOW + 1), NOW + 9)
        .await
        .unwrap();
    assert_eq!((again.len(), again[0].recheck), (1, true));
    assert_eq!(again[0].entries, entries(0, 10));
    // Its reservation is young again.
    assert!(
        reopened
            .reserve_pages(8, 8, stale(NOW + 9), NOW + 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_fed_page_is_handed_out_again_only_when_nobody_is_at_it(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(2, 10))
        .await
        .unwrap();
    store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    let fed = [(acme.clone(), bulk.id, 0), (acme.clone(), bulk.id, 1)];
    store.mark_fed(&fed, NOW).await.unwrap();
    let alive = Settlement {
        part: part(0, &[(0, 0)], FinalState::Accepted, false),
        ..settlement(&first_job(&bulk, 0, 10))
    };
    store.commit(ME, &[alive], NOW + 50).await.unwrap();
    let stale = |fed_before| StalePages {
        reserved_before: 0,
        fed_before,
    };
    assert!(
        store
            .reserve_pages(8, 8, stale(NOW), NOW + 60)
            .await
            .unwrap()
            .is_empty()
    );
    let stuck = store
        .reserve_pages(8, 8, stale(NOW + 40), NOW + 60)
        .await
        .unwrap();
    let stuck: Vec<(u32, bool)> = stuck.iter().map(|page| (page.page, page.recheck)).collect();
    assert_eq!(stuck, [(1, true)]);
    let later = store
        .reserve_pages(8, 8, stale(NOW + 51), NOW + 60)
        .await
        .unwrap();
    assert_eq!(later.len(), 1);
    assert_eq!(later[0].page, 0);
}

async fn an_ended_page_is_never_handed_out_again(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(1, 10))
        .await
        .unwrap();
    store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    store
        .commit(ME, &[all_accepted(&first_job(&bulk, 0, 10))], NOW)
        .await
        .unwrap();
    // The feeder's word comes late.
    store
        .mark_fed(&[(acme.clone(), bulk.id, 0)], NOW)
        .await
        .unwrap();
    let all_stale = StalePages {
        reserved_before: NOW + 100,
        fed_before: NOW + 100,
    };
    assert!(
        store
            .reserve_pages(8, 8, all_stale, NOW + 99)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn paging_ends_with_the_last_reservation(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(2, 10))
        .await
        .unwrap();
    for (left, expected) in [(1, true), (1, false)] {
        store.reserve_pages(8, left, FRESH, NOW).await.unwrap();
        let status = store
            .notification_status(&acme, bulk.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.paging, expected);
    }
}
