//! The configuration as the engine's options.
//! It must not start anything.

use anyhow::Context as _;
use clarion_engine::delivery::engine::EngineOptions;
use clarion_engine::delivery::limiter::Rate;
use clarion_engine::delivery::sweeper::Retention;
use clarion_engine::delivery::worker;
use clarion_engine::model::Millis;
use uuid::Uuid;

use super::Hooks;
use crate::config::Config;
use crate::wiring;

/// The engine's options.
///
/// # Errors
/// When an endpoint cannot be used.
pub(super) fn engine_options(
    config: &Config,
    process: Uuid,
    now: Millis,
    hooks: Hooks,
) -> anyhow::Result<EngineOptions> {
    Ok(EngineOptions {
        worker: worker::Options {
            process,
            unrecorded_max: config.engine.unrecorded_max,
            connection_since: now,
            policy: wiring::retry_policy(&config.retry),
            rate: Rate::new(config.limits.rate, Some(config.limits.burst)),
            shares_rates: config.store.is_shared(),
            events: wiring::events(config.queue.events),
            seed: process.as_u64_pair().1,
        },
        dispatch: wiring::dispatch_options(config).context("reading the provider endpoints")?,
        retention: Retention {
            receipts: config.retention.receipts,
            payloads: config.retention.payloads,
            dead: config.retention.dead,
            idempotency: config.retention.idempotency,
            audit: config.retention.audit,
            analytics: config.retention.analytics,
        },
        events_kept: config.retention.events,
        grace: config.server.shutdown_grace,
        on_answered: hooks.on_answered,
    })
}
