//! Looks at how PostgreSQL would run the statements that matter: by whole keys, never by walking a table.
//! It must not know what the statements are for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::session::{connect_once, prepare};
use super::{OpenOptions, PATIENCE_DEFAULT, PostgresStore};
use super::{commit, dead, devices, pages, purge, records, stale, waiting};

/// How a prepared statement would be run, whatever its arguments.
async fn plan(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let arguments = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; arguments].join(", ");
    let execute = if nulls.is_empty() {
        "EXECUTE looked_at".to_owned()
    } else {
        format!("EXECUTE looked_at ({nulls})")
    };
    let prepare = AssertSqlSafe(format!("PREPARE looked_at AS {sql}"));
    sqlx::raw_sql(prepare)
        .execute(&mut *connection)
        .await
        .unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {execute}"));
    let rows = sqlx::raw_sql(explain)
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    sqlx::raw_sql("DEALLOCATE looked_at")
        .execute(connection)
        .await
        .unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

/// Whether a step of a plan walks more than it was asked for.
fn is_wasteful(step: &str) -> bool {
    let step = step.trim_start().trim_start_matches("->").trim_start();
    let walks = [
        "Seq Scan on",
        "Hash Join",
        "Merge Join",
        "Hash Semi Join",
        "Materialize",
    ];
    // A key that stops at the tenant walks all that the tenant has.
    let tenant_only = step
        .strip_prefix("Index Cond: (")
        .is_some_and(|cond| !cond.contains(" AND ") && cond.contains("tenant = "));
    walks.iter().any(|word| step.starts_with(word)) || tenant_only
}

#[tokio::test]
async fn no_statement_walks_a_table() {
    let database = clarion_services::postgres::shared().database();
    let options = OpenOptions::new(database.url().to_owned(), Uuid::nil());
    PostgresStore::open(options.clone()).await.unwrap();
    let mut connection = connect_once(&options).await.unwrap();
    prepare(&mut connection, PATIENCE_DEFAULT).await.unwrap();
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan")
        .execute(&mut connection)
        .await
        .unwrap();
    let statements = [
        commit::STATEMENTS,
        dead::STATEMENTS,
        devices::STATEMENTS,
        pages::STATEMENTS,
        records::STATEMENTS,
        stale::STATEMENTS,
        waiting::STATEMENTS,
    ]
    .concat();
    let mut statements: Vec<String> = statements.into_iter().map(str::to_owned).collect();
    statements.extend(purge::statements());
    for sql in statements {
        let steps = plan(&mut connection, &sql).await;
        let wasteful = steps.iter().find(|step| is_wasteful(step));
        assert!(wasteful.is_none(), "{sql}\n{}", steps.join("\n"));
    }
}
