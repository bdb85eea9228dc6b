//! What all connections of one simulator share: options, credentials, rules, the log, counters and the
//! clock. Knows nothing of protocols.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};

use crate::Error;
use crate::log::Journal;
use crate::options::Options;
use crate::receipt::Receipt;
use crate::registry::Registry;
use crate::rules::{Goaway, RuleSet, Rules};
use crate::stats::{Counters, Stats};

/// Commands a slow connection may fall behind before it loses some.
const COMMANDS_MAX: usize = 64;

/// Something that happens to every open connection at once.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Close it without a word.
    Cut,
    /// Keep it open and neither read from it nor write to it any more, as a peer behind a dead link.
    Freeze,
    /// End it with GOAWAY; everything received so far is still processed, and answered unless `close` is set.
    Goaway(Goaway),
    /// Announce another SETTINGS_MAX_CONCURRENT_STREAMS.
    StreamLimit(u32),
}

#[derive(Debug)]
pub(crate) struct World {
    options: Options,
    token_url: String,
    registry: Mutex<Registry>,
    credentials_version: AtomicU64,
    rules: Mutex<Arc<RuleSet>>,
    books: Mutex<Books>,
    bodies: Mutex<VecDeque<(String, Vec<u8>)>>,
    changed: watch::Sender<()>,
    commands: broadcast::Sender<Command>,
    clock_offset_ms: AtomicI64,
}

/// Log and counters, behind one lock that a connection takes once per batch.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) journal: Journal,
    pub(crate) counters: Counters,
}

/// A panic while a lock was held leaves plain data behind, which is still good to read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(options: Options, rules: Rules, token_url: String) -> Result<Self, Error> {
        let journal = Journal::open(
            options.log_path.as_deref(),
            options.log_fsync,
            options.receipts_kept,
        )?;
        let books = Books {
            journal,
            counters: Counters::default(),
        };
        Ok(Self {
            rules: Mutex::new(Arc::new(RuleSet::new(rules, wall_us().div_euclid(1_000)))),
            registry: Mutex::new(Registry::default()),
            credentials_version: AtomicU64::new(0),
            books: Mutex::new(books),
            bodies: Mutex::default(),
            changed: watch::Sender::new(()),
            commands: broadcast::Sender::new(COMMANDS_MAX),
            clock_offset_ms: AtomicI64::new(0),
            options,
            token_url,
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Where the token endpoint is: what its clients' assertions are made out to.
    pub(crate) fn token_url(&self) -> &str {
        &self.token_url
    }

    /// The providers' clock, Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1_000)
    }

    /// The same in Unix microseconds.
    pub(crate) fn now_us(&self) -> i64 {
        wall_us() + 1_000 * self.clock_offset_ms.load(Relaxed)
    }

    pub(crate) fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.clock_offset_ms.store(offset_ms, Relaxed);
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Changes with every change of the credentials, so that connections forget what they had verified.
    pub(crate) fn credentials_version(&self) -> u64 {
        self.credentials_version.load(Relaxed)
    }

    /// Changes the credentials.
    pub(crate) fn change_registry<R>(&self, change: impl FnOnce(&mut Registry) -> R) -> R {
        let result = change(&mut self.registry());
        self.credentials_version.fetch_add(1, Relaxed);
        result
    }

    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&lock(&self.rules))
    }

    pub(crate) fn set_rules(&self, rules: Rules) -> Result<(), Error> {
        rules.check()?;
        *lock(&self.rules) = Arc::new(RuleSet::new(rules, self.now_ms()));
        Ok(())
    }

    /// Writes receipts to the log and counts them, then runs `count` on the counters.
    pub(crate) fn book(
        &self,
        receipts: &mut Vec<Receipt>,
        count: impl FnOnce(&mut Stats),
    ) -> io::Result<()> {
        {
            let mut books = lock(&self.books);
            if !receipts.is_empty() {
                books.journal.append(receipts)?;
                for receipt in receipts.iter() {
                    books.counters.count(receipt);
                }
                books.journal.keep(receipts.drain(..));
            }
            count(&mut books.counters.stats);
        }
        self.changed.send_replace(());
        Ok(())
    }

    /// Changes the counters only.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut lock(&self.books).counters.stats);
        self.changed.send_replace(());
    }

    pub(crate) fn stats(&self) -> Stats {
        let rule_hits = self.rules().hits();
        Stats {
            rule_hits,
            ..lock(&self.books).counters.snapshot()
        }
    }

    pub(crate) fn received(&self, after: u64, limit: usize) -> Vec<Receipt> {
        lock(&self.books).journal.after(after, limit)
    }

    /// Keeps what a push said, the oldest giving way.
    pub(crate) fn keep_body(&self, device_token: &str, body: &[u8]) {
        if self.options.bodies_kept == 0 {
            return;
        }
        let mut bodies = lock(&self.bodies);
        if bodies.len() >= self.options.bodies_kept {
            bodies.pop_front();
        }
        bodies.push_back((device_token.to_owned(), body.to_vec()));
    }

    /// What the kept pushes to a device said, oldest first.
    pub(crate) fn bodies(&self, device_token: &str) -> Vec<Vec<u8>> {
        let bodies = lock(&self.bodies);
        let of_device = bodies.iter().filter(|(to, _)| to == device_token);
        of_device.map(|(_, body)| body.clone()).collect()
    }

    pub(crate) fn reset(&self) {
        let mut books = lock(&self.books);
        books.counters.reset();
        books.journal.forget();
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Sends a command to every open connection; returns how many there are.
    pub(crate) fn command(&self, command: Command) -> Result<usize, Error> {
        if let Command::Goaway(goaway) = &command {
            goaway
                .check()
                .map_err(|cause| Error::Rules(cause.to_owned()))?;
        }
        Ok(self.commands.send(command).unwrap_or(0))
    }

    pub(crate) fn commands(&self) -> broadcast::Receiver<Command> {
        self.commands.subscribe()
    }
}

#[expect(clippy::disallowed_methods, reason = "the providers' one clock")]
fn wall_us() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    }
}
