//! Where a queue under test lies, and the values that its clauses need.
//! It must not know the clauses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use clarion_engine::broker::{Broker, Delivery, Error, Lease, Publish, QueueName, Subscription};
use clarion_engine::datadir::DataDir;
use clarion_engine::model::Lane;

/// Longer than anything takes; a test that waits as long fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where the queue of a test lies.
pub(crate) enum Place {
    Embedded(Directory),
    RabbitMq(Box<RabbitOptions>),
}

/// A data directory of a test.
pub(crate) struct Directory {
    _dir: tempfile::TempDir,
    data_dir: Arc<DataDir>,
}

impl Directory {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::lock(&dir.path().join("data")).unwrap());
        Self {
            _dir: dir,
            data_dir,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        queue_file(self.data_dir.path())
    }

    pub(crate) async fn open(&self) -> EmbeddedBroker {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<EmbeddedBroker, Error> {
        EmbeddedBroker::open(&self.file(), Arc::clone(&self.data_dir)).await
    }
}

impl Place {
    pub(crate) fn embedded() -> Self {
        Self::Embedded(Directory::new())
    }

    pub(crate) fn rabbitmq() -> Self {
        Self::RabbitMq(Box::new(options(
            clarion_services::rabbitmq::shared().url(),
        )))
    }

    pub(crate) async fn open(&self) -> Arc<dyn Broker> {
        match self {
            Self::Embedded(directory) => Arc::new(directory.open().await),
            Self::RabbitMq(options) => Arc::new(connect(options).await),
        }
    }

    /// What remains when the process that had the queue is killed.
    pub(crate) async fn open_after_crash(
        &self,
        before: (Arc<dyn Broker>, Subscription),
    ) -> Arc<dyn Broker> {
        match self {
            // Opened beside the first, which never closes.
            Self::Embedded(_) => std::mem::forget(before),
            // Its connections are cut.
            Self::RabbitMq(_) => drop(before),
        }
        let broker = self.open().await;
        broker.watch_queues(&[queue("acme")]);
        broker
    }
}

/// Options of a test: its exchanges and queues are nobody else's.
pub(crate) fn options(url: &str) -> RabbitOptions {
    RabbitOptions {
        prefix: format!("test-{}", uuid::Uuid::new_v4().simple()),
        ..RabbitOptions::new(url, "test")
    }
}

pub(crate) async fn connect(options: &RabbitOptions) -> RabbitBroker {
    RabbitBroker::connect(options.clone()).await.unwrap()
}

pub(crate) fn queue_file(data_dir: &Path) -> PathBuf {
    data_dir.join("queue.db")
}

pub(crate) fn queue(tenant: &str) -> QueueName {
    QueueName {
        tenant: tenant.parse().unwrap(),
        lane: Lane::Bulk,
    }
}

pub(crate) fn message(queue: &QueueName, body: &str) -> Publish {
    Publish {
        queue: queue.clone(),
        body: body.as_bytes().to_vec().into(),
    }
}

/// Publishes these bodies, in order.
pub(crate) async fn publish(broker: &dyn Broker, queue: &QueueName, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| message(queue, body)).collect();
    broker.publish(messages).await.unwrap();
}

/// The next hand-out; waits for it.
pub(crate) async fn next(subscription: &mut Subscription) -> Lease {
    let delivery = tokio::time::timeout(PATIENCE, subscription.deliveries.recv())
        .await
        .expect("a message should have been handed out");
    match delivery {
        Some(Delivery::Leased(lease)) => lease,
        other => panic!("not a lease: {other:?}"),
    }
}

/// That the depths become these.
pub(crate) async fn depths_become(broker: &dyn Broker, expected: &[(QueueName, u64)]) {
    until("the depths are as expected", async || {
        let mut depths = broker.depths().await.unwrap();
        depths.sort();
        depths == expected
    })
    .await;
}

/// Looks again and again at something that tells nobody when it changes.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let looking = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            looks.tick().await;
        }
    });
    assert!(looking.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

pub(crate) fn body(lease: &Lease) -> String {
    String::from_utf8(lease.body.to_vec()).unwrap()
}

/// Takes and acks the next `count` messages and returns their bodies.
pub(crate) async fn drain(
    broker: &dyn Broker,
    subscription: &mut Subscription,
    count: usize,
) -> Vec<String> {
    let mut bodies = Vec::with_capacity(count);
    for _ in 0..count {
        let lease = next(subscription).await;
        bodies.push(body(&lease));
        assert_eq!(broker.ack(vec![lease]).await.unwrap(), [true]);
    }
    bodies
}

/// That nothing is handed out: whatever was going on is over once a message of another queue came through
/// behind it.
pub(crate) async fn nothing_more(broker: &dyn Broker, subscription: &mut Subscription) {
    let probe = queue("the-probe");
    for _ in 0..2 {
        publish(broker, &probe, &["probe"]).await;
        let lease = next(subscription).await;
        assert_eq!(lease.queue, probe, "{} was handed out", body(&lease));
        broker.ack(vec![lease]).await.unwrap();
    }
}
