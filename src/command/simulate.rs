//! `clarion simulate`: APNs and FCM on loopback ports, to test against without devices.
//! It must not know how they are simulated, nor what is tested.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clarion_simulator::{FastSink, Options, Simulator, SinkOptions};
use serde_json::json;

use super::error::{Error, at};
use super::render;
use crate::config::{Config, Simulate, Sources};
use crate::signals::stop_requested;
use crate::terminal::Terminal;

/// `clarion simulate`; what is not given comes from the section `[simulate]` of the configuration.
#[derive(Args, Debug)]
pub(crate) struct SimulateCommand {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of APNs; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    apns_port: Option<u16>,
    /// Port of FCM and its token endpoint; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    fcm_port: Option<u16>,
    /// Port of the control API; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// Time from a request to its answer, as in "50ms"
    #[arg(long, value_name = "DURATION")]
    latency: Option<String>,
    /// Rules (TOML): which requests are answered otherwise
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Authority of the simulators' certificate; made if it is not there
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Where to append what was received
    #[arg(long, value_name = "FILE")]
    receive_log: Option<PathBuf>,
    /// A service account (JSON) that FCM knows; repeatable
    #[arg(long, value_name = "FILE")]
    fcm_account: Vec<PathBuf>,
    /// Refuse credentials that were not made known, instead of checking only their form and age
    #[arg(long)]
    strict: bool,
    /// Serve only a sink for measurements: APNs that answers 200 to everything and looks at nothing
    #[arg(long, conflicts_with_all = ["fcm_port", "control_port", "fcm_account"])]
    #[arg(conflicts_with_all = ["rules", "receive_log", "strict"])]
    sink: bool,
    /// Print the addresses as JSON
    #[arg(long)]
    json: bool,
}

impl SimulateCommand {
    fn sources(&self) -> Sources {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut sources = Sources::of_process(self.config.as_deref());
        let ports = [
            ("simulate.apns_port", self.apns_port, "--apns-port"),
            ("simulate.fcm_port", self.fcm_port, "--fcm-port"),
            ("simulate.control_port", self.control_port, "--control-port"),
        ];
        for (key, port, flag) in ports {
            if let Some(port) = port {
                sources = sources.with_flag(key, i64::from(port), flag);
            }
        }
        let texts = [
            ("simulate.latency", self.latency.clone(), "--latency"),
            (
                "simulate.rules_file",
                self.rules.as_ref().map(text),
                "--rules",
            ),
            (
                "simulate.ca_file",
                self.ca_file.as_ref().map(text),
                "--ca-file",
            ),
            (
                "simulate.receive_log",
                self.receive_log.as_ref().map(text),
                "--receive-log",
            ),
        ];
        for (key, value, flag) in texts {
            if let Some(value) = value {
                sources = sources.with_flag(key, value, flag);
            }
        }
        if self.strict {
            sources = sources.with_flag("simulate.accept_any_credential", false, "--strict");
        }
        sources
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// A wrong configuration, a port in use, unusable files.
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let config = Config::load(&self.sources())?.simulate;
        if let Some(parent) = config.ca_file.as_deref().and_then(Path::parent) {
            create_private(parent).map_err(at(parent))?;
        }
        let ca_file = config.ca_file.clone();
        if self.sink {
            let sink = FastSink::start(sink_options(config))?;
            let places = Places {
                apns: sink.origin(),
                rest: None,
                ca_file,
            };
            places.print(self.json, terminal)?;
            return Ok(stop_requested().await?);
        }
        let simulator = Simulator::start(options(config, self.fcm_account)).await?;
        let rest = Rest {
            fcm: simulator.fcm_origin(),
            token_endpoint: simulator.fcm_token_url(),
            control: simulator.control_url(),
        };
        let places = Places {
            apns: simulator.apns_origin(),
            rest: Some(rest),
            ca_file,
        };
        places.print(self.json, terminal)?;
        stop_requested().await?;
        simulator.shutdown().await;
        Ok(())
    }
}

/// The data directory is nobody else's business.
fn create_private(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn sink_options(from: Simulate) -> SinkOptions {
    SinkOptions {
        port: from.apns_port,
        latency_ms: millis(from.latency),
        ca_path: from.ca_file,
        ..SinkOptions::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn options(from: Simulate, fcm_accounts: Vec<PathBuf>) -> Options {
    Options {
        apns_port: from.apns_port,
        fcm_port: from.fcm_port,
        control_port: from.control_port,
        latency_ms: millis(from.latency),
        rules_path: from.rules_file,
        ca_path: from.ca_file,
        log_path: from.receive_log,
        accept_any_credential: from.accept_any_credential,
        fcm_accounts,
        ..Options::default()
    }
}

/// Where everything is.
struct Places {
    apns: String,
    /// What a sink does not have.
    rest: Option<Rest>,
    ca_file: Option<PathBuf>,
}

struct Rest {
    fcm: String,
    token_endpoint: String,
    control: String,
}

impl Places {
    fn print(&self, as_json: bool, terminal: &mut Terminal) -> Result<(), Error> {
        if as_json {
            let mut places = json!({"apns": self.apns, "ca_file": self.ca_file});
            if let Some(rest) = &self.rest {
                places["fcm"] = rest.fcm.as_str().into();
                places["fcm_token_endpoint"] = rest.token_endpoint.as_str().into();
                places["control"] = rest.control.as_str().into();
            }
            return Ok(terminal.line(render::json(&places))?);
        }
        let what = match &self.rest {
            Some(rest) => format!(
                "APNs and FCM are simulated until you press Ctrl-C; rules, counts, receipts: {}",
                rest.control
            ),
            None => "APNs takes everything, unread, until you press Ctrl-C.".to_string(),
        };
        terminal.note(format!("{what}\nPoint a Clarion there with:\n"))?;
        for line in self.section() {
            terminal.line(line)?;
        }
        Ok(())
    }

    /// The part of a configuration file that leads here.
    fn section(&self) -> Vec<String> {
        let quote = |text: &str| toml::Value::from(text).to_string();
        let apns = quote(&self.apns);
        let mut lines = vec![
            "[apns]".to_string(),
            format!("endpoint_production = {apns}"),
            format!("endpoint_sandbox = {apns}"),
        ];
        if let Some(rest) = &self.rest {
            lines.push(format!("\n[fcm]\nendpoint = {}", quote(&rest.fcm)));
            lines.push(format!("token_endpoint = {}", quote(&rest.token_endpoint)));
        }
        if let Some(path) = &self.ca_file {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            lines.push(format!(
                "\n[tls]\nca_file = {}",
                quote(&path.to_string_lossy())
            ));
        }
        lines
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_that_leads_to_the_simulators() {
        let rest = Rest {
            fcm: "https://127.0.0.1:2198".into(),
            token_endpoint: "https://127.0.0.1:2198/token".into(),
            control: "http://127.0.0.1:2199".into(),
        };
        let apns = "https://127.0.0.1:2197".to_string();
        let ca_file = Some(PathBuf::from("/tmp/ca \"1\".pem"));
        let places = Places {
            apns,
            rest: Some(rest),
            ca_file,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clarion.toml");
        std::fs::write(&path, places.section().join("\n")).unwrap();
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.apns.endpoint_sandbox, places.apns);
        assert_eq!(config.apns.endpoint_production, places.apns);
        let rest = places.rest.as_ref().unwrap();
        assert_eq!(config.fcm.endpoint, rest.fcm);
        assert_eq!(config.fcm.token_endpoint, rest.token_endpoint);
        assert_eq!(config.tls.ca_file, places.ca_file);
    }
}
