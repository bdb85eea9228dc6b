//! How many consumers a queue should have, so that the broker hands out as much as its credit allows and never more.
//! Pure: it must not know channels or messages.
//!
//! A consumer's prefetch is fixed when it starts. Credit is raised by starting another consumer beside the first, and
//! lowered by cancelling the youngest ones; what a cancelled consumer had handed out stays with the engine.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The most that a quorum queue lets a consumer prefetch.
pub(super) const PREFETCH_MAX: u32 = 2_000;
/// Lowered credit cancels consumers only after this, because a queue that empties is often filled again at once. What
/// they still bring is kept back here, not handed out.
const LOWER_AFTER: Duration = Duration::from_secs(5);

/// A consumer of a queue.
#[derive(Debug)]
struct Consumer {
    id: u64,
    prefetch: u32,
    /// Messages it brought that are not settled.
    held: u32,
    /// The broker has ended it.
    is_gone: bool,
    /// It consumes a queue that is no more.
    is_stale: bool,
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub(super) struct Plan {
    consumers: VecDeque<Consumer>,
    /// Unsettled messages of consumers that are no more.
    orphans: u32,
    is_declared: bool,
    /// Its consumers may be those of a queue that is no more.
    is_suspect: bool,
    lower_at: Option<Instant>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    /// Nothing before this instant.
    Wait(Instant),
    /// Declare the queue, and see how many consume it.
    Declare,
    /// Start a consumer with this prefetch.
    Consume(u32),
    /// Cancel this consumer.
    Cancel(u64),
    /// Let go of a consumer that the broker has ended.
    LetGo(u64),
}

impl Plan {
    /// The next step towards `wanted` messages unsettled at a time.
    pub(super) fn step(&self, wanted: u32, now: Instant) -> Step {
        if let Some(gone) = self.consumers.iter().find(|consumer| consumer.is_gone) {
            return Step::LetGo(gone.id);
        }
        if let Some(stale) = self.consumers.iter().find(|consumer| consumer.is_stale) {
            return Step::Cancel(stale.id);
        }
        let youngest = self.consumers.back();
        if wanted == 0 {
            return youngest.map_or(Step::Rest, |consumer| Step::Cancel(consumer.id));
        }
        if !self.is_declared || self.is_suspect {
            return Step::Declare;
        }
        let open = self.open();
        if let Some(youngest) = youngest
            && open > wanted
        {
            return match self.lower_at {
                Some(at) if now < at => Step::Wait(at),
                _ => Step::Cancel(youngest.id),
            };
        }
        let room = wanted.saturating_sub(open).saturating_sub(self.orphans);
        // Rather one consumer later than several small ones now.
        if room > 0 && (self.consumers.is_empty() || self.orphans == 0) {
            return Step::Consume(room.min(PREFETCH_MAX));
        }
        Step::Rest
    }

    /// The credit was changed.
    pub(super) fn credit_changed(&mut self, before: u32, after: u32, now: Instant) {
        if after < before {
            self.lower_at = Some(now + LOWER_AFTER);
        }
    }

    /// The queue was declared, and so many consume it.
    pub(super) fn declared(&mut self, consumed_by: u32) {
        self.is_declared = true;
        self.is_suspect = false;
        if consumed_by == 0 {
            for consumer in &mut self.consumers {
                consumer.is_stale = true;
            }
        }
    }

    /// A consumer is being started.
    pub(super) fn started(&mut self, id: u64, prefetch: u32) {
        self.consumers.push_back(Consumer {
            id,
            prefetch,
            held: 0,
            is_gone: false,
            is_stale: false,
        });
    }

    /// The broker has ended a consumer: its queue was deleted, or moved. `false` when it was not known.
    pub(super) fn gone(&mut self, id: u64) -> bool {
        let Some(consumer) = self.find(id) else {
            return false;
        };
        consumer.is_gone = true;
        self.is_declared = false;
        true
    }

    /// Nobody consumes the queue, it is said: `true` when that is to be looked into.
    pub(super) fn suspect(&mut self) -> bool {
        self.is_suspect = !self.consumers.is_empty();
        self.is_suspect
    }

    /// A consumer is no more, and brings nothing any more.
    pub(super) fn ended(&mut self, id: u64) {
        if let Some(at) = self.consumers.iter().position(|consumer| consumer.id == id)
            && let Some(consumer) = self.consumers.remove(at)
        {
            self.orphans += consumer.held;
        }
    }

    /// A consumer brought a message.
    pub(super) fn brought(&mut self, id: u64) {
        match self.find(id) {
            Some(consumer) => consumer.held += 1,
            None => self.orphans += 1,
        }
    }

    /// A message that a consumer brought is settled or given back.
    pub(super) fn settled(&mut self, id: u64) {
        match self.find(id) {
            Some(consumer) => consumer.held = consumer.held.saturating_sub(1),
            None => self.orphans = self.orphans.saturating_sub(1),
        }
    }

    /// Whether nothing is consumed.
    pub(super) fn is_idle(&self) -> bool {
        self.consumers.is_empty()
    }

    /// What the consumers may bring together.
    fn open(&self) -> u32 {
        let prefetches = self.consumers.iter().map(|consumer| consumer.prefetch);
        prefetches.sum()
    }

    fn find(&mut self, id: u64) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declared() -> Plan {
        let mut plan = Plan::default();
        plan.declared(0);
        plan
    }

    #[test]
    fn a_queue_is_declared_before_it_is_consumed() {
        let now = Instant::now();
        let mut plan = Plan::default();
        assert_eq!(plan.step(0, now), Step::Rest);
        assert_eq!(plan.step(3, now), Step::Declare);
        plan.declared(0);
        assert_eq!(plan.step(3, now), Step::Consume(3));
    }

    #[test]
    fn credit_is_raised_by_another_consumer_and_lowered_by_cancelling_the_youngest() {
        let now = Instant::now();
        let mut plan = declared();
        plan.started(1, 1);
        assert_eq!(plan.step(1, now), Step::Rest);
        assert_eq!(plan.step(4, now), Step::Consume(3));
        plan.started(2, 3);
        assert_eq!(plan.step(4, now), Step::Rest);
        plan.credit_changed(4, 1, now);
        assert_eq!(plan.step(1, now), Step::Wait(now + LOWER_AFTER));
        assert_eq!(plan.step(1, now + LOWER_AFTER), Step::Cancel(2));
        plan.ended(2);
        assert_eq!(plan.step(1, now + LOWER_AFTER), Step::Rest);
    }

    #[test]
    fn no_credit_cancels_at_once() {
        let now = Instant::now();
        let mut plan = declared();
        plan.started(1, 1);
        plan.credit_changed(1, 0, now);
        assert_eq!(plan.step(0, now), Step::Cancel(1));
    }

    #[test]
    fn what_a_cancelled_consumer_brought_counts_until_it_is_settled() {
        let now = Instant::now();
        let mut plan = declared();
        plan.started(1, 4);
        plan.brought(1);
        plan.brought(1);
        plan.ended(1);
        assert_eq!(plan.step(2, now), Step::Rest);
        assert_eq!(plan.step(3, now), Step::Consume(1));
        plan.settled(1);
        plan.settled(1);
        assert_eq!(plan.step(3, now), Step::Consume(3));
    }

    #[test]
    fn a_consumer_that_the_broker_ended_is_replaced_after_the_queue_is_declared_again() {
        let now = Instant::now();
        let mut plan = declared();
        plan.started(1, 2);
        assert!(plan.gone(1));
        assert_eq!(plan.step(2, now), Step::LetGo(1));
        plan.ended(1);
        assert_eq!(plan.step(2, now), Step::Declare);
        plan.declared(0);
        assert_eq!(plan.step(2, now), Step::Consume(2));
        assert!(!plan.gone(1));
    }

    #[test]
    fn consumers_of_a_queue_that_nobody_consumes_are_replaced() {
        let now = Instant::now();
        let mut plan = declared();
        assert!(!plan.suspect());
        plan.started(1, 1);
        plan.started(2, 1);
        assert!(plan.suspect());
        assert_eq!(plan.step(2, now), Step::Declare);
        plan.declared(2);
        assert_eq!(plan.step(2, now), Step::Rest);
        assert!(plan.suspect());
        plan.declared(0);
        assert_eq!(plan.step(2, now), Step::Cancel(1));
        plan.ended(1);
        assert_eq!(plan.step(2, now), Step::Cancel(2));
        plan.ended(2);
        assert_eq!(plan.step(2, now), Step::Consume(2));
    }

    proptest! {
        // Whatever credits come, and however much the consumers bring: once lowering is over, no more than the credit can
        // be out, and work for the credit is found.
        #[test]
        fn the_broker_can_never_hand_out_more_than_the_credit(
            credits in prop::collection::vec(0_u32..50, 1..20),
            brings in prop::collection::vec(any::<bool>(), 64),
        ) {
            let mut now = Instant::now();
            let (mut plan, mut id, mut before) = (declared(), 0, 0);
            let mut out: Vec<u64> = Vec::new();
            let mut brings = brings.into_iter().cycle();
            for credit in credits {
                plan.credit_changed(before, credit, now);
                before = credit;
                now += LOWER_AFTER;
                loop {
                    match plan.step(credit, now) {
                        Step::Consume(prefetch) => {
                            id += 1;
                            plan.started(id, prefetch);
                            prop_assert!(plan.open() + plan.orphans <= credit);
                        }
                        Step::Cancel(id) => plan.ended(id),
                        Step::Rest => break,
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                prop_assert!(plan.open() <= credit);
                prop_assert!(plan.orphans > 0 || plan.open() == credit);
                prop_assert!(credit == 0 || plan.open() + plan.orphans > 0);
                let ids: Vec<(u64, u32)> = plan
                    .consumers
                    .iter()
                    .map(|consumer| (consumer.id, consumer.prefetch - consumer.held))
                    .collect();
                for (id, room) in ids {
                    for _ in 0..room {
                        if brings.next().unwrap() {
                            plan.brought(id);
                            out.push(id);
                        }
                    }
                }
                if brings.next().unwrap() && !out.is_empty() {
                    plan.settled(out.remove(0));
                }
            }
            for id in out {
                plan.settled(id);
            }
            prop_assert_eq!(plan.orphans, 0);
        }
    }
}
