//! Under which conditions something was measured: machine, load, build and time. It must not know what was measured.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What must stand beside every figure.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Unix seconds.
    pub at: u64,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// The kernel's version.
    pub kernel: String,
    /// Processes that wanted to run in the last minute, on average, when the measurement began. Above a tenth or two the
    /// machine was not idle.
    pub load: f64,
    /// The build's profile: the folder the program runs from.
    pub profile: String,
}

impl Conditions {
    /// As they are now; what the system does not tell is `unknown`.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge of this room: figures carry their date"
    )]
    pub fn now() -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let exe = std::env::current_exe().ok();
        let folder = exe.as_deref().and_then(|path| path.parent()?.file_name());
        let load = read("/proc/loadavg");
        Self {
            at: at.map(|since| since.as_secs()).unwrap_or_default(),
            cpu: cpu_name(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: first_number(&load).unwrap_or(f64::NAN),
            profile: folder.map_or_else(unknown, |name| name.to_string_lossy().into_owned()),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            cpu,
            cpus,
            kernel,
            load,
            profile,
            ..
        } = self;
        format!("{cpus} x {cpu}, Linux {kernel}, load {load:.1} at the start, profile {profile}")
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn first_number(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t: a b\n";
        assert_eq!(cpu_name(cpuinfo).unwrap(), "AMD EPYC 9B14");
        assert_eq!(cpu_name(""), None);
        assert_eq!(first_number("3.91 2.00 1.10 4/612 99\n"), Some(3.91));
        assert_eq!(first_number(""), None);
    }
}
