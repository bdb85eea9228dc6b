//! The campaign: bulks and single notifications at once, watched until every one has finished.
//! It must not know what the providers are told to do.

use std::time::Duration;

use anyhow::Context as _;
use clarion_engine::model::FinalState;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::DemoCommand;
use super::stage::Stage;
use crate::command::client::Call;
use crate::terminal::Terminal;

/// How often the status of the campaign is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Without any progress for this long the demo gives up.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Single notifications are spread over this time.
const SINGLES_OVER: Duration = Duration::from_secs(5);

/// What became of the campaign.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    /// Ids of the bulks.
    pub(super) bulks: Vec<String>,
    /// Ids of the single notifications, with the index of their device.
    pub(super) singles: Vec<(String, usize)>,
    /// Final counts by state, over all notifications.
    pub(super) counts: std::collections::BTreeMap<String, u64>,
    /// Entries accepted.
    pub(super) entries: u64,
    /// From the first request to the last final state.
    pub(super) took: Duration,
}

impl Campaign {
    pub(super) async fn run(
        command: &DemoCommand,
        stage: &Stage,
        terminal: &mut Terminal,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        terminal.note(format!(
            "sending {} bulks to {} users each, and {} single notifications",
            command.bulks,
            stage.devices.len(),
            command.singles
        ))?;
        let mut campaign = Self::default();
        let (bulks, singles) =
            tokio::try_join!(send_bulks(command, stage), send_singles(command, stage))?;
        campaign.bulks = bulks;
        campaign.singles = singles;
        campaign.watch(stage).await?;
        campaign.took = began.elapsed();
        Ok(campaign)
    }

    /// Asks for the status of everything until all of it has finished.
    async fn watch(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let total = (self.bulks.len() * stage.devices.len() + self.singles.len()) as u64;
        let bar = progress_bar(total);
        let mut open: Vec<String> = self.bulks.clone();
        open.extend(self.singles.iter().map(|(id, _)| id.clone()));
        let (mut finished, mut last, mut moved) = (0, 0, Instant::now());
        while !open.is_empty() {
            let mut running = 0;
            let mut still = Vec::new();
            for id in open {
                let status = status(stage, &id).await?;
                let ended = ended(&status);
                if status["state"] == "finished" {
                    finished += ended;
                    self.add(&status);
                } else {
                    running += ended;
                    still.push(id);
                }
            }
            open = still;
            bar.set_position(finished + running);
            if finished + running != last {
                (last, moved) = (finished + running, Instant::now());
            }
            anyhow::ensure!(
                moved.elapsed() < STALL_MAX,
                "no progress for {} s: {} notifications are still open (seed {})",
                STALL_MAX.as_secs(),
                open.len(),
                stage.seed
            );
            if !open.is_empty() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn add(&mut self, status: &Value) {
        self.entries += status["entries"].as_u64().unwrap_or_default();
        for (state, count) in counts(status) {
            *self.counts.entry(state.to_owned()).or_default() += count;
        }
    }
}

/// The final states of a notification with their counts.
fn counts(status: &Value) -> impl Iterator<Item = (&'static str, u64)> {
    FinalState::ALL
        .into_iter()
        .map(FinalState::as_str)
        .filter_map(|state| Some((state, status[state].as_u64().filter(|count| *count > 0)?)))
}

/// Recipients and entries with a final state.
fn ended(status: &Value) -> u64 {
    counts(status).map(|(_, count)| count).sum()
}

async fn status(stage: &Stage, id: &str) -> anyhow::Result<Value> {
    Ok(stage
        .producer
        .call(Call::get(&["tenants", &stage.tenant, "notifications", id]))
        .await?)
}

async fn send_bulks(command: &DemoCommand, stage: &Stage) -> anyhow::Result<Vec<String>> {
    let users: Vec<&str> = stage
        .devices
        .iter()
        .map(|device| device.user_id.as_str())
        .collect();
    let mut ids = Vec::new();
    for number in 0..command.bulks {
        let body = json!({
            "user_ids": users,
            "alert": {"title": format!("Campaign {number}"), "body": "Everything half price until Sunday."},
            "data": {"campaign": number},
        });
        let answer = stage
            .producer
            .call(Call::post(
                &["tenants", &stage.tenant, "notify", "bulk"],
                &body,
            ))
            .await?;
        anyhow::ensure!(
            answer["failed"] == 0,
            "a bulk was not accepted as a whole: {answer}"
        );
        ids.push(
            answer["results"][0]["message_id"]
                .as_str()
                .context("message_id")?
                .to_owned(),
        );
    }
    Ok(ids)
}

async fn send_singles(
    command: &DemoCommand,
    stage: &Stage,
) -> anyhow::Result<Vec<(String, usize)>> {
    let alive: Vec<usize> = (0..stage.devices.len())
        .filter(|index| !stage.devices[*index].is_dead)
        .collect();
    let mut ids = Vec::new();
    let mut pace =
        tokio::time::interval(SINGLES_OVER / u32::try_from(command.singles.max(1)).unwrap_or(1));
    for number in 0..command.singles {
        pace.tick().await;
        let index = alive[usize::try_from(number).unwrap_or_default() * 7919 % alive.len()];
        let body = json!({
            "user_id": stage.devices[index].user_id,
            "alert": {"title": "Your code", "body": format!("{number:06}")},
        });
        let answer = stage
            .producer
            .call(Call::post(&["tenants", &stage.tenant, "notify"], &body))
            .await?;
        anyhow::ensure!(
            answer["success"] == true,
            "a notification was not accepted: {answer}"
        );
        ids.push((
            answer["message_id"]
                .as_str()
                .context("message_id")?
                .to_owned(),
            index,
        ));
    }
    Ok(ids)
}

/// On stderr, and only when it is a terminal.
fn progress_bar(total: u64) -> ProgressBar {
    let style = "{bar:40} {pos}/{len} recipients  {per_sec}  {eta} left";
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
