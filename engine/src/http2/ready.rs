//! Which of many children of one task want to be polled: a list that wakers write and the task empties.
//! It must not know what the children are.
//!
//! As in `FuturesUnordered`, only those that were woken are polled; but the wakers live as long as their slots, so
//! that a request costs no allocation here.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Wake, Waker};

/// Collects the numbers of raised signals and wakes one task.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Vec<u32>>,
    task: Mutex<Option<Waker>>,
    /// The task is at work and will look at the list before it rests.
    hushed: AtomicBool,
}

/// One child's signal. Raised at most once until it is lowered, so that a bell's list stays short.
#[derive(Debug)]
pub(crate) struct Signal {
    number: u32,
    raised: AtomicBool,
    bell: Arc<Bell>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

impl Bell {
    /// Whom to wake.
    pub(crate) fn set_task(&self, waker: &Waker) {
        let mut task = lock(&self.task);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// While hushed nobody is woken.
    pub(crate) fn hush(&self, hushed: bool) {
        self.hushed.store(hushed, Ordering::Release);
    }

    /// Swaps the list of raised numbers for `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<u32>) {
        empty.clear();
        mem::swap(&mut *lock(&self.rung), empty);
    }

    /// Whether nothing is raised.
    pub(crate) fn is_silent(&self) -> bool {
        lock(&self.rung).is_empty()
    }

    fn ring(&self, number: u32) {
        lock(&self.rung).push(number);
        if !self.hushed.load(Ordering::Acquire)
            && let Some(task) = &*lock(&self.task)
        {
            task.wake_by_ref();
        }
    }
}

impl Signal {
    /// The signal of child `number`.
    pub(crate) fn new(number: u32, bell: &Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            number,
            raised: AtomicBool::new(false),
            bell: Arc::clone(bell),
        })
    }

    /// Raises it.
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.bell.ring(self.number);
        }
    }

    /// Lowers it; whether it was raised.
    pub(crate) fn lower(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_rings_once_until_it_is_lowered() {
        let bell = Arc::new(Bell::default());
        let task = Signal::new(9, &Arc::new(Bell::default()));
        bell.set_task(&Waker::from(Arc::clone(&task)));
        let (one, two) = (Signal::new(1, &bell), Signal::new(2, &bell));
        let waker = Waker::from(Arc::clone(&one));
        waker.wake_by_ref();
        waker.wake();
        assert!(task.lower(), "the task was woken");
        bell.hush(true);
        two.raise();
        assert!(!task.lower(), "a task at work is not woken");
        let mut rung = vec![7];
        bell.take(&mut rung);
        assert_eq!(rung, [1, 2]);
        assert!(bell.is_silent() && one.lower() && !one.lower());
        one.raise();
        assert!(!bell.is_silent());
    }
}
