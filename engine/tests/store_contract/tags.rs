//! Clauses about tags, subscriptions and installations. They must not know how they are kept.

use clarion_engine::model::{DeviceId, Platform};
use clarion_engine::store::{
    Error, Installation, Prune, Settlement, Store, Subscribed, SubscriptionFilter, TagAndDevice,
};

use crate::contract;
use crate::place::{ME, NOW, Place, all_accepted, create, first_job, notification, registration};

contract!(
    a_tag_is_put_listed_and_deleted_with_its_subscriptions,
    devices_subscribe_and_unsubscribe,
    a_device_that_goes_takes_its_subscriptions_along,
    retagging_leaves_exactly_what_is_asked,
    subscriptions_are_listed_by_id,
    an_installation_keeps_its_device_under_its_id,
    a_device_token_moves_between_installations,
    one_installation_is_put_by_many_at_once,
    installations_are_found_listed_and_removed,
);

fn pair(tag: &str, device: DeviceId) -> TagAndDevice {
    (tag.into(), device)
}

async fn tags_of(
    store: &dyn Store,
    tenant: &clarion_auth::TenantId,
    device: DeviceId,
) -> Vec<String> {
    let filter = SubscriptionFilter {
        device: Some(device),
        ..SubscriptionFilter::default()
    };
    let found = store.subscriptions(tenant, filter, 0, 100).await.unwrap();
    let mut tags: Vec<String> = found.iter().map(|s| s.tag.to_string()).collect();
    tags.sort();
    tags
}

async fn a_tag_is_put_listed_and_deleted_with_its_subscriptions(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let (news, created) = store
        .put_tag(&acme, "news", Some("What is new"), NOW)
        .await
        .unwrap();
    assert!(created);
    assert_eq!((&*news.name, &*news.description), ("news", "What is new"));
    let (same, created) = store.put_tag(&acme, "news", None, NOW + 1).await.unwrap();
    assert_eq!((same, created), (news.clone(), false));
    let (changed, created) = store
        .put_tag(&acme, "news", Some("\0"), NOW + 2)
        .await
        .unwrap();
    assert_eq!((&*changed.description, created), ("\0", false));
    assert_eq!((changed.created_at, changed.updated_at), (NOW, NOW + 2));
    let (plain, _) = store.put_tag(&acme, "a tag", None, NOW).await.unwrap();
    store.put_tag(&other, "news", None, NOW).await.unwrap();
    assert_eq!(
        store.tag(&acme, "news").await.unwrap(),
        Some(changed.clone())
    );
    assert_eq!(store.tag(&acme, "olds").await.unwrap(), None);
    let all = store.tags(&acme, "", 9).await.unwrap();
    assert_eq!(all, [plain.clone(), changed.clone()]);
    assert_eq!(store.tags(&acme, "", 1).await.unwrap(), [plain]);
    assert_eq!(store.tags(&acme, "a tag", 9).await.unwrap(), [changed]);
    let stranger = "nobody".parse().unwrap();
    let refused = store.put_tag(&stranger, "news", None, NOW).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));

    let asked: Vec<_> = (0..6_000)
        .map(|n| registration("ada", &format!("{n:064x}")))
        .collect();
    let devices = store.register(&acme, &asked, NOW).await.unwrap();
    let wishes: Vec<TagAndDevice> = devices.iter().map(|d| pair("news", d.id)).collect();
    store.subscribe(&acme, &wishes, NOW).await.unwrap();
    assert!(store.delete_tag(&acme, "news").await.unwrap());
    assert!(!store.delete_tag(&acme, "news").await.unwrap());
    let left = store
        .subscriptions(&acme, SubscriptionFilter::default(), 0, 9)
        .await
        .unwrap();
    assert_eq!(left, []);
    assert!(store.tag(&other, "news").await.unwrap().is_some());
}

async fn devices_subscribe_and_unsubscribe(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let asked = [registration("ada", "aa"), registration("bob", "bb")];
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let theirs = store.register(&other, &asked, NOW).await.unwrap();
    store.put_tag(&acme, "news", None, NOW).await.unwrap();
    store.put_tag(&acme, "nul\0", None, NOW).await.unwrap();
    let wishes = [
        pair("news", ids[0].id),
        pair("olds", ids[0].id),
        pair("news", theirs[0].id),
        pair("news", ids[0].id),
        pair("nul\0", ids[1].id),
    ];
    let answers = store.subscribe(&acme, &wishes, NOW).await.unwrap();
    let Subscribed::New(first) = answers[0] else {
        panic!("{answers:?}");
    };
    assert_eq!(
        answers[1..4],
        [
            Subscribed::NoTag,
            Subscribed::NoDevice,
            Subscribed::Existed(first)
        ]
    );
    assert!(matches!(answers[4], Subscribed::New(_)));
    let again = store.subscribe(&acme, &wishes[..1], NOW + 1).await.unwrap();
    assert_eq!(again, [Subscribed::Existed(first)]);
    assert_eq!(store.subscribe(&acme, &[], NOW).await.unwrap(), []);
    let answers = store.unsubscribe(&other, &wishes).await.unwrap();
    assert_eq!(answers, [false; 5]);
    let answers = store.unsubscribe(&acme, &wishes).await.unwrap();
    assert_eq!(answers, [true, false, false, false, true]);
    assert_eq!(tags_of(&*store, &acme, ids[0].id).await, [""; 0]);
}

async fn a_device_that_goes_takes_its_subscriptions_along(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = ["aa", "bb", "cc", "dd"].map(|token| registration("ada", token));
    let ids: Vec<DeviceId> = store
        .register(&acme, &asked, NOW)
        .await
        .unwrap()
        .iter()
        .map(|d| d.id)
        .collect();
    let all: Vec<_> = ids.iter().map(|id| (*id, vec!["t".into()])).collect();
    store.retag(&acme, &all, NOW).await.unwrap();
    assert!(store.unregister(&acme, "ada", "aa").await.unwrap());
    let dead = |device, dead_since, frozen| Prune {
        device,
        platform: Platform::Ios,
        dead_since,
        reason: "Unregistered".into(),
        frozen,
    };
    let settled = Settlement {
        // The third registered later: it stays, with what it has.
        prunes: vec![
            dead(ids[1], NOW, false),
            dead(ids[2], NOW - 1, false),
            dead(ids[3], NOW, true),
        ],
        ..all_accepted(&first_job(&notification(&acme, 1), 0, 3))
    };
    store.commit(ME, &[settled], NOW).await.unwrap();
    let left = store
        .subscriptions(&acme, SubscriptionFilter::default(), 0, 9)
        .await
        .unwrap();
    let left: Vec<DeviceId> = left.iter().map(|s| s.device).collect();
    assert_eq!(left, ids[2..]);
    let pruned = store
        .settle_prune_candidates(&acme, Platform::Ios, true, NOW)
        .await;
    assert_eq!(pruned.unwrap(), 1);
    assert_eq!(tags_of(&*store, &acme, ids[3]).await, [""; 0]);
    let wishes = [pair("t", ids[3]), pair("t", ids[2])];
    let answers = store.subscribe(&acme, &wishes, NOW).await.unwrap();
    assert_eq!(answers[0], Subscribed::NoDevice);
    assert!(matches!(answers[1], Subscribed::Existed(_)));
}

async fn retagging_leaves_exactly_what_is_asked(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [registration("ada", "aa"), registration("bob", "bb")];
    let ids = store.register(&acme, &asked, NOW).await.unwrap();
    let (ada, bob) = (ids[0].id, ids[1].id);
    let tags = |names: &[&str]| {
        names
            .iter()
            .map(|name| Box::from(*name))
            .collect::<Vec<_>>()
    };
    store
        .retag(
            &acme,
            &[(ada, tags(&["a", "b", "a"])), (bob, tags(&["b"]))],
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(tags_of(&*store, &acme, ada).await, ["a", "b"]);
    let filter = SubscriptionFilter {
        tag: Some("b"),
        device: Some(ada),
    };
    let kept = store.subscriptions(&acme, filter, 0, 9).await.unwrap();
    store
        .retag(&acme, &[(ada, tags(&["c", "b"]))], NOW + 1)
        .await
        .unwrap();
    assert_eq!(tags_of(&*store, &acme, ada).await, ["b", "c"]);
    assert_eq!(
        store.subscriptions(&acme, filter, 0, 9).await.unwrap(),
        kept
    );
    assert_eq!(tags_of(&*store, &acme, bob).await, ["b"]);
    let refused = store
        .retag(&acme, &[(bob, tags(&["d"])), (999_999, tags(&["d"]))], NOW)
        .await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
    assert_eq!(tags_of(&*store, &acme, bob).await, ["b"]);
    assert!(store.tag(&acme, "d").await.unwrap().is_none());
    store.retag(&acme, &[(ada, Vec::new())], NOW).await.unwrap();
    assert_eq!(tags_of(&*store, &acme, ada).await, [""; 0]);
}

async fn subscriptions_are_listed_by_id(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let put = |id: &'static str, token: &'static str| {
        let (store, acme) = (store.clone(), acme.clone());
        async move {
            let put = store
                .put_installation(&acme, id, &registration("ada", token), NOW)
                .await;
            put.unwrap().installation.device.id
        }
    };
    let (one, two) = (put("one", "aa").await, put("two", "bb").await);
    let wish = ["x", "y", "z"].map(Box::from).to_vec();
    store
        .retag(&acme, &[(one, wish.clone())], NOW)
        .await
        .unwrap();
    store.retag(&acme, &[(two, wish)], NOW + 1).await.unwrap();
    let list = |filter, after, limit| store.subscriptions(&acme, filter, after, limit);
    let all = list(SubscriptionFilter::default(), 0, 9).await.unwrap();
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by_key(|s| s.id));
    let external: Vec<_> = all
        .iter()
        .map(|s| s.external_id.as_deref().unwrap())
        .collect();
    assert_eq!(external, ["one", "one", "one", "two", "two", "two"]);
    assert_eq!((&*all[0].user_id, all[5].created_at), ("ada", NOW + 1));
    let page = list(SubscriptionFilter::default(), all[1].id, 2)
        .await
        .unwrap();
    assert_eq!(page, all[2..4]);
    let to_y = SubscriptionFilter {
        tag: Some("y"),
        device: None,
    };
    let found = list(to_y, 0, 9).await.unwrap();
    assert_eq!(
        found.iter().map(|s| s.device).collect::<Vec<_>>(),
        [one, two]
    );
    assert_eq!(list(to_y, found[0].id, 9).await.unwrap(), found[1..]);
    let of_two = SubscriptionFilter {
        tag: None,
        device: Some(two),
    };
    assert_eq!(list(of_two, all[3].id, 9).await.unwrap(), all[4..]);
    let both = SubscriptionFilter {
        tag: Some("y"),
        device: Some(two),
    };
    assert_eq!(list(both, 0, 9).await.unwrap(), found[1..]);
    assert_eq!(list(both, found[1].id, 9).await.unwrap(), []);
}

async fn an_installation_keeps_its_device_under_its_id(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let first = store
        .put_installation(&acme, "phone", &registration("", "aa"), NOW)
        .await
        .unwrap();
    assert!(first.created);
    let device = first.installation.device;
    assert_eq!((&*device.user_id, &*device.device_token), ("", "aa"));
    store
        .retag(&acme, &[(device.id, vec!["t".into()])], NOW)
        .await
        .unwrap();
    let mut changed = registration("ada", "bb");
    changed.platform = Platform::Android;
    let second = store
        .put_installation(&acme, "phone", &changed, NOW + 3)
        .await
        .unwrap();
    assert!(!second.created);
    let now = second.installation.device;
    assert_eq!(
        (now.id, &*now.device_token, now.platform),
        (device.id, "bb", Platform::Android)
    );
    assert_eq!((now.created_at, now.registered_at), (NOW, NOW + 3));
    assert_eq!(tags_of(&*store, &acme, now.id).await, ["t"]);
    assert_eq!(store.devices(&acme, None, 0, 9).await.unwrap(), [now]);
    let stranger = "nobody".parse().unwrap();
    let refused = store
        .put_installation(&stranger, "phone", &changed, NOW)
        .await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
}

async fn a_device_token_moves_between_installations(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let plain = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await
        .unwrap();
    let adopted = store
        .put_installation(&acme, "one", &registration("ada", "aa"), NOW + 1)
        .await
        .unwrap();
    assert!(adopted.created);
    assert_eq!(adopted.installation.device.id, plain[0].id);
    let two = store
        .put_installation(&acme, "two", &registration("bob", "bb"), NOW + 2)
        .await
        .unwrap();
    store
        .retag(&acme, &[(plain[0].id, vec!["t".into()])], NOW)
        .await
        .unwrap();
    // The app was installed anew: it has another id and the same device token.
    let moved = store
        .put_installation(&acme, "two", &registration("bob", "aa"), NOW + 3)
        .await
        .unwrap();
    assert!(!moved.created);
    assert_eq!(moved.installation.device.id, two.installation.device.id);
    assert_eq!(
        store
            .installations_by_id(&acme, &["one".into()])
            .await
            .unwrap(),
        []
    );
    assert_eq!(store.devices(&acme, None, 0, 9).await.unwrap().len(), 1);
    let all = store
        .subscriptions(&acme, SubscriptionFilter::default(), 0, 9)
        .await
        .unwrap();
    assert_eq!(all, []);
    let three = store
        .put_installation(&acme, "three", &registration("bob", "aa"), NOW + 4)
        .await
        .unwrap();
    assert!(three.created && three.installation.device.id > moved.installation.device.id);
    // A registration by device token leaves the id alone.
    store
        .register(&acme, &[registration("eve", "aa")], NOW + 5)
        .await
        .unwrap();
    let found = store
        .installations_by_id(&acme, &["three".into()])
        .await
        .unwrap();
    assert_eq!(&*found[0].device.user_id, "eve");
}

async fn one_installation_is_put_by_many_at_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, acme) = (store.clone(), acme.clone());
        all.spawn(async move {
            let registration = registration("ada", ["aa", "bb"][n % 2]);
            let id = ["one", "two"][n / 4];
            store
                .put_installation(&acme, id, &registration, NOW)
                .await
                .unwrap()
        });
    }
    let puts = all.join_all().await;
    assert_eq!(puts.len(), 8);
    let devices = store.devices(&acme, None, 0, 9).await.unwrap();
    let mut tokens: Vec<&str> = devices.iter().map(|d| &*d.device_token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), devices.len());
    let found = store.installations(&acme, None, "", 9).await.unwrap();
    assert_eq!(found.len(), devices.len());
}

async fn installations_are_found_listed_and_removed(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let mut put: Vec<Installation> = Vec::new();
    for (id, user, token) in [
        ("one", "ada", "aa"),
        ("two\0", "bob", "bb"),
        ("six", "ada", "cc"),
    ] {
        let one = store
            .put_installation(&acme, id, &registration(user, token), NOW)
            .await;
        put.push(one.unwrap().installation);
    }
    store
        .register(&acme, &[registration("ada", "dd")], NOW)
        .await
        .unwrap();
    store
        .put_installation(&other, "one", &registration("ada", "aa"), NOW)
        .await
        .unwrap();
    let ids = ["six", "nine", "one", "six"].map(Box::from);
    let found = store.installations_by_id(&acme, &ids).await.unwrap();
    assert_eq!(found, [put[0].clone(), put[2].clone()]);
    // By their ids.
    put.swap(1, 2);
    assert_eq!(store.installations(&acme, None, "", 9).await.unwrap(), put);
    let after = store.installations(&acme, None, "one", 1).await.unwrap();
    assert_eq!(after, put[1..2]);
    let of_ada = store
        .installations(&acme, Some("ada"), "one", 9)
        .await
        .unwrap();
    assert_eq!(of_ada, put[1..2]);
    assert!(store.remove_installation(&acme, "one").await.unwrap());
    assert!(!store.remove_installation(&acme, "one").await.unwrap());
    assert_eq!(
        store.installations(&acme, None, "", 9).await.unwrap(),
        put[1..]
    );
    assert_eq!(
        store
            .installations(&other, None, "", 9)
            .await
            .unwrap()
            .len(),
        1
    );
}
