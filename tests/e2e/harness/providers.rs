//! The simulated providers as a process of their own, so that what is tested may be killed beside them.
//! It must not know what is sent to them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Caller, PATIENCE, Setup, clarion, until};

/// A running `clarion simulate`. Dropping it kills the process.
pub(crate) struct Providers {
    home: TempDir,
    child: Child,
    places: Value,
    /// Kept open, or the next line would find nobody.
    _stdout: BufReader<ChildStdout>,
}

impl Providers {
    pub(crate) async fn start(latency: &str, rules: &str) -> Self {
        let home = tempfile::Builder::new()
            .prefix("clarion-e2e-")
            .tempdir()
            .unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("rules.toml"), rules).unwrap();
        let mut child = clarion()
            .args([
                "simulate",
                "--json",
                "--apns-port",
                "0",
                "--fcm-port",
                "0",
                "--control-port",
                "0",
            ])
            .args(["--latency", latency, "--config", "/dev/null"])
            .arg("--rules")
            .arg(at("rules.toml"))
            .arg("--ca-file")
            .arg(at("ca.pem"))
            .arg("--receive-log")
            .arg(at("received.tsv"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            while serde_json::from_str::<Value>(&text).is_err() {
                assert!(
                    stdout.read_line(&mut text).unwrap() > 0,
                    "no places: {text}"
                );
            }
            (stdout, serde_json::from_str(&text).unwrap())
        });
        let (stdout, places) = tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap()
            .unwrap();
        Self {
            home,
            child,
            places,
            _stdout: stdout,
        }
    }

    /// A server that sends to them.
    pub(crate) fn setup(&self, setup: Setup) -> Setup {
        let place = |name: &str| self.places[name].as_str().unwrap();
        let ca = std::fs::read_to_string(self.home.path().join("ca.pem")).unwrap();
        setup
            .towards_places(place("apns"), place("fcm"), place("fcm_token_endpoint"))
            .authority(&ca)
    }

    /// Where Google's token endpoint is.
    pub(crate) fn token_endpoint(&self) -> &str {
        self.places["fcm_token_endpoint"].as_str().unwrap()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.path().join("received.tsv")
    }

    /// Waits until nobody is connected: then everything that was sent has been logged.
    pub(crate) async fn abandoned(&self) {
        let control = self.places["control"].as_str().unwrap();
        let control = Caller::new(Caller::http(), control);
        until("every connection to end", PATIENCE, || async {
            let stats = control.get("/stats").await.ok();
            (stats["connections_open"] == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        // Both fail only if it has ended before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Counts the lines of a growing receive log.
pub(crate) struct Tail {
    file: File,
    lines: u64,
}

impl Tail {
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            file: File::open(path).unwrap(),
            lines: 0,
        }
    }

    /// Receipts in the log by now.
    pub(crate) fn count(&mut self) -> u64 {
        let mut grown = Vec::new();
        self.file.read_to_end(&mut grown).unwrap();
        self.lines += grown.iter().filter(|octet| **octet == b'\n').count() as u64;
        self.lines
    }
}
