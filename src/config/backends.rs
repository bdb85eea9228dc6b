//! `[store]` and `[queue]`: where things are kept, by the scheme of their URLs.
//! It must not know how a backend is opened.

use std::path::{Component, Path, PathBuf};

use clarion_engine::intake::Trust;

use super::reader::{FILE_SUFFIX, Reader, fill};
use super::secret::Secret;

/// What the first part of the names on the broker looks like.
const PREFIX_FORM: &str = "1 to 64 letters, digits, dots, dashes and underscores";

fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// `[store]`
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) place: StorePlace,
    /// Connections of one process to a server.
    pub(crate) connections_max: u32,
}

/// Where devices, notifications and records are kept.
#[derive(Clone, Debug)]
pub(crate) enum StorePlace {
    /// A file in the data directory.
    Sqlite(PathBuf),
    /// A server that processes share.
    Postgres(Secret),
}

impl Store {
    pub(super) fn read(from: &Reader<'_>, data_dir: &Path) -> Self {
        let known = "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE";
        let place = match Url::read(from, "store.url", data_dir) {
            Some(url) if is_one_of(&url.scheme, &["postgres", "postgresql"]) => {
                StorePlace::Postgres(Secret::new(url.text))
            }
            url => StorePlace::Sqlite(file(from, "store.url", url, known, data_dir)),
        };
        Self {
            place,
            connections_max: from.number("store.connections_max", 2..=256),
        }
    }

    /// Whether other processes work on the same store.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.place, StorePlace::Postgres(_))
    }
}

/// Of which recipients backends are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    Off,
    Failures,
    All,
}

/// `[queue]`
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) place: QueuePlace,
    /// First part of the names of all exchanges and queues.
    pub(crate) prefix: String,
    /// Ready-queues are quorum queues, else classic ones.
    pub(crate) is_quorum: bool,
    /// Ready-queues shared by all tenants; 0 gives each tenant its own.
    pub(crate) shards: u16,
    /// Of which recipients backends are told, where the queue is a broker.
    pub(crate) events: Events,
    /// Nothing is declared, only looked for.
    pub(crate) is_passive: bool,
    /// Who vouches for what backends publish straight to the queue; `None` when nobody may.
    pub(crate) publish_trust: Option<Trust>,
    /// Authorities (PEM) that vouch for the broker beside the built-in ones.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where ready jobs wait.
#[derive(Clone, Debug)]
pub(crate) enum QueuePlace {
    /// A file in the data directory.
    Sqlite(PathBuf),
    /// A broker that processes share.
    Amqp(Secret),
}

impl Queue {
    pub(super) fn read(from: &Reader<'_>, data_dir: &Path) -> Self {
        let known = "sqlite://PATH or amqp://USER:PASSWORD@HOST/VHOST (amqps:// with TLS)";
        let place = match Url::read(from, "queue.url", data_dir) {
            Some(url) if is_one_of(&url.scheme, &["amqp", "amqps"]) => {
                QueuePlace::Amqp(Secret::new(url.text))
            }
            url => QueuePlace::Sqlite(file(from, "queue.url", url, known, data_dir)),
        };
        Self {
            place,
            prefix: from.fitting("queue.prefix", PREFIX_FORM, is_prefix),
            is_quorum: from.choice("queue.type", ("quorum", true), &[("classic", false)]),
            shards: from.number("queue.shards", 0..=1_024),
            events: from.choice(
                "queue.events",
                ("failures", Events::Failures),
                &[("all", Events::All), ("off", Events::Off)],
            ),
            is_passive: from.flag("queue.passive"),
            publish_trust: from.choice(
                "queue.publish_trust",
                ("broker", Some(Trust::Broker)),
                &[("api-key", Some(Trust::ApiKey)), ("off", None)],
            ),
            ca_file: from.path("queue.ca_file", data_dir),
        }
    }
}

/// What the two say together.
pub(super) fn check_together(from: &Reader<'_>, store: &Store, queue: &Queue) {
    let keys = ["queue.url", "store.url"];
    match (&store.place, &queue.place) {
        (StorePlace::Sqlite(one), QueuePlace::Sqlite(other)) => {
            let text = "names the same file as {}: give each its own";
            from.contradiction(one == other, keys, text);
        }
        (StorePlace::Postgres(_), QueuePlace::Sqlite(_)) => {
            let text = "is a file of this machine, but {} is shared: give amqp://…";
            from.contradiction(true, keys, text);
        }
        _ => {}
    }
}

/// A URL with its scheme taken off, and whole.
struct Url {
    scheme: String,
    rest: String,
    text: String,
}

impl Url {
    fn read(from: &Reader<'_>, key: &str, data_dir: &Path) -> Option<Self> {
        let text = fill(from.secret(key)?.reveal(), data_dir);
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, rest) = (scheme.to_owned(), rest.to_owned());
        Some(Self { scheme, rest, text })
    }
}

fn is_one_of(scheme: &str, known: &[&str]) -> bool {
    known.contains(&scheme)
}

/// The file that a `sqlite://` URL names.
fn file(from: &Reader<'_>, key: &str, url: Option<Url>, known: &str, data_dir: &Path) -> PathBuf {
    let twin = format!("{key}{FILE_SUFFIX}");
    let path = match url {
        Some(url) if url.scheme == "sqlite" && !url.rest.is_empty() && !url.rest.contains('?') => {
            PathBuf::from(url.rest)
        }
        _ if !from.is_sound(&[key, &twin]) => PathBuf::new(),
        _ => {
            from.complain(
                key,
                format!("{key} is not an address this build knows: give {known}"),
            );
            PathBuf::new()
        }
    };
    if from.is_sound(&[key, &twin, "data_dir"]) && !lies_in(&path, data_dir) {
        let text = "names a file outside data_dir, which alone is locked against a second process";
        from.complain(key, format!("{key} {text}: put it there"));
    }
    path
}

/// Whether a file is in a directory, by their names alone.
fn lies_in(path: &Path, directory: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !climbs && absolute(path).starts_with(absolute(directory))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    const SHARED: &str = "[store]\nurl = \"postgres://u:secret@h/d\"\n\
                          [queue]\nurl = \"amqp://u:secret@h/%2f\"\n";

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sources = Sources {
            file: Some(file),
            environment: environment.iter().map(owned).collect(),
            flags: Vec::new(),
        };
        Config::load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn what_processes_share_needs_keys_that_all_of_them_have() {
        let error = load(SHARED, &[]).unwrap_err();
        assert!(
            error.starts_with("the configuration has 2 problems\n"),
            "{error}"
        );
        for key in ["auth.master_key", "auth.signing_key"] {
            let line = format!("{key} must be given with postgres://, the same for every process");
            assert!(error.contains(&line), "{error}");
        }
        let keys = [
            ("CLARION__AUTH__MASTER_KEY", "k"),
            ("CLARION__AUTH__SIGNING_KEY", "k"),
        ];
        let config = load(SHARED, &keys).unwrap();
        assert!(config.store.is_shared() && matches!(config.queue.place, QueuePlace::Amqp(_)));
        assert!(!format!("{config:?}").contains("secret"));
        let alone = SHARED.split("[queue]").next().unwrap();
        let error = load(alone, &keys).unwrap_err();
        let says = "queue.url is a file of this machine, but store.url is shared";
        assert!(error.contains(says), "{error}");
    }
}
