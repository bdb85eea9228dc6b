//! The one place where the tests wait for something that nobody tells them.
//! It must not know what is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Longest wait of an ordinary test, seconds of a busy machine included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is an answer; fails after `limit`, saying what it waited for.
#[track_caller]
pub(crate) fn until<T, F, L>(what: &str, limit: Duration, look: L) -> impl Future<Output = T>
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    wait(what, place, limit, look)
}

async fn wait<T, F, L>(
    what: String,
    place: &'static std::panic::Location<'static>,
    limit: Duration,
    mut look: L,
) -> T
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            began.elapsed() < limit,
            "{place}: waited {} s for {what}",
            limit.as_secs()
        );
    }
}
