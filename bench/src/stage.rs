//! One stage: a named piece of work, the number of things it does in a run, and a way to time many runs.
//! It must not know what is measured nor who asks. All times are CPU time of the thread: stages never wait.

use std::hint::black_box;
use std::time::Duration;

use crate::cpu;

/// Inputs that are made before a timed batch; bounds the memory of a batch.
const INPUTS_MAX: u64 = 64;

/// What a run of a stage is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Per {
    /// Things done in a run.
    pub items: u32,
    /// What they are.
    pub unit: &'static str,
}

impl Per {
    /// One thing a run.
    #[must_use]
    pub const fn one(unit: &'static str) -> Self {
        Self { items: 1, unit }
    }

    /// So many recipients a run.
    #[must_use]
    pub const fn recipients(items: u32) -> Self {
        let unit = "recipient";
        Self { items, unit }
    }
}

/// A piece of work that can be timed. What a run returns is dropped within the time: production drops it, too.
pub struct Stage {
    /// What it is, in words.
    pub name: String,
    /// What a run is counted in.
    pub per: Per,
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.name)
            .field("per", &self.per)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage that needs nothing fresh for a run.
    pub fn new<O>(name: &str, per: Per, mut work: impl FnMut() -> O + 'static) -> Self {
        let run = move |runs| {
            let start = cpu::of_this_thread();
            for _ in 0..runs {
                drop(black_box(work()));
            }
            cpu::of_this_thread().saturating_sub(start)
        };
        Self::of(name, per, Box::new(run))
    }

    /// A stage that uses up an input in each run. Inputs are made outside the time.
    pub fn with_input<I, O>(
        name: &str,
        per: Per,
        mut input: impl FnMut() -> I + 'static,
        mut work: impl FnMut(I) -> O + 'static,
    ) -> Self {
        let run = move |runs| {
            let mut left: u64 = runs;
            let mut spent = Duration::ZERO;
            while left > 0 {
                let batch = left.min(INPUTS_MAX);
                let inputs: Vec<I> = (0..batch).map(|_| input()).collect();
                let start = cpu::of_this_thread();
                for input in inputs {
                    drop(black_box(work(input)));
                }
                spent += cpu::of_this_thread().saturating_sub(start);
                left -= batch;
            }
            spent
        };
        Self::of(name, per, Box::new(run))
    }

    fn of(name: &str, per: Per, run: Box<dyn FnMut(u64) -> Duration>) -> Self {
        let name = name.to_owned();
        Self { name, per, run }
    }

    /// The time of so many runs.
    pub fn time(&mut self, runs: u64) -> Duration {
        (self.run)(runs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn every_run_is_done_and_every_input_used_once() {
        let (made, used) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (counted, summed) = (Rc::clone(&made), Rc::clone(&used));
        let mut stage = Stage::with_input(
            "a",
            Per::one("run"),
            move || {
                counted.set(counted.get() + 1);
                counted.get()
            },
            move |input: u64| summed.set(summed.get() + input),
        );
        for runs in [0, 1, INPUTS_MAX, INPUTS_MAX + 1] {
            made.set(0);
            used.set(0);
            stage.time(runs);
            assert_eq!(
                (made.get(), used.get()),
                (runs, runs * (runs + 1) / 2),
                "{runs}"
            );
        }
    }
}
