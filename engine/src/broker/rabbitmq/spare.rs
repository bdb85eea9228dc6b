//! A channel that is opened when it is needed, and again after it was lost. It must not know what is called on it.

use std::sync::Arc;

use lapin::Channel;
use tokio::sync::Mutex;

use super::link::{Link, LinkError};

/// One channel of a connection, for one call at a time. What goes wrong on it costs nothing but itself.
pub(super) struct SpareChannel {
    pub(super) link: Arc<Link>,
    slot: Mutex<Option<Channel>>,
}

impl SpareChannel {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            slot: Mutex::new(None),
        }
    }

    /// Makes a call on the channel. A new one is prepared first; after any error, and when the call is given up, the next
    /// call opens another.
    pub(super) async fn call<T, P, C>(
        &self,
        prepare: impl FnOnce(Channel) -> P,
        call: impl FnOnce(Channel) -> C,
    ) -> Result<T, LinkError>
    where
        P: Future<Output = Result<(), LinkError>>,
        C: Future<Output = Result<T, LinkError>>,
    {
        let mut slot = self.slot.lock().await;
        let channel = match slot.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => {
                let channel = self.link.channel().await?;
                prepare(channel.clone()).await?;
                channel
            }
        };
        let answered = call(channel.clone()).await?;
        slot.replace(channel);
        Ok(answered)
    }
}
