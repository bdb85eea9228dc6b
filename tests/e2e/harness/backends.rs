//! What the server under test keeps its things in: files of its own, or a private PostgreSQL and RabbitMQ, where
//! `CLARION_TEST_BACKENDS` is `servers`. It must not know which test asks.

use std::collections::BTreeMap;
use std::io::Write;
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

/// Whether a test that can only mean the embedded store and queue has nothing to show here: says so where everybody sees it,
/// because a test that ends early looks like one that passed.
pub(crate) fn only_on_files(why: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if are_servers() {
        // Not by `eprintln!`, which is kept back for tests that pass.
        let line = format!("{test} runs on files only: {why}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    are_servers()
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

/// Everything that a server keeps in a database, as text: what is binary as hexadecimal digits. `None` where it keeps files.
pub(super) fn dump(config: &Path) -> Option<String> {
    let url = store_url(config)?;
    let dump = "SET xmlbinary = hex;
        SELECT query_to_xml(format('SELECT * FROM %I', table_name), false, true, '')
        FROM information_schema.tables WHERE table_schema = 'public'";
    Some(postgres().sql(database_of(&url), dump))
}

fn store_url(config: &Path) -> Option<String> {
    let table: Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let url = table.get("store").and_then(|store| store.get("url"));
    url.and_then(toml::Value::as_str).map(str::to_owned)
}

/// Rows by table of everything that a stopped server keeps.
pub(super) fn rows(config: &Path, data_dir: &Path) -> BTreeMap<String, u64> {
    let Some(url) = store_url(config) else {
        return rows_below(data_dir);
    };
    let database = database_of(&url);
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
