//! Clauses about push secrets and client applications. They must not know tables.

use clarion_engine::model::TenantId;
use clarion_engine::store::{
    CLIENTS_PER_SECTION_MAX, ClientCreated, ClientRecord, Error, PushSecrets, PushSecretsPatch,
    SecretAdded, Section,
};

use crate::contract;
use crate::place::{NOW, Place, create};

contract!(
    secrets_change_one_by_one_and_start_strict,
    each_section_has_room_for_five,
    a_section_is_never_overfilled_by_calls_at_once,
    an_id_is_found_in_its_tenant_until_deleted,
    a_secret_is_added_once_and_only_outside,
    a_deleted_tenant_leaves_no_secrets_and_takes_none,
);

fn client(tenant: &TenantId, number: usize, section: Section) -> ClientRecord {
    ClientRecord {
        tenant: tenant.clone(),
        client_id: format!("{}-{number}", section.as_str()),
        name: "Ada & Co \0".into(),
        section,
        secret: (section == Section::Inside).then_some([7; 32]),
        created_at: NOW + i64::try_from(number).unwrap(),
    }
}

async fn secrets_change_one_by_one_and_start_strict(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let none = store.push_secrets(&acme).await.unwrap();
    assert_eq!(none, PushSecrets::default());
    assert!(none.verifies_client_secret && !none.allows_app_secret);
    let patch = PushSecretsPatch {
        client_secret: Some([1; 32]),
        ..PushSecretsPatch::default()
    };
    store.update_push_secrets(&acme, &patch, NOW).await.unwrap();
    let patch = PushSecretsPatch {
        app_secret: Some([2; 32]),
        allows_app_secret: Some(true),
        sender_id: Some(Some("1234567890".into())),
        ..PushSecretsPatch::default()
    };
    let changed = store.update_push_secrets(&acme, &patch, NOW + 1).await;
    let expected = PushSecrets {
        client_secret: Some(([1; 32], NOW)),
        app_secret: Some(([2; 32], NOW + 1)),
        allows_app_secret: true,
        verifies_client_secret: true,
        sender_id: Some("1234567890".into()),
    };
    assert_eq!(changed.unwrap(), expected);
    assert_eq!(store.push_secrets(&acme).await.unwrap(), expected);
    let patch = PushSecretsPatch {
        verifies_client_secret: Some(false),
        ..PushSecretsPatch::default()
    };
    let nobody = "nobody".parse().unwrap();
    let refused = store.update_push_secrets(&nobody, &patch, NOW).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
}

async fn each_section_has_room_for_five(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    for section in [Section::Inside, Section::Outside] {
        for number in 0..CLIENTS_PER_SECTION_MAX {
            let made = store.create_client(&client(&acme, number, section)).await;
            assert_eq!(made.unwrap(), ClientCreated::Stored);
        }
        let sixth = store.create_client(&client(&acme, 9, section)).await;
        assert_eq!(sixth.unwrap(), ClientCreated::Full);
    }
    let listed = store.clients(&acme).await.unwrap();
    assert_eq!(listed.len(), 2 * CLIENTS_PER_SECTION_MAX);
    assert_eq!(listed[0], client(&acme, 0, Section::Inside));
    let theirs = ClientRecord {
        client_id: "theirs".into(),
        ..client(&other, 0, Section::Inside)
    };
    let made = store.create_client(&theirs).await.unwrap();
    assert_eq!(made, ClientCreated::Stored);
    assert!(store.delete_client(&acme, "inside-0").await.unwrap());
    let freed = store
        .create_client(&client(&acme, 9, Section::Inside))
        .await;
    assert_eq!(freed.unwrap(), ClientCreated::Stored);
}

async fn a_section_is_never_overfilled_by_calls_at_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let records: Vec<ClientRecord> = (0..2 * CLIENTS_PER_SECTION_MAX)
        .map(|number| client(&acme, number, Section::Outside))
        .collect();
    let calls = records.iter().map(|record| store.create_client(record));
    let answers = futures_util::future::join_all(calls).await;
    let stored = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(ClientCreated::Stored)));
    assert_eq!(stored.count(), CLIENTS_PER_SECTION_MAX, "{answers:?}");
    let listed = store.clients(&acme).await.unwrap();
    assert_eq!(listed.len(), CLIENTS_PER_SECTION_MAX);
}

async fn an_id_is_found_in_its_tenant_until_deleted(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let record = client(&acme, 1, Section::Inside);
    store.create_client(&record).await.unwrap();
    let found = store.client(&acme, "inside-1").await.unwrap();
    assert_eq!(found, Some(record.clone()));
    assert_eq!(store.client(&other, "inside-1").await.unwrap(), None);
    let taken = ClientRecord {
        tenant: other.clone(),
        ..record
    };
    let refused = store.create_client(&taken).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert!(!store.delete_client(&other, "inside-1").await.unwrap());
    assert!(store.delete_client(&acme, "inside-1").await.unwrap());
    assert!(!store.delete_client(&acme, "inside-1").await.unwrap());
    assert_eq!(store.client(&acme, "inside-1").await.unwrap(), None);
}

async fn a_secret_is_added_once_and_only_outside(place: Place) {
    let (store, acme) = place.with_tenant().await;
    for section in [Section::Inside, Section::Outside] {
        let record = client(&acme, 0, section);
        store.create_client(&record).await.unwrap();
    }
    let table = [
        ("nobody", SecretAdded::Unknown),
        ("inside-0", SecretAdded::Immutable),
        ("outside-0", SecretAdded::Stored),
        ("outside-0", SecretAdded::Immutable),
    ];
    for (client_id, expected) in table {
        let added = store.add_client_secret(&acme, client_id, &[9; 32]).await;
        assert_eq!(added.unwrap(), expected, "{client_id}");
    }
    let secret_of = async |client_id| {
        let found = store.client(&acme, client_id).await.unwrap();
        found.unwrap().secret
    };
    assert_eq!(secret_of("outside-0").await, Some([9; 32]));
    assert_eq!(secret_of("inside-0").await, Some([7; 32]));
}

async fn a_deleted_tenant_leaves_no_secrets_and_takes_none(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let record = client(&acme, 0, Section::Inside);
    store.create_client(&record).await.unwrap();
    let patch = PushSecretsPatch {
        client_secret: Some([1; 32]),
        ..PushSecretsPatch::default()
    };
    store.update_push_secrets(&acme, &patch, NOW).await.unwrap();
    store.delete_tenant(&acme, NOW).await.unwrap();
    assert_eq!(store.clients(&acme).await.unwrap(), []);
    let left = store.push_secrets(&acme).await.unwrap();
    assert_eq!(left, PushSecrets::default());
    let refused = store.create_client(&record).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let refused = store.update_push_secrets(&acme, &patch, NOW).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
}
