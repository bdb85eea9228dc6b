//! Where a queue under test lies, and the values that its clauses need.
//! It must not know the clauses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clarion_engine::broker::embedded::EmbeddedBroker;
use clarion_engine::broker::{Broker, Delivery, Error, Lease, Publish, QueueName, Subscription};
use clarion_engine::datadir::DataDir;
use clarion_engine::model::Lane;

/// Longer than anything takes; a test that waits as long fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A data directory of a test.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    data_dir: Arc<DataDir>,
}

impl Place {
    pub(crate) fn embedded() -> Self {
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

    pub(crate) async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.open_embedded().await)
    }

    pub(crate) async fn open_embedded(&self) -> EmbeddedBroker {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<EmbeddedBroker, Error> {
        EmbeddedBroker::open(&self.file(), Arc::clone(&self.data_dir)).await
    }
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
