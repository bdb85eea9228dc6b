//! A job that the broker gave up on: whoever of it has no final state ends as dead, in one settlement.
//! It must not know how the record is read or written.

use super::job::{JobState, Phase};
use super::record::last_settlement;
use super::resolved::resolve_into;
use crate::broker::LeaseId;
use crate::delivery::events::Events;
use crate::model::{DeviceId, Job, Millis, Target};
use crate::store::{ResolvedDevice, Settlement, UserCursor};

/// What the record said of a job that was claimed to be closed.
#[derive(Debug)]
pub struct Standing {
    /// The next place in its log.
    pub next_seq: u32,
    /// Who has a final state.
    pub settled: Vec<(u32, DeviceId)>,
    /// The devices of its users, as [`users_of`] names them; at most `JOB_RECIPIENTS_MAX`.
    pub devices: Vec<ResolvedDevice>,
}

/// The users of a job whose devices must be known to close it, in the order of its entries.
#[must_use]
pub fn users_of(job: &Job) -> Vec<UserCursor> {
    let users = job.entries.iter().filter_map(|entry| match &entry.target {
        Target::User { user_id, after } => Some(UserCursor {
            user_id: user_id.clone(),
            after: *after,
        }),
        Target::Device(_) => None,
    });
    users.collect()
}

/// What closes the job: everybody without a final state ends as dead, with a dead row that a replay can send again. Users
/// whose devices did not fit go on in a job of their own. `reason` is the broker's word for it.
#[must_use]
pub fn close_given_up(
    job: Job,
    standing: Standing,
    reason: &'static str,
    events: Events,
    now: Millis,
) -> Settlement {
    // No lease is acked with it: the message is another's to ack.
    let mut state = JobState::new(job, LeaseId(0), Phase::Sending, now);
    state.keep(standing.next_seq);
    state.settled = standing.settled.into_iter().collect();
    resolve_into(&mut state, standing.devices, now);
    if state.remaining() > 0 {
        let detail = format!("the queue gave up on job {}: {reason}", state.key.job);
        state.die(reason, detail, now);
    }
    last_settlement(&mut state, events, now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Audience, Content, Environment, FinalState, Lane, Notification, NotificationId,
        Options, Platform,
    };

    fn job(audience: Audience) -> Job {
        let notification = Notification {
            id: NotificationId(uuid::Uuid::from_u128(1)),
            tenant: "acme".parse().unwrap(),
            lane: Lane::Bulk,
            created_at: 0,
            expires_at: 1_000_000,
            content: Content::default(),
            options: Options::default(),
        };
        let entries = audience.into_entries().collect();
        Job::first(Arc::new(notification), 0, entries)
    }

    fn close(job: &Job, settled: Vec<(u32, DeviceId)>) -> Settlement {
        let standing = Standing {
            next_seq: 4,
            settled,
            devices: Vec::new(),
        };
        close_given_up(job.clone(), standing, "delivery_limit", Events::All, 7)
    }

    fn devices(count: usize) -> Audience {
        let address = |n: usize| Address {
            device: 0,
            platform: Platform::Android,
            environment: Environment::Production,
            device_token: format!("token-{n}").into(),
        };
        Audience::DeviceTokens((0..count).map(address).collect())
    }

    #[test]
    fn only_those_without_a_final_state_end_as_dead() {
        let job = job(devices(3));
        let second = job.entries[1].key();
        let settlement = close(&job, vec![second]);
        let part = &settlement.part;
        assert_eq!(
            (part.seq, part.end, part.counts.get(FinalState::Dead)),
            (4, true, 2)
        );
        assert!(part.block.iter().all(|(ordinal, ..)| *ordinal != 1));
        let dead = settlement.dead.unwrap();
        assert_eq!(
            (dead.reason.as_str(), dead.recipients),
            ("delivery_limit", 2)
        );
        let kept = crate::model::Envelope::decode(&dead.body)
            .unwrap()
            .jobs
            .remove(0);
        assert_eq!(kept.entries.len(), 2);
        assert!(settlement.event.is_some() && settlement.waiting.is_empty());
    }

    #[test]
    fn a_job_of_which_all_have_their_final_states_only_ends() {
        let job = job(devices(2));
        let all = job.entries.iter().map(crate::model::Entry::key).collect();
        let settlement = close(&job, all);
        assert!(settlement.part.end && settlement.dead.is_none());
        assert_eq!(settlement.part.block, []);
    }

    #[test]
    fn users_without_devices_end_as_such() {
        let job = job(Audience::Users(vec!["a".into(), "b".into()]));
        assert_eq!(users_of(&job).len(), 2);
        let settlement = close(&job, Vec::new());
        assert_eq!(settlement.part.counts.get(FinalState::NoDevice), 2);
        assert!(settlement.dead.is_none());
    }
}
