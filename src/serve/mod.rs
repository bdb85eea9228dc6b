//! `clarion serve`: the HTTP faces and the engine in one process, until a stop signal.
//! It must not know how any of them works.

mod app;
mod engine_options;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

pub(crate) use self::app::{App, Hooks, now};
use crate::command::Error;
use crate::config::{Config, Sources};
use crate::signals;
use crate::telemetry;
use crate::terminal::Terminal;

/// `clarion serve`; what is not given comes from the configuration.
#[derive(Debug, Args)]
pub(crate) struct ServeCommand {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is kept (data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the public API (server.listen)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the operator's listener (server.admin_listen)
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
}

impl ServeCommand {
    fn sources(&self) -> Sources {
        let mut sources = Sources::of_process(self.config.as_deref());
        if let Some(path) = &self.data_dir {
            sources = sources.with_flag(
                "data_dir",
                path.to_string_lossy().into_owned(),
                "--data-dir",
            );
        }
        if let Some(address) = self.listen {
            sources = sources.with_flag("server.listen", address.to_string(), "--listen");
        }
        if let Some(address) = self.admin_listen {
            sources =
                sources.with_flag("server.admin_listen", address.to_string(), "--admin-listen");
        }
        sources
    }

    /// Serves until a stop signal, then finishes what is under way.
    ///
    /// # Errors
    /// When something cannot start; the message says what to do.
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let config = Config::load(&self.sources())?;
        Ok(serve(&config, terminal).await?)
    }
}

async fn serve(config: &Config, terminal: &mut Terminal) -> anyhow::Result<()> {
    telemetry::install_logs(&config.log)?;
    let metrics = telemetry::install_metrics(&config.metrics)?;
    let app = App::start(config, metrics, Hooks::default()).await?;
    terminal.line(format!("clarion listens on http://{}", app.public()))?;
    terminal.line(format!("operator listener on http://{}", app.admin()))?;
    signals::stop_requested()
        .await
        .context("waiting for a stop signal")?;
    tracing::info!("stopping: no new work is taken, what is out is finished");
    app.stop().await;
    Ok(())
}
