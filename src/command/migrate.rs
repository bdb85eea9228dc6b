//! `clarion migrate`: brings the databases up to date without serving, for deployments that do it as a step of their own.
//! It must not know what a migration does.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::error::Error;
use crate::config::{Config, Sources};
use crate::serve::{Role, backends};
use crate::terminal::Terminal;

/// `clarion migrate`
#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Migrate {
    /// Runs it.
    ///
    /// # Errors
    /// A wrong configuration, a directory in use, databases of a newer version.
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let sources = Sources::with_data_dir(self.config.as_deref(), self.data_dir.as_deref());
        let config = Config::load(&sources)?;
        // Nothing is claimed here, so that any process id will do.
        let opened = backends::open(&config, Role::All, Uuid::nil()).await?;
        opened.store.close().await;
        opened.broker.close().await;
        terminal.note("store and queue are up to date")?;
        Ok(())
    }
}
