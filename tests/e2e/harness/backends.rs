//! What the server under test keeps its things in: files of its own, or a private PostgreSQL and RabbitMQ, where
//! `CLARION_TEST_BACKENDS` is `servers`. It must not know which test asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use clarion_auth::MasterKey;
use clarion_auth::token::SigningKey;
use clarion_services::postgres::Postgres;
use clarion_services::rabbitmq;
use toml::Table;

use super::rows::rows_below;

/// Chooses the backends of the whole suite.
const VARIABLE: &str = "CLARION_TEST_BACKENDS";

/// Whether servers are beneath the suite.
pub(crate) fn are_servers() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Ok("servers") => true,
        Ok("files" | "") | Err(_) => false,
        Ok(other) => panic!("{VARIABLE} is {other:?}: give files or servers"),
    }
}

/// The database server of this test binary, started by the first who asks.
pub(crate) fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

/// Sections of a configuration that name a fresh database, and queues and keys that nobody else has.
pub(super) fn servers() -> Table {
    servers_on(rabbitmq::shared().url())
}

/// The same on a broker of the test's own.
pub(crate) fn servers_on(queue: &str) -> Table {
    servers_of(postgres(), queue)
}

/// The same on a database server of the test's own, too.
pub(crate) fn servers_of(postgres: &Postgres, queue: &str) -> Table {
    let database = postgres.database();
    let prefix = database_of(&database).to_owned();
    let text = format!(
        "[store]\nurl = {database:?}\n[queue]\nurl = {queue:?}\nprefix = {prefix:?}\n\
         [auth]\nmaster_key = {master:?}\nsigning_key = '''\n{signing}'''\n",
        master = MasterKey::generate().unwrap().reveal_base64().as_str(),
        signing = SigningKey::generate().unwrap().reveal_pem().as_str(),
    );
    text.parse().unwrap()
}

/// The name of the database that a URL means.
pub(crate) fn database_of(url: &str) -> &str {
    let address = url.split('?').next().unwrap();
    address.rsplit('/').next().unwrap()
}

/// Rows by table of everything that a stopped server keeps.
pub(super) fn rows(config: &Path, data_dir: &Path) -> BTreeMap<String, u64> {
    let table: Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let url = table.get("store").and_then(|store| store.get("url"));
    let Some(url) = url.and_then(toml::Value::as_str) else {
        return rows_below(data_dir);
    };
    let database = database_of(url);
    let count = "SELECT table_name, (xpath('/row/n/text()', query_to_xml(
        format('SELECT count(*) AS n FROM %I', table_name), false, true, '')))[1]::text
        FROM information_schema.tables WHERE table_schema = 'public'";
    let rows: BTreeMap<String, u64> = postgres()
        .sql(database, count)
        .lines()
        .map(|line| {
            let (table, rows) = line.split_once('|').unwrap();
            (table.to_owned(), rows.parse().unwrap())
        })
        .collect();
    assert!(!rows.is_empty(), "no tables in {database}");
    rows
}
