//! Hands prepared pushes to the providers and brings back what came of each: one thread per core, batches both ways.
//! It must not know jobs, leases, stores or retry schedules.
//!
//! A slice goes to the home thread of its credential and waits there for stream slots. One task per thread drives
//! everything on it: `thread` is its loop, `fill` brings slots and recipients together, `land` turns answers into
//! outcomes, `refresh` asks for access tokens, `state` keeps the books.

mod counters;
mod dispatcher;
mod fill;
mod land;
mod load;
mod outbox;
mod refresh;
mod slices;
mod state;
mod thread;
mod types;

pub use counters::DispatchCounters;
pub use dispatcher::{DispatchError, Dispatcher};
pub use types::{DispatchEvent, DispatchOptions, LatencyHook, Slice, SliceDone};
