//! Answers that wait for their time. Knows nothing of what is in them.
//!
//! Most answers wait for the same latency and so come due in the order in which they were put in: they cost
//! a push and a pop. Only those with a delay of their own are sorted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Schedule<T> {
    latency: Duration,
    even: VecDeque<(Instant, T)>,
    odd: BTreeMap<(Instant, u64), T>,
    count: u64,
}

impl<T> Schedule<T> {
    pub(crate) fn new(latency: Duration) -> Self {
        Self {
            latency,
            even: VecDeque::new(),
            odd: BTreeMap::new(),
            count: 0,
        }
    }

    /// Puts in an answer to a request of `now`, due after the latency and `delay`.
    pub(crate) fn push(&mut self, now: Instant, delay: Duration, answer: T) {
        if delay.is_zero() {
            self.even.push_back((now + self.latency, answer));
        } else {
            self.count += 1;
            self.odd
                .insert((now + self.latency + delay, self.count), answer);
        }
    }

    /// When the next answer is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let even = self.even.front().map(|(due, _)| *due);
        let odd = self.odd.first_key_value().map(|((due, _), _)| *due);
        match (even, odd) {
            (Some(even), Some(odd)) => Some(even.min(odd)),
            (even, odd) => even.or(odd),
        }
    }

    /// Takes out an answer that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.even.front().is_some_and(|(due, _)| *due <= now) {
            return self.even.pop_front().map(|(_, answer)| answer);
        }
        let first = self
            .odd
            .first_entry()
            .filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_when_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(Duration::from_millis(50));
        schedule.push(at(0), Duration::ZERO, 'a');
        schedule.push(at(0), Duration::from_millis(100), 'd');
        schedule.push(at(1), Duration::ZERO, 'b');
        schedule.push(at(1), Duration::from_millis(20), 'c');
        assert_eq!(schedule.next_due(), Some(at(50)));
        assert_eq!(schedule.pop(at(49)), None);
        let mut due = |ms| std::iter::from_fn(|| schedule.pop(at(ms))).collect::<String>();
        assert_eq!(
            [due(50), due(51), due(71), due(149), due(150)],
            ["a", "b", "c", "", "d"]
        );
        assert_eq!(schedule.next_due(), None);
    }
}
