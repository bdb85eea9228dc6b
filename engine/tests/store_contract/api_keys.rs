//! Clauses about API keys of tenants. They must not know tables.

use clarion_auth::{KeyId, Scope, Scopes, TenantId};
use clarion_engine::store::{
    ApiKeyPatch, ApiKeyRecord, Error, KeyUse, SweepHorizon, Usage, day_of,
};

use crate::contract;
use crate::place::{NOW, Place, create};

contract!(
    keys_are_found_by_their_public_id_until_deleted,
    a_patch_changes_only_what_it_names_of_a_key,
    a_rotated_key_is_good_until_its_end_and_never_longer,
    uses_are_counted_by_day_and_operation,
    ended_keys_and_old_counts_are_swept,
);

pub(crate) fn key(tenant: &TenantId, id: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        tenant: tenant.clone(),
        key_id: id.parse().unwrap(),
        is_test: true,
        hash: [3; 32],
        name: "backend".into(),
        scopes: [Scope::Send, Scope::Read].into_iter().collect(),
        rate: Some(u32::MAX),
        expires_at: None,
        created_by: "ada@example.com".into(),
        created_at: NOW,
        last_used_at: None,
    }
}

fn use_of(key: &ApiKeyRecord, operation: &'static str, calls: u64, last_at: i64) -> KeyUse {
    KeyUse {
        tenant: key.tenant.clone(),
        key_id: key.key_id,
        day: day_of(last_at),
        operation,
        calls,
        last_at,
    }
}

async fn keys_are_found_by_their_public_id_until_deleted(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let (one, two) = (key(&acme, "AAAAAAAA"), key(&acme, "aaaaaaaa"));
    store.create_api_key(&one).await.unwrap();
    store.create_api_key(&two).await.unwrap();
    let taken = store.create_api_key(&key(&other, "AAAAAAAA")).await;
    assert!(matches!(taken, Err(Error::Conflict(_))));
    let nobody = key(&"nobody".parse().unwrap(), "BBBBBBBB");
    let nobody = store.create_api_key(&nobody).await;
    assert!(matches!(nobody, Err(Error::NotFound(_))));
    assert_eq!(store.api_key(&one.key_id).await.unwrap(), Some(one.clone()));
    let all = store.api_keys(&acme).await.unwrap();
    assert_eq!(all, [one.clone(), two.clone()]);
    let deleted = store.delete_api_key(&other, &one.key_id, NOW).await;
    assert!(!deleted.unwrap());
    assert!(store.delete_api_key(&acme, &one.key_id, NOW).await.unwrap());
    assert_eq!(store.api_key(&one.key_id).await.unwrap(), None);
    store.delete_tenant(&acme, NOW).await.unwrap();
    assert_eq!(store.api_key(&two.key_id).await.unwrap(), None);
}

async fn a_patch_changes_only_what_it_names_of_a_key(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let mut expected = key(&acme, "AAAAAAAA");
    store.create_api_key(&expected).await.unwrap();
    let (id, nothing) = (expected.key_id, ApiKeyPatch::default());
    let same = store.update_api_key(&acme, &id, &nothing).await.unwrap();
    assert_eq!(same, expected);
    expected.name = "cron".into();
    expected.scopes = Scopes::ALL;
    expected.rate = None;
    let patch = ApiKeyPatch {
        name: Some("cron".into()),
        scopes: Some(Scopes::ALL),
        rate: Some(None),
    };
    let changed = store.update_api_key(&acme, &id, &patch).await.unwrap();
    assert_eq!(changed, expected);
    assert_eq!(store.api_key(&id).await.unwrap(), Some(expected));
    let foreign = store.update_api_key(&other, &id, &patch).await;
    assert!(matches!(foreign, Err(Error::NotFound(_))));
}

async fn a_rotated_key_is_good_until_its_end_and_never_longer(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let (old, new) = (key(&acme, "AAAAAAAA"), key(&acme, "BBBBBBBB"));
    store.create_api_key(&old).await.unwrap();
    let foreign = key(&other, "CCCCCCCC");
    let refused = store.rotate_api_key(&old.key_id, &foreign, NOW + 9).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
    assert_eq!(store.api_keys(&other).await.unwrap(), []);
    let taken = store.rotate_api_key(&old.key_id, &old, NOW + 9).await;
    assert!(matches!(taken, Err(Error::Conflict(_))));
    assert_eq!(store.api_key(&old.key_id).await.unwrap(), Some(old.clone()));

    store
        .rotate_api_key(&old.key_id, &new, NOW + 5)
        .await
        .unwrap();
    assert_eq!(store.api_key(&new.key_id).await.unwrap(), Some(new.clone()));
    let ending = store.api_key(&old.key_id).await.unwrap().unwrap();
    assert_eq!(ending.expires_at, Some(NOW + 5));
    assert!(!ending.is_expired(NOW + 4) && ending.is_expired(NOW + 5));
    // Rotated once more, it does not live longer for it.
    let third = key(&acme, "DDDDDDDD");
    store
        .rotate_api_key(&old.key_id, &third, NOW + 99)
        .await
        .unwrap();
    let ending = store.api_key(&old.key_id).await.unwrap().unwrap();
    assert_eq!(ending.expires_at, Some(NOW + 5));
}

async fn uses_are_counted_by_day_and_operation(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (one, gone) = (key(&acme, "AAAAAAAA"), key(&acme, "CCCCCCCC"));
    store.create_api_key(&one).await.unwrap();
    const DAY: i64 = 86_400_000;
    let first = [
        use_of(&one, "send", 2, NOW + 5),
        use_of(&one, "send", 1, NOW + 3),
        use_of(&one, "list_devices", 4, NOW),
        use_of(&gone, "send", 1, NOW),
    ];
    store.note_key_uses(&first).await.unwrap();
    let second = [
        use_of(&one, "send", 3, NOW + 1),
        use_of(&one, "send", 7, NOW - DAY),
    ];
    store.note_key_uses(&second).await.unwrap();
    let used = store.api_key(&one.key_id).await.unwrap().unwrap();
    assert_eq!(used.last_used_at, Some(NOW + 5));
    let (today, usage) = (day_of(NOW), |day, operation: &str, calls| Usage {
        key_id: one.key_id,
        day,
        operation: operation.into(),
        calls,
    });
    let expected = [
        usage(today - 1, "send", 7),
        usage(today, "list_devices", 4),
        usage(today, "send", 6),
    ];
    assert_eq!(store.key_usage(&acme, today - 1).await.unwrap(), expected);
    let recent = store.key_usage(&acme, today).await.unwrap();
    assert_eq!(recent, expected[1..]);
    // A key that is gone takes its counts along, and leaves none to whoever gets its id.
    store.delete_api_key(&acme, &one.key_id, NOW).await.unwrap();
    assert_eq!(store.key_usage(&acme, 0).await.unwrap(), []);
}

async fn ended_keys_and_old_counts_are_swept(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let mut ended = key(&acme, "AAAAAAAA");
    ended.expires_at = Some(NOW - 1);
    let mut ending = key(&acme, "BBBBBBBB");
    ending.expires_at = Some(NOW);
    let endless = key(&acme, "CCCCCCCC");
    for key in [&ended, &ending, &endless] {
        store.create_api_key(key).await.unwrap();
    }
    store
        .note_key_uses(&[use_of(&endless, "send", 1, NOW)])
        .await
        .unwrap();
    let horizon = |expired, audit| SweepHorizon {
        analytics: 0,
        receipts: 0,
        payloads: 0,
        dead: 0,
        idempotency: 0,
        audit,
        expired,
    };
    assert_eq!(store.sweep(&horizon(NOW, NOW), 10).await.unwrap(), 1);
    let left: Vec<KeyId> = store
        .api_keys(&acme)
        .await
        .unwrap()
        .iter()
        .map(|key| key.key_id)
        .collect();
    assert_eq!(left, [ending.key_id, endless.key_id]);
    assert_eq!(store.key_usage(&acme, 0).await.unwrap().len(), 1);
    let next_day = NOW + 86_400_000;
    assert_eq!(store.sweep(&horizon(NOW, next_day), 10).await.unwrap(), 1);
    assert_eq!(store.key_usage(&acme, 0).await.unwrap(), []);
}
