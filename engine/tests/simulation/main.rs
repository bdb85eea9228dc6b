//! The job protocol under a seeded simulation: two engines with the production worker, and a store, a broker, providers
//! and producers that fail, stall, die and lose answers at every step, in virtual time.
//!
//! `CLARION_SIM_SEED=n` runs one seed and shows its whole course; `CLARION_SIM_SEEDS=n` sets how many are run.
//! It must not know the production store or broker: they have contract suites of their own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod calls;
mod driver;
mod ledger;
mod loops;
mod plan;
mod provider;
mod rng;
mod scene;
mod store;
mod told;
mod world;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Report, Variant, World};

/// Seeds of one run: what fits into a minute of two cores when optimised, and a taste of it otherwise.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 20_000 };
/// Seeds within which each broken variant must be caught.
const SEEDS_TO_CATCH: u64 = 3_000;
/// Threads that run seeds.
const THREADS: u64 = 2;
/// Lines shown of the course of a broken seed.
const LINES_SHOWN: usize = 120;

fn number_from(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}")),
    )
}

/// What many worlds came to.
#[derive(Debug)]
struct Many {
    /// The smallest seed that breaks something.
    first_broken: Option<u64>,
    /// Requests that a provider took a second time, each with its excuse.
    duplicates: u64,
}

fn run_many(variant: Variant, ledger_only: bool, seeds: u64) -> Many {
    let (broken, duplicates) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (broken, duplicates) = (&broken, &duplicates);
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(THREADS as usize) {
                    if seed > broken.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = World::new(seed, variant, ledger_only).run(false);
                    duplicates.fetch_add(u64::from(report.duplicates), Ordering::Relaxed);
                    if report.broken.is_some() {
                        broken.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Many {
        first_broken: Some(broken.into_inner()).filter(|seed| *seed != u64::MAX),
        duplicates: duplicates.into_inner(),
    }
}

fn story(seed: u64, report: &Report, lines: usize) -> String {
    let mut story = String::new();
    let skipped = report.trace.len().saturating_sub(lines);
    let plan = report.trace.iter().take(1);
    for line in plan.chain(report.trace.iter().skip(skipped.max(1))) {
        let _written = writeln!(story, "{line}");
    }
    let what = report.broken.as_deref().unwrap_or("nothing is broken");
    let _written = writeln!(
        story,
        "seed {seed}: {what}; CLARION_SIM_SEED={seed} shows all of it"
    );
    story
}

#[test]
fn no_seed_breaks_the_protocol() {
    if let Some(seed) = number_from("CLARION_SIM_SEED") {
        let report = World::new(seed, Variant::Sound, false).run(true);
        panic!("{}", story(seed, &report, usize::MAX));
    }
    let seeds = number_from("CLARION_SIM_SEEDS").unwrap_or(SEEDS);
    let many = run_many(Variant::Sound, false, seeds);
    if let Some(seed) = many.first_broken {
        let report = World::new(seed, Variant::Sound, false).run(true);
        panic!("{}", story(seed, &report, LINES_SHOWN));
    }
    // Worlds in which nothing is ever sent twice would say nothing about the bound on it.
    assert!(
        seeds < 100 || many.duplicates > 0,
        "the worlds are too kind"
    );
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    for seed in 0..20 {
        let [first, second] = [(), ()].map(|()| World::new(seed, Variant::Sound, false).run(true));
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// The comparison of what was accepted, received and recorded must be enough to catch it, without looking inside.
fn is_caught(variant: Variant) {
    let many = run_many(variant, true, SEEDS_TO_CATCH);
    assert!(
        many.first_broken.is_some(),
        "{variant:?} is not caught within {SEEDS_TO_CATCH} seeds"
    );
}

#[test]
fn acking_before_recording_is_caught() {
    is_caught(Variant::AckBeforeRecord);
}

#[test]
fn a_parked_job_that_keeps_its_id_is_caught() {
    is_caught(Variant::ParkedKeepsId);
}

#[test]
fn claims_that_do_not_fence_are_caught() {
    is_caught(Variant::Unfenced);
}

#[test]
fn a_page_published_before_it_is_reserved_is_caught() {
    is_caught(Variant::PublishBeforeReserve);
}
