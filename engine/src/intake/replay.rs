//! Dead letters back through the door they came by: jobs that this store's own engine parsed become waiting rows again,
//! and publish requests are judged again as if they came now. It must not know the broker.

use crate::limits::RATE_DEFAULT;
use crate::model::{Attempts, Envelope, JobKind, Millis};
use crate::store::{DeadFilter, DeadOrigin, DeadRow, RequestOrigin, WaitingRow, WaitingWhy};

use super::take::{Caller, Stop, address};
use super::{Error, Intake, Reason, Verdict};

/// Rows looked at by one call.
const ROWS_MAX: u64 = 10_000;
/// Rows read at once.
const PAGE: u32 = 100;
/// Recipients a second that one replay releases: half of what a tenant sends by default.
const RECIPIENTS_PER_SECOND: u64 = RATE_DEFAULT as u64 / 2;

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Rows that are gone: their jobs wait again, or had been taken meanwhile.
    pub replayed: u64,
    /// Rows that stay: what could not be parsed, is not of this engine's own making, or is refused again.
    pub skipped: u64,
    /// There are more rows than one call looks at: call again.
    pub more: bool,
}

impl Intake {
    /// Replays the rows meant, oldest first, released at a capped rate. Their recipients are new attempts.
    ///
    /// # Errors
    /// [`Error::Store`]; what was replayed until then stays replayed.
    pub async fn replay(&self, filter: &DeadFilter, now: Millis) -> Result<Replayed, Error> {
        let (mut done, mut after, mut recipients) = (Replayed::default(), 0, 0_u64);
        loop {
            if done.replayed + done.skipped >= ROWS_MAX {
                done.more = true;
                return Ok(done);
            }
            let rows = self.store.dead(filter, after, PAGE).await?;
            let Some(last) = rows.last() else {
                return Ok(done);
            };
            after = last.id;
            for row in rows {
                let wait = recipients.saturating_mul(1_000) / RECIPIENTS_PER_SECOND;
                let due = now.saturating_add_unsigned(wait);
                let replayed = match &row.dead.origin {
                    DeadOrigin::External(origin) => {
                        let taken = self.replay_request(&row, origin, due, now).await?;
                        recipients += taken.unwrap_or_default();
                        taken.is_some()
                    }
                    DeadOrigin::Internal | DeadOrigin::Unparsed => match waiting_row(&row, due) {
                        Some(waiting) => {
                            recipients += u64::from(waiting.recipients);
                            self.store.replay(row.id, &waiting, now).await?
                        }
                        None => false,
                    },
                };
                done.replayed += u64::from(replayed);
                done.skipped += u64::from(!replayed);
            }
        }
    }
}

impl Intake {
    /// Judges a dead publish request again, its expiry included, for the tenant of its routing key. Returns how many entries
    /// were taken, or `None` when the row stays. A crash before the row is deleted makes a second replay find the first.
    async fn replay_request(
        &self,
        row: &DeadRow,
        origin: &RequestOrigin,
        due: Millis,
        now: Millis,
    ) -> Result<Option<u64>, Error> {
        // Nobody vouches for it: the key that it lacked was never kept, and whoever has one publishes again.
        if row.dead.reason == Reason::Unauthorized.as_str() {
            return Ok(None);
        }
        let Some((tenant, lane)) = address(&origin.routing_key) else {
            return Ok(None);
        };
        let caller = Caller {
            tenant,
            lane,
            body: &row.dead.body,
            may_have_been_seen: false,
            came_at: row.at,
            due: Some(due),
        };
        let entries = match self.admit_request(&caller, now).await {
            Ok(Verdict::Accepted(receipt) | Verdict::Waiting(receipt)) => receipt.entries,
            Ok(Verdict::Repeated(_)) => 0,
            Ok(Verdict::Dead(_)) | Err(Stop::Rejected(_)) => return Ok(None),
            Ok(Verdict::Again(error)) | Err(Stop::Failed(error)) => return Err(error),
        };
        let this = DeadFilter {
            ids: Some(vec![row.id]),
            ..DeadFilter::default()
        };
        self.store.purge(&this).await?;
        Ok(Some(entries))
    }
}

/// The job of a dead row under a new id; `None` for what must not be published again.
fn waiting_row(row: &DeadRow, due: Millis) -> Option<WaitingRow> {
    if row.dead.origin != DeadOrigin::Internal {
        return None;
    }
    let jobs = Envelope::decode(&row.dead.body).ok()?.jobs;
    let [job] = jobs.as_slice() else { return None };
    if job.notification.tenant != row.dead.tenant {
        return None;
    }
    let child = job.child(JobKind::Replay, Attempts::default(), job.entries.clone());
    Some(WaitingRow {
        tenant: row.dead.tenant.clone(),
        notification: child.notification.id,
        job: child.id,
        lane: child.notification.lane,
        due,
        why: WaitingWhy::Continued,
        recipients: u32::try_from(child.entries.len()).unwrap_or(u32::MAX),
        body: Envelope::encode(&[child]).ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Audience, Content, Job, Lane, Notification, NotificationId, Options};
    use crate::store::{NewDead, RequestOrigin};

    fn row(origin: DeadOrigin, tenant: &str) -> DeadRow {
        let notification = Notification {
            id: NotificationId(uuid::Uuid::from_u128(1)),
            tenant: "acme".parse().unwrap(),
            lane: Lane::Bulk,
            created_at: 0,
            expires_at: 1,
            content: Content::default(),
            options: Options::default(),
        };
        let entries = Audience::Users(vec!["a".into(), "b".into()]).into_entries();
        let job = Job::first(Arc::new(notification), 0, entries.collect());
        DeadRow {
            id: 7,
            at: 0,
            replays: 0,
            dead: NewDead {
                tenant: tenant.parse().unwrap(),
                origin,
                reason: "poison".to_owned(),
                detail: String::new(),
                notification: None,
                job: Some(job.id),
                recipients: 2,
                body: Envelope::encode(&[job]).unwrap(),
            },
        }
    }

    #[test]
    fn a_replayed_job_has_a_new_id_and_is_looked_up_before_it_is_sent() {
        let dead = row(DeadOrigin::Internal, "acme");
        let waiting = waiting_row(&dead, 42).unwrap();
        assert_eq!((waiting.due, waiting.recipients), (42, 2));
        assert_ne!(Some(waiting.job), dead.dead.job);
        let job = Envelope::decode(&waiting.body).unwrap().jobs.remove(0);
        assert!(job.recheck && job.id == waiting.job && job.kind == JobKind::Replay);
    }

    #[test]
    fn what_this_engine_did_not_parse_for_this_tenant_is_not_published() {
        assert_eq!(waiting_row(&row(DeadOrigin::Unparsed, "acme"), 0), None);
        assert_eq!(
            waiting_row(
                &row(DeadOrigin::External(RequestOrigin::default()), "acme"),
                0
            ),
            None
        );
        assert_eq!(waiting_row(&row(DeadOrigin::Internal, "other"), 0), None);
        let mut garbage = row(DeadOrigin::Internal, "acme");
        garbage.dead.body = b"{}".to_vec();
        assert_eq!(waiting_row(&garbage, 0), None);
    }
}
