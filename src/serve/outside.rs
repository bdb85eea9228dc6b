//! What an engine does for those outside on a queue that processes share: it takes what backends publish, and writes down what the
//! broker gave up on.
//! It must not know how anything is taken.

use std::sync::Arc;

use clarion_engine::broker::rabbitmq::RabbitBroker;
use clarion_engine::delivery::drain::Drain;
use clarion_engine::delivery::taker::Taker;
use clarion_engine::intake::Trust;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The tasks; they end with [`Outside::stop`].
pub(super) struct Outside {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Outside {
    /// Starts them.
    ///
    /// # Errors
    /// When somebody else in this process does the same.
    pub(super) fn start(
        broker: &Arc<RabbitBroker>,
        trust: Option<Trust>,
        taker: impl FnOnce(Trust) -> Taker,
        drain: Drain,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(drain.run(stopped.clone()));
        if let Some(trust) = trust {
            tasks.spawn(taker(trust).run(broker.published()?, stopped));
        }
        Ok(Self { stop, tasks })
    }

    /// Takes no more, and lets what is under way end.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "taking what backends publish failed");
            }
        }
    }
}
