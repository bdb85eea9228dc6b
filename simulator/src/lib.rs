//! The simulator room: APNs and FCM as local TLS and HTTP/2 servers, for demos, tests and measurements. It
//! knows nothing of Clarion's other rooms and shares no code with them, or a mistake would cancel itself
//! out.
//!
//! It is strict about what Apple and Google document (credentials and their age, headers, topics, sizes,
//! the shape of device tokens), obeys rules that script every kind of fault, and writes a receipt for each
//! request it has processed before it answers.
//!
//! # Layout
//!
//! - [`Simulator`], [`Options`]: starting and steering it
//! - [`Rules`]: scripted behaviour
//! - [`Receipt`], [`ReceiveLog`], [`Ledger`]: what was processed, and whether it is what should have been
//! - `control`: the same over HTTP, for other processes
//! - [`FastSink`]: a server for measurements, which decodes nothing
//! - `apns`: Apple's rules; `fcm`: Google's, and its token endpoint
//! - `listener` accepts, `connection` drives, `http2` is the protocol as a pure state machine,
//!   `schedule` holds answers until they are due
//! - `world` is what connections share: `registry` (credentials), rules, log, counters

mod apns;
mod connection;
mod control;
mod credentials;
mod error;
mod fcm;
mod http2;
mod jwt;
mod ledger;
mod listener;
mod log;
mod options;
mod receipt;
mod registry;
mod rules;
mod schedule;
mod simulator;
mod sink;
mod site;
mod stats;
mod tls;
mod verdict;
mod world;

pub use apns::Reason as ApnsReason;
pub use credentials::{ApnsTestKey, FcmTestAccount, apns_test_device_token, fcm_test_device_token};
pub use error::Error;
pub use ledger::{Difference, Identity, Ledger};
pub use log::ReceiveLog;
pub use options::{ApnsKeyFile, Options};
pub use receipt::{Fate, Provider, Receipt};
pub use rules::{Action, Goaway, Match, Rule, Rules, share_matches};
pub use simulator::Simulator;
pub use sink::{FastSink, SinkOptions};
pub use stats::Stats;
pub use tls::Certificate;
pub use world::Command;
