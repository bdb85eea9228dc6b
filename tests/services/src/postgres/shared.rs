//! One server for all tests of a process, a fresh database for each. It must not know how a server is run.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::Postgres;
use super::programs::{fresh_name, programs, sql};

/// Names a server to be used in place of a private one: an URL of a role that may create databases.
pub const URL_VARIABLE: &str = "CLARION_TEST_POSTGRES_URL";

/// The server that all tests of one process share.
#[derive(Debug)]
pub struct Shared {
    admin: String,
    programs: PathBuf,
    /// Not a private server: what tests make there is removed again.
    is_foreign: bool,
}

/// A fresh database of a shared server.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    of: &'static Shared,
}

/// The server that [`URL_VARIABLE`] names, or else one private server for the whole test process.
///
/// # Panics
/// As [`Postgres::start`].
pub fn shared() -> &'static Shared {
    // A process has one environment and one set of tests; the guard ends the server with it.
    static SHARED: OnceLock<(Shared, Option<Postgres>)> = OnceLock::new();
    let (shared, _server) = SHARED.get_or_init(|| match std::env::var(URL_VARIABLE) {
        Ok(admin) => {
            let programs = programs();
            let is_foreign = true;
            (
                Shared {
                    admin,
                    programs,
                    is_foreign,
                },
                None,
            )
        }
        Err(_) => {
            let server = Postgres::start();
            let (admin, programs) = (server.url("postgres"), server.programs.clone());
            let is_foreign = false;
            (
                Shared {
                    admin,
                    programs,
                    is_foreign,
                },
                Some(server),
            )
        }
    });
    shared
}

impl Shared {
    /// A fresh database.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&'static self) -> Database {
        let name = fresh_name();
        sql(
            &self.programs,
            &self.admin,
            &format!("CREATE DATABASE {name}"),
        );
        Database {
            url: with_database(&self.admin, &name),
            name,
            of: self,
        }
    }
}

impl Database {
    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement in it and returns what it says, a line a row.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, statement: &str) -> String {
        sql(&self.of.programs, &self.url, statement)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A private server goes with all its databases.
        if self.of.is_foreign {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            sql(&self.of.programs, &self.of.admin, &drop);
        }
    }
}

/// The same server's URL for another database.
fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url
        .split_once('?')
        .map_or((url, None), |(a, q)| (a, Some(q)));
    let from = address.find("://").map_or(0, |at| at + 3);
    let host = address[from..]
        .find('/')
        .map_or(address, |at| &address[..from + at]);
    query.map_or_else(
        || format!("{host}/{database}"),
        |query| format!("{host}/{database}?{query}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_an_url_is_exchanged() {
        let cases = [
            ("postgres://a@h:5/postgres", "postgres://a@h:5/x"),
            ("postgres://a:b@h", "postgres://a:b@h/x"),
            (
                "postgres://a@h/p?sslmode=require",
                "postgres://a@h/x?sslmode=require",
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(with_database(given, "x"), expected);
        }
    }
}
