//! What the sides of the broker have in common: one background task each, and sessions that never end well.
//! It must not know what a side does.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::link::LinkError;

/// What a session, or a loop of one, ends with: it never ends well.
pub(super) type Ended = Result<Infallible, LinkError>;

/// The task of a side: started at most once, and waited for at the end.
#[derive(Debug, Default)]
pub(super) struct Background {
    state: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts the task that `make` gives; `false` when there was one before.
    pub(super) fn start<T>(&self, make: impl FnOnce() -> T) -> bool
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.lock();
        let is_first = task.is_none();
        if is_first {
            *task = Some(tokio::spawn(make()));
        }
        is_first
    }

    /// Waits for its end, which a stop has begun. `broke` is logged of a task that panicked.
    pub(super) async fn ended(&self, broke: &'static str) {
        let task = self.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "{broke}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until it is over: it was said, or nobody is left to say it.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
