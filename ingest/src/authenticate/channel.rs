//! The channel on which the store tells of deleted keys, as far as the cache must know it: whether it stands, and what follows.
//! It must not know keys.
//!
//! Where several processes take requests, any of them deletes keys. A process that hears of all deletions believes a row for a
//! second without asking; one that does not asks the store for every request. Either way no process believes a row for longer
//! than a second after it was deleted, and a deletion is answered after that second: then nobody takes the key any more. The
//! channel makes it sooner as a rule, and it tells a store that is only busy, and may not be gone round, from one that is away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clarion_engine::model::Millis;
use tokio::time::{Instant, sleep};

/// A row is believed for this long after it was read.
const LEASE: Duration = Duration::from_secs(1);
/// Added to it where others wait for its end: clocks of processes do not run alike.
const MARGIN: Duration = Duration::from_millis(100);
/// A channel that was not current for this long does not stand.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// The channel of one process.
#[derive(Debug)]
pub(super) struct Channel {
    /// Other processes delete keys, too.
    is_shared: AtomicBool,
    began: Instant,
    /// Up to when all deletions are known, milliseconds after `began`; 0 while there is no channel.
    current: AtomicU64,
}

impl Channel {
    /// Of a process that is alone.
    pub(super) fn new() -> Self {
        Self {
            is_shared: AtomicBool::new(false),
            began: Instant::now(),
            current: AtomicU64::new(0),
        }
    }

    /// Others delete keys, too: until the channel stands, nothing is believed.
    pub(super) fn share(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    /// Nobody else does.
    pub(super) fn is_alone(&self) {
        self.is_shared.store(false, Ordering::SeqCst);
    }

    /// All deletions up to this instant are known.
    pub(super) fn is_current(&self, at: Instant) {
        let millis = self.millis(at).max(1);
        self.current.fetch_max(millis, Ordering::SeqCst);
    }

    /// It is lost: what is deleted from now on is not heard of.
    pub(super) fn is_lost(&self) {
        self.current.store(0, Ordering::SeqCst);
    }

    /// Whether all deletions are heard of.
    pub(super) fn stands(&self) -> bool {
        let current = self.current.load(Ordering::SeqCst);
        let silence = self.millis(Instant::now()).saturating_sub(current);
        current > 0 && u128::from(silence) < SILENT_AFTER.as_millis()
    }

    /// For how long a row is believed after it was read, milliseconds.
    pub(super) fn lease(&self) -> Millis {
        if self.is_shared.load(Ordering::SeqCst) && !self.stands() {
            return 0;
        }
        Millis::try_from(LEASE.as_millis()).unwrap_or_default()
    }

    /// Waits until no process believes any longer what was deleted before.
    pub(super) async fn lapsed(&self) {
        if self.is_shared.load(Ordering::SeqCst) {
            sleep(LEASE + MARGIN).await;
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_hears_nothing_believes_nothing() {
        let channel = Channel::new();
        assert_eq!((channel.lease(), channel.stands()), (1_000, false));
        channel.share();
        assert_eq!((channel.lease(), channel.stands()), (0, false));
        let now = Instant::now();
        channel.is_current(now);
        assert_eq!((channel.lease(), channel.stands()), (1_000, true));
        channel.is_lost();
        assert_eq!((channel.lease(), channel.stands()), (0, false));
    }

    #[test]
    fn a_channel_that_falls_silent_does_not_stand() {
        let mut channel = Channel::new();
        channel.share();
        channel.is_current(Instant::now());
        channel.began -= SILENT_AFTER * 2;
        assert_eq!((channel.lease(), channel.stands()), (0, false));
    }
}
