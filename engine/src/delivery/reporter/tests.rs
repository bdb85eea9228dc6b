//! What the reporter publishes, keeps and drops, on a real store, with an exchange that writes down what it is told.

use std::sync::Mutex;

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::broker;
use crate::datadir::DataDir;
use crate::delivery::events::Events;
use crate::model::{Counts, FinalState, JobId, JobKind, Lane, NotificationId};
use crate::store::sqlite::{OpenOptions, SqliteStore};
use crate::store::{JobKey, Part, Settlement, Writer};

const NOW: Millis = 1_800_000_000_000;
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Writes down who heard of which event; one tenant's queue is full.
#[derive(Debug, Default)]
struct Ears {
    heard: Mutex<Vec<String>>,
    is_down: bool,
}

const FULL: &str = "full";
/// Events of this tenant end the channel.
const BREAKS: &str = "breaks";

#[async_trait]
impl EventExchange for Ears {
    fn takes_events(&self) -> bool {
        true
    }

    async fn publish_events(&self, events: Vec<Event>) -> Result<Vec<bool>, broker::Error> {
        let breaks = |event: &Event| event.tenant.as_str() == BREAKS;
        if self.is_down || events.iter().any(breaks) {
            return Err(broker::Error::Unavailable("it is down"));
        }
        let is_taken = |event: &Event| event.tenant.as_str() != FULL;
        let taken = events.iter().filter(|event| is_taken(event));
        let ids = taken.map(|event| event.id.clone());
        self.heard.lock().unwrap().extend(ids);
        Ok(events.iter().map(is_taken).collect())
    }
}

struct Rig {
    store: Arc<SqliteStore>,
    ears: Arc<Ears>,
    reporter: Reporter,
    _directory: tempfile::TempDir,
}

async fn rig(is_down: bool) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::lock(directory.path()).unwrap());
    let options = OpenOptions {
        process: Uuid::nil(),
        data_dir,
    };
    let file = directory.path().join("store.db");
    let store = Arc::new(SqliteStore::open(&file, options).await.unwrap());
    let ears = Arc::new(Ears {
        is_down,
        ..Ears::default()
    });
    let reporter = Reporter {
        store: Arc::clone(&store) as Arc<dyn Store>,
        exchange: Arc::clone(&ears) as Arc<dyn EventExchange>,
        wake: Arc::new(Notify::new()),
        kept: KEPT,
        clock: Arc::new(|| NOW),
    };
    Rig {
        store,
        ears,
        reporter,
        _directory: directory,
    }
}

impl Rig {
    /// Commits an event of a job with this number at this instant; returns the event's id.
    async fn commit(&self, tenant: &str, job: u128, at: Millis) -> String {
        let part = Part {
            seq: 0,
            counts: Counts::default(),
            block: vec![(0, 0, FinalState::Rejected)],
            end: false,
        };
        let settlement = Settlement {
            key: JobKey {
                tenant: tenant.parse().unwrap(),
                notification: NotificationId(Uuid::from_u128(1)),
                job: JobId(Uuid::from_u128(job)),
            },
            kind: JobKind::First,
            page: Some(0),
            lane: Lane::Bulk,
            created_at: at,
            expires_at: at + 1,
            entries: 1,
            digest: [0; 32],
            resolved: 1,
            event: events::keep(Events::Failures, &part, &[]),
            part,
            failures: Vec::new(),
            prunes: Vec::new(),
            suspects: Vec::new(),
            accepted: Vec::new(),
            waiting: Vec::new(),
            dead: None,
        };
        let writer = Writer {
            process: Uuid::nil(),
            generation: 0,
        };
        let group = std::slice::from_ref(&settlement);
        crate::store::Records::commit(&*self.store, writer, group, at)
            .await
            .unwrap();
        format!("{}.0", settlement.key.job)
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.ears.heard.lock().unwrap())
    }

    /// Ids of what is left once every lease is over.
    async fn left(&self) -> Vec<String> {
        let rows = crate::store::Outbox::take_events(&*self.store, 100, u64::MAX, Millis::MAX / 2);
        rows.await.unwrap().iter().map(events::id).collect()
    }
}

#[tokio::test]
async fn what_is_confirmed_is_deleted_and_what_is_refused_is_kept() {
    let rig = rig(false).await;
    let refused = rig.commit(FULL, 1, NOW).await;
    let told = [
        rig.commit("acme", 2, NOW).await,
        rig.commit("acme", 3, NOW).await,
    ];
    assert!(rig.reporter.report(EVENTS_AT_ONCE).await.unwrap());
    assert_eq!(rig.heard(), told);
    // Nothing is taken before its lease is over.
    assert!(!rig.reporter.report(EVENTS_AT_ONCE).await.unwrap());
    assert_eq!(rig.left().await, [refused]);
}

#[tokio::test]
async fn what_is_too_old_is_dropped_unheard() {
    let rig = rig(false).await;
    let kept = Millis::try_from(KEPT.as_millis()).unwrap();
    rig.commit("acme", 1, NOW - kept - 1).await;
    let just_in_time = rig.commit("acme", 2, NOW - kept).await;
    assert!(rig.reporter.report(EVENTS_AT_ONCE).await.unwrap());
    assert_eq!(rig.heard(), [just_in_time]);
    assert!(rig.left().await.is_empty());
}

#[tokio::test]
async fn what_could_not_be_published_is_kept_and_what_is_too_old_is_not() {
    let rig = rig(true).await;
    let kept = Millis::try_from(KEPT.as_millis()).unwrap();
    rig.commit("acme", 1, NOW - kept - 1).await;
    let fresh = rig.commit("acme", 2, NOW).await;
    assert!(rig.reporter.report(EVENTS_AT_ONCE).await.is_err());
    assert_eq!(rig.left().await, [fresh]);
}

#[tokio::test]
async fn an_event_that_cannot_be_published_does_not_take_its_neighbours_along() {
    let rig = rig(false).await;
    let broken = rig.commit(BREAKS, 1, NOW).await;
    let told = [
        rig.commit("acme", 2, NOW).await,
        rig.commit("acme", 3, NOW).await,
    ];
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(rig.reporter.report(1).await.ok());
    }
    assert_eq!(results, [None, Some(true), Some(true), Some(false)]);
    assert_eq!(rig.heard(), told);
    assert_eq!(rig.left().await, [broken]);
}
