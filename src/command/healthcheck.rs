//! `clarion healthcheck`: one request to a server's readiness, answered by the exit code.
//! It must not know what readiness means.

use clap::Args;

use super::client::{Call, Client};
use super::error::Error;
use crate::terminal::Terminal;

/// `clarion healthcheck`
#[derive(Args, Debug)]
pub(crate) struct Healthcheck {
    /// Address of the server
    #[arg(
        long,
        env = "CLARION_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
}

impl Healthcheck {
    /// Runs it.
    ///
    /// # Errors
    /// When the server does not answer, or not with success.
    pub(crate) async fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        Client::new(&self.url, "--url", None)?
            .call(Call::get(&["readyz"]))
            .await?;
        Ok(terminal.line("ready")?)
    }
}
