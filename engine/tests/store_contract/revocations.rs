//! Clauses about deleted keys: where other processes may know them, these are told. They must not know who caches keys.

use std::sync::Arc;
use std::time::Duration;

use clarion_engine::store::{ApiKeyRecord, Revocation, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::contract;
use crate::place::{NOW, Place, create};

contract!(
    what_is_deleted_is_told_to_whoever_may_know_it,
    what_is_deleted_before_a_round_is_told_in_it,
);

/// A busy machine's time for a round trip.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than is told while nobody looks.
const TOLD_MAX: usize = 10_000;
const OTHER_PROCESS: Uuid = Uuid::from_u128(2);

fn key(tenant: &clarion_auth::TenantId, id: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        tenant: tenant.clone(),
        key_id: id.parse().unwrap(),
        is_test: false,
        hash: [7; 32],
        name: "backend".to_owned(),
        scopes: clarion_auth::Scopes::ALL,
        rate: None,
        expires_at: None,
        created_by: String::new(),
        created_at: NOW,
        last_used_at: None,
    }
}

/// Listens, until nobody asks any more. Ends by itself where nobody else can delete.
fn listen(store: Arc<dyn Store>) -> (mpsc::Receiver<Revocation>, JoinHandle<()>) {
    let (tell, told) = mpsc::channel(TOLD_MAX);
    let listening = tokio::spawn(async move {
        let tell = move |revocation| tell.try_send(revocation).unwrap();
        store.revocations(&tell).await.unwrap();
    });
    (told, listening)
}

async fn next(told: &mut mpsc::Receiver<Revocation>) -> Option<Revocation> {
    timeout(PATIENCE, told.recv())
        .await
        .expect("a word in time")
}

async fn what_is_deleted_is_told_to_whoever_may_know_it(place: Place) {
    let store = place.open().await;
    let (acme, other) = (
        create(&*store, "acme").await,
        create(&*store, "other").await,
    );
    let record = key(&acme, "Ab3dEf9z");
    store.create_api_key(&record).await.unwrap();
    if place.is_of_one_process() {
        let (mut told, listening) = listen(store);
        assert_eq!(next(&mut told).await, None);
        return listening.await.unwrap();
    }
    let (mut told, listening) = listen(place.open_as(OTHER_PROCESS).await);
    assert!(matches!(
        next(&mut told).await,
        Some(Revocation::Current(_))
    ));
    assert!(
        store
            .delete_api_key(&acme, &record.key_id, NOW)
            .await
            .unwrap()
    );
    assert!(store.delete_tenant(&other, NOW).await.unwrap());
    let mut revoked = Vec::new();
    while revoked.len() < 2 {
        match next(&mut told).await.unwrap() {
            Revocation::Current(_) => {}
            said => revoked.push(said),
        }
    }
    assert_eq!(
        revoked,
        [Revocation::Key(record.key_id), Revocation::Tenant(other)]
    );
    listening.abort();
}

/// Whoever hears that all deletions up to an instant are known has heard of those.
async fn what_is_deleted_before_a_round_is_told_in_it(place: Place) {
    let store = place.open().await;
    let acme = create(&*store, "acme").await;
    if place.is_of_one_process() {
        return;
    }
    let (mut told, listening) = listen(place.open_as(OTHER_PROCESS).await);
    let mut heard = 0;
    for number in 0..20 {
        let record = key(&acme, &format!("key{number:05}"));
        store.create_api_key(&record).await.unwrap();
        store
            .delete_api_key(&acme, &record.key_id, NOW)
            .await
            .unwrap();
        let deleted = Instant::now();
        loop {
            match next(&mut told).await.unwrap() {
                Revocation::Key(id) => {
                    assert_eq!(id, record.key_id);
                    heard += 1;
                }
                Revocation::Current(at) if at > deleted => break,
                Revocation::Current(_) | Revocation::Tenant(_) => {}
            }
        }
        assert_eq!(heard, number + 1);
    }
    listening.abort();
}
