//! Times all pure stages in turn, round by round, so that what disturbs the machine disturbs all of them.
//! It must not know what the stages do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::conditions::Conditions;
use crate::stage::Stage;
use crate::table::{Spread, markdown};

/// Runs in a batch, at most: a stage cannot be so short that this takes no time.
const RUNS_MAX: u64 = 1 << 30;

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds through all stages, at least one.
    pub rounds: u32,
    /// CPU time of each stage in each round.
    pub slice: Duration,
}

/// A stage's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The stage.
    pub stage: String,
    /// What is counted.
    pub per: &'static str,
    /// Runs in a round.
    pub runs: u64,
    /// Nanoseconds of CPU each, over the rounds.
    pub ns: Spread,
}

/// All figures of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Under which conditions.
    pub conditions: Conditions,
    /// Rounds through all stages.
    pub rounds: u32,
    /// Stage by stage.
    pub rows: Vec<Row>,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let row = |row: &Row| vec![row.stage.clone(), row.ns.text(1), row.per.to_owned()];
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let head = ["stage", "CPU ns, median [min-max]", "per"];
        let (conditions, rounds) = (self.conditions.line(), self.rounds);
        format!(
            "{conditions}; {rounds} rounds, interleaved\n\n{}",
            markdown(&head, &rows)
        )
    }
}

/// Times the stages.
///
/// # Errors
/// When there is no round.
pub fn measure(mut stages: Vec<Stage>, options: Options) -> Result<Report> {
    let conditions = Conditions::now();
    let runs: Vec<u64> = stages
        .iter_mut()
        .map(|stage| calibrate(stage, options.slice))
        .collect();
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); stages.len()];
    for _ in 0..options.rounds {
        for ((stage, runs), figures) in stages.iter_mut().zip(&runs).zip(&mut rounds) {
            figures.push(each(stage.time(*runs), *runs, stage.per.items));
        }
    }
    let mut rows = Vec::with_capacity(stages.len());
    for ((stage, runs), figures) in stages.into_iter().zip(runs).zip(rounds) {
        rows.push(Row {
            stage: stage.name,
            per: stage.per.unit,
            runs,
            ns: Spread::of(figures).context("give at least one round")?,
        });
    }
    let rounds = options.rounds;
    Ok(Report {
        conditions,
        rounds,
        rows,
    })
}

/// Runs that take about so long; warms up on the way.
fn calibrate(stage: &mut Stage, slice: Duration) -> u64 {
    let mut runs = 1;
    while runs < RUNS_MAX && stage.time(runs) < slice {
        runs *= 2;
    }
    runs
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of minutes and counts below 2^53"
)]
fn each(time: Duration, runs: u64, items: u32) -> f64 {
    time.as_nanos() as f64 / runs as f64 / f64::from(items)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::stage::Per;

    fn stages() -> Vec<Stage> {
        let sum = |many: u64| move || (0..many).map(std::hint::black_box).sum::<u64>();
        let short = Stage::new("a: short", Per::one("sum"), sum(100));
        vec![short, Stage::new("a: long", Per::one("sum"), sum(10_000))]
    }

    #[test]
    fn a_stage_of_more_work_shows_more_time() {
        let slice = Duration::from_millis(1);
        let report = measure(stages(), Options { rounds: 3, slice }).unwrap();
        let (short, long) = (&report.rows[0], &report.rows[1]);
        assert!(long.ns.min > short.ns.min * 10.0, "{report:?}");
        assert!(long.runs < short.runs);
        assert!(report.table().contains("a: long"));
        let options = Options { rounds: 0, slice };
        assert!(measure(stages(), options).is_err());
    }

    #[test]
    fn time_is_shared_among_runs_and_items() {
        let figure = each(Duration::from_micros(10), 5, 4);
        assert!((figure - 500.0).abs() < 1e-9);
    }
}
