//! The measuring room: the stages of a notification's way as things that can be timed, and the bare loop that sets the
//! ceiling. It must not know queues, databases or anything that only a running Clarion has.
//!
//! The same [`stage::Stage`]s are driven by criterion (`benches/`) and by `clarion-bench pure`, so that both speak of the
//! same work.

pub mod bare;
pub mod conditions;
pub mod cpu;
pub mod pure;
pub mod samples;
pub mod sink;
pub mod stage;
pub mod stages;
pub mod table;
