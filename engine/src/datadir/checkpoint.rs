//! Copies a file's write-ahead log back on a connection of its own, so that no commit waits for it.
//! It must not know the tables.

use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Pages in the log that are not in the file after which they are copied.
const DUE_PAGES: i64 = 1_000;
/// Copies in a row. The log starts anew only when all of it is copied; what was written during the first copy is
/// little, and copied by the next.
const ROUNDS_MAX: usize = 4;

/// Counts without copying (SQLite 3.51): busy, pages in the log, pages of it that are copied.
const COUNT: &str = "PRAGMA wal_checkpoint(NOOP)";
/// Copies as far as no reader and no writer is disturbed, and counts.
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The task that copies. Dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Checkpoints {
    /// Begins with `connection`, which does nothing else.
    pub(super) fn start(connection: SqliteConnection, name: &'static str) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(connection, name, stopped));
        Self { stop, task }
    }

    /// Ends; the file is not touched from here any more.
    pub(crate) async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that copies the log back broke; nothing is lost");
        }
    }
}

async fn run(
    mut connection: SqliteConnection,
    name: &'static str,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut pace = interval(LOOK_INTERVAL);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = pace.tick() => {}
        }
        // Not cancelled half-way: a statement that runs is awaited.
        match copy_if_due(&mut connection).await {
            Ok(()) => failing = false,
            // The writing connection copies too, later: then commits wait for it, and that is all.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, file = name, "the log could not be copied back");
            }
            Err(_) => {}
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, file = name, "a connection did not close cleanly; nothing is lost");
    }
}

async fn copy_if_due(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut left = pages_left(connection, COUNT).await?;
    if left < DUE_PAGES {
        return Ok(());
    }
    for _ in 0..ROUNDS_MAX {
        left = pages_left(connection, COPY).await?;
        if left == 0 {
            break;
        }
    }
    tracing::trace!(left, "log copied back");
    Ok(())
}

async fn pages_left(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<i64, sqlx::Error> {
    let (_busy, log, copied): (i64, i64, i64) =
        sqlx::query_as(statement).fetch_one(connection).await?;
    Ok((log - copied).max(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::datadir::SqliteFile;

    #[tokio::test]
    async fn the_log_is_copied_back_while_the_writer_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let file = SqliteFile::new(&home.path().join("a.db"), "a");
        let mut writer = file.writer().await.unwrap();
        let run = async |writer: &mut SqliteConnection, sql: &'static str| {
            sqlx::raw_sql(sql).execute(writer).await.unwrap();
        };
        run(&mut writer, "CREATE TABLE t (x BLOB) STRICT").await;
        // 1,000 pages of 4 KiB and more, too few for the writer's own copying.
        let insert =
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
            INSERT INTO t SELECT zeroblob(5000) FROM n";
        run(&mut writer, insert).await;
        assert!(pages_left(&mut writer, COUNT).await.unwrap() >= DUE_PAGES);
        let checkpoints = file.checkpoints().await.unwrap();
        let copied = async {
            while pages_left(&mut writer, COUNT).await.unwrap() > 0 {
                run(&mut writer, "UPDATE t SET x = x WHERE rowid = 1").await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), copied)
            .await
            .unwrap();
        checkpoints.close().await;
    }
}
