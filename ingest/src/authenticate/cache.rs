//! Known API keys for a second at a time, what they were used for, and how many requests each may still make.
//! It must not know what is presented: it answers with stored rows, which callers compare.
//!
//! Revocation: whoever deletes a key calls [`KeyCache::revoke`] before it answers; a row that was being read meanwhile
//! is not kept. Another process's deletion is seen when the lease of one second lapses, or as soon as the store's channel
//! tells of it ([`KeyCache::watch`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clarion_auth::permission::Operation;
use clarion_auth::{KeyId, TenantId};
use clarion_engine::model::Millis;
use clarion_engine::store::{self, ApiKeyRecord, KeyUse, Revocation, Store, day_of};
use tokio::sync::Mutex as AsyncMutex;

use super::channel::Channel;
use super::pace::Pace;
use crate::error::{ApiError, Chain, Kind};
use crate::metrics;

/// A store that could not be asked is asked again after this, milliseconds.
const ASK_AGAIN_MILLIS: Millis = 1_000;
/// Pause before a lost channel is opened again.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);
/// With the store down, a row is believed for this long after it was read, milliseconds.
const OUTAGE_MILLIS_MAX: Millis = 5 * 60 * 1_000;
/// Keys kept.
const KEYS_MAX: usize = 65_536;
/// Entries looked at to find one to give up.
const EVICTION_SAMPLE: usize = 8;
/// Uses are written to the store this often, milliseconds.
const USED_FLUSH_MILLIS: Millis = 60 * 1_000;

/// A cache of API keys, bounded; cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    keys: Mutex<HashMap<KeyId, Arc<Slot>>>,
    /// Raised by every forgetting: a row read before it is not kept after it.
    epoch: AtomicU64,
    channel: Channel,
    used: Mutex<Used>,
    flushing: AtomicBool,
}

#[derive(Debug)]
struct Slot {
    /// Held while the row is read again, so that one request asks and the others wait.
    reading: AsyncMutex<()>,
    row: Mutex<(Arc<ApiKeyRecord>, Millis)>,
    /// When the store could last not be asked about it: others need not wait for the same failure.
    failed_at: Mutex<Option<Millis>>,
    /// What it may still ask for, if it has a rate.
    pace: Mutex<Option<Pace>>,
}

#[derive(Debug, Default)]
struct Used {
    flushed_at: Millis,
    /// By key, day and operation: whose, how often, when last.
    of: HashMap<(KeyId, i64, Operation), (TenantId, u64, Millis)>,
}

impl KeyCache {
    /// An empty cache in front of this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Shared {
            store,
            keys: Mutex::default(),
            epoch: AtomicU64::new(0),
            channel: Channel::new(),
            used: Mutex::default(),
            flushing: AtomicBool::new(false),
        }))
    }

    /// Hears of what other processes delete, until the future is dropped. From this call on nothing is believed unless it
    /// does. Ends where the store has no other processes.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.channel.share();
        let cache = self.clone();
        async move {
            let tell = |told| match told {
                Revocation::Key(key_id) => cache.forget(&key_id),
                Revocation::Tenant(tenant) => cache.forget_tenant(&tenant),
                Revocation::Current(at) => cache.0.channel.is_current(at),
            };
            while let Err(error) = cache.0.store.revocations(&tell).await {
                cache.0.channel.is_lost();
                tracing::debug!(error = %Chain(&error), "deleted API keys are not heard of");
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
            cache.0.channel.is_alone();
        }
    }

    /// Drops a key that was deleted, and waits until no other process takes it any more.
    pub(crate) async fn revoke(&self, key_id: &KeyId) {
        self.forget(key_id);
        self.0.channel.lapsed().await;
    }

    /// The same for all keys of a tenant that was deleted.
    pub(crate) async fn revoke_tenant(&self, tenant: &TenantId) {
        self.forget_tenant(tenant);
        self.0.channel.lapsed().await;
    }

    /// Drops a key, because it was deleted.
    pub fn forget(&self, key_id: &KeyId) {
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.0.keys).remove(key_id);
    }

    fn forget_tenant(&self, tenant: &TenantId) {
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.0.keys).retain(|_, slot| &lock(&slot.row).0.tenant != tenant);
    }

    /// The key's row, at most a second old; up to five minutes old while the store is down. Without a channel to a store of many
    /// processes it is read for every request; who waits for a read that began after they came shares it.
    pub(crate) async fn look_up(
        &self,
        key_id: &KeyId,
        now: Millis,
    ) -> Result<Option<Arc<ApiKeyRecord>>, ApiError> {
        let slot = lock(&self.0.keys).get(key_id).cloned();
        let Some(slot) = slot else {
            return self.read(key_id, now).await.map_err(ApiError::from);
        };
        if let Some(row) = slot.younger_than(self.patience(&slot, now), now) {
            return Ok(Some(row));
        }
        let _reading = slot.reading.lock().await;
        let since = slot.read_since(now);
        if let Some(row) = since.or_else(|| slot.younger_than(self.patience(&slot, now), now)) {
            return Ok(Some(row));
        }
        match (
            self.read(key_id, now).await,
            slot.younger_than(OUTAGE_MILLIS_MAX, now),
        ) {
            // A store that speaks on its channel is not down, and may know better.
            (Err(store::Error::Unavailable(_)), Some(row))
                if self.still_known(key_id, &slot) && !self.0.channel.stands() =>
            {
                *lock(&slot.failed_at) = Some(now);
                metrics::served_from_stale_cache();
                Ok(Some(row))
            }
            (answer, _) => Ok(answer?),
        }
    }

    /// Takes one request out of what a key with a rate may ask for in this process; 429 when there is none left.
    pub(crate) fn pace(&self, key: &ApiKeyRecord, now: Millis) -> Result<(), ApiError> {
        let Some(rate) = key.rate else {
            return Ok(());
        };
        let slot = lock(&self.0.keys).get(&key.key_id).cloned();
        let Some(slot) = slot else {
            return Ok(());
        };
        let mut pace = lock(&slot.pace);
        let pace = match &mut *pace {
            Some(pace) if pace.is_of(rate) => pace,
            other => other.insert(Pace::new(rate, now)),
        };
        pace.take(now).map_err(|wait| {
            let detail = format!("this API key may make {rate} requests a second: ask more slowly");
            ApiError::new(Kind::LimitReached, detail).retry_after(wait)
        })
    }

    /// Notes what a key was used for. Now and then the notes are written to the store, in the background.
    pub(crate) fn used(&self, key: &ApiKeyRecord, operation: Operation, now: Millis) {
        let of = (key.key_id, day_of(now), operation);
        let mut used = lock(&self.0.used);
        if used.of.len() < KEYS_MAX || used.of.contains_key(&of) {
            let noted = used.of.entry(of);
            let noted = noted.or_insert_with(|| (key.tenant.clone(), 0, now));
            (noted.1, noted.2) = (noted.1 + 1, now);
        }
        let is_due = now - used.flushed_at >= USED_FLUSH_MILLIS;
        if is_due && !self.0.flushing.swap(true, Ordering::SeqCst) {
            used.flushed_at = now;
            let cache = self.clone();
            tokio::spawn(async move {
                cache.flush().await;
                cache.0.flushing.store(false, Ordering::SeqCst);
            });
        }
    }

    /// Writes what keys were used for; called once more at the end of the process. What cannot be written is lost:
    /// it is coarse information.
    pub async fn flush(&self) {
        let used = std::mem::take(&mut lock(&self.0.used).of);
        let used = used
            .into_iter()
            .map(|((key_id, day, operation), noted)| KeyUse {
                tenant: noted.0,
                key_id,
                day,
                operation: operation.as_str(),
                calls: noted.1,
                last_at: noted.2,
            });
        let used: Vec<_> = used.collect();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.0.store.note_key_uses(&used).await {
            tracing::warn!(error = %Chain(&error), "cannot note what API keys were used for");
        }
    }

    async fn read(
        &self,
        key_id: &KeyId,
        now: Millis,
    ) -> Result<Option<Arc<ApiKeyRecord>>, store::Error> {
        let epoch = self.0.epoch.load(Ordering::SeqCst);
        let row = self.0.store.api_key(key_id).await?.map(Arc::new);
        let mut keys = lock(&self.0.keys);
        let Some(row) = row else {
            keys.remove(key_id);
            return Ok(None);
        };
        if self.0.epoch.load(Ordering::SeqCst) == epoch {
            keep(&mut keys, Arc::clone(&row), now);
        }
        Ok(Some(row))
    }

    /// How old a row is believed: longer for a second after the store could not be asked.
    fn patience(&self, slot: &Slot, now: Millis) -> Millis {
        let failed_at = *lock(&slot.failed_at);
        let just_failed = failed_at.is_some_and(|at| (at..at + ASK_AGAIN_MILLIS).contains(&now));
        if just_failed && !self.0.channel.stands() {
            OUTAGE_MILLIS_MAX
        } else {
            self.0.channel.lease()
        }
    }

    fn still_known(&self, key_id: &KeyId, slot: &Arc<Slot>) -> bool {
        let keys = lock(&self.0.keys);
        keys.get(key_id)
            .is_some_and(|known| Arc::ptr_eq(known, slot))
    }
}

fn keep(keys: &mut HashMap<KeyId, Arc<Slot>>, row: Arc<ApiKeyRecord>, now: Millis) {
    if let Some(slot) = keys.get(&row.key_id) {
        *lock(&slot.row) = (row, now);
        return;
    }
    if keys.len() >= KEYS_MAX {
        let sample = keys.iter().take(EVICTION_SAMPLE);
        let oldest = sample.min_by_key(|(_, slot)| lock(&slot.row).1);
        if let Some(key_id) = oldest.map(|(key_id, _)| *key_id) {
            keys.remove(&key_id);
        }
    }
    let slot = Slot {
        reading: AsyncMutex::new(()),
        row: Mutex::new((Arc::clone(&row), now)),
        failed_at: Mutex::new(None),
        pace: Mutex::new(None),
    };
    keys.insert(row.key_id, Arc::new(slot));
}

impl Slot {
    /// What was read after a request had come is good for it, however long that may be ago by now.
    fn read_since(&self, came: Millis) -> Option<Arc<ApiKeyRecord>> {
        let row = lock(&self.row);
        // No more than a moment: beyond, the clock was put back.
        (came..came + ASK_AGAIN_MILLIS)
            .contains(&row.1)
            .then(|| Arc::clone(&row.0))
    }

    fn younger_than(&self, age: Millis, now: Millis) -> Option<Arc<ApiKeyRecord>> {
        let row = lock(&self.row);
        (row.1..row.1 + age)
            .contains(&now)
            .then(|| Arc::clone(&row.0))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
