//! `clarion push status` and `clarion push failures`: what became of a notification.
//! It must not know how outcomes are recorded.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use uuid::Uuid;

use super::client::Call;
use super::error::Error;
use super::pages::{List, Pages};
use super::push::Sender;
use super::render;
use crate::terminal::Terminal;

/// Time between two looks at a notification that is watched.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The final states, as the API counts them.
const FINAL_STATES: [&str; 9] = [
    "accepted",
    "unregistered",
    "rejected",
    "expired",
    "exhausted",
    "cancelled",
    "dead",
    "no_device",
    "unknown",
];

/// In which order they are printed: where it stands, then what became of it.
const ORDER: [&str; 19] = [
    "id",
    "state",
    "lane",
    "created_at",
    "expires_at",
    "finished_at",
    "entries",
    "recipients",
    "paging",
    "waiting",
    "accepted",
    "unregistered",
    "rejected",
    "expired",
    "exhausted",
    "cancelled",
    "dead",
    "no_device",
    "unknown",
];

/// `clarion push status`
#[derive(Args, Debug)]
pub(super) struct Status {
    /// The id that the sending command printed (the API's message_id)
    notification_id: Uuid,
    /// Wait until it is finished
    #[arg(long)]
    watch: bool,
}

/// `clarion push failures`
#[derive(Args, Debug)]
pub(super) struct Failures {
    /// The id that the sending command printed (the API's message_id)
    notification_id: Uuid,
    #[command(flatten)]
    pages: Pages,
}

impl Status {
    pub(super) async fn run(self, sender: &Sender, terminal: &mut Terminal) -> Result<(), Error> {
        let id = self.notification_id.to_string();
        let path = ["tenants", sender.tenant.as_str(), "notifications", &id];
        let bar = progress_bar();
        let answer = loop {
            let answer = sender.client.call(Call::get(&path)).await?;
            if !self.watch || answer["state"] == "finished" {
                break answer;
            }
            let (done, known) = progress(&answer);
            bar.set_length(known.max(done));
            bar.set_position(done);
            tokio::time::sleep(WATCH_INTERVAL).await;
        };
        bar.finish_and_clear();
        if sender.json {
            return Ok(terminal.line(render::json(&answer))?);
        }
        for line in render::facts(&answer, &ORDER) {
            terminal.line(line)?;
        }
        Ok(())
    }
}

/// Draws only where standard error is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Recipients with a final state, and recipients known so far (entries until they are resolved).
fn progress(answer: &Value) -> (u64, u64) {
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    let done = FINAL_STATES.iter().map(|state| count(state)).sum();
    (done, count("recipients").max(count("entries")))
}

impl Failures {
    pub(super) async fn run(self, sender: &Sender, terminal: &mut Terminal) -> Result<(), Error> {
        let id = self.notification_id.to_string();
        let path = [
            "tenants",
            sender.tenant.as_str(),
            "notifications",
            &id,
            "failures",
        ];
        let list = List {
            path: &path,
            filters: Vec::new(),
            rows: "failures",
            columns: &[
                ("ENTRY", "/entry"),
                ("USER", "/user_id"),
                ("PLATFORM", "/platform"),
                ("STATE", "/state"),
                ("REASON", "/reason"),
                ("DEVICE TOKEN", "/token"),
            ],
        };
        self.pages
            .print(&list, &sender.client, sender.json, terminal)
            .await
    }
}
