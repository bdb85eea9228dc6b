//! What is known of a tenant, at most a second old: whether it may send, by which providers, and how much of it is queued.
//! It must not know what is submitted beyond its number of entries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clarion_auth::TenantId;
use tokio::sync::Mutex as AsyncMutex;

use super::Error;
use crate::broker::{Broker, QueueName};
use crate::model::{Lane, Millis, Platform};
use crate::store::{CredentialKind, CredentialRecord, Store};

/// A sample older than this, in milliseconds, is taken again.
const SAMPLE_MILLIS_MAX: Millis = 1_000;
/// From this age on, in milliseconds, another sample is taken beside the requests, so that hardly any waits for one.
const SAMPLE_MILLIS_DUE: Millis = 500;
/// Tenants whose samples are kept.
const TENANTS_MAX: usize = 16_384;
/// Messages after which the mean size of a tenant's messages forgets half of what it knows.
const MEAN_WINDOW_MESSAGES: u64 = 1_024;
/// What a refused caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What was found when the tenant was last looked at.
#[derive(Clone, Copy, Debug)]
struct Sample {
    taken_at: Millis,
    standing: Standing,
    /// Where its pushes can go.
    platforms: &'static [Platform],
    queued: u64,
    limit: u64,
    /// Entries taken since.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Unknown,
    Suspended,
}

/// Entries and messages that this process published directly: the queue counts messages, the cap counts recipients.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    entries: u64,
    messages: u64,
}

impl Published {
    fn add(&mut self, entries: u64) {
        if self.messages >= MEAN_WINDOW_MESSAGES {
            self.entries /= 2;
            self.messages /= 2;
        }
        self.entries += entries;
        self.messages += 1;
    }

    /// Recipients in `messages` of mean size; one each where nothing is known.
    fn recipients_in(self, messages: u64) -> u64 {
        if self.messages == 0 {
            return messages;
        }
        messages.saturating_mul(self.entries) / self.messages
    }
}

#[derive(Debug, Default)]
struct Tenant {
    /// Held while a sample is taken, so that one request asks and the others wait for its answer.
    sampling: Arc<AsyncMutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sample: Option<Sample>,
    published: Published,
}

#[derive(Debug, Default)]
struct Depths {
    taken_at: Option<Millis>,
    of: HashMap<QueueName, u64>,
}

/// The platforms of these credentials; Apple's for a tenant that has none yet.
fn platforms(credentials: &[CredentialRecord]) -> &'static [Platform] {
    let is_google = |record: &CredentialRecord| record.kind == CredentialKind::Fcm;
    let google = credentials.iter().any(is_google);
    let apple = credentials.iter().any(|record| !is_google(record));
    match (apple, google) {
        (true, true) => &[Platform::Ios, Platform::Android],
        (false, true) => &[Platform::Android],
        (_, false) => &[Platform::Ios],
    }
}

/// The caps, and what is known of each tenant.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: u64,
    tenants: Mutex<HashMap<TenantId, Arc<Tenant>>>,
    depths: AsyncMutex<Depths>,
}

impl Backlog {
    /// `limit` holds for tenants without one of their own, in recipients.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            tenants: Mutex::default(),
            depths: AsyncMutex::default(),
        }
    }

    /// What is known of a tenant that may send.
    pub(super) async fn look(
        self: &Arc<Self>,
        (store, broker): (&Arc<dyn Store>, &Arc<dyn Broker>),
        tenant: &TenantId,
        now: Millis,
    ) -> Result<Look, Error> {
        let slot = self.slot(tenant, now);
        if let Some(look) = slot.look(now) {
            if slot.is_due(now) {
                self.renew((store, broker), tenant, &slot, now);
            }
            return look;
        }
        let _sampling = slot.sampling.lock().await;
        if let Some(look) = slot.look(now) {
            return look;
        }
        let sample = self
            .sample((&**store, &**broker), tenant, &slot, now)
            .await?;
        slot.lock().sample = Some(sample);
        sample.look(&slot)
    }

    /// Takes another sample beside the requests, unless somebody does.
    fn renew(
        self: &Arc<Self>,
        (store, broker): (&Arc<dyn Store>, &Arc<dyn Broker>),
        tenant: &TenantId,
        slot: &Arc<Tenant>,
        now: Millis,
    ) {
        let Ok(sampling) = Arc::clone(&slot.sampling).try_lock_owned() else {
            return;
        };
        let (this, slot, tenant) = (Arc::clone(self), Arc::clone(slot), tenant.clone());
        let (store, broker) = (Arc::clone(store), Arc::clone(broker));
        tokio::spawn(async move {
            let taken_before = slot.taken();
            match this.sample((&*store, &*broker), &tenant, &slot, now).await {
                Ok(sample) => slot.renew(sample, taken_before),
                // The next request asks itself, and hears of it.
                Err(error) => tracing::debug!(%error, "a tenant could not be looked at"),
            }
            drop(sampling);
        });
    }

    /// One message with `entries` was published for `tenant`.
    pub(super) fn published(&self, tenant: &TenantId, entries: u64) {
        let slot = self.lock().get(tenant).cloned();
        if let Some(slot) = slot {
            slot.lock().published.add(entries);
        }
    }

    /// The next request of `tenant` looks again.
    pub(super) fn forget(&self, tenant: &TenantId) {
        if let Some(slot) = self.lock().get(tenant) {
            slot.lock().sample = None;
        }
    }

    /// What the store and the queue know.
    async fn sample(
        &self,
        (store, broker): (&dyn Store, &dyn Broker),
        tenant: &TenantId,
        slot: &Tenant,
        now: Millis,
    ) -> Result<Sample, Error> {
        let row = store.tenant(tenant).await?;
        let standing = match &row {
            None => Standing::Unknown,
            Some(row) if row.suspended => Standing::Suspended,
            Some(_) => Standing::Good,
        };
        let platforms = platforms(&store.credentials(tenant).await?);
        let stored = store.backlog(tenant).await?;
        let messages = self.messages(broker, tenant, now).await?;
        // Fed pages count in both, a few thousand recipients at most.
        let ready = slot.lock().published.recipients_in(messages);
        Ok(Sample {
            taken_at: now,
            standing,
            platforms,
            queued: stored.saturating_add(ready),
            limit: row.and_then(|row| row.limits.backlog).unwrap_or(self.limit),
            since: 0,
        })
    }

    /// Messages of both lanes of `tenant`. One question to the broker serves all tenants for a second.
    async fn messages(
        &self,
        broker: &dyn Broker,
        tenant: &TenantId,
        now: Millis,
    ) -> Result<u64, Error> {
        let mut depths = self.depths.lock().await;
        if !depths.taken_at.is_some_and(|at| is_fresh(at, now)) {
            depths.of = broker.depths().await?.into_iter().collect();
            depths.taken_at = Some(now);
        }
        let of = [Lane::Transactional, Lane::Bulk].map(|lane| {
            let tenant = tenant.clone();
            depths.of.get(&QueueName { tenant, lane }).copied()
        });
        Ok(of.into_iter().flatten().sum())
    }

    fn slot(&self, tenant: &TenantId, now: Millis) -> Arc<Tenant> {
        let mut tenants = self.lock();
        if let Some(slot) = tenants.get(tenant) {
            return Arc::clone(slot);
        }
        if tenants.len() >= TENANTS_MAX {
            tenants.retain(|_, slot| slot.is_fresh(now));
        }
        if tenants.len() >= TENANTS_MAX {
            tenants.clear();
        }
        Arc::clone(tenants.entry(tenant.clone()).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Arc<Tenant>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tenant that may send, as it was found.
#[derive(Debug)]
pub(super) struct Look {
    slot: Arc<Tenant>,
    /// Where its pushes can go.
    pub(super) platforms: &'static [Platform],
}

impl Look {
    /// Takes `entries` more, or says why not.
    pub(super) fn take(&self, entries: u64) -> Result<(), Error> {
        let mut state = self.slot.lock();
        // Forgotten meanwhile: the next request looks again.
        state
            .sample
            .as_mut()
            .map_or(Ok(()), |sample| sample.take(entries))
    }
}

impl Tenant {
    /// What a fresh sample says; `None` when there is none.
    fn look(self: &Arc<Self>, now: Millis) -> Option<Result<Look, Error>> {
        let sample = self.lock().sample?;
        is_fresh(sample.taken_at, now).then(|| sample.look(self))
    }

    /// Whether another sample should be taken soon.
    fn is_due(&self, now: Millis) -> bool {
        let sample = self.lock().sample;
        sample.is_some_and(|sample| now - sample.taken_at >= SAMPLE_MILLIS_DUE)
    }

    /// Entries taken since the sample there is.
    fn taken(&self) -> u64 {
        self.lock().sample.map_or(0, |sample| sample.since)
    }

    /// Puts `sample` in the place of the one that there is, unless it was forgotten. What was taken while it was made may be
    /// missing in it, and counts.
    fn renew(&self, mut sample: Sample, taken_before: u64) {
        let mut state = self.lock();
        if let Some(known) = &mut state.sample {
            sample.since = known.since.saturating_sub(taken_before);
            *known = sample;
        }
    }

    fn is_fresh(&self, now: Millis) -> bool {
        let state = self.lock();
        state
            .sample
            .is_some_and(|sample| is_fresh(sample.taken_at, now))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn look(&self, slot: &Arc<Tenant>) -> Result<Look, Error> {
        match self.standing {
            Standing::Unknown => Err(Error::UnknownTenant),
            Standing::Suspended => Err(Error::Suspended),
            Standing::Good => Ok(Look {
                slot: Arc::clone(slot),
                platforms: self.platforms,
            }),
        }
    }

    fn take(&mut self, entries: u64) -> Result<(), Error> {
        let queued = self.queued.saturating_add(self.since);
        // A request is taken as long as there is room at all, so that a cap below one bulk still lets it through
        // once the backlog is empty.
        if queued > 0 && queued.saturating_add(entries) > self.limit {
            return Err(Error::BacklogFull {
                queued,
                limit: self.limit,
                retry_after: RETRY_AFTER,
            });
        }
        self.since = self.since.saturating_add(entries);
        Ok(())
    }
}

fn is_fresh(taken_at: Millis, now: Millis) -> bool {
    (taken_at..taken_at.saturating_add(SAMPLE_MILLIS_MAX)).contains(&now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn sample(queued: u64, limit: u64) -> Sample {
        Sample {
            taken_at: 0,
            standing: Standing::Good,
            platforms: &[],
            queued,
            limit,
            since: 0,
        }
    }

    #[test]
    fn what_was_taken_since_the_sample_counts() {
        let mut sample = sample(10, 100);
        assert!(sample.take(90).is_ok());
        let refused = sample.take(1).unwrap_err();
        assert!(matches!(
            refused,
            Error::BacklogFull {
                queued: 100,
                limit: 100,
                ..
            }
        ));
        assert!(refused.nothing_stored());
    }

    #[test]
    fn an_empty_backlog_takes_a_request_larger_than_the_cap_but_only_one() {
        let mut sample = sample(0, 5);
        assert!(sample.take(20).is_ok());
        assert!(sample.take(1).is_err());
    }

    #[test]
    fn a_stopped_tenant_is_refused_whatever_its_backlog() {
        for (standing, word) in [
            (Standing::Unknown, "exist"),
            (Standing::Suspended, "suspended"),
        ] {
            let sample = Sample {
                standing,
                ..sample(0, 100)
            };
            let refused = sample.look(&Arc::default()).unwrap_err();
            assert!(refused.to_string().contains(word));
        }
    }

    #[test]
    fn messages_count_with_the_mean_size_of_what_was_published() {
        let mut published = Published::default();
        assert_eq!(published.recipients_in(7), 7);
        for _ in 0..3 {
            published.add(400);
        }
        published.add(0);
        assert_eq!(published.recipients_in(10), 3_000);
        for _ in 0..10 * MEAN_WINDOW_MESSAGES {
            published.add(1);
        }
        assert_eq!(published.recipients_in(10), 10);
    }

    #[test]
    fn a_renewed_sample_counts_what_was_taken_meanwhile_and_never_undoes_forgetting() {
        let tenant = Tenant::default();
        tenant.renew(sample(5, 100), 0);
        assert!(tenant.lock().sample.is_none(), "it was forgotten");
        tenant.lock().sample = Some(Sample {
            since: 7,
            ..sample(5, 100)
        });
        let taken_before = tenant.taken();
        assert!(tenant.lock().sample.as_mut().unwrap().take(3).is_ok());
        tenant.renew(sample(20, 100), taken_before);
        let renewed = tenant.lock().sample.unwrap();
        assert_eq!((renewed.queued, renewed.since), (20, 3));
        assert!(!tenant.is_due(499) && tenant.is_due(500));
    }

    #[test]
    fn a_sample_is_good_for_a_second_and_not_for_a_clock_that_went_back() {
        assert!(is_fresh(5_000, 5_000) && is_fresh(5_000, 5_999));
        assert!(!is_fresh(5_000, 6_000) && !is_fresh(5_000, 4_999));
    }
}
