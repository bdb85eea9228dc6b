//! Store and queue, opened as the configuration says.
//! It must not know who works with them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::broker::rabbitmq::{QueueType, RabbitBroker, RabbitOptions};
use clarion_engine::broker::{Broker, EventExchange};
use clarion_engine::datadir::DataDir;
use clarion_engine::store::Store;
use clarion_engine::store::postgres::{self, PostgresStore};
use clarion_engine::store::sqlite::{self, SqliteStore};
use uuid::Uuid;

use super::Role;
use crate::config::{Config, Events, QueuePlace, StorePlace};

/// What a process works on.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Where outcome events go, if they are wanted and the queue has a place for them.
    pub(crate) events: Option<Arc<dyn EventExchange>>,
    /// The same queue, where backends can publish to it.
    pub(crate) shared: Option<Arc<RabbitBroker>>,
}

/// Opens both. The data directory is locked where one of them lies in it.
///
/// # Errors
/// When one cannot be opened, or the role cannot share it; the message says what to do.
pub(crate) async fn open(config: &Config, role: Role, process: Uuid) -> anyhow::Result<Opened> {
    let is_file = matches!(config.store.place, StorePlace::Sqlite(_))
        || matches!(config.queue.place, QueuePlace::Sqlite(_));
    if is_file && role != Role::All {
        bail!(
            "clarion {} shares its work with other processes: give store.url = postgres://… and \
             queue.url = amqp://…, or run clarion serve, which does everything in one process",
            role.as_str()
        );
    }
    let lock = match is_file {
        true => Some(Arc::new(DataDir::lock(&config.data_dir)?)),
        false => None,
    };
    let store = open_store(config, lock.as_ref(), process).await?;
    let (broker, shared) = open_queue(config, lock.as_ref(), role).await?;
    let wanted = shared.as_ref().filter(|_| wants_events(config, role));
    let events = wanted.map(|queue| Arc::clone(queue) as Arc<dyn EventExchange>);
    Ok(Opened {
        store,
        broker,
        events,
        shared,
    })
}

async fn open_store(
    config: &Config,
    lock: Option<&Arc<DataDir>>,
    process: Uuid,
) -> anyhow::Result<Arc<dyn Store>> {
    match (&config.store.place, lock) {
        (StorePlace::Sqlite(path), Some(data_dir)) => {
            make_parent(path)?;
            let options = sqlite::OpenOptions {
                process,
                data_dir: Arc::clone(data_dir),
            };
            let store = SqliteStore::open(path, options).await;
            Ok(Arc::new(store.with_context(|| {
                format!("opening the store {}", path.display())
            })?))
        }
        (StorePlace::Postgres(url), _) => {
            let mut options = postgres::OpenOptions::new(url.reveal().to_owned(), process);
            options.connections = config.store.connections_max;
            let store = PostgresStore::open(options).await;
            Ok(Arc::new(store.context(
                "opening the store: is PostgreSQL running where store.url says?",
            )?))
        }
        (StorePlace::Sqlite(_), None) => bail!("the data directory is not locked"),
    }
}

async fn open_queue(
    config: &Config,
    lock: Option<&Arc<DataDir>>,
    role: Role,
) -> anyhow::Result<(Arc<dyn Broker>, Option<Arc<RabbitBroker>>)> {
    match (&config.queue.place, lock) {
        (QueuePlace::Sqlite(path), Some(data_dir)) => {
            make_parent(path)?;
            let queue = EmbeddedBroker::open(path, Arc::clone(data_dir)).await;
            let queue = queue.with_context(|| format!("opening the queue {}", path.display()))?;
            Ok((Arc::new(queue), None))
        }
        (QueuePlace::Amqp(url), _) => {
            let mut options = RabbitOptions::new(url.reveal(), role.as_str());
            options.ca_file.clone_from(&config.queue.ca_file);
            options.prefix.clone_from(&config.queue.prefix);
            options.queue_type = match config.queue.is_quorum {
                true => QueueType::Quorum,
                false => QueueType::Classic,
            };
            options.shards = std::num::NonZeroU16::new(config.queue.shards);
            options.events = wants_events(config, role);
            options.passive = config.queue.is_passive;
            let queue = RabbitBroker::connect(options).await;
            let queue =
                Arc::new(queue.context(
                    "connecting to the queue: is RabbitMQ running where queue.url says?",
                )?);
            let broker: Arc<dyn Broker> = Arc::clone(&queue) as _;
            Ok((broker, Some(queue)))
        }
        (QueuePlace::Sqlite(_), None) => bail!("the data directory is not locked"),
    }
}

fn wants_events(config: &Config, role: Role) -> bool {
    role.delivers() && config.queue.events != Events::Off
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("making the directory {}", parent.display()))?;
    }
    Ok(())
}
