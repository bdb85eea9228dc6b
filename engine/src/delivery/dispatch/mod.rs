//! Hands prepared pushes to the providers and brings back what came of each: one thread per core, batches both ways.
//! It must not know jobs, leases, stores or retry schedules.
//!
//! A slice goes to the home thread of its credential; what follows from an outcome is decided elsewhere.

mod types;

pub use types::{DispatchEvent, DispatchOptions, LatencyHook, Slice, SliceDone};
