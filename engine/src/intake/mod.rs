//! The one door: by whatever face a request came, here it becomes a notification that is durable before the answer.
//! It must not know HTTP or how a request was written, nor what becomes of a job once it is queued.
//!
//! ```text
//! Submission ── check_content ── backlog ─┬─ ≤ 500 entries: one Job, published and confirmed
//!                                         ├─ more: notification row and pages in one transaction, feeder woken
//!                                         └─ a selection: notification row and description, feeder woken
//! ```

mod backlog;
mod check;
mod credential;
mod device_token;
mod reason;
mod replay;
pub mod request;
mod take;
mod used_keys;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use clarion_auth::{MacKey, TenantId};
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::broker::{self, Broker, Publish, QueueName};
use crate::limits::{JOB_ENTRIES_MAX, SELECTIONS_OPEN_MAX, TTL_DEFAULT, TTL_MAX};
use crate::model::{
    Audience, Content, Entry, Envelope, Job, Lane, Millis, Notification, NotificationId, Options,
    Selection, encode_entries,
};
use crate::store::{self, NotificationStatus, PageOfEntries, Store, Writer};

pub use crate::provider::StoredCredential;
use backlog::Backlog;
pub use check::{Refusal, check_content, check_tag, check_user_id};
pub use credential::{CheckedCredential, CredentialRefusal, check_credential, credential_id};
pub use device_token::{DeviceTokenError, check_device_token};
pub use reason::{Reason, given_up, nobody};
pub use replay::Replayed;
pub use take::{Incoming, Trust, Verdict};
pub use validate::validate_request;

/// What a refused caller with too many selections is told to wait.
const SELECTIONS_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a face hands in: already read and validated field by field.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Whose notification it is.
    pub tenant: TenantId,
    /// What is said.
    pub content: Content,
    /// How it is said.
    pub options: Options,
    /// Priority class.
    pub lane: Lane,
    /// For whom; at least one entry, or a selection.
    pub audience: Audience,
    /// Until when it is worth sending.
    pub expiry: Expiry,
    /// The id stored in an idempotency row before; otherwise one is minted.
    pub id: Option<NotificationId>,
    /// When it counts as said; the instant at which its id was minted when absent.
    pub created_at: Option<Millis>,
    /// An earlier request may have submitted the same id.
    pub recheck: bool,
    /// The caller's clock.
    pub now: Millis,
}

/// Until when a notification is worth sending. Relative times count from its id's minting, so that a request that is
/// taken over says the same again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// [`TTL_DEFAULT`] from now.
    #[default]
    Default,
    /// This long from now.
    After(Duration),
    /// At this instant.
    At(Millis),
}

/// The proof of a durable acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The notification.
    pub id: NotificationId,
    /// How many entries were accepted; 0 of a selection, whose entries the status tells as it is paged.
    pub entries: u64,
}

/// What is known of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Accepted, and nothing of it has been recorded yet.
    Queued {
        /// Its id.
        id: NotificationId,
        /// When it was accepted.
        accepted_at: Millis,
    },
    /// It has a row.
    Recorded(NotificationStatus),
}

/// Why a submission was not accepted.
#[derive(Debug, Error)]
pub enum Error {
    /// The submission itself breaks a rule; nothing was stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tenant is unknown or deleted; nothing was stored.
    #[error("the tenant does not exist")]
    UnknownTenant,
    /// The tenant is suspended; nothing was stored.
    #[error("the tenant is suspended: ask the operator")]
    Suspended,
    /// Too much of this tenant is queued and waiting; nothing was stored.
    #[error(
        "the tenant has {queued} recipients queued and waiting of at most {limit}: send again later"
    )]
    BacklogFull {
        /// Recipients queued and waiting.
        queued: u64,
        /// How many may be.
        limit: u64,
        /// When another try is worth it.
        retry_after: Duration,
    },
    /// Too many selections of this tenant are not paged to their end; nothing was stored.
    #[error(
        "the tenant has {SELECTIONS_OPEN_MAX} open audiences that are not sent to their end: send again later"
    )]
    SelectionsFull {
        /// When another try is worth it.
        retry_after: Duration,
    },
    /// The queue did not take it, or did not say so; it may be queued.
    #[error(transparent)]
    Queue(#[from] broker::Error),
    /// The store did not take it, or did not say so; it may be stored.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether it is certain that nothing of the submission was queued or stored.
    #[must_use]
    pub fn nothing_stored(&self) -> bool {
        !matches!(self, Self::Queue(_) | Self::Store(_))
    }
}

/// The door, shared by all faces of a process.
#[derive(Debug)]
pub struct Intake {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    mac: MacKey,
    backlog: Arc<Backlog>,
    feeder: Arc<Notify>,
    /// Until when a published message is worth sending that does not say so.
    usual_expiry: Expiry,
    /// Closes first jobs that are set aside unsent.
    writer: Writer,
    used_keys: used_keys::UsedKeys,
}

impl Intake {
    /// A door in front of this store and this broker. `mac` signs notification ids, `backlog_max` is the cap in recipients
    /// of a tenant without one of its own, and `feeder` is woken when pages were stored.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        mac: MacKey,
        backlog_max: u64,
        feeder: Arc<Notify>,
    ) -> Self {
        let backlog = Arc::new(Backlog::new(backlog_max));
        Self {
            store,
            broker,
            mac,
            backlog,
            feeder,
            usual_expiry: Expiry::Default,
            writer: Writer {
                process: Uuid::new_v4(),
                generation: 0,
            },
            used_keys: used_keys::UsedKeys::default(),
        }
    }

    /// The same with this time to live of what is published without one.
    #[must_use]
    pub fn with_default_life(self, life: Duration) -> Self {
        Self {
            usual_expiry: Expiry::After(life),
            ..self
        }
    }

    /// Mints the id of a notification that is about to be submitted.
    ///
    /// # Errors
    /// [`store::Error::Unavailable`] when the system has no random bytes.
    pub fn mint(&self, tenant: &TenantId, now: Millis) -> Result<NotificationId, Error> {
        let mut random = [0; 10];
        rand::fill(&mut random).map_err(|error| store::Error::Unavailable(Box::new(error)))?;
        Ok(NotificationId::mint(&self.mac, tenant, now, random))
    }

    /// Accepts a notification: durable when this returns `Ok`.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::nothing_stored`] tells whether the same id must be used for another try.
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, Error> {
        let (now, recheck) = (submission.now, submission.recheck);
        let (notification, audience) = self.notification(submission)?;
        let (id, entries) = (notification.id, audience.len() as u64);
        self.admit(&notification, &audience, entries, now).await?;
        match audience {
            Audience::Selection(selection) => {
                self.store_selection(&notification, &selection, recheck)
                    .await?;
            }
            listed if listed.len() <= JOB_ENTRIES_MAX => {
                self.publish(notification, listed, recheck).await?;
            }
            listed => self.store_pages(&notification, listed, recheck).await?,
        }
        Ok(Receipt { id, entries })
    }

    /// Says whether a notification would be accepted, and accepts nothing.
    ///
    /// # Errors
    /// As [`Intake::submit`].
    pub async fn check(&self, submission: Submission) -> Result<(), Error> {
        let now = submission.now;
        let (notification, audience) = self.notification(submission)?;
        self.admit(&notification, &audience, 0, now).await
    }

    fn notification(&self, submission: Submission) -> Result<(Notification, Audience), Error> {
        let id = match submission.id {
            Some(id) => id,
            None => self.mint(&submission.tenant, submission.now)?,
        };
        if submission.audience.is_empty() {
            return Err(Refusal::field(["user_ids"], "give at least one recipient").into());
        }
        let created_at = submission.created_at.unwrap_or_else(|| id.minted_at());
        let notification = Notification {
            id,
            tenant: submission.tenant,
            lane: submission.lane,
            created_at,
            expires_at: expires_at(submission.expiry, created_at, submission.now)?,
            content: submission.content,
            options: submission.options,
        };
        Ok((notification, submission.audience))
    }

    async fn admit(
        &self,
        notification: &Notification,
        audience: &Audience,
        entries: u64,
        now: Millis,
    ) -> Result<(), Error> {
        let tenant = &notification.tenant;
        let look = self
            .backlog
            .look((&self.store, &self.broker), tenant, now)
            .await?;
        let named = audience.platforms();
        check_content(notification, named.as_deref().unwrap_or(look.platforms))?;
        look.take(entries)
    }

    async fn publish(
        &self,
        notification: Notification,
        audience: Audience,
        recheck: bool,
    ) -> Result<(), Error> {
        let queue = QueueName {
            tenant: notification.tenant.clone(),
            lane: notification.lane,
        };
        let mut job = Job::first(Arc::new(notification), 0, audience.into_entries().collect());
        job.recheck = recheck;
        let entries = job.entries.len() as u64;
        let body = Envelope::encode(&[job]).map_err(Refusal::Unwritable)?;
        let tenant = queue.tenant.clone();
        let body = Bytes::from(body);
        self.broker.publish(vec![Publish { queue, body }]).await?;
        self.backlog.published(&tenant, entries);
        Ok(())
    }

    async fn store_pages(
        &self,
        notification: &Notification,
        audience: Audience,
        recheck: bool,
    ) -> Result<(), Error> {
        let pages = pages_of(audience);
        match self.store.create_notification(notification, &pages).await {
            // The request that is taken over had stored it already.
            Err(store::Error::Conflict(_)) if recheck => {}
            Err(store::Error::NotFound(_)) => return Err(Error::UnknownTenant),
            answer => answer?,
        }
        self.feeder.notify_one();
        Ok(())
    }

    async fn store_selection(
        &self,
        notification: &Notification,
        selection: &Selection,
        recheck: bool,
    ) -> Result<(), Error> {
        // What is not paged yet is in no backlog; so that not everything is a selection, their number is bounded.
        let open = self.store.open_selections(&notification.tenant).await?;
        if !recheck && open >= SELECTIONS_OPEN_MAX {
            let retry_after = SELECTIONS_RETRY_AFTER;
            return Err(Error::SelectionsFull { retry_after });
        }
        match self.store.create_selection(notification, selection).await {
            // The request that is taken over had stored it already.
            Err(store::Error::Conflict(_)) if recheck => {}
            Err(store::Error::NotFound(_)) => return Err(Error::UnknownTenant),
            answer => answer?,
        }
        self.feeder.notify_one();
        Ok(())
    }

    /// What is known of a notification; `None` when there is no such notification of this tenant.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn status(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<Status>, Error> {
        if let Some(status) = self.store.notification_status(tenant, id).await? {
            return Ok(Some(Status::Recorded(status)));
        }
        let accepted_at = id.minted_at();
        Ok(self
            .is_ours(tenant, id)
            .then_some(Status::Queued { id, accepted_at }))
    }

    /// Whether this deployment minted `id` for `tenant`, so that it is known even before it has a row.
    #[must_use]
    pub fn is_ours(&self, tenant: &TenantId, id: NotificationId) -> bool {
        id.verifies(&self.mac, tenant)
    }

    /// Forgets what is cached of a tenant, after its limits or its state changed.
    pub fn tenant_changed(&self, tenant: &TenantId) {
        self.backlog.forget(tenant);
    }
}

/// The instant after which nothing is sent.
fn expires_at(expiry: Expiry, created_at: Millis, now: Millis) -> Result<Millis, Refusal> {
    let millis = |duration: Duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
    let expires_at = match expiry {
        Expiry::Default => created_at.saturating_add(millis(TTL_DEFAULT)),
        Expiry::After(life) => created_at.saturating_add(millis(life)),
        Expiry::At(instant) => instant,
    };
    let (field, latest) = (expiry.field(), created_at.saturating_add(millis(TTL_MAX)));
    if expires_at <= now {
        return Err(Refusal::Expired { field });
    }
    if expires_at > latest {
        let days = TTL_MAX.as_secs() / (24 * 3600);
        let problem = format!("is more than {days} days ahead: give an earlier time");
        return Err(Refusal::field(["options", field], problem));
    }
    Ok(expires_at)
}

impl Expiry {
    fn field(self) -> &'static str {
        match self {
            Self::Default | Self::After(_) => "ttl",
            Self::At(_) => "expires_at",
        }
    }
}

/// An audience cut into pages of [`JOB_ENTRIES_MAX`] entries.
fn pages_of(audience: Audience) -> Vec<PageOfEntries> {
    let mut pages = Vec::with_capacity(audience.len().div_ceil(JOB_ENTRIES_MAX));
    let mut entries = audience.into_entries().peekable();
    while entries.peek().is_some() {
        let page: Vec<Entry> = entries.by_ref().take(JOB_ENTRIES_MAX).collect();
        pages.push(PageOfEntries {
            first_ordinal: page.first().map_or(0, |entry| entry.ordinal),
            entries: u32::try_from(page.len()).unwrap_or(u32::MAX),
            body: encode_entries(&page),
        });
    }
    pages
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::model::decode_entries;

    #[test]
    fn pages_hold_every_entry_once_and_in_order() {
        for len in [1, 499, 500, 501, 1_000, 1_234] {
            let users = (0..len).map(|index| format!("u{index}").into_boxed_str());
            let pages = pages_of(Audience::Users(users.collect()));
            assert_eq!(pages.len(), usize::div_ceil(len, JOB_ENTRIES_MAX));
            let mut next = 0;
            for page in pages {
                let entries = decode_entries(&page.body).unwrap();
                assert_eq!(page.first_ordinal, next);
                assert_eq!(page.entries as usize, entries.len());
                for entry in entries {
                    assert_eq!(entry.ordinal, next);
                    next += 1;
                }
            }
            assert_eq!(next as usize, len);
        }
    }

    #[test]
    fn an_expiry_lies_ahead_and_within_what_the_providers_store() {
        const DAY: Millis = 24 * 3600 * 1000;
        let now = 1_000_000;
        let at = |expiry| expires_at(expiry, now, now);
        assert_eq!(at(Expiry::Default).unwrap(), now + DAY);
        assert_eq!(
            at(Expiry::After(Duration::from_secs(60))).unwrap(),
            now + 60_000
        );
        assert_eq!(at(Expiry::At(now + 28 * DAY)).unwrap(), now + 28 * DAY);
        for refused in [
            Expiry::At(now),
            Expiry::At(now - 1),
            Expiry::At(now + 28 * DAY + 1),
            Expiry::After(Duration::ZERO),
            Expiry::After(Duration::MAX),
        ] {
            assert!(at(refused).is_err(), "{refused:?}");
        }
        // A taken-over request counts from its id, so that it says the same as before.
        let later = expires_at(Expiry::After(Duration::from_secs(60)), now, now + 31_000);
        assert_eq!(later.unwrap(), now + 60_000);
    }
}
