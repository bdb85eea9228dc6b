//! `clarion migrate`: brings the databases up to date without serving, for deployments that do it as a step of their own.
//! It must not know what a migration does.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clarion_engine::broker::Broker;
use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::datadir::DataDir;
use clarion_engine::store::Control;
use clarion_engine::store::sqlite::{OpenOptions, SqliteStore};
use uuid::Uuid;

use super::error::Error;
use crate::config::{Config, Sources};
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
        let data_dir = Arc::new(DataDir::lock(&config.data_dir)?);
        // Nothing is claimed here, so that any process id will do.
        let options = OpenOptions {
            process: Uuid::nil(),
            data_dir: Arc::clone(&data_dir),
        };
        let store = SqliteStore::open(&config.store.path, options).await?;
        let queue = EmbeddedBroker::open(&config.queue.path, data_dir).await?;
        store.close().await;
        queue.close().await;
        for path in [&config.store.path, &config.queue.path] {
            terminal.note(format!("{} is up to date", path.display()))?;
        }
        Ok(())
    }
}
