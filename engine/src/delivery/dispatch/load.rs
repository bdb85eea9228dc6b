//! What the threads tell the dispatcher about a route: how much is there, and how much may be in flight.
//! It must not know slices or connections.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Outstanding recipients of a route on its home thread from which others help, if its streams do not need more.
const SPILL_AT: usize = 1_024;

/// One route's load, by thread.
#[derive(Debug)]
pub(super) struct RouteLoad {
    threads: Box<[ThreadLoad]>,
}

#[derive(Debug, Default)]
struct ThreadLoad {
    /// Recipients handed to the thread and not answered.
    outstanding: AtomicUsize,
    /// Streams the route may use there; 0 without a connection.
    window: AtomicUsize,
}

impl RouteLoad {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| ThreadLoad::default()).collect(),
        }
    }

    pub(super) fn add(&self, thread: usize, recipients: usize) {
        let load = &self.threads[thread];
        load.outstanding.fetch_add(recipients, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, thread: usize, recipients: usize) {
        let load = &self.threads[thread];
        load.outstanding.fetch_sub(recipients, Ordering::Relaxed);
    }

    pub(super) fn set_window(&self, thread: usize, streams: usize) {
        self.threads[thread]
            .window
            .store(streams, Ordering::Relaxed);
    }

    /// Streams over all threads; 1 without any connection: the first request opens one.
    pub(super) fn window(&self) -> usize {
        let windows = self
            .threads
            .iter()
            .map(|load| load.window.load(Ordering::Relaxed));
        windows.sum::<usize>().max(1)
    }

    /// Whether a thread has as much of the route as it can use.
    pub(super) fn is_saturated(&self, thread: usize) -> bool {
        let load = &self.threads[thread];
        let window = load.window.load(Ordering::Relaxed);
        let outstanding = load.outstanding.load(Ordering::Relaxed);
        // Before its first success a credential gets one connection, not one on every thread. An eighth of the streams is not
        // for bulk, which alone may be all there is.
        window > 1 && outstanding >= (window - window / 8).max(SPILL_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_saturated_only_once_it_is_warm_and_full() {
        let load = RouteLoad::new(2);
        assert_eq!(load.window(), 1);
        load.add(0, 5_000);
        assert!(!load.is_saturated(0), "no connection yet");
        load.set_window(0, 1);
        assert!(!load.is_saturated(0), "not proven yet");
        load.set_window(0, 2_000);
        assert!(load.is_saturated(0) && !load.is_saturated(1));
        load.remove(0, 3_251);
        assert!(!load.is_saturated(0));
        load.set_window(1, 100);
        assert_eq!(load.window(), 2_100);
    }
}
