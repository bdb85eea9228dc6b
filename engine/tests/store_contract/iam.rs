//! Clauses about service IDs, IAM keys and refresh tokens. They must not know tables.

use std::collections::BTreeMap;

use clarion_auth::{Grants, IamRole, OrgId};
use clarion_engine::store::{
    Error, IamKeyRecord, IamOwner, RefreshToken, Refreshed, ServiceIdRecord,
};
use uuid::Uuid;

use crate::contract;
use crate::place::{NOW, Place};

contract!(
    a_service_id_changes_by_its_versions_and_goes_with_its_keys,
    an_iam_key_is_found_by_its_hash_and_listed_by_its_owner,
    an_iam_key_changes_by_its_versions_and_is_not_deleted_while_locked,
    a_refresh_token_is_good_once,
    a_refresh_token_that_comes_again_revokes_its_family,
    a_refresh_token_ends_with_its_time_and_with_its_key,
);

pub(crate) fn service(id: &str, org: &str) -> ServiceIdRecord {
    ServiceIdRecord {
        id: id.parse().unwrap(),
        org: org.parse().unwrap(),
        name: "shop \0".into(),
        description: "sends".into(),
        grants: Grants {
            everywhere: Some(IamRole::Reader),
            tenants: BTreeMap::from([("shop".parse().unwrap(), IamRole::Writer)]),
        },
        version: 1,
        created_by: "ada".into(),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn iam_key(number: u8, owner: IamOwner) -> IamKeyRecord {
    IamKeyRecord {
        id: format!("ApiKey-{number}").parse().unwrap(),
        hash: [number; 32],
        owner,
        org: None,
        name: "key".into(),
        description: String::new(),
        is_locked: false,
        is_disabled: false,
        version: 1,
        expires_at: Some(NOW + 1_000),
        created_by: "ada".into(),
        created_at: NOW + i64::from(number),
        updated_at: NOW,
    }
}

fn ada() -> IamOwner {
    IamOwner::Person("ada".parse().unwrap())
}

fn token(number: u8) -> RefreshToken {
    RefreshToken {
        hash: [number; 32],
        expires_at: NOW + 100,
    }
}

async fn a_service_id_changes_by_its_versions_and_goes_with_its_keys(place: Place) {
    let store = place.open().await;
    let mut one = service("ServiceId-1", "acme");
    store.create_service_id(&one).await.unwrap();
    let again = store.create_service_id(&one).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    assert_eq!(store.service_id(&one.id).await.unwrap(), Some(one.clone()));
    one.name = "bank".into();
    one.grants = Grants {
        everywhere: None,
        tenants: BTreeMap::from([("bank".parse().unwrap(), IamRole::Manager)]),
    };
    for late in [1, 3] {
        one.version = late;
        let refused = store.update_service_id(&one).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{late}");
    }
    one.version = 2;
    store.update_service_id(&one).await.unwrap();
    let org: OrgId = "acme".parse().unwrap();
    assert_eq!(store.service_ids(&org).await.unwrap(), [one.clone()]);
    assert_eq!(
        store.service_ids(&"other".parse().unwrap()).await.unwrap(),
        []
    );
    let key = iam_key(1, IamOwner::Service(one.id.clone()));
    store.create_iam_key(&key).await.unwrap();
    assert!(store.delete_service_id(&one.id).await.unwrap());
    assert!(!store.delete_service_id(&one.id).await.unwrap());
    assert_eq!(store.iam_key(&key.id).await.unwrap(), None);
    let orphan = store.create_iam_key(&key).await;
    assert!(matches!(orphan, Err(Error::NotFound(_))));
}

async fn an_iam_key_is_found_by_its_hash_and_listed_by_its_owner(place: Place) {
    let store = place.open().await;
    let mut first = iam_key(2, ada());
    first.org = Some("acme".parse().unwrap());
    let second = iam_key(3, ada());
    for key in [&second, &first] {
        store.create_iam_key(key).await.unwrap();
    }
    let mut twin = iam_key(4, ada());
    twin.hash = first.hash;
    let twin = store.create_iam_key(&twin).await;
    assert!(matches!(twin, Err(Error::Conflict(_))));
    let found = store.iam_key_by_hash(&first.hash).await.unwrap();
    assert_eq!(found, Some(first.clone()));
    assert_eq!(store.iam_key_by_hash(&[9; 32]).await.unwrap(), None);
    assert_eq!(store.iam_keys(&ada()).await.unwrap(), [first, second]);
    // A service of the same name is somebody else.
    let namesake = IamOwner::Service("ada".parse().unwrap());
    assert_eq!(store.iam_keys(&namesake).await.unwrap(), []);
}

async fn an_iam_key_changes_by_its_versions_and_is_not_deleted_while_locked(place: Place) {
    let store = place.open().await;
    let mut key = iam_key(1, ada());
    store.create_iam_key(&key).await.unwrap();
    key.is_locked = true;
    key.is_disabled = true;
    key.description = "resting".into();
    let stale = store.update_iam_key(&key).await;
    assert!(matches!(stale, Err(Error::Conflict(_))));
    key.version = 2;
    store.update_iam_key(&key).await.unwrap();
    assert_eq!(store.iam_key(&key.id).await.unwrap(), Some(key.clone()));
    let locked = store.delete_iam_key(&key.id).await;
    assert!(matches!(locked, Err(Error::Conflict(_))));
    key.version = 3;
    key.is_locked = false;
    store.update_iam_key(&key).await.unwrap();
    assert!(store.delete_iam_key(&key.id).await.unwrap());
    assert!(!store.delete_iam_key(&key.id).await.unwrap());
}

async fn a_refresh_token_is_good_once(place: Place) {
    let store = place.open().await;
    let key = iam_key(1, ada());
    let early = store
        .begin_refresh(Uuid::from_u128(1), &key.id, &token(1))
        .await;
    assert!(matches!(early, Err(Error::NotFound(_))));
    store.create_iam_key(&key).await.unwrap();
    store
        .begin_refresh(Uuid::from_u128(1), &key.id, &token(1))
        .await
        .unwrap();
    let rotated = store
        .rotate_refresh(&[1; 32], &token(2), NOW)
        .await
        .unwrap();
    assert_eq!(rotated, Refreshed::Rotated(key.clone()));
    let rotated = store
        .rotate_refresh(&[2; 32], &token(3), NOW)
        .await
        .unwrap();
    assert_eq!(rotated, Refreshed::Rotated(key));
    let unknown = store
        .rotate_refresh(&[9; 32], &token(4), NOW)
        .await
        .unwrap();
    assert_eq!(unknown, Refreshed::Unknown);
}

async fn a_refresh_token_that_comes_again_revokes_its_family(place: Place) {
    let store = place.open().await;
    let key = iam_key(1, ada());
    store.create_iam_key(&key).await.unwrap();
    store
        .begin_refresh(Uuid::from_u128(1), &key.id, &token(1))
        .await
        .unwrap();
    store
        .begin_refresh(Uuid::from_u128(2), &key.id, &token(11))
        .await
        .unwrap();
    store
        .rotate_refresh(&[1; 32], &token(2), NOW)
        .await
        .unwrap();
    let thief = store
        .rotate_refresh(&[1; 32], &token(3), NOW)
        .await
        .unwrap();
    assert_eq!(thief, Refreshed::Reused);
    for dead in [1, 2, 3] {
        let answer = store
            .rotate_refresh(&[dead; 32], &token(4), NOW)
            .await
            .unwrap();
        assert_eq!(answer, Refreshed::Unknown, "{dead}");
    }
    // Another exchange of the same key is another family.
    let other = store
        .rotate_refresh(&[11; 32], &token(12), NOW)
        .await
        .unwrap();
    assert_eq!(other, Refreshed::Rotated(key));
}

async fn a_refresh_token_ends_with_its_time_and_with_its_key(place: Place) {
    let store = place.open().await;
    let key = iam_key(1, ada());
    store.create_iam_key(&key).await.unwrap();
    let begin = |number: u8| (Uuid::from_u128(number.into()), token(number));
    for (family, first) in [begin(1), begin(2)] {
        store.begin_refresh(family, &key.id, &first).await.unwrap();
    }
    let late = store
        .rotate_refresh(&[1; 32], &token(5), NOW + 100)
        .await
        .unwrap();
    assert_eq!(late, Refreshed::Unknown);
    store.delete_iam_key(&key.id).await.unwrap();
    let orphan = store
        .rotate_refresh(&[2; 32], &token(6), NOW)
        .await
        .unwrap();
    assert_eq!(orphan, Refreshed::Unknown);
}
