//! Clauses about devices. They must not know how devices are kept.

use clarion_engine::model::Platform;
use clarion_engine::store::{Error, Prune, Settlement, UserCursor};

use tokio::time::Instant;

use crate::contract;
use crate::place::{ME, NOW, Place, all_accepted, create, first_job, notification, registration};

contract!(
    a_device_is_registered_listed_and_removed,
    a_known_device_token_is_reassigned,
    registration_is_all_or_none_and_answers_in_order,
    users_resolve_to_their_devices_from_a_cursor_on,
    one_tenant_never_sees_the_devices_of_another,
    only_a_device_that_did_not_register_since_is_pruned,
    the_brake_keeps_candidates_until_they_are_released_or_forgotten,
    a_push_that_was_taken_is_noted,
    ten_thousand_register_at_once,
);

async fn a_device_is_registered_listed_and_removed(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let registered = store
        .register(
            &acme,
            &[registration("ada", "aa"), registration("bob", "bb")],
            NOW,
        )
        .await
        .unwrap();
    let all = store.devices(&acme, None, 0, 10).await.unwrap();
    assert_eq!(all, registered);
    assert_eq!(all[0].created_at, NOW);
    let of_bob = store.devices(&acme, Some("bob"), 0, 10).await.unwrap();
    assert_eq!(of_bob, registered[1..]);
    let after = store
        .devices(&acme, None, registered[0].id, 10)
        .await
        .unwrap();
    assert_eq!(after, registered[1..]);
    assert!(!store.unregister(&acme, "bob", "aa").await.unwrap());
    assert!(store.unregister(&acme, "ada", "aa").await.unwrap());
    assert!(!store.unregister(&acme, "ada", "aa").await.unwrap());
    assert_eq!(
        store.devices(&acme, None, 0, 10).await.unwrap(),
        registered[1..]
    );
}

async fn a_known_device_token_is_reassigned(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let first = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await
        .unwrap();
    let mut moved = registration("bob", "aa");
    moved.platform = Platform::Watchos;
    let second = store.register(&acme, &[moved], NOW + 5).await.unwrap();
    assert_eq!(second[0].id, first[0].id);
    assert_eq!(second[0].created_at, NOW);
    assert_eq!(second[0].registered_at, NOW + 5);
    assert_eq!(store.devices(&acme, Some("ada"), 0, 10).await.unwrap(), []);
    assert_eq!(
        store.devices(&acme, Some("bob"), 0, 10).await.unwrap(),
        second
    );
}

async fn registration_is_all_or_none_and_answers_in_order(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let unknown = "nobody".parse().unwrap();
    let refused = store
        .register(&unknown, &[registration("ada", "aa")], NOW)
        .await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
    let asked = [
        registration("ada", "cc"),
        registration("bob", "aa"),
        registration("eve", "cc"),
    ];
    let given = store.register(&acme, &asked, NOW).await.unwrap();
    let tokens: Vec<&str> = given.iter().map(|device| &*device.device_token).collect();
    assert_eq!(tokens, ["cc", "aa", "cc"]);
    // Twice in one request: the later one counts.
    assert_eq!((&*given[0].user_id, given[0].id), ("eve", given[2].id));
    assert_eq!(store.devices(&acme, None, 0, 10).await.unwrap().len(), 2);
}

async fn users_resolve_to_their_devices_from_a_cursor_on(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [
        registration("ada", "a1"),
        registration("bob", "b1"),
        registration("ada", "a2"),
        registration("ada", "a3"),
        registration("nul", "n1"),
    ];
    let ids: Vec<i64> = store
        .register(&acme, &asked, NOW)
        .await
        .unwrap()
        .iter()
        .map(|device| device.id)
        .collect();
    let cursor = |user: &str, after| UserCursor {
        user_id: user.into(),
        after,
    };
    let users = [
        cursor("bob", 0),
        cursor("nobody", 0),
        cursor("ada", ids[0]),
        cursor("nul\0l", 0),
    ];
    let found = store.resolve(&acme, &users, 100).await.unwrap();
    let found: Vec<(usize, i64)> = found.iter().map(|f| (f.user, f.device.id)).collect();
    assert_eq!(found, [(0, ids[1]), (2, ids[2]), (2, ids[3])]);
    let cut = store.resolve(&acme, &users, 2).await.unwrap();
    assert_eq!(cut.len(), 2);
    let have = ["ada", "nobody", "bob", "nul\0l"].map(Box::from);
    let have = store.have_devices(&acme, &have).await.unwrap();
    assert_eq!(have, [true, false, true, false]);
}

async fn one_tenant_never_sees_the_devices_of_another(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let mine = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await
        .unwrap();
    let theirs = store
        .register(&other, &[registration("ada", "aa")], NOW)
        .await
        .unwrap();
    assert_ne!(mine[0].id, theirs[0].id);
    let users = [UserCursor {
        user_id: "ada".into(),
        after: 0,
    }];
    let found = store.resolve(&other, &users, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].device, theirs[0]);
    assert!(store.unregister(&other, "ada", "aa").await.unwrap());
    assert_eq!(store.devices(&acme, None, 0, 10).await.unwrap(), mine);
}

fn prune(device: i64, dead_since: i64, frozen: bool) -> Prune {
    Prune {
        device,
        platform: Platform::Ios,
        dead_since,
        reason: "Unregistered".into(),
        frozen,
    }
}

async fn only_a_device_that_did_not_register_since_is_pruned(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let asked = [registration("ada", "aa"), registration("bob", "bb")];
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let theirs = store.register(&other, &asked, NOW).await.unwrap();
    let job = first_job(&notification(&acme, 1), 0, 3);
    let settled = Settlement {
        prunes: vec![
            prune(ids[0].id, NOW, false),
            prune(ids[1].id, NOW - 1, false),
            prune(theirs[0].id, NOW, false),
            prune(0, NOW, false),
        ],
        ..all_accepted(&job)
    };
    store.commit(ME, &[settled], NOW).await.unwrap();
    assert_eq!(store.devices(&acme, None, 0, 10).await.unwrap(), ids[1..]);
    assert_eq!(store.devices(&other, None, 0, 10).await.unwrap(), theirs);
    let again = store.register(&acme, &asked[..1], NOW + 1).await.unwrap();
    assert!(again[0].id > ids[1].id, "a pruned one becomes a new device");
}

async fn the_brake_keeps_candidates_until_they_are_released_or_forgotten(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [registration("ada", "aa"), registration("bob", "bb")];
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let frozen = |number| Settlement {
        prunes: ids.iter().map(|d| prune(d.id, NOW, true)).collect(),
        ..all_accepted(&first_job(&notification(&acme, number), 0, 3))
    };
    store.commit(ME, &[frozen(1)], NOW + 1).await.unwrap();
    assert_eq!(store.devices(&acme, None, 0, 10).await.unwrap(), ids);
    let candidates = store.prune_candidates(&acme, 10).await.unwrap();
    assert_eq!(candidates.len(), 2);
    assert_eq!(
        (candidates[0].dead_since, candidates[0].noted_at),
        (NOW, NOW + 1)
    );
    assert_eq!(candidates[0].reason, "Unregistered");
    let forgotten = store
        .settle_prune_candidates(&acme, Platform::Ios, false, NOW + 2)
        .await;
    assert_eq!(forgotten.unwrap(), 2);
    assert_eq!(store.devices(&acme, None, 0, 10).await.unwrap(), ids);
    store.commit(ME, &[frozen(2)], NOW + 3).await.unwrap();
    // It came back in the meantime.
    store.register(&acme, &asked[1..], NOW + 4).await.unwrap();
    let elsewhere = store
        .settle_prune_candidates(&acme, Platform::Android, true, NOW + 5)
        .await;
    assert_eq!(elsewhere.unwrap(), 0);
    let pruned = store
        .settle_prune_candidates(&acme, Platform::Ios, true, NOW + 5)
        .await;
    assert_eq!(pruned.unwrap(), 1);
    assert_eq!(
        store.devices(&acme, None, 0, 10).await.unwrap()[0].id,
        ids[1].id
    );
    assert_eq!(store.prune_candidates(&acme, 10).await.unwrap(), []);
}

async fn a_push_that_was_taken_is_noted(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [registration("ada", "aa"), registration("bob", "bb")];
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let settled = Settlement {
        accepted: vec![ids[1].id, 0, ids[1].id],
        suspects: vec![ids[0].id],
        ..all_accepted(&first_job(&notification(&acme, 1), 0, 3))
    };
    store.commit(ME, &[settled], NOW + 9).await.unwrap();
    let devices = store.devices(&acme, None, 0, 10).await.unwrap();
    assert_eq!(devices[0].last_accepted_at, None);
    assert_eq!(devices[1].last_accepted_at, Some(NOW + 9));
}

async fn ten_thousand_register_at_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked: Vec<_> = (0..10_000)
        .map(|n| registration(&format!("user-{n}"), &format!("{n:064x}")))
        .collect();
    let start = Instant::now();
    let given = store.register(&acme, &asked, NOW).await.unwrap();
    let took = start.elapsed();
    assert_eq!(given.len(), 10_000);
    // A second on an idle machine; the bound only catches what is out of all proportion.
    assert!(took.as_secs() < 10, "{took:?}");
}
