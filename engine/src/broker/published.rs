//! A message that a backend published straight to the queue, in the hands of whoever takes it.
//! It must not know what is in it, nor by which library it came.

use std::fmt;

use bytes::Bytes;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// A published message in hand. It stays with the broker until [`Published::done`]; dropped before, it is handed out again
/// after a pause, here or elsewhere.
pub struct Published {
    /// Its routing key, as it came.
    pub routing_key: String,
    /// Its body.
    pub body: Bytes,
    /// The value of its `x-api-key` header, where it has one. Never to be kept or shown.
    pub api_key: Option<Zeroizing<String>>,
    /// The broker says that it was handed out before. Only a hint.
    pub redelivered: bool,
    /// Told when it is taken, with whom to tell of the ack; closed from the other side when the broker has the message back.
    pub(super) taken: oneshot::Sender<oneshot::Sender<()>>,
}

impl Published {
    /// What became of it is durable: it is removed from the broker. If that fails it comes again.
    pub async fn done(self) {
        let (acked, is_acked) = oneshot::channel();
        if self.taken.send(acked).is_err() || is_acked.await.is_err() {
            tracing::debug!("a published message went back to the broker while it was taken");
        }
    }

    /// Waits until it is somebody else's to take: its connection is gone.
    pub async fn lost(&mut self) {
        self.taken.closed().await;
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("routing_key", &self.routing_key)
            .field("bytes", &self.body.len())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
