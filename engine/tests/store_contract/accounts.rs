//! Clauses about tenants, credentials and the control version. They must not know tables.

use clarion_engine::model::{Environment, FinalState};
use clarion_engine::store::{
    CredentialKind, CredentialRecord, Error, NotificationState, Suspension, TenantPatch,
};

use crate::api_keys::key;
use crate::contract;
use crate::place::{
    FRESH, ME, NOW, Place, all_accepted, create, first_job, notification, pages, registration,
    tenant,
};

contract!(
    a_tenant_is_created_once_and_listed_by_organisation,
    a_patch_changes_only_what_it_names,
    a_deleted_tenant_leaves_nothing_but_its_name,
    a_deleted_tenant_takes_nothing_new,
    the_unfed_pages_of_a_deleted_tenant_end_as_cancelled,
    a_credential_is_replaced_only_by_its_next_version,
    a_version_never_names_two_secrets,
    the_control_version_tells_what_changed,
);

async fn a_tenant_is_created_once_and_listed_by_organisation(place: Place) {
    let store = place.open().await;
    let mut limited = tenant("acme");
    limited.limits.rate = Some(u32::MAX);
    limited.limits.backlog = Some(7);
    store
        .create_tenant(&limited, &[credential(&limited.id, 1)])
        .await
        .unwrap();
    let again = store.create_tenant(&limited, &[]).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    assert_eq!(
        store.tenant(&limited.id).await.unwrap(),
        Some(limited.clone())
    );
    assert_eq!(store.credentials(&limited.id).await.unwrap().len(), 1);
    let mut other = tenant("other");
    other.org = "elsewhere".parse().unwrap();
    other.created_at = NOW - 1;
    store.create_tenant(&other, &[]).await.unwrap();
    let all = store.tenants(None).await.unwrap();
    assert_eq!(all, [other.clone(), limited.clone()]);
    let some = store
        .tenants(Some(&["elsewhere".parse().unwrap()]))
        .await
        .unwrap();
    assert_eq!(some, [other]);
    assert_eq!(store.tenants(Some(&[])).await.unwrap(), []);
    assert_eq!(
        store.tenant(&"nobody".parse().unwrap()).await.unwrap(),
        None
    );
}

async fn a_patch_changes_only_what_it_names(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let patch = TenantPatch {
        rate: Some(Some(50)),
        ambiguous_retries: Some(Some(3)),
        suspended: Some(true),
        ..TenantPatch::default()
    };
    let changed = store.update_tenant(&acme, &patch, NOW + 1).await.unwrap();
    assert_eq!(changed.limits.rate, Some(50));
    assert_eq!(changed.bundle_id.as_deref(), Some("com.example.app"));
    assert_eq!((changed.suspended, changed.updated_at), (true, NOW + 1));
    let back = TenantPatch {
        rate: Some(None),
        ..TenantPatch::default()
    };
    let changed = store.update_tenant(&acme, &back, NOW + 2).await.unwrap();
    assert_eq!(
        (changed.limits.rate, changed.limits.ambiguous_retries),
        (None, Some(3))
    );
    assert_eq!(store.tenant(&acme).await.unwrap(), Some(changed));
    let unknown = store
        .update_tenant(&"nobody".parse().unwrap(), &back, NOW)
        .await;
    assert!(matches!(unknown, Err(Error::NotFound(_))));
}

async fn a_deleted_tenant_leaves_nothing_but_its_name(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    for tenant in [&acme, &other] {
        store
            .register(tenant, &[registration("ada", "aa")], NOW)
            .await
            .unwrap();
    }
    store.create_api_key(&key(&acme, "AAAAAAAA")).await.unwrap();
    store.put_credential(&credential(&acme, 1)).await.unwrap();
    let deleted = [NOW + 1; 2].map(|now| store.delete_tenant(&acme, now));
    let [first, second] = deleted;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (true, false));
    assert_eq!(store.tenant(&acme).await.unwrap(), None);
    assert_eq!(store.tenants(None).await.unwrap().len(), 1);
    assert_eq!(
        store.api_key(&"AAAAAAAA".parse().unwrap()).await.unwrap(),
        None
    );
    assert_eq!(store.credentials(&acme).await.unwrap(), []);
    assert_eq!(store.devices(&acme, None, 0, 9).await.unwrap(), []);
    assert_eq!(store.devices(&other, None, 0, 9).await.unwrap().len(), 1);
}

async fn a_deleted_tenant_takes_nothing_new(place: Place) {
    let (store, acme) = place.with_tenant().await;
    store.delete_tenant(&acme, NOW).await.unwrap();
    let taken = store.create_tenant(&tenant("acme"), &[]).await;
    assert!(matches!(taken, Err(Error::Conflict(_))));
    let refused = store
        .register(&acme, &[registration("ada", "aa")], NOW)
        .await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
}

async fn the_unfed_pages_of_a_deleted_tenant_end_as_cancelled(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let bulk = notification(&acme, 1);
    for tenant in [&acme, &other] {
        let bulk = notification(tenant, 1);
        store
            .create_notification(&bulk, &pages(4, 5))
            .await
            .unwrap();
    }
    assert_eq!(
        store.reserve_pages(1, 1, FRESH, NOW).await.unwrap().len(),
        1
    );
    assert!(store.delete_tenant(&acme, NOW + 1).await.unwrap());
    // Its page on the way is still the engine's to end.
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.get(FinalState::Cancelled), 15);
    assert_eq!(
        (status.state, status.paging),
        (NotificationState::Running, false)
    );
    let left = store.reserve_pages(9, 9, FRESH, NOW).await.unwrap();
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|page| page.notification.tenant == other));
    store
        .commit(ME, &[all_accepted(&first_job(&bulk, 0, 5))], NOW + 2)
        .await
        .unwrap();
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.state, NotificationState::Finished);
    assert_eq!((status.entries, status.counts.total()), (20, 20));
}

fn credential(tenant: &clarion_auth::TenantId, version: i64) -> CredentialRecord {
    CredentialRecord {
        tenant: tenant.clone(),
        credential_id: "apns-sandbox".into(),
        kind: CredentialKind::ApnsKey,
        environment: Environment::Sandbox,
        version,
        public: r#"{"team_id":"T"}"#.into(),
        sealed: vec![0, 1, 2],
        created_at: NOW,
    }
}

async fn a_credential_is_replaced_only_by_its_next_version(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let next = store
        .next_credential_version(&acme, "apns-sandbox")
        .await
        .unwrap();
    assert_eq!(next, 1);
    store.put_credential(&credential(&acme, 1)).await.unwrap();
    for late in [1, 3] {
        let refused = store.put_credential(&credential(&acme, late)).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{late}");
    }
    let nobody = store
        .put_credential(&credential(&"nobody".parse().unwrap(), 1))
        .await;
    assert!(matches!(nobody, Err(Error::NotFound(_))));
    store.put_credential(&credential(&acme, 2)).await.unwrap();
    assert_eq!(
        store.credentials(&acme).await.unwrap(),
        [credential(&acme, 2)]
    );
}

async fn a_version_never_names_two_secrets(place: Place) {
    let (store, acme) = place.with_tenant().await;
    store.put_credential(&credential(&acme, 1)).await.unwrap();
    assert!(
        store
            .delete_credential(&acme, "apns-sandbox", NOW)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_credential(&acme, "apns-sandbox", NOW)
            .await
            .unwrap()
    );
    assert_eq!(store.credentials(&acme).await.unwrap(), []);
    let next = store
        .next_credential_version(&acme, "apns-sandbox")
        .await
        .unwrap();
    assert_eq!(next, 2);
    store.put_credential(&credential(&acme, 2)).await.unwrap();
    assert_eq!(store.credentials(&acme).await.unwrap().len(), 1);
}

async fn the_control_version_tells_what_changed(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    let start = store.control(0).await.unwrap();
    assert_eq!((start.changed.len(), start.stopped.len()), (2, 0));
    let idle = store.control(start.version).await.unwrap();
    assert_eq!((idle.version, idle.changed.len()), (start.version, 0));
    store.put_credential(&credential(&acme, 1)).await.unwrap();
    let after = store.control(start.version).await.unwrap();
    assert!(after.version > start.version);
    assert_eq!(after.changed.len(), 1);
    assert_eq!(after.changed[0].id, acme);
    let patch = TenantPatch {
        suspended: Some(true),
        ..TenantPatch::default()
    };
    store.update_tenant(&acme, &patch, NOW).await.unwrap();
    store.delete_tenant(&other, NOW + 3).await.unwrap();
    let reopened = place.open().await;
    let last = reopened.control(after.version).await.unwrap();
    let expected = [(acme, Suspension::Suspended), (other, Suspension::Deleted)];
    assert_eq!(last.stopped, expected);
    assert_eq!(last.changed.len(), 2);
    assert_eq!(last.changed[1].deleted_at, Some(NOW + 3));
}
