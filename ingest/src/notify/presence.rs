//! Which users have a device: requests that ask at the same time are answered by one query.
//! It must not know why it is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clarion_auth::TenantId;
use clarion_engine::store::Store;
use tokio::sync::oneshot;

use crate::error::ApiError;

/// Users of one query; a full one leaves at once and the next user starts another.
const BATCH_USERS_MAX: usize = 256;

/// Asks the store, batched.
#[derive(Clone, Debug)]
pub(crate) struct Presence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    /// The batch of each tenant that is still being filled.
    open: Mutex<HashMap<TenantId, Batch>>,
}

#[derive(Debug, Default)]
struct Batch {
    users: Vec<Box<str>>,
    waiting: Vec<oneshot::Sender<Result<bool, ApiError>>>,
}

impl Presence {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let open = Mutex::default();
        Self(Arc::new(Shared { store, open }))
    }

    /// Whether `user_id` has a device.
    pub(crate) async fn has_device(
        &self,
        tenant: &TenantId,
        user_id: &str,
    ) -> Result<bool, ApiError> {
        let (sender, answer) = oneshot::channel();
        let (is_first, full) = self.join(tenant, user_id, sender);
        if let Some(batch) = full {
            // The task that this batch's first user started will find nothing, or the next batch: both are fine.
            self.ask_in_background(tenant.clone(), Some(batch));
        } else if is_first {
            self.ask_in_background(tenant.clone(), None);
        }
        let gone = || ApiError::unavailable("the store cannot be reached: try again");
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    fn join(
        &self,
        tenant: &TenantId,
        user_id: &str,
        sender: oneshot::Sender<Result<bool, ApiError>>,
    ) -> (bool, Option<Batch>) {
        let mut open = self.lock();
        let batch = open.entry(tenant.clone()).or_default();
        batch.users.push(user_id.into());
        batch.waiting.push(sender);
        let (is_first, is_full) = (batch.users.len() == 1, batch.users.len() == BATCH_USERS_MAX);
        (is_first, if is_full { open.remove(tenant) } else { None })
    }

    /// In a task of its own, because the first asker may hang up while others wait for the same answer.
    fn ask_in_background(&self, tenant: TenantId, full: Option<Batch>) {
        let presence = self.clone();
        tokio::spawn(async move {
            let batch = match full {
                Some(batch) => Some(batch),
                None => {
                    // Whoever is ready in this turn of the loop joins first.
                    tokio::task::yield_now().await;
                    presence.lock().remove(&tenant)
                }
            };
            if let Some(batch) = batch {
                presence.ask(&tenant, batch).await;
            }
        });
    }

    async fn ask(&self, tenant: &TenantId, batch: Batch) {
        let answers = match self.0.store.have_devices(tenant, &batch.users).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(ApiError::from(error)); batch.users.len()],
        };
        for (sender, answer) in batch.waiting.into_iter().zip(answers) {
            // A caller that hung up does not need its answer.
            drop(sender.send(answer));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Batch>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
