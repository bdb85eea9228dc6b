//! Delivery: from a leased job to its record. This file only lists the modules.
//! It must not know HTTP faces, configuration files or which broker and store are behind the traits.
//!
//! - [`scheduler`]: whose turn it is, lanes × tenants
//! - [`limiter`]: how many a tenant may send now
//! - [`shares`]: what of a tenant's rate is this process's
//! - [`breaker`]: whether a credential's provider is worth a try
//! - [`settle`]: what follows a send, the one decision point
//! - [`retry`]: when something is tried again, and when it ends
//! - [`events`]: what backends are told of a record's part
//! - [`brake`]: whether the provider's word on dead devices is believed
//! - [`dispatch`]: the delivery threads, which hand prepared pushes to the providers
//! - [`drain`]: what the broker itself gave up on, into dead rows
//! - [`taker`]: what backends publish straight to the queue, through the door
//!
//! All but the last two are synchronous state machines: events and `now` in, decisions out.

pub mod brake;
pub mod breaker;
pub mod dispatch;
pub mod drain;
mod driver;
pub mod engine;
pub mod events;
pub mod feeder;
pub mod limiter;
pub mod releaser;
mod reporter;
pub mod retry;
pub mod routes;
pub mod scheduler;
pub mod settle;
pub mod shares;
pub mod sweeper;
pub mod taker;
pub mod worker;

use std::sync::Arc;

use clarion_auth::TenantId;
use tokio::sync::oneshot;

use crate::model::{Millis, Platform};

/// Reads the time, Unix milliseconds. Given to what runs, so that nothing below it reads a clock by itself.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What others may ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// An operator settled the prune candidates of a tenant and platform.
    ReleaseBrake(TenantId, Platform),
    /// Drop this once the control state as it is now is obeyed.
    Acknowledge(oneshot::Sender<()>),
}
