//! What only the embedded queue must keep: a synchronised file, its lock, kill -9.
//! It must not know how leases are kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::broker::{Broker, Error, QueueName};
use clarion_engine::datadir::{DataDir, LockError};
use sqlx::Connection;

use crate::place::{Directory, body, message, next, publish, queue, queue_file};

/// Set for the child of the kill test: the data directory to publish into until it is killed.
const CHILD: &str = "CLARION_TEST_PUBLISH_INTO";
/// The test that is the child.
const CHILD_TEST: &str = "embedded::child_that_publishes_until_it_is_killed";
/// Confirmed messages after which the child is killed.
const CONFIRMED: usize = 300;

#[tokio::test]
async fn the_file_is_synchronised_fully_and_logged_ahead() {
    let place = Directory::new();
    let broker = place.open().await;
    assert_eq!(broker.synchronous(), 2);
    broker.close().await;
    let url = format!("sqlite://{}", place.file().display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut file)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let place = Directory::new();
    place.open().await.close().await;
    let url = format!("sqlite://{}", place.file().display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&mut file)
        .await
        .unwrap();
    file.close().await.unwrap();
    let error = place.try_open().await.unwrap_err();
    assert!(
        matches!(error, Error::NewerSchema { found: 99, .. }),
        "{error}"
    );
}

async fn reopen(dir: &std::path::Path) -> Result<EmbeddedBroker, Error> {
    let file = queue_file(dir);
    let data_dir = Arc::new(DataDir::lock(dir).unwrap());
    EmbeddedBroker::open(&file, data_dir).await
}

/// Not a test of its own: does nothing unless the kill test below runs it in a process of its own.
#[tokio::test]
async fn child_that_publishes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let broker = Arc::new(reopen(&dir).await.unwrap());
    let publishers = (0..4).map(|publisher| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for n in 0.. {
                let name = format!("confirmed-{publisher}-{n}");
                publish(&*broker, &queue("acme"), &[&name]).await;
                // One write, so that a line is whole or absent.
                std::io::Write::write_all(&mut std::io::stdout(), format!("\n{name}\n").as_bytes())
                    .unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_confirmed_survives_kill_9_and_the_lock_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD_TEST, "--nocapture"])
        .env(CHILD, &data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut confirmed: Vec<String> = Vec::new();
    let is_name = |line: &String| line.starts_with("confirmed-");
    confirmed.extend(
        lines
            .by_ref()
            .map(Result::unwrap)
            .filter(is_name)
            .take(CONFIRMED),
    );
    // While it lives, the directory is its own.
    assert!(matches!(
        DataDir::lock(&data),
        Err(LockError::Locked { .. })
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    confirmed.extend(lines.map_while(Result::ok).filter(is_name));
    assert!(confirmed.len() >= CONFIRMED);
    let broker = reopen(&data).await.unwrap();
    let depth = broker.depths().await.unwrap()[0].1;
    let mut subscription = broker.subscribe(u32::MAX).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..depth {
        let lease = next(&mut subscription).await;
        assert!(lease.redelivered);
        found.push(body(&lease));
        broker.ack(vec![lease]).await.unwrap();
    }
    for name in &confirmed {
        assert!(found.contains(name), "{name} was confirmed and is lost");
    }
}

#[tokio::test]
async fn queues_take_turns() {
    const QUEUES: usize = 400;
    let broker = Directory::new().open().await;
    let names: Vec<QueueName> = (0..QUEUES).map(|n| queue(&format!("t{n}"))).collect();
    let all: Vec<_> = (0..3)
        .flat_map(|n| names.iter().map(move |name| message(name, &n.to_string())))
        .collect();
    broker.publish(all).await.unwrap();
    let mut subscription = broker.subscribe(1).await.unwrap();
    let mut seen: BTreeMap<QueueName, usize> = BTreeMap::new();
    for _ in 0..QUEUES {
        let lease = next(&mut subscription).await;
        *seen.entry(lease.queue.clone()).or_default() += 1;
        broker.ack(vec![lease]).await.unwrap();
    }
    assert_eq!(seen.len(), QUEUES, "each queue once before any twice");
}
