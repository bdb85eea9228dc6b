//! The engine room: what happens behind the door, from an accepted notification to the provider's answer.
//! It must not know HTTP faces, configuration files or the command line.
//!
//! # Layout
//!
//! - [`limits`]: every bound, named with its unit and its source
//! - [`model`]: the values that flow: notification, job, outcome, receipt; and their wire codec
//! - [`contract`]: the documents of what backends publish to the queue and hear from it
//! - [`datadir`]: the data directory of a single machine: its lock and its files
//! - [`broker`]: the queue for what is ready
//! - [`store`]: devices, notifications, job records, what waits and what is dead
//! - [`intake`]: the one door by which every face submits a notification
//! - [`http2`]: connections and pools
//! - [`provider`]: APNs and FCM as protocols: encode, decode, credentials
//! - [`delivery`]: from a leased job to its record

pub mod broker;
pub mod contract;
pub mod datadir;
pub mod delivery;
pub mod http2;
pub mod intake;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod provider;
pub mod store;
