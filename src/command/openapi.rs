//! `clarion openapi`: the API's description, as a running server serves it.
//! It must not know what is in it.

use clap::Args;

use super::error::Error;
use crate::terminal::Terminal;

/// `clarion openapi`
#[derive(Args, Debug)]
pub(crate) struct OpenApi {
    /// Describe the operator's listener instead of the public API
    #[arg(long)]
    operator: bool,
}

impl OpenApi {
    /// Runs it.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        let document = match self.operator {
            true => clarion_ingest::operator_openapi(),
            false => clarion_ingest::openapi(),
        };
        Ok(terminal.line(document)?)
    }
}
