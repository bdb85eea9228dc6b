//! What API keys were used for by messages from the queue: noted coarsely, and written now and then.
//! It must not know whether a key is good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use clarion_auth::{KeyId, TenantId};

use super::Intake;
use crate::model::Millis;
use crate::store::{ApiKeyRecord, KeyUse, day_of};

/// Keys noted between two writes; the others are noted another time.
const KEYS_MAX: usize = 10_000;
/// The name of publishing among the operations that a key is used for.
const PUBLISH: &str = "publish";

/// Whose a key is, how often it was used, and when last.
type Noted = (TenantId, u64, Millis);

/// Keys and days, with what was noted of them.
#[derive(Debug, Default)]
pub(super) struct UsedKeys(Mutex<HashMap<(KeyId, i64), Noted>>);

impl UsedKeys {
    pub(super) fn note(&self, key: &ApiKeyRecord, now: Millis) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = (key.key_id, day_of(now));
        if used.len() < KEYS_MAX || used.contains_key(&of) {
            let noted = used
                .entry(of)
                .or_insert_with(|| (key.tenant.clone(), 0, now));
            noted.1 += 1;
            noted.2 = now;
        }
    }

    fn take(&self) -> Vec<KeyUse> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = used
            .drain()
            .map(|((key_id, day), (tenant, calls, last_at))| KeyUse {
                tenant,
                key_id,
                day,
                operation: PUBLISH,
                calls,
                last_at,
            });
        noted.collect()
    }
}

impl Intake {
    /// Writes what API keys were used for by messages from the queue. What cannot be written is lost: it is coarse information.
    pub async fn note_used_keys(&self) {
        let used = self.used_keys.take();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_key_uses(&used).await {
            tracing::warn!(%error, "cannot note what API keys were used for");
        }
    }
}
