//! `clarion config …`: checks the configuration, or shows the values in effect with their origins.
//! It must not know what a value means.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::error::Error;
use super::render;
use crate::config::{Config, Shown, Sources};
use crate::terminal::Terminal;

/// `clarion config`
#[derive(Args, Debug)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
    /// Configuration file; without it CLARION_CONFIG, else ./clarion.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Report everything that is wrong, at once
    Check,
    /// Print every value in effect and where it comes from; secrets are masked
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
        /// Print the documented defaults instead, as a file to start from
        #[arg(long, conflicts_with = "json")]
        defaults: bool,
    },
}

impl ConfigCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<(), Error> {
        if let Action::Show { defaults: true, .. } = self.action {
            return Ok(terminal.raw(crate::config::DEFAULTS.as_bytes())?);
        }
        let (_, shown) = Config::load_shown(&Sources::of_process(self.config.as_deref()))?;
        match self.action {
            Action::Check => Ok(terminal.note(format!("{} keys, all sound", shown.len()))?),
            Action::Show { json: true, .. } => Ok(terminal.line(render::json(&as_json(&shown)))?),
            Action::Show { .. } => show(&shown, terminal),
        }
    }
}

fn as_json(shown: &[Shown]) -> Value {
    let entry = |one: &Shown| {
        (
            one.key.clone(),
            json!({"value": one.json, "origin": one.origin}),
        )
    };
    Value::Object(shown.iter().map(entry).collect::<Map<_, _>>())
}

/// As TOML, so that it may be kept as a file; the origin as a comment where it is not the default.
fn show(shown: &[Shown], terminal: &mut Terminal) -> Result<(), Error> {
    let mut section = "";
    for one in shown {
        let (of, key) = one.key.split_once('.').unwrap_or(("", &one.key));
        if of != section {
            section = of;
            terminal.line(format!("\n[{section}]"))?;
        }
        terminal.line(format!("{key} = {}  # {}", one.value, one.origin))?;
    }
    Ok(())
}
