//! Looks at how SQLite would run the statements that matter: by whole keys, never by walking a table.
//! It must not know what the statements are for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use super::{
    MIGRATIONS, analytics, commit, devices, messages, outbox, pages, purge, rates, records,
    selections, tags, waiting,
};
use crate::datadir::{Rows, migrate};

async fn plan(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(3)).collect()
}

/// Whether a step of a plan walks more than it was asked for.
fn is_wasteful(step: &str) -> bool {
    let walks_a_table = step
        .strip_prefix("SCAN ")
        .is_some_and(|what| !["v", "n"].contains(&what) && !what.ends_with("CONSTANT ROWS"))
        && !step.starts_with("SCAN (subquery");
    // A key that stops at the tenant walks all that the tenant has.
    walks_a_table || step.ends_with("(tenant=?)") || step.contains("AUTOMATIC")
}

#[tokio::test]
async fn no_statement_walks_a_table() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    migrate(&mut connection, MIGRATIONS).await.unwrap();
    let rows: Vec<&Rows> = [
        analytics::STATEMENTS,
        commit::STATEMENTS,
        devices::STATEMENTS,
        outbox::STATEMENTS,
        pages::STATEMENTS,
        rates::STATEMENTS,
        records::STATEMENTS,
        tags::STATEMENTS,
        waiting::STATEMENTS,
    ]
    .concat();
    let mut statements: Vec<String> = rows.iter().map(|rows| rows.sql(8)).collect();
    let parts = purge::PARTS.iter();
    statements.extend(parts.map(|(table, key)| purge::delete_parts(table, key)));
    statements.push(purge::DELETE_FORGOTTEN.to_owned());
    statements.extend(purge::BY_TIME.iter().map(|(sql, _)| (*sql).to_owned()));
    statements.push(outbox::FREE.to_owned());
    statements.extend(purge::PURGE_ALL.map(str::to_owned));
    let of_messages = [
        messages::SELECT_PAGE,
        messages::SELECT_RECEIPTS,
        messages::SELECT_RECEIPTS_OF_DEVICE,
        messages::COUNT_RECEIPTS,
        messages::MESSAGES_BY_DAY,
        messages::RECEIPTS_BY_DAY,
    ];
    statements.extend(of_messages.map(str::to_owned));
    statements.extend(pages::STALE.map(str::to_owned));
    statements.extend(selections::statements());
    statements.extend(tags::statements());
    for sql in statements {
        for step in plan(&mut connection, &sql).await {
            assert!(!is_wasteful(&step), "{step}\n{sql}");
        }
    }
}
