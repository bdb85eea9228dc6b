//! Looks at how PostgreSQL would run the statements that matter: by whole keys, never by walking a table.
//! It must not know what the statements are for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::session::{connect_once, prepare};
use super::{OpenOptions, PATIENCE_DEFAULT, PostgresStore};
use super::{
    analytics, commit, dead, devices, installations, messages, outbox, pages, purge, rates,
    records, selections, stale, tags, waiting,
};

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
    let prepared = sqlx::raw_sql(prepare).execute(&mut *connection).await;
    prepared.unwrap_or_else(|error| panic!("{error}: {sql}"));
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
    let Some(condition) = step.strip_prefix("Index Cond: ") else {
        return walks.iter().any(|word| step.starts_with(word));
    };
    // A key that stops at the tenant walks all that the tenant has. Without the tenant, only what is old or one's
    // own is looked for.
    let apart = [
        "_at < ",
        "(at < ",
        "(day < ",
        "since < ",
        "holder = ",
        "(id = ",
    ];
    if condition.contains("tenant") {
        condition.contains("tenant = ") && !condition.contains(" AND ")
    } else {
        !apart.iter().any(|word| condition.contains(word))
    }
}

/// Whether an index is read from its beginning to its end.
fn has_whole_index(steps: &[String]) -> bool {
    let conditions = steps.iter().skip(1).map(String::as_str).chain([""]);
    steps
        .iter()
        .zip(conditions)
        .any(|(step, next)| step.contains(" using ") && !next.contains("Index Cond: "))
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
        analytics::STATEMENTS,
        commit::STATEMENTS,
        dead::STATEMENTS,
        devices::STATEMENTS,
        installations::STATEMENTS,
        messages::STATEMENTS,
        outbox::STATEMENTS,
        pages::STATEMENTS,
        rates::STATEMENTS,
        records::STATEMENTS,
        selections::STATEMENTS,
        stale::STATEMENTS,
        tags::STATEMENTS,
        waiting::STATEMENTS,
    ]
    .concat();
    let mut statements: Vec<String> = statements.into_iter().map(str::to_owned).collect();
    statements.extend(purge::statements());
    let mut found = Vec::new();
    for sql in statements {
        let steps = plan(&mut connection, &sql).await;
        if steps.iter().any(|step| is_wasteful(step)) || has_whole_index(&steps) {
            found.push(format!("{sql}\n{}", steps.join("\n")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
