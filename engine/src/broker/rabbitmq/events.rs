//! Outcome events on a channel of their own: what goes wrong with them does not touch the jobs.
//! It must not know what an event says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use tokio::time::timeout;

use super::declare::exchange_options;
use super::link::{Link, LinkError, answer};
use super::names::Names;
use super::spare::SpareChannel;
use crate::broker::Event;
use crate::model::Millis;

/// Events handed over together are confirmed within this time; far less than their lease.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// The delivery mode that has a message written to disk.
const PERSISTENT: u8 = 2;

/// The events exchange over one connection.
pub(super) struct Outlet {
    channel: SpareChannel,
    names: Arc<Names>,
    is_passive: bool,
}

impl Outlet {
    pub(super) fn new(link: Arc<Link>, names: Arc<Names>, is_passive: bool) -> Self {
        Self {
            channel: SpareChannel::new(link),
            names,
            is_passive,
        }
    }

    /// Publishes all and says of each whether it was confirmed.
    pub(super) async fn publish(
        &self,
        events: Vec<Event>,
        now: Millis,
    ) -> Result<Vec<bool>, LinkError> {
        let published = timeout(CONFIRM_WITHIN, self.publish_on_channel(events, now));
        published
            .await
            .map_err(|_| LinkError::Silent(CONFIRM_WITHIN))?
    }

    async fn publish_on_channel(
        &self,
        events: Vec<Event>,
        now: Millis,
    ) -> Result<Vec<bool>, LinkError> {
        let prepare = |channel: Channel| async move {
            declare(&channel, &self.names, self.is_passive).await?;
            answer(channel.confirm_select(ConfirmSelectOptions::default())).await
        };
        let publish = |channel: Channel| async move {
            let mut written = Vec::with_capacity(events.len());
            for event in &events {
                written.push(self.write(&channel, event, now).await?);
            }
            let confirmations = try_join_all(written).await?;
            let is_ack = |confirmation| matches!(confirmation, Confirmation::Ack(_));
            Ok(confirmations.into_iter().map(is_ack).collect())
        };
        self.channel.call(prepare, publish).await
    }

    /// Writes one event; the confirm follows. Not mandatory: an event that no queue is bound for is nobody's loss.
    async fn write(
        &self,
        channel: &Channel,
        event: &Event,
        now: Millis,
    ) -> Result<impl Future<Output = lapin::Result<Confirmation>>, LinkError> {
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_message_id(event.id.as_str().into())
            // AMQP has whole seconds.
            .with_timestamp(u64::try_from(now / 1_000).unwrap_or_default());
        let (exchange, key) = (self.names.events.as_str(), event.tenant.as_str());
        let options = BasicPublishOptions::default();
        let written = channel.basic_publish(
            exchange.into(),
            key.into(),
            options,
            &event.body,
            properties,
        );
        Ok(written.await?)
    }
}

/// Declares the exchange, or checks that it is there.
pub(super) async fn declare(
    channel: &Channel,
    names: &Names,
    is_passive: bool,
) -> Result<(), LinkError> {
    let (name, none) = (names.events.as_str(), FieldTable::default());
    let options = exchange_options(is_passive);
    answer(channel.exchange_declare(name.into(), ExchangeKind::Topic, options, none)).await
}
