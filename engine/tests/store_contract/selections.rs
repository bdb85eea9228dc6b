//! Clauses about selections. They must not know how they are paged.

use std::collections::BTreeSet;

use clarion_auth::TenantId;
use clarion_engine::model::{
    DeviceId, Job, Notification, NotificationId, Platform, Selection, Target, VersionRange,
};
use clarion_engine::store::{
    Error, NotificationState, NotificationStatus, Prune, Registration, ReservedPage, Settlement,
    StalePages, Store,
};

use crate::contract;
use crate::place::{
    FRESH, ME, NOW, Place, all_accepted, create, first_job, notification, pages, registration,
};

contract!(
    everyone_is_paged_once_in_the_order_of_registration,
    the_devices_of_any_of_the_tags_are_paged_once,
    platform_and_version_leave_out_the_others,
    few_that_fit_among_many_are_found_without_an_empty_page,
    nobody_fits_and_the_notification_is_finished,
    who_registers_after_acceptance_is_not_meant,
    who_goes_before_his_page_is_left_out,
    a_reservation_that_was_lost_is_handed_out_again_as_it_was,
    no_more_than_ahead_is_paged,
    a_selection_and_a_bulk_share_the_turns,
    a_deleted_tenant_ends_its_selections,
    selections_are_refused_like_bulks,
);

async fn status(store: &dyn Store, tenant: &TenantId, id: NotificationId) -> NotificationStatus {
    let status = store.notification_status(tenant, id).await.unwrap();
    status.unwrap()
}

fn devices(page: &ReservedPage) -> Vec<DeviceId> {
    page.entries
        .iter()
        .map(|entry| match &entry.target {
            Target::Device(address) => address.device,
            Target::User { .. } => panic!("a selection lists devices"),
        })
        .collect()
}

fn job(page: &ReservedPage) -> Job {
    Job::first(page.notification.clone(), page.page, page.entries.clone())
}

/// Pages and ends everything; the devices in the order in which they came.
async fn drain(store: &dyn Store, most: u32) -> Vec<DeviceId> {
    let (mut all, mut next_ordinal) = (Vec::new(), 0);
    loop {
        let reserved = store.reserve_pages(8, most, FRESH, NOW).await.unwrap();
        if reserved.is_empty() {
            return all;
        }
        let mut ended = Vec::new();
        for page in &reserved {
            assert!(!page.entries.is_empty() && page.entries.len() <= 500);
            for entry in &page.entries {
                assert_eq!(entry.ordinal, next_ordinal);
                next_ordinal += 1;
            }
            all.extend(devices(page));
            ended.push(all_accepted(&job(page)));
        }
        let keys: Vec<_> = reserved
            .iter()
            .map(|page| {
                (
                    page.notification.tenant.clone(),
                    page.notification.id,
                    page.page,
                )
            })
            .collect();
        store.mark_fed(&keys, NOW).await.unwrap();
        store.commit(ME, &ended, NOW).await.unwrap();
    }
}

async fn register(store: &dyn Store, tenant: &TenantId, count: usize) -> Vec<DeviceId> {
    let asked: Vec<Registration> = (0..count)
        .map(|n| {
            let mut one = registration(&format!("user-{n}"), &format!("{n:064x}"));
            one.platform = [Platform::Ios, Platform::Android, Platform::Watchos][n % 3];
            one.app_version = Some(format!("{}.{}", 1 + n % 2, n % 10).into());
            one
        })
        .collect();
    let devices = store.register(tenant, &asked, NOW).await.unwrap();
    devices.iter().map(|device| device.id).collect()
}

async fn select(store: &dyn Store, notification: &Notification, selection: &Selection) {
    store
        .create_selection(notification, selection)
        .await
        .unwrap();
}

async fn everyone_is_paged_once_in_the_order_of_registration(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    register(&*store, &other, 700).await;
    let ids = register(&*store, &acme, 1_234).await;
    register(&*store, &other, 300).await;
    let all = notification(&acme, 1);
    select(&*store, &all, &Selection::default()).await;
    assert_eq!(store.open_selections(&acme).await.unwrap(), 1);
    let accepted = status(&*store, &acme, all.id).await;
    assert_eq!((accepted.entries, accepted.paging), (0, true));
    assert_eq!(accepted.state, NotificationState::Running);
    assert_eq!(store.backlog(&acme).await.unwrap(), 0);
    let first = store.reserve_pages(8, 1, FRESH, NOW).await.unwrap();
    assert_eq!(devices(&first[0]), ids[..500]);
    let paging = status(&*store, &acme, all.id).await;
    assert_eq!((paging.entries, paging.paging), (500, true));
    assert_eq!(store.backlog(&acme).await.unwrap(), 500);
    let rest = store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    let listed: Vec<DeviceId> = rest.iter().flat_map(devices).collect();
    assert_eq!(listed, ids[500..]);
    let paged = status(&*store, &acme, all.id).await;
    assert_eq!((paged.entries, paged.paging), (1_234, false));
    assert_eq!(store.open_selections(&acme).await.unwrap(), 0);
    for page in first.iter().chain(&rest) {
        store
            .commit(ME, &[all_accepted(&job(page))], NOW)
            .await
            .unwrap();
    }
    let finished = status(&*store, &acme, all.id).await;
    assert_eq!(finished.state, NotificationState::Finished);
    assert_eq!((finished.entries, finished.counts.total()), (1_234, 1_234));
    assert_eq!(store.backlog(&acme).await.unwrap(), 0);
}

async fn the_devices_of_any_of_the_tags_are_paged_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let ids = register(&*store, &acme, 3_000).await;
    let mut meant = BTreeSet::new();
    let mut tagged = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let mut tags: Vec<Box<str>> = vec!["everybody".into()];
        if n % 2 == 0 {
            tags.push("even".into());
        }
        if n % 3 == 0 {
            tags.push("third".into());
        }
        if n % 2 == 0 || n % 3 == 0 {
            meant.insert(*id);
        }
        tagged.push((*id, tags));
    }
    store.retag(&acme, &tagged, NOW).await.unwrap();
    let selection = Selection {
        tags: vec!["third".into(), "unheard of".into(), "even".into()],
        ..Selection::default()
    };
    let tagged = notification(&acme, 1);
    select(&*store, &tagged, &selection).await;
    let paged = drain(&*store, 2).await;
    assert_eq!(paged, meant.into_iter().collect::<Vec<_>>());
    let finished = status(&*store, &acme, tagged.id).await;
    assert_eq!(finished.state, NotificationState::Finished);
    assert_eq!(finished.entries, paged.len() as u64);
}

async fn platform_and_version_leave_out_the_others(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let ids = register(&*store, &acme, 2_400).await;
    let mut without = registration("x", "ab");
    without.app_version = None;
    store.register(&acme, &[without], NOW).await.unwrap();
    let selection = Selection {
        platforms: vec![Platform::Watchos, Platform::Ios],
        app_versions: VersionRange {
            min: Some("1.4".into()),
            below: Some("2.5".into()),
        },
        ..Selection::default()
    };
    select(&*store, &notification(&acme, 1), &selection).await;
    let meant: Vec<DeviceId> = ids
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 != 1)
        .filter(|(n, _)| if n % 2 == 0 { n % 10 >= 4 } else { n % 10 < 5 })
        .map(|(_, id)| *id)
        .collect();
    assert!(meant.len() > 500);
    assert_eq!(drain(&*store, 8).await, meant);
}

async fn few_that_fit_among_many_are_found_without_an_empty_page(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let mut asked: Vec<Registration> = (0..9_000)
        .map(|n| registration("ada", &format!("{n:064x}")))
        .collect();
    asked[8_500].platform = Platform::Android;
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let selection = Selection {
        platforms: vec![Platform::Android],
        ..Selection::default()
    };
    let one = notification(&acme, 1);
    select(&*store, &one, &selection).await;
    let reserved = store.reserve_pages(8, 1, FRESH, NOW).await.unwrap();
    assert_eq!(devices(&reserved[0]), [ids[8_500].id]);
    store
        .commit(ME, &[all_accepted(&job(&reserved[0]))], NOW)
        .await
        .unwrap();
    assert!(
        store
            .reserve_pages(8, 1, FRESH, NOW)
            .await
            .unwrap()
            .is_empty()
    );
    let finished = status(&*store, &acme, one.id).await;
    assert_eq!(
        (finished.state, finished.entries),
        (NotificationState::Finished, 1)
    );
}

async fn nobody_fits_and_the_notification_is_finished(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let at_once = notification(&acme, 1);
    select(&*store, &at_once, &Selection::default()).await;
    let none = status(&*store, &acme, at_once.id).await;
    assert_eq!(
        (none.state, none.paging),
        (NotificationState::Finished, false)
    );
    register(&*store, &acme, 10).await;
    let nobody = Selection {
        tags: vec!["unheard of".into()],
        ..Selection::default()
    };
    let looked = notification(&acme, 2);
    select(&*store, &looked, &nobody).await;
    assert!(drain(&*store, 8).await.is_empty());
    let none = status(&*store, &acme, looked.id).await;
    assert_eq!(
        (none.state, none.paging, none.entries),
        (NotificationState::Finished, false, 0)
    );
    assert_eq!(none.finished_at, Some(NOW));
    assert_eq!(store.open_selections(&acme).await.unwrap(), 0);
}

async fn who_registers_after_acceptance_is_not_meant(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let ids = register(&*store, &acme, 5).await;
    select(&*store, &notification(&acme, 1), &Selection::default()).await;
    store
        .register(&acme, &[registration("late", "ff")], NOW)
        .await
        .unwrap();
    // Who registers again stays who he is.
    let again = registration("user-0", &format!("{:064x}", 0));
    store.register(&acme, &[again], NOW + 1).await.unwrap();
    assert_eq!(drain(&*store, 8).await, ids);
}

async fn who_goes_before_his_page_is_left_out(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let ids = register(&*store, &acme, 6).await;
    let tagged: Vec<_> = ids.iter().map(|id| (*id, vec!["t".into()])).collect();
    store.retag(&acme, &tagged, NOW).await.unwrap();
    for number in [1, 2] {
        let selection = Selection {
            tags: if number == 1 {
                Vec::new()
            } else {
                vec!["t".into()]
            },
            ..Selection::default()
        };
        select(&*store, &notification(&acme, number), &selection).await;
    }
    assert!(
        store
            .unregister(&acme, "user-1", &format!("{:064x}", 1))
            .await
            .unwrap()
    );
    let dead = Prune {
        device: ids[4],
        platform: Platform::Ios,
        dead_since: NOW,
        reason: "Unregistered".into(),
        frozen: false,
    };
    let settled = Settlement {
        prunes: vec![dead],
        ..all_accepted(&first_job(&notification(&acme, 9), 0, 3))
    };
    store.commit(ME, &[settled], NOW).await.unwrap();
    store
        .unsubscribe(&acme, &[("t".into(), ids[5])])
        .await
        .unwrap();
    let reserved = store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    let of = |number: u8| -> Vec<DeviceId> {
        let id = notification(&acme, number).id;
        let pages = reserved.iter().filter(|page| page.notification.id == id);
        pages.flat_map(devices).collect()
    };
    assert_eq!(of(1), [ids[0], ids[2], ids[3], ids[5]]);
    assert_eq!(of(2), [ids[0], ids[2], ids[3]]);
}

async fn a_reservation_that_was_lost_is_handed_out_again_as_it_was(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let ids = register(&*store, &acme, 900).await;
    select(&*store, &notification(&acme, 1), &Selection::default()).await;
    let first = store.reserve_pages(8, 1, FRESH, NOW).await.unwrap();
    // The engine dies before it publishes; meanwhile one of them leaves.
    drop(store);
    let store = place.open().await;
    assert!(
        store
            .unregister(&acme, "user-3", &format!("{:064x}", 3))
            .await
            .unwrap()
    );
    let stale = StalePages {
        reserved_before: NOW + 1,
        fed_before: 0,
    };
    let again = store.reserve_pages(8, 1, stale, NOW + 5).await.unwrap();
    assert_eq!((again.len(), again[0].recheck), (1, true));
    assert_eq!(again[0].entries, first[0].entries);
    assert_eq!(job(&again[0]).id, job(&first[0]).id);
    let rest = store.reserve_pages(8, 8, FRESH, NOW + 5).await.unwrap();
    let listed: Vec<DeviceId> = rest.iter().flat_map(devices).collect();
    assert_eq!(listed, ids[500..]);
}

async fn no_more_than_ahead_is_paged(place: Place) {
    let (store, acme) = place.with_tenant().await;
    register(&*store, &acme, 2_600).await;
    let all = notification(&acme, 1);
    select(&*store, &all, &Selection::default()).await;
    let reserved = store.reserve_pages(3, 8, FRESH, NOW).await.unwrap();
    assert_eq!(reserved.len(), 3);
    assert!(
        store
            .reserve_pages(3, 8, FRESH, NOW)
            .await
            .unwrap()
            .is_empty()
    );
    store
        .commit(ME, &[all_accepted(&job(&reserved[1]))], NOW)
        .await
        .unwrap();
    let next = store.reserve_pages(3, 8, FRESH, NOW).await.unwrap();
    assert_eq!(next.iter().map(|page| page.page).collect::<Vec<_>>(), [3]);
    assert_eq!(status(&*store, &acme, all.id).await.entries, 2_000);
}

async fn a_selection_and_a_bulk_share_the_turns(place: Place) {
    let (store, acme) = place.with_tenant().await;
    register(&*store, &acme, 4_000).await;
    let (all, bulk) = (notification(&acme, 1), notification(&acme, 2));
    select(&*store, &all, &Selection::default()).await;
    store
        .create_notification(&bulk, &pages(8, 10))
        .await
        .unwrap();
    for round in 1..=3 {
        store.reserve_pages(100, 2, FRESH, NOW).await.unwrap();
        assert_eq!(status(&*store, &acme, all.id).await.entries, round * 500);
    }
}

async fn a_deleted_tenant_ends_its_selections(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    register(&*store, &acme, 1_100).await;
    let ids = register(&*store, &other, 3).await;
    for (tenant, number) in [(&acme, 1), (&other, 2)] {
        let all = notification(tenant, number);
        select(&*store, &all, &Selection::default()).await;
        store.put_tag(tenant, "t", None, NOW).await.unwrap();
    }
    let all = notification(&acme, 1);
    let reserved = store.reserve_pages(1, 1, FRESH, NOW).await.unwrap();
    assert_eq!(reserved[0].notification.id, all.id);
    store.delete_tenant(&acme, NOW).await.unwrap();
    assert_eq!(store.open_selections(&acme).await.unwrap(), 0);
    let left = store.reserve_pages(8, 8, FRESH, NOW).await.unwrap();
    assert_eq!(left.iter().flat_map(devices).collect::<Vec<_>>(), ids);
    store
        .commit(ME, &[all_accepted(&job(&reserved[0]))], NOW)
        .await
        .unwrap();
    let ended = status(&*store, &acme, all.id).await;
    assert_eq!(
        (ended.state, ended.entries),
        (NotificationState::Finished, 500)
    );
    assert_eq!(store.tags(&acme, "", 9).await.unwrap(), []);
    assert_eq!(store.tags(&other, "", 9).await.unwrap().len(), 1);
}

async fn selections_are_refused_like_bulks(place: Place) {
    let (store, acme) = place.with_tenant().await;
    register(&*store, &acme, 1).await;
    let all = notification(&acme, 1);
    let everyone = Selection::default();
    select(&*store, &all, &everyone).await;
    let again = store.create_selection(&all, &everyone).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let stranger = notification(&"nobody".parse().unwrap(), 1);
    let refused = store.create_selection(&stranger, &everyone).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
}
