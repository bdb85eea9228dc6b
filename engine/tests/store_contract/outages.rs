//! What holds for the PostgreSQL store alone: outages of its server, and servers that it refuses. It must not know the
//! clauses of the contract.

use std::sync::Arc;
use std::time::Duration;

use clarion_auth::TenantId;
use clarion_engine::model::{FinalState, Notification};
use clarion_engine::store::postgres::{OpenOptions, PostgresStore};
use clarion_engine::store::{
    CommitAnswer, Control, Error, Notifications, Records, Settlement, Store,
};
use clarion_services::postgres::{Postgres, shared};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use crate::place::{
    ME, NOW, PROCESS, all_accepted, create, first_job, notification, pages, registration, tenant,
};

/// A call that fails comes back within its patience and the wait for a session, with room for a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// Calls until a server that is back is noticed.
const CALLS_MAX: u32 = 50;

fn options(url: &str) -> OpenOptions {
    OpenOptions {
        patience: Duration::from_secs(2),
        ..OpenOptions::new(url.to_owned(), PROCESS)
    }
}

async fn open(server: &Postgres) -> Arc<dyn Store> {
    let url = server.database();
    Arc::new(PostgresStore::open(options(&url)).await.unwrap())
}

#[track_caller]
fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
}

/// Every kind of call, each in its time.
async fn nothing_works(store: &dyn Store) {
    let acme = tenant("acme").id;
    let job = first_job(&notification(&acme, 9), 0, 2);
    let begun = Instant::now();
    is_unavailable(&store.tenant(&acme).await);
    is_unavailable(&store.commit(ME, &[all_accepted(&job)], NOW).await);
    is_unavailable(
        &store
            .register(&acme, &[registration("ada", "aa")], NOW)
            .await,
    );
    is_unavailable(&store.control(0).await);
    assert!(!store.is_ready().await);
    let took = begun.elapsed();
    assert!(took < 5 * Duration::from_secs(3) + SLACK, "{took:?}");
}

/// Asks until the server that is back is noticed.
async fn works_again(store: &dyn Store) {
    let acme = tenant("acme").id;
    for _ in 0..CALLS_MAX {
        if store.tenant(&acme).await.is_ok() && store.is_ready().await {
            return;
        }
    }
    panic!("the store does not come back");
}

#[tokio::test]
async fn a_server_that_stops_and_starts_again_is_used_again() {
    let server = Postgres::start();
    let store = open(&server).await;
    let acme = create(&*store, "acme").await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    for stop in [Postgres::stop_immediate, Postgres::kill9] {
        stop(&server);
        nothing_works(&*store).await;
        server.start_again();
        works_again(&*store).await;
        // What was committed is there, and is known as this writer's own.
        let again = store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
        assert_eq!(again, [CommitAnswer::Taken]);
        let status = store.notification_status(&acme, job.notification.id).await;
        assert_eq!(status.unwrap().unwrap().counts.total(), 4);
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_unavailable_in_time_and_then_works() {
    let server = Postgres::start();
    let store = open(&server).await;
    create(&*store, "acme").await;
    server.stall();
    nothing_works(&*store).await;
    server.resume();
    works_again(&*store).await;
}

#[tokio::test]
async fn what_a_killed_server_answered_for_is_there_and_the_rest_can_be_said_again() {
    let server = Postgres::start();
    let store = open(&server).await;
    let acme = create(&*store, "acme").await;
    let bulk = notification(&acme, 1);
    let settlements: Vec<_> = (0..400)
        .map(|page| all_accepted(&first_job(&bulk, page, 2)))
        .collect();
    store
        .create_notification(&bulk, &pages(400, 2))
        .await
        .unwrap();
    let committing = Arc::clone(&store);
    let group = settlements.clone();
    let (told, mut heard) = tokio::sync::watch::channel(0_u32);
    let committed = tokio::spawn(async move {
        let mut committed = 0;
        for settled in group.chunks(4) {
            match committing.commit(ME, settled, NOW).await {
                Ok(answers) => assert_eq!(answers, [CommitAnswer::Taken; 4]),
                Err(error) => return (committed, Some(error)),
            }
            committed += 8;
            told.send_replace(committed);
        }
        (committed, None)
    });
    heard.wait_for(|committed| *committed > 40).await.unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        server.kill9();
        server.start_again();
        server
    });
    let _server = restarted.await.unwrap();
    let (answered, error) = committed.await.unwrap();
    assert!(
        matches!(error, None | Some(Error::Unavailable(_))),
        "{error:?}"
    );
    works_again(&*store).await;
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    let there = status.counts.get(FinalState::Accepted);
    assert!(there >= u64::from(answered), "{there} of {answered}");
    assert!(there <= u64::from(answered) + 8, "{there} of {answered}");
    for settled in settlements.chunks(4) {
        let answers = store.commit(ME, settled, NOW).await.unwrap();
        assert_eq!(answers, [CommitAnswer::Taken; 4]);
    }
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.total(), 800);
}

#[tokio::test]
async fn a_server_that_does_not_write_durably_is_refused() {
    let careless = Postgres::start_with(&["fsync=off"]);
    let refused = PostgresStore::open(options(&careless.database())).await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("fsync is off"), "{error}");
    let database = shared().database();
    let name: String = database.sql("SELECT current_database()");
    database.sql(&format!(
        "ALTER DATABASE {name} SET synchronous_commit = off"
    ));
    let refused = PostgresStore::open(options(database.url())).await;
    let error = refused.unwrap_err();
    assert!(
        error.to_string().contains("synchronous_commit is off"),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = shared().database();
    let store = PostgresStore::open(options(database.url())).await.unwrap();
    store.close().await;
    database.sql("UPDATE clarion_schema SET version = 99");
    let error = PostgresStore::open(options(database.url()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NewerSchema { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn of_many_that_open_a_fresh_database_one_brings_it_up_to_date() {
    let database = shared().database();
    let opened = (0..6).map(|n| {
        let options = OpenOptions::new(database.url().to_owned(), Uuid::from_u128(n));
        tokio::spawn(PostgresStore::open(options))
    });
    for opened in opened.collect::<Vec<_>>() {
        assert!(opened.await.unwrap().unwrap().is_ready().await);
    }
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres/migrations");
    let known = std::fs::read_dir(migrations).unwrap().count();
    let version = database.sql("SELECT version FROM clarion_schema");
    assert_eq!(version, known.to_string());
}

#[tokio::test]
async fn a_database_that_only_reads_is_not_ready_and_takes_nothing() {
    let database = shared().database();
    let store = PostgresStore::open(options(database.url())).await.unwrap();
    let acme = create(&store, "acme").await;
    store.close().await;
    let name = database.sql("SELECT current_database()");
    database.sql(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    let store: Arc<dyn Store> =
        Arc::new(PostgresStore::open(options(database.url())).await.unwrap());
    assert!(!store.is_ready().await);
    assert!(store.tenant(&acme).await.unwrap().is_some());
    let job = first_job(&notification(&acme, 1), 0, 2);
    is_unavailable(&store.commit(ME, &[all_accepted(&job)], NOW).await);
}

#[test]
fn the_password_in_the_url_is_not_shown() {
    let options = OpenOptions::new("postgres://ada:s3cret@db/clarion".into(), PROCESS);
    assert!(!format!("{options:?}").contains("s3cret"));
}

/// Two notifications that a commit writes to at once, and the commit.
async fn pair(store: &dyn Store) -> (TenantId, [Notification; 2], Vec<Settlement>) {
    let acme = create(store, "acme").await;
    let bulks = [1, 2].map(|number| notification(&acme, number));
    for bulk in &bulks {
        store.create_notification(bulk, &pages(1, 4)).await.unwrap();
    }
    let group = bulks
        .each_ref()
        .map(|bulk| all_accepted(&first_job(bulk, 0, 4)));
    (acme, bulks, group.to_vec())
}

async fn lock(connection: &mut PgConnection, bulk: &Notification) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1 FROM notifications WHERE id = $1::text::uuid FOR UPDATE")
        .bind(bulk.id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_row_that_somebody_keeps_locked_is_waited_for_in_bounds() {
    let database = shared().database();
    let store = PostgresStore::open(options(database.url())).await.unwrap();
    let (acme, bulks, group) = pair(&store).await;
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    lock(&mut other, &bulks[1]).await.unwrap();
    let begun = Instant::now();
    is_unavailable(&store.commit(ME, &group, NOW).await);
    assert!(begun.elapsed() < Duration::from_secs(3) + SLACK);
    // Nothing of the group was written, and who came first is not hindered.
    let status = store.notification_status(&acme, bulks[0].id).await;
    assert_eq!(status.unwrap().unwrap().counts.total(), 0);
    other.close().await.unwrap();
    let answers = store.commit(ME, &group, NOW).await.unwrap();
    assert_eq!(answers, [CommitAnswer::Taken; 2]);
}

#[tokio::test]
async fn a_transaction_that_the_database_ends_for_a_deadlock_is_run_again() {
    let server = Postgres::start();
    let url = server.database();
    let store = PostgresStore::open(options(&url)).await.unwrap();
    let (acme, bulks, group) = pair(&store).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SET LOCAL deadlock_timeout = '1h'")
        .execute(&mut other)
        .await
        .unwrap();
    let (first, second) = (bulks[0].id.min(bulks[1].id), bulks[0].id.max(bulks[1].id));
    let of = |id| bulks.iter().find(|bulk| bulk.id == id).unwrap();
    // The commit locks the first and waits for the second; then it is found out, because the other never looks.
    lock(&mut other, of(second)).await.unwrap();
    let locking = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let mut watch = PgConnection::connect(&url).await.unwrap();
        while sqlx::query_scalar::<_, i64>(waits)
            .fetch_one(&mut watch)
            .await
            .unwrap()
            == 0
        {}
        lock(&mut other, of(first)).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    };
    let (answers, ()) = tokio::join!(store.commit(ME, &group, NOW), locking);
    assert_eq!(answers.unwrap(), [CommitAnswer::Taken; 2]);
    for bulk in &bulks {
        let status = store.notification_status(&acme, bulk.id).await;
        assert_eq!(status.unwrap().unwrap().counts.total(), 4);
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_leaves_nothing_half_done() {
    let database = shared().database();
    let few = OpenOptions {
        connections: 2,
        ..options(database.url())
    };
    let store = PostgresStore::open(few).await.unwrap();
    let acme = create(&store, "acme").await;
    let bulk = notification(&acme, 1);
    store
        .create_notification(&bulk, &pages(60, 2))
        .await
        .unwrap();
    for page in 0..60 {
        let settled = [all_accepted(&first_job(&bulk, page, 2))];
        let patience = Duration::from_micros(u64::from(page) * 100);
        let dropped = tokio::time::timeout(patience, store.commit(ME, &settled, NOW)).await;
        assert!(matches!(dropped, Err(_) | Ok(Ok(_))), "{dropped:?}");
    }
    for page in 0..60 {
        let settled = [all_accepted(&first_job(&bulk, page, 2))];
        let answers = store.commit(ME, &settled, NOW).await.unwrap();
        assert_eq!(answers, [CommitAnswer::Taken]);
    }
    let status = store
        .notification_status(&acme, bulk.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.total(), 120);
}
