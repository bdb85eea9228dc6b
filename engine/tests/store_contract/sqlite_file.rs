//! What holds for the SQLite store alone: how its file is written. It must not know the clauses of the contract.

use std::sync::Arc;

use clarion_engine::datadir::DataDir;
use clarion_engine::store::{Control, Error};
use sqlx::Connection;

use crate::place::{PROCESS, open_sqlite, sqlite_file};

#[tokio::test]
async fn the_file_is_synchronised_fully_and_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::lock(dir.path()).unwrap());
    let store = open_sqlite(&data_dir, PROCESS).await.unwrap();
    assert_eq!(store.synchronous().await.unwrap(), 2);
    store.close().await;
    let url = format!("sqlite://{}", sqlite_file(&data_dir).display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut file)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&mut file)
        .await
        .unwrap();
    file.close().await.unwrap();
    let error = open_sqlite(&data_dir, PROCESS).await.unwrap_err();
    assert!(
        matches!(error, Error::NewerSchema { found: 99, .. }),
        "{error}"
    );
}
