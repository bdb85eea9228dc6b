//! Logs and metrics of a server process: one subscriber, one recorder, both installed once at start.
//! It must not know what is logged or counted.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat, Metrics};

/// How a latency histogram's name ends.
const LATENCY_SUFFIX: &str = "_seconds";
/// How a size histogram's name ends.
const SIZE_SUFFIX: &str = "_size";
/// Bounds of size histograms: recipients of a slice, jobs of a commit, requests of a batch.
const SIZE_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 2048.0];
/// Never logged, whatever `log.level` says: the AMQP library writes out returned messages, and their bodies hold what
/// users are told.
const SILENT: &str = "lapin::returned_messages=off";
/// How often a histogram's samples are folded into its buckets. Until then each sample is held.
pub(crate) const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why logs or metrics could not be set up.
#[derive(Debug, Error)]
pub(crate) enum TelemetryError {
    /// The filter does not parse.
    #[error("log.level is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A subscriber is installed already.
    #[error("logs are set up already: {0}")]
    Logs(#[from] TryInitError),
    /// A recorder is installed already, or the buckets are empty.
    #[error("metrics could not be set up: {0}")]
    Metrics(#[from] BuildError),
}

/// Sends log lines to standard error, as text or JSON.
///
/// # Errors
/// When it was called before, or the filter is wrong.
pub(crate) fn install_logs(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&log.level)?.add_directive(SILENT.parse()?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match log.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()?;
    Ok(())
}

/// Installs the recorder of this process. Whoever holds the handle renders it for `/metrics`, and calls
/// `run_upkeep` each [`UPKEEP_INTERVAL`], or the samples of histograms pile up.
///
/// # Errors
/// When it was called before.
pub(crate) fn install_metrics(metrics: &Metrics) -> Result<PrometheusHandle, TelemetryError> {
    Ok(builder(metrics)?.install_recorder()?)
}

/// Without explicit buckets a histogram would be a summary, which cannot be added up over processes.
fn builder(metrics: &Metrics) -> Result<PrometheusBuilder, BuildError> {
    let seconds: Vec<f64> = metrics
        .latency_buckets
        .iter()
        .map(Duration::as_secs_f64)
        .collect();
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix(LATENCY_SUFFIX.to_string()), &seconds)?
        .set_buckets_for_metric(Matcher::Suffix(SIZE_SUFFIX.to_string()), &SIZE_BUCKETS)
}
