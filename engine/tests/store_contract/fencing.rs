//! Two writers on one store, interleaved at random: whatever they do, each recipient is recorded once.
//! It must not know how a log is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use clarion_engine::model::{FinalState, Job};
use clarion_engine::store::{
    ClaimAnswer, ClaimRequest, CommitAnswer, Part, Settlement, Store, WaitingRow, Writer,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::place::{
    ME, NOW, OTHER, Place, create, first_job, notification, part, settlement, waiting_row,
};

/// Recipients of the job.
const RECIPIENTS: u32 = 6;
/// Jobs that the writers fight over.
const JOBS: u8 = 2;

/// What one of the writers does next.
#[derive(Clone, Debug)]
enum Step {
    /// A copy of the job comes to it: the first one starts at once, a later one claims.
    Start {
        writer: usize,
        job: usize,
        first: bool,
    },
    /// It records so many more recipients, and closes the job if it has no more, or if `park`.
    Record {
        writer: usize,
        job: usize,
        recipients: usize,
        park: bool,
    },
    /// It commits its last part of the job once more, as after a lost answer.
    Repeat { writer: usize, job: usize },
    /// Time passes.
    Wait { seconds: i64 },
}

/// What a writer knows of a job.
#[derive(Clone, Debug, Default)]
struct View {
    next_seq: Option<u32>,
    settled: BTreeSet<u32>,
    last: Option<Settlement>,
}

struct Fight {
    store: Arc<dyn Store>,
    jobs: Vec<Job>,
    writers: [Writer; 2],
    views: BTreeMap<(usize, usize), View>,
    /// What was taken, by job.
    taken: BTreeMap<usize, Vec<u32>>,
    ends: BTreeMap<usize, u32>,
    /// The parts that were taken, by writer, job and place.
    parts: BTreeMap<(usize, usize, u32), Part>,
    now: i64,
    drawn: u128,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = 0..2_usize;
    let job = 0..usize::from(JOBS);
    let step = prop_oneof![
        3 => (writer.clone(), job.clone(), any::<bool>())
            .prop_map(|(writer, job, first)| Step::Start { writer, job, first }),
        6 => (writer.clone(), job.clone(), 0..4_usize, prop::bool::weighted(0.2))
            .prop_map(|(writer, job, recipients, park)| Step::Record {
                writer,
                job,
                recipients,
                park,
            }),
        1 => (writer, job).prop_map(|(writer, job)| Step::Repeat { writer, job }),
        1 => (1..30_i64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 1..40)
}

impl Fight {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Wait { seconds } => self.now += 1_000 * seconds,
            Step::Start { writer, job, first } => self.start(writer, job, first).await,
            Step::Record {
                writer,
                job,
                recipients,
                park,
            } => self.record(writer, job, (recipients, park)).await,
            Step::Repeat { writer, job } => {
                let view = self.views.entry((writer, job)).or_default();
                if let Some(last) = view.last.clone() {
                    let again = self
                        .store
                        .commit(self.writers[writer], &[last], self.now)
                        .await;
                    assert_eq!(
                        again.unwrap(),
                        [CommitAnswer::Taken],
                        "it was taken once already"
                    );
                }
            }
        }
    }

    async fn start(&mut self, writer: usize, job: usize, first: bool) {
        let view = self.views.entry((writer, job)).or_default();
        if first {
            // A first delivery reads nothing. It may be wrong about being the first.
            *view = View {
                next_seq: Some(0),
                ..View::default()
            };
            return;
        }
        let request = ClaimRequest {
            key: settlement(&self.jobs[job]).key,
            digest: self.jobs[job].digest(),
        };
        let answers = self
            .store
            .claim(self.writers[writer], &[request], self.now)
            .await;
        *view = View::default();
        if let ClaimAnswer::Granted {
            next_seq, settled, ..
        } = &answers.unwrap()[0]
        {
            let known: BTreeSet<u32> = settled.iter().map(|(ordinal, _)| *ordinal).collect();
            let taken = self.taken.get(&job).into_iter().flatten().copied();
            assert_eq!(known, taken.collect(), "a claim reads all that was taken");
            view.next_seq = Some(*next_seq);
            view.settled = known;
        }
    }

    async fn record(&mut self, writer: usize, job: usize, (recipients, park): (usize, bool)) {
        let view = self.views.entry((writer, job)).or_default();
        let Some(seq) = view.next_seq else { return };
        let left = (0..RECIPIENTS).filter(|ordinal| !view.settled.contains(ordinal));
        let sent: Vec<u32> = left.take(recipients).collect();
        let all = view.settled.len() + sent.len() == RECIPIENTS as usize;
        let ended: Vec<(u32, i64)> = sent.iter().map(|ordinal| (*ordinal, 0)).collect();
        self.drawn += 1;
        let row: Option<WaitingRow> = (park && !all).then(|| {
            let notification = &self.jobs[job].notification;
            waiting_row(&notification.tenant, notification.id, self.drawn)
        });
        let settled = Settlement {
            part: part(seq, &ended, FinalState::Accepted, all || row.is_some()),
            waiting: row.into_iter().collect(),
            ..settlement(&self.jobs[job])
        };
        let answers = self
            .store
            .commit(
                self.writers[writer],
                std::slice::from_ref(&settled),
                self.now,
            )
            .await
            .unwrap();
        if answers == [CommitAnswer::Fenced] {
            *view = View::default();
            return;
        }
        let is_end = settled.part.end;
        view.settled.extend(&sent);
        view.next_seq = (!is_end).then_some(seq + 1);
        view.last = Some(settled.clone());
        // A copy that started again at 0 and says the same words is taken as its writer's own earlier commit.
        let before = self.parts.insert((writer, job, seq), settled.part.clone());
        if let Some(before) = before {
            assert_eq!(before, settled.part, "another part was taken in its place");
            return;
        }
        self.taken.entry(job).or_default().extend(sent);
        *self.ends.entry(job).or_default() += u32::from(is_end);
    }

    async fn check(&self) {
        for (job, taken) in &self.taken {
            let distinct: BTreeSet<u32> = taken.iter().copied().collect();
            assert_eq!(
                distinct.len(),
                taken.len(),
                "a recipient was recorded twice"
            );
            assert!(self.ends.get(job).is_none_or(|ends| *ends <= 1), "two ends");
            let notification = &self.jobs[*job].notification;
            let status = self
                .store
                .notification_status(&notification.tenant, notification.id)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(status.counts.total(), taken.len() as u64);
        }
    }
}

/// Plays steps on a fresh tenant of a place.
async fn play(store: Arc<dyn Store>, tenant: &str, steps: Vec<Step>) {
    let tenant = create(&*store, tenant).await;
    let jobs = (0..JOBS).map(|n| first_job(&notification(&tenant, n), 0, RECIPIENTS));
    let mut fight = Fight {
        store,
        jobs: jobs.collect(),
        writers: [ME, OTHER],
        views: BTreeMap::new(),
        taken: BTreeMap::new(),
        ends: BTreeMap::new(),
        parts: BTreeMap::new(),
        now: NOW,
        drawn: 0,
    };
    for step in steps {
        fight.step(step).await;
    }
    fight.check().await;
}

/// Many fights on one place.
fn each_recipient_is_recorded_at_most_once(place: &Place) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = runtime.block_on(place.open());
    let tenants = AtomicU32::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(48));
    let held = runner.run(&steps(), |steps| {
        let number = tenants.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(play(Arc::clone(&store), &format!("tenant-{number}"), steps));
        Ok(())
    });
    held.unwrap();
}

#[test]
fn each_recipient_is_recorded_at_most_once_in_sqlite() {
    each_recipient_is_recorded_at_most_once(&Place::sqlite());
}

#[test]
fn each_recipient_is_recorded_at_most_once_in_postgres() {
    each_recipient_is_recorded_at_most_once(&Place::postgres());
}
