//! CPU time: of the calling thread to the nanosecond, of other threads by name as the scheduler counts it.
//! It must not know what the threads do.
//!
//! `/proc/self/task/*/schedstat` counts nanoseconds, too, but the kernel brings a running thread's figure up to date only
//! at its ticks: measure others for seconds, so that a few milliseconds do not count.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time so far of the calling thread. Unlike the time on the wall it leaves out what others had of the processor.
#[must_use]
pub fn of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// CPU time so far of all living threads whose name begins so.
///
/// # Errors
/// When the system does not tell (Linux does, if it was built with scheduler statistics).
pub fn of_threads(prefix: &str) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        // A thread may end between being listed and being read.
        let Ok(name) = fs::read_to_string(folder.join("comm")) else {
            continue;
        };
        if name.trim_end().starts_with(prefix) {
            total += schedstat(&fs::read_to_string(folder.join("schedstat"))?)?;
        }
    }
    Ok(total)
}

fn schedstat(text: &str) -> io::Result<Duration> {
    let spent = text.split(' ').next().and_then(|word| word.parse().ok());
    spent.map(Duration::from_nanos).ok_or_else(|| {
        let says = "schedstat holds no number: the kernel lacks scheduler statistics";
        io::Error::new(io::ErrorKind::InvalidData, says)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_time_on_a_processor() {
        assert_eq!(
            schedstat("1500 20 3\n").unwrap(),
            Duration::from_nanos(1_500)
        );
        assert!(schedstat("").is_err());
    }

    #[test]
    fn only_threads_of_the_name_count_and_work_shows() {
        let work = || {
            let mut number = 0_u64;
            // Until it shows: the kernel counts at its ticks.
            while of_threads("busy-").unwrap() < Duration::from_millis(1) {
                for _ in 0..1_000_000 {
                    number = std::hint::black_box(number.wrapping_mul(3) + 1);
                }
            }
            of_threads("absent-").unwrap()
        };
        let busy = std::thread::Builder::new().name("busy-1".to_owned());
        assert_eq!(busy.spawn(work).unwrap().join().unwrap(), Duration::ZERO);
    }
}
