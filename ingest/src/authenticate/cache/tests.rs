//! What is believed of keys, and for how long. They must not know HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clarion_auth::api_key::{ApiKey, ApiKeyKind};
use clarion_engine::datadir::DataDir;
use clarion_engine::store::sqlite::{OpenOptions, SqliteStore};
use clarion_engine::store::{Accounts, ApiKeys, Tenant, TenantLimits};
use uuid::Uuid;

use super::*;

const NOW: Millis = 1_800_000_000_000;

struct Place {
    store: Arc<dyn Store>,
    record: ApiKeyRecord,
    _dir: tempfile::TempDir,
}

/// A store with a tenant and a key.
async fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::lock(&dir.path().join("data")).unwrap());
    let path = data_dir.path().join("store.db");
    let options = OpenOptions {
        process: Uuid::new_v4(),
        data_dir,
    };
    let store = SqliteStore::open(&path, options).await.unwrap();
    let tenant = Tenant {
        id: "acme".parse().unwrap(),
        org: "org".parse().unwrap(),
        bundle_id: None,
        use_sandbox: false,
        limits: TenantLimits::default(),
        suspended: false,
        created_by: "ada".to_owned(),
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    };
    store.create_tenant(&tenant, &[]).await.unwrap();
    let key = ApiKey::generate(ApiKeyKind::Live).unwrap();
    let record = ApiKeyRecord {
        tenant: tenant.id,
        key_id: key.public().key_id,
        is_test: false,
        hash: key.hash(),
        name: "backend".to_owned(),
        scopes: clarion_auth::Scopes::ALL,
        rate: None,
        expires_at: None,
        created_by: String::new(),
        created_at: NOW,
        last_used_at: None,
    };
    store.create_api_key(&record).await.unwrap();
    Place {
        store: Arc::new(store),
        record,
        _dir: dir,
    }
}

/// Deletes the key as another process would, of which this one hears nothing.
async fn deleted_elsewhere(place: &Place) {
    let Place { store, record, .. } = place;
    let deleted = store.delete_api_key(&record.tenant, &record.key_id, NOW);
    assert!(deleted.await.unwrap());
}

async fn knows(cache: &KeyCache, place: &Place, at: Millis) -> bool {
    let found = cache.look_up(&place.record.key_id, at).await;
    found.unwrap().is_some()
}

#[tokio::test]
async fn a_key_deleted_elsewhere_is_believed_for_a_second_and_no_longer() {
    let place = place().await;
    let cache = KeyCache::new(Arc::clone(&place.store));
    assert!(knows(&cache, &place, NOW).await);
    deleted_elsewhere(&place).await;
    assert!(knows(&cache, &place, NOW + 999).await);
    assert!(!knows(&cache, &place, NOW + 1_000).await);
}

#[tokio::test]
async fn without_a_channel_every_request_asks() {
    let place = place().await;
    let cache = KeyCache::new(Arc::clone(&place.store));
    cache.0.channel.share();
    assert!(knows(&cache, &place, NOW).await);
    deleted_elsewhere(&place).await;
    assert!(!knows(&cache, &place, NOW + 1).await);
}

#[tokio::test]
async fn with_the_store_down_a_known_key_is_believed_for_five_minutes_and_an_unknown_one_is_not_refused()
 {
    let place = place().await;
    let cache = KeyCache::new(Arc::clone(&place.store));
    cache.0.channel.share();
    assert!(knows(&cache, &place, NOW).await);
    place.store.close().await;
    assert!(knows(&cache, &place, NOW + 1).await);
    assert!(knows(&cache, &place, NOW + OUTAGE_MILLIS_MAX - 1).await);
    let late = cache.look_up(&place.record.key_id, NOW + OUTAGE_MILLIS_MAX);
    let is_outage = |found: &Result<_, ApiError>| found.is_err();
    assert!(is_outage(&late.await));
    let stranger = ApiKey::generate(ApiKeyKind::Live).unwrap();
    let unknown = stranger.public().key_id;
    assert!(is_outage(&cache.look_up(&unknown, NOW).await));
}

/// A pool that is used up says the same as a database that is away; the channel tells them apart.
#[tokio::test]
async fn a_store_that_is_only_busy_is_not_gone_round() {
    let place = place().await;
    let cache = KeyCache::new(Arc::clone(&place.store));
    cache.0.channel.share();
    assert!(knows(&cache, &place, NOW).await);
    place.store.close().await;
    cache.0.channel.is_current(tokio::time::Instant::now());
    let late = cache.look_up(&place.record.key_id, NOW + 1_000).await;
    assert!(late.is_err());
}

#[tokio::test]
async fn what_is_told_is_dropped_at_once() {
    let place = place().await;
    let cache = KeyCache::new(Arc::clone(&place.store));
    assert!(knows(&cache, &place, NOW).await);
    deleted_elsewhere(&place).await;
    cache.forget(&place.record.key_id);
    assert!(!knows(&cache, &place, NOW).await);
}
