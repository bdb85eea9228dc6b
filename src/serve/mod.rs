//! `clarion serve`, `clarion ingest`, `clarion engine`: the HTTP faces and the engine, in one process or in several, until a
//! stop signal. It must not know how any of them works.

mod app;
pub(crate) mod backends;
mod clock;
mod engine_options;
mod outside;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

pub(crate) use self::app::{App, Hooks};
pub(crate) use self::clock::now;
use crate::command::Error;
use crate::config::{Config, Sources};
use crate::signals;
use crate::telemetry;
use crate::terminal::Terminal;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// Takes requests.
    Ingest,
    /// Delivers.
    Engine,
}

impl Role {
    /// Its name, as on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "serve",
            Self::Ingest => "ingest",
            Self::Engine => "engine",
        }
    }

    fn ingests(self) -> bool {
        self != Self::Engine
    }

    fn delivers(self) -> bool {
        self != Self::Ingest
    }
}

/// `clarion serve`, `ingest` and `engine`; what is not given comes from the configuration.
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
    pub(crate) async fn run(self, role: Role, terminal: &mut Terminal) -> Result<(), Error> {
        let config = Config::load(&self.sources())?;
        Ok(serve(&config, role, terminal).await?)
    }
}

async fn serve(config: &Config, role: Role, terminal: &mut Terminal) -> anyhow::Result<()> {
    telemetry::install_logs(&config.log)?;
    let metrics = telemetry::install_metrics(&config.metrics)?;
    let app = App::start(config, role, metrics, Hooks::default()).await?;
    if let Some(public) = app.public() {
        terminal.line(format!("clarion listens on http://{public}"))?;
    }
    terminal.line(format!("operator listener on http://{}", app.admin()))?;
    signals::stop_requested()
        .await
        .context("waiting for a stop signal")?;
    tracing::info!("stopping: no new work is taken, what is out is finished");
    app.stop().await;
    Ok(())
}
