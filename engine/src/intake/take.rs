//! The door for what backends publish straight to the queue: a message becomes a notification, or a dead row that says why.
//! It must not know the broker: it is given a message's routing key, bytes and headers, and says what becomes of it.

use aws_lc_rs::digest::{Context, SHA256};
use clarion_auth::{Scope, TenantId, api_key};

use super::reason::{Reason, Rejected};
use super::request::{Problem, ProblemKind, ReadRequest, default_environment, read_request};
use super::{Error, Intake, Receipt, Refusal, Submission, check_content};
use crate::limits::{JOB_ENTRIES_MAX, PUBLISH_BYTES_MAX};
use crate::metrics;
use crate::model::{
    Attempts, Audience, Counts, Envelope, Environment, Job, JobKind, Lane, Millis, Notification,
    NotificationId,
};
use crate::store::{
    self, Begun, JobKey, NewDead, Part, Settlement, StoredAnswer, WaitingRow, WaitingWhy,
};

/// A tenant over its backlog cap: its request rests this long, in milliseconds.
const BACKLOG_REST: Millis = 60_000;
/// How far a publisher's clock may be ahead of ours, in milliseconds.
const AHEAD_MAX: Millis = 5 * 60_000;
/// What precedes a message id among the idempotency keys; no header value has a space.
const KEY_PREFIX: &str = "publish ";
/// The kept answer of a message that was taken: there is nobody to answer.
const TAKEN: u16 = 0;

/// A message as it came.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// `TENANT.LANE`: the only word on whose it is.
    pub routing_key: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The value of its `x-api-key` header. Never kept.
    pub api_key: Option<&'a str>,
    /// The broker says, or cannot exclude, that it was handed out before.
    pub may_have_been_seen: bool,
}

impl std::fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("routing_key", &self.routing_key)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Who vouches for the publisher of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The broker: only who may write to a tenant's routing keys can publish there.
    #[default]
    Broker,
    /// An API key of the tenant in the message's `x-api-key` header.
    ApiKey,
}

/// What became of a message.
#[derive(Debug)]
pub enum Verdict {
    /// It is durable and will be sent: ack.
    Accepted(Receipt),
    /// Its tenant has too much queued: it is durable and rests a while first. Ack.
    Waiting(Receipt),
    /// It was taken before: ack.
    Repeated(NotificationId),
    /// It cannot be taken: bury the row, then ack.
    Dead(Box<NewDead>),
    /// The store or the queue cannot take it now: keep the message and try again.
    Again(Error),
}

impl Verdict {
    /// A word for metrics: of a dead one its reason.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Waiting(_) => "backlog_full",
            Self::Repeated(_) => "repeated",
            Self::Dead(dead) => &dead.reason,
            Self::Again(_) => "again",
        }
    }
}

/// Why a message is not taken.
pub(super) enum Stop {
    Rejected(Rejected),
    Failed(Error),
}

impl From<Rejected> for Stop {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let whole = |reason, error: &Error| Self::from(Rejected::whole(reason, error.to_string()));
        match error {
            Error::Refused(refusal) => Rejected::from(Problem::from(refusal)).into(),
            Error::UnknownTenant => whole(Reason::UnknownTenant, &error),
            Error::Suspended => whole(Reason::TenantSuspended, &error),
            // To try it again would block whatever is behind it, for ever.
            Error::Store(store::Error::Data(_)) => whole(Reason::Unrecordable, &error),
            Error::BacklogFull { .. }
            | Error::SelectionsFull { .. }
            | Error::Queue(_)
            | Error::Store(_) => Self::Failed(error),
        }
    }
}

/// A message that stands before the door, with whose it is.
pub(super) struct Caller<'a> {
    pub(super) tenant: TenantId,
    pub(super) lane: Lane,
    pub(super) body: &'a [u8],
    /// An earlier hand-out of it may have been taken.
    pub(super) may_have_been_seen: bool,
    /// When it counts as said if it does not say so.
    pub(super) came_at: Millis,
    /// Not to be published before this instant: it is a replay.
    pub(super) due: Option<Millis>,
}

/// The tenant and the lane of a routing key.
pub(super) fn address(routing_key: &str) -> Option<(TenantId, Lane)> {
    let (tenant, lane) = routing_key.split_once('.')?;
    Some((tenant.parse().ok()?, Lane::parse(lane)?))
}

impl Intake {
    /// Takes a message, whatever it holds: nothing of it is lost, and nothing of it is an error of the caller's.
    pub async fn take(&self, incoming: &Incoming<'_>, trust: Trust, now: Millis) -> Verdict {
        let verdict = match self.judge(incoming, trust, now).await {
            Ok(verdict) => verdict,
            Err(Stop::Failed(error)) => Verdict::Again(error),
            Err(Stop::Rejected(rejected)) => Verdict::Dead(Box::new(
                rejected.into_dead(incoming.routing_key, incoming.body),
            )),
        };
        metrics::publish_request(verdict.as_str());
        verdict
    }

    async fn judge(
        &self,
        incoming: &Incoming<'_>,
        trust: Trust,
        now: Millis,
    ) -> Result<Verdict, Stop> {
        let Some((tenant, lane)) = address(incoming.routing_key) else {
            let message = "the routing key is not TENANT.transactional or TENANT.bulk";
            return Err(Rejected::whole(Reason::InvalidRoutingKey, message).into());
        };
        if trust == Trust::ApiKey {
            self.authorize(&tenant, incoming.api_key, now).await?;
        }
        let caller = Caller {
            tenant,
            lane,
            body: incoming.body,
            may_have_been_seen: incoming.may_have_been_seen,
            came_at: now,
            due: None,
        };
        self.admit_request(&caller, now).await
    }

    /// One text whatever is wrong, so that it tells nothing about which keys exist.
    async fn authorize(
        &self,
        tenant: &TenantId,
        presented: Option<&str>,
        now: Millis,
    ) -> Result<(), Stop> {
        let record = match presented.map(api_key::parse) {
            Some(Ok(parsed)) => self.store.api_key(&parsed.key_id).await?,
            Some(Err(_)) | None => None,
        };
        let stored = record.as_ref().map(|record| &record.hash);
        let is_right = api_key::verify(stored, presented.unwrap_or_default());
        if is_right
            && let Some(record) = record
            && record.tenant == *tenant
            && !record.is_expired(now)
            && record.scopes.contains(Scope::Send)
        {
            self.used_keys.note(&record, now);
            return Ok(());
        }
        let message = "send an API key of the routing key's tenant, with the scope send, in the header \
                       x-api-key";
        Err(Rejected::whole(Reason::Unauthorized, message).into())
    }

    /// Takes the request in a message of a caller who may send.
    pub(super) async fn admit_request(
        &self,
        caller: &Caller<'_>,
        now: Millis,
    ) -> Result<Verdict, Stop> {
        let (message_id, mut submission) = self.read(caller, now).await?;
        let (store, tenant) = (&*self.store, &caller.tenant);
        let places = (&self.store, &self.broker);
        self.backlog.look(places, tenant, now).await?;
        let id = NotificationId::of_message(tenant, &message_id);
        let entries = submission.audience.len();
        let key = format!("{KEY_PREFIX}{message_id}");
        let digest = fingerprint(caller.lane, caller.body);
        let recheck = match store.begin(tenant, &key, &digest, id, now).await? {
            Begun::Started { recheck, .. } => recheck || caller.may_have_been_seen,
            // Whoever began it may have died since. The id is the same, so that a second copy finds the record of the first.
            Begun::Running => true,
            Begun::Done(_) => return Ok(Verdict::Repeated(id)),
            Begun::OtherRequest => {
                let message = "was used for another message: take a new id for each";
                let problem = Problem::value(["message_id".into()], message);
                let rejected = Rejected::of(Reason::MessageIdReused, problem);
                return Err(rejected.about(id, entries).into());
            }
        };
        submission.id = Some(id);
        submission.recheck = recheck;
        match self.admit_submission(caller, submission).await {
            Ok(verdict) => {
                self.note_taken(tenant, &key, now).await;
                Ok(verdict)
            }
            Err(stop) => {
                if !recheck && stop.nothing_stored() {
                    store.forget(tenant, &key).await?;
                }
                Err(stop.about(id, entries))
            }
        }
    }

    /// Reads a request, with the publisher's id of it.
    async fn read(&self, caller: &Caller<'_>, now: Millis) -> Result<(Box<str>, Submission), Stop> {
        let address = (&caller.tenant, caller.lane);
        let read = read_for(caller.body, Some(address), now).map_err(Rejected::from)?;
        let environment = if read.named.needs_default_environment() {
            let row = self.store.tenant(&caller.tenant).await?;
            default_environment(row.ok_or(Error::UnknownTenant)?.use_sandbox)
        } else {
            Environment::Production
        };
        let said_at = read.created_at.unwrap_or(caller.came_at);
        let submission = Submission {
            tenant: caller.tenant.clone(),
            content: read.message.content,
            options: read.message.options,
            lane: caller.lane,
            audience: read
                .named
                .into_audience(environment)
                .map_err(Rejected::from)?,
            expiry: read.message.expiry.unwrap_or(self.usual_expiry),
            id: None,
            created_at: Some(said_at.min(now)),
            recheck: false,
            now,
        };
        Ok((read.message_id, submission))
    }

    async fn admit_submission(
        &self,
        caller: &Caller<'_>,
        submission: Submission,
    ) -> Result<Verdict, Stop> {
        let (now, recheck) = (submission.now, submission.recheck);
        let said_nothing = submission.expiry == self.usual_expiry;
        let (notification, audience) =
            self.notification(submission).map_err(|error| match error {
                // Nobody gave a time to live: it is the message that is old.
                Error::Refused(Refusal::Expired { .. }) if said_nothing => {
                    let message = "is longer ago than a notification lives: publish it again";
                    let path = ["created_at".into()];
                    Rejected::from(Problem::new(ProblemKind::Expired, path, message)).into()
                }
                error => Stop::from(error),
            })?;
        let receipt = Receipt {
            id: notification.id,
            entries: audience.len() as u64,
        };
        let tenant = &notification.tenant;
        let look = self
            .backlog
            .look((&self.store, &self.broker), tenant, now)
            .await?;
        let named = audience.platforms();
        check_content(&notification, named.as_deref().unwrap_or(look.platforms))
            .map_err(Error::Refused)?;
        // What may be queued already was admitted when it was first met.
        let full = !recheck && caller.due.is_none() && look.take(receipt.entries).is_err();
        let rest = if full {
            Some(now + BACKLOG_REST)
        } else {
            caller.due
        };
        if audience.len() > JOB_ENTRIES_MAX {
            // Pages wait in the store by themselves: the feeder keeps only a few of them ahead.
            self.store_pages(&notification, audience, true).await?;
        } else {
            match rest.filter(|_| !recheck) {
                Some(due) => self.hold(notification, audience, due, now).await?,
                None => self.publish(notification, audience, recheck).await?,
            }
        }
        Ok(if full {
            Verdict::Waiting(receipt)
        } else {
            Verdict::Accepted(receipt)
        })
    }

    /// Sets the first job of a notification aside as a waiting row, by closing it with nothing done: so that whoever meets the
    /// same job again finds its end.
    async fn hold(
        &self,
        notification: Notification,
        audience: Audience,
        due: Millis,
        now: Millis,
    ) -> Result<(), Error> {
        let due = due.min(notification.expires_at);
        let entries = audience.into_entries().collect();
        let first = Job::first(std::sync::Arc::new(notification), 0, entries);
        let child = first.child(
            JobKind::Continuation,
            Attempts::default(),
            first.entries.clone(),
        );
        let notification = &first.notification;
        let count = u32::try_from(first.entries.len()).unwrap_or(u32::MAX);
        let waiting = WaitingRow {
            tenant: notification.tenant.clone(),
            notification: notification.id,
            job: child.id,
            lane: notification.lane,
            due,
            why: WaitingWhy::Limited,
            recipients: count,
            body: Envelope::encode(&[child]).map_err(Refusal::Unwritable)?,
        };
        let settlement = Settlement {
            key: JobKey {
                tenant: notification.tenant.clone(),
                notification: notification.id,
                job: first.id,
            },
            kind: first.kind,
            page: first.page,
            lane: notification.lane,
            created_at: notification.created_at,
            expires_at: notification.expires_at,
            entries: count,
            digest: first.digest(),
            resolved: 0,
            part: Part {
                seq: 0,
                counts: Counts::default(),
                block: Vec::new(),
                end: true,
            },
            failures: Vec::new(),
            prunes: Vec::new(),
            suspects: Vec::new(),
            accepted: Vec::new(),
            waiting: vec![waiting],
            dead: None,
            event: None,
        };
        // Fenced means that the job has a record: it is on its way, or was set aside before.
        self.store.commit(self.writer, &[settlement], now).await?;
        Ok(())
    }

    /// A copy of a message that was taken is acked. If this fails, the copy is queued once more under the same ids.
    async fn note_taken(&self, tenant: &TenantId, key: &str, now: Millis) {
        let answer = StoredAnswer {
            status: TAKEN,
            body: Vec::new(),
        };
        if let Err(error) = self.store.finish(tenant, key, &answer, now).await {
            tracing::warn!(%error, "cannot note that a published message was taken");
        }
    }
}

impl Stop {
    /// Whether it is certain that nothing of the request was stored or queued.
    fn nothing_stored(&self) -> bool {
        match self {
            Self::Rejected(_) => true,
            Self::Failed(error) => error.nothing_stored(),
        }
    }

    fn about(self, id: NotificationId, entries: usize) -> Self {
        match self {
            Self::Rejected(rejected) => Self::Rejected(rejected.about(id, entries)),
            failed @ Self::Failed(_) => failed,
        }
    }
}

/// Reads what can be judged without the store. `address` is that of the routing key, where it is known.
///
/// # Errors
/// Every problem found.
pub(super) fn read_for(
    body: &[u8],
    address: Option<(&TenantId, Lane)>,
    now: Millis,
) -> Result<ReadRequest, Vec<Problem>> {
    let len = body.len();
    if len > PUBLISH_BYTES_MAX {
        let message =
            format!("has {len} bytes, at most {PUBLISH_BYTES_MAX} are read: send several");
        return Err(vec![Problem::new(ProblemKind::TooLarge, [], message)]);
    }
    let read = read_request(body)?;
    let mut problems = Vec::new();
    if let Some((tenant, lane)) = address {
        if read
            .tenant
            .as_deref()
            .is_some_and(|said| said != tenant.as_str())
        {
            let message = "is not the tenant of the routing key: leave it out";
            problems.push(Problem::new(
                ProblemKind::OtherTenant,
                ["tenant".into()],
                message,
            ));
        }
        if read.message.lane.is_some_and(|said| said != lane) {
            let message = "is not the lane of the routing key: leave it out";
            problems.push(Problem::value(["options".into(), "lane".into()], message));
        }
    }
    if read
        .created_at
        .is_some_and(|at| at > now.saturating_add(AHEAD_MAX))
    {
        let message = "is in the future: set the publisher's clock";
        problems.push(Problem::value(["created_at".into()], message));
    }
    if problems.is_empty() {
        Ok(read)
    } else {
        Err(problems)
    }
}

fn fingerprint(lane: Lane, body: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // The lane is one of two words of which neither begins the other.
    context.update(lane.as_str().as_bytes());
    context.update(body);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
