//! Messages that came in and are not handed out yet. It must not know credit or leases.

use std::collections::VecDeque;

use bytes::Bytes;
use lapin::Acker;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use super::names::{ReadyQueue, TENANT_HEADER};
use crate::model::{Millis, TenantId};

/// A message as it came in.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) tenant: TenantId,
    pub(super) body: Bytes,
    pub(super) redelivered: bool,
    pub(super) published_at: Option<Millis>,
    /// The consumer that brought it.
    pub(super) consumer: u64,
    /// No other of its queue was in hand when it came.
    pub(super) is_first: bool,
    pub(super) acker: Acker,
}

/// The messages of one queue, in the order in which they came. The prefetch of its consumers bounds it.
#[derive(Debug, Default)]
pub(super) struct Inbox(VecDeque<Arrived>);

impl Inbox {
    pub(super) fn push(&mut self, message: Arrived) {
        self.0.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Arrived> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order in which they go back: what came a second time is older than what did not.
    pub(super) fn take_all(&mut self) -> Vec<Arrived> {
        let mut all = Vec::from(std::mem::take(&mut self.0));
        all.sort_by_key(|message| !message.redelivered);
        all
    }
}

/// Reads a delivery; gives back its acker when it does not say whose it is.
pub(super) fn read(
    delivery: Delivery,
    queue: &ReadyQueue,
    consumer: u64,
) -> Result<Arrived, Acker> {
    let Some(tenant) = queue.tenant.clone().or_else(|| tenant_of(&delivery)) else {
        tracing::error!(
            queue = &*queue.name,
            "a message names no tenant; it goes to the dead letters"
        );
        return Err(delivery.acker);
    };
    Ok(Arrived {
        tenant,
        published_at: time_of(&delivery),
        body: Bytes::from(delivery.data),
        redelivered: delivery.redelivered,
        consumer,
        is_first: false,
        acker: delivery.acker,
    })
}

/// When it was published. AMQP has whole seconds.
pub(super) fn time_of(delivery: &Delivery) -> Option<Millis> {
    let seconds = *delivery.properties.timestamp().as_ref()?;
    i64::try_from(seconds).ok()?.checked_mul(1_000)
}

/// Whose it is, as its publisher says.
pub(super) fn tenant_of(delivery: &Delivery) -> Option<TenantId> {
    let headers = delivery.properties.headers().as_ref()?;
    let AMQPValue::LongString(tenant) = headers.inner().get(TENANT_HEADER)? else {
        return None;
    };
    std::str::from_utf8(tenant.as_bytes()).ok()?.parse().ok()
}
