//! Configuration: built-in defaults, a file, the environment and flags, checked as a whole and typed.
//! It must not know what the values are used for.

mod backends;
mod layers;
mod problem;
mod quantity;
mod reader;
mod secret;
mod sections;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use backends::{Events, Queue, QueuePlace, Store, StorePlace};
pub(crate) use layers::{DEFAULTS, Sources};
pub(crate) use problem::ConfigError;
pub(crate) use quantity::{parse_duration, show_duration};
pub(crate) use sections::{
    Apns, Auth, Connections, Engine, Fcm, Ingest, Limits, Log, LogFormat, Metrics, Retention,
    Retry, Server, Simulate, Tls,
};
pub(crate) use show::Shown;

use reader::Reader;

/// The configuration in effect. What a key means, its unit and its range: `config.default.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) engine: Engine,
    pub(crate) connections: Connections,
    pub(crate) apns: Apns,
    pub(crate) fcm: Fcm,
    pub(crate) tls: Tls,
    pub(crate) retry: Retry,
    pub(crate) limits: Limits,
    pub(crate) ingest: Ingest,
    pub(crate) retention: Retention,
    pub(crate) auth: Auth,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) simulate: Simulate,
}

impl Config {
    /// Merges the layers and checks every key.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub(crate) fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::load_shown(sources).map(|(config, _)| config)
    }

    /// Also gives every value with its origin, secrets masked.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub(crate) fn load_shown(sources: &Sources) -> Result<(Self, Vec<Shown>), ConfigError> {
        let (settings, problems) = sources.merge();
        let reader = Reader::new(&settings, problems);
        let config = Self::read(&reader);
        match ConfigError::of(reader.finish()) {
            Some(error) => Err(error),
            None => Ok((config, show::show(&settings))),
        }
    }

    fn read(from: &Reader<'_>) -> Self {
        let data_dir = sections::read_data_dir(from);
        let config = Self {
            server: Server::read(from),
            store: Store::read(from, &data_dir),
            queue: Queue::read(from, &data_dir),
            engine: Engine::read(from),
            connections: Connections::read(from),
            apns: Apns::read(from),
            fcm: Fcm::read(from),
            tls: Tls::read(from, &data_dir),
            retry: Retry::read(from),
            limits: Limits::read(from),
            ingest: Ingest::read(from),
            retention: Retention::read(from),
            auth: Auth::read(from),
            log: Log::read(from),
            metrics: Metrics::read(from),
            simulate: Simulate::read(from, &data_dir),
            data_dir,
        };
        backends::check_together(from, &config.store, &config.queue);
        config.auth.check_shared(from, config.store.is_shared());
        config
    }
}
