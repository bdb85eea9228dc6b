//! The decisions around a send: settle and the scheduler. It must not know the worker that drives them.

use anyhow::{Result, ensure};
use clarion_engine::delivery::retry::Policy;
use clarion_engine::delivery::scheduler::{Ready, Scheduler};
use clarion_engine::delivery::settle::{Context, Settled, settle};
use clarion_engine::limits::SLICE_RECIPIENTS_MAX;
use clarion_engine::model::{Job, Lane, Outcome, Platform, Recipient};

use crate::samples::{ENTRIES, NOW, job, recipients, tenant_number};
use crate::stage::{Per, Stage};

/// Recipients of a slice.
#[expect(clippy::cast_possible_truncation, reason = "it is 32")]
const SLICE: u32 = SLICE_RECIPIENTS_MAX as u32;

/// Tenants that have work at the same time.
const TENANTS: [u32; 2] = [1, 2_000];

/// Settle of a slice, and whose turn it is.
///
/// # Errors
/// When a sample cannot be made.
pub fn stages() -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    for (word, registered) in [("raw device tokens", false), ("registered", true)] {
        stages.push(settling(word, registered)?);
    }
    for tenants in TENANTS {
        stages.push(scheduling(tenants)?);
    }
    Ok(stages)
}

fn settling(word: &str, registered: bool) -> Result<Stage> {
    let (job, policy) = (job(Platform::Ios, ENTRIES, Lane::Bulk)?, Policy::default());
    let slice = recipients(Platform::Ios, SLICE, registered);
    let accepted = || vec![Outcome::Accepted; SLICE_RECIPIENTS_MAX];
    ensure!(settled(&job, &slice, accepted(), &policy).counts.total() == u64::from(SLICE));
    Ok(Stage::with_input(
        &format!("settle: 32 accepted, {word}"),
        Per::recipients(SLICE),
        accepted,
        move |outcomes| settled(&job, &slice, outcomes, &policy),
    ))
}

fn settled(job: &Job, slice: &[Recipient], outcomes: Vec<Outcome>, policy: &Policy) -> Settled {
    let context = Context {
        policy,
        users: &|_| None,
        frozen: &|_| false,
        now: NOW,
        request_started: NOW,
        jitter: 0.5,
    };
    settle(job, slice, outcomes, &context)
}

fn scheduling(tenants: u32) -> Result<Stage> {
    let mut scheduler: Scheduler<u32> = Scheduler::new();
    for number in 0..tenants {
        scheduler.enqueue(&tenant_number(number)?, Lane::Bulk, number, ENTRIES);
    }
    let next = move || {
        let slice = scheduler.next(NOW, |_, _, _, wanted| Ready::Yes(wanted));
        // Each job begins anew when it is handed out, so that the number of tenants stays.
        if let Some(slice) = slice.as_ref().filter(|slice| slice.last) {
            scheduler.enqueue(&slice.tenant, slice.lane, slice.handle, ENTRIES);
        }
        slice
    };
    let name = format!("scheduler: next, {tenants} tenants");
    Ok(Stage::new(&name, Per::one("slice"), next))
}
