//! The data directory of a single machine: its lock, and how SQLite files in it are opened and written.
//! It must not know what is stored in them.

mod checkpoint;
mod file;
mod lock;
mod rows;

pub(crate) use checkpoint::Checkpoints;
pub(crate) use file::{SqliteFile, clock, migrate, synchronous};
pub use lock::{DataDir, LockError};
pub(crate) use rows::{Batch, Binder, Rows};
