//! When API keys were last used by messages from the queue: noted coarsely, and written now and then.
//! It must not know whether a key is good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use clarion_auth::KeyId;

use super::Intake;
use crate::model::Millis;

/// Keys noted between two writes; the others are noted another time.
const KEYS_MAX: usize = 10_000;

/// Keys with the instants of their last use.
#[derive(Debug, Default)]
pub(super) struct UsedKeys(Mutex<HashMap<KeyId, Millis>>);

impl UsedKeys {
    pub(super) fn note(&self, key: KeyId, now: Millis) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < KEYS_MAX || used.contains_key(&key) {
            used.insert(key, now);
        }
    }

    fn take(&self) -> Vec<(KeyId, Millis)> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.drain().collect()
    }
}

impl Intake {
    /// Writes when API keys were last used by messages from the queue. What cannot be written is lost: it is coarse information.
    pub async fn note_used_keys(&self) {
        let used = self.used_keys.take();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.touch_api_keys(&used).await {
            tracing::warn!(%error, "cannot note when API keys were last used");
        }
    }
}
