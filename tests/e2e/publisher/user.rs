//! A user of the broker, and what a deployment has on it.
//! It must not know what a user may do.

use clarion_services::rabbitmq::Rabbit;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};

use super::{EVENTS, JOBS, PUBLISH};

/// A user's connection.
pub(super) struct User(Connection);

impl User {
    pub(super) async fn of(rabbit: &Rabbit, name: &str, password: &str) -> Self {
        let url = format!("amqp://{name}:{password}@127.0.0.1:{}/%2f", rabbit.port());
        let named = ConnectionProperties::default();
        Self(Connection::connect(&url, named).await.unwrap())
    }

    /// One of its own each time: a refusal closes it.
    async fn channel(&self) -> Channel {
        let channel = self.0.create_channel().await.unwrap();
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        channel
    }

    pub(super) async fn publish(&self, exchange: &str, key: &str) -> lapin::Result<Confirmation> {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let channel = self.channel().await;
        let written =
            channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties);
        written.await?.await
    }

    pub(super) async fn declare(&self, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
        let (channel, options) = (self.channel().await, QueueDeclareOptions::durable());
        let declared = channel.queue_declare(queue.into(), options, arguments);
        declared.await.map(drop)
    }

    pub(super) async fn declare_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
    ) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.channel().await;
        let none = FieldTable::default();
        channel
            .exchange_declare(name.into(), kind, options, none)
            .await
    }

    pub(super) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let channel = self.channel().await;
        let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none);
        bound.await
    }

    pub(super) async fn unbind(&self, queue: &str, key: &str) -> lapin::Result<()> {
        let none = FieldTable::default();
        let channel = self.channel().await;
        let unbound = channel.queue_unbind(queue.into(), PUBLISH.into(), key.into(), none);
        unbound.await
    }

    pub(super) async fn bind_exchange(&self, destination: &str, source: &str) -> lapin::Result<()> {
        let (options, none) = (ExchangeBindOptions::default(), FieldTable::default());
        let channel = self.channel().await;
        let bound = channel.exchange_bind(
            destination.into(),
            source.into(),
            "acme".into(),
            options,
            none,
        );
        bound.await
    }

    pub(super) async fn get(&self, queue: &str) -> lapin::Result<Option<Vec<u8>>> {
        let channel = self.channel().await;
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
        Ok(got.await?.map(|message| message.delivery.data))
    }
}

/// The deployment's exchanges and a queue of another tenant, made by its own user.
pub(super) async fn deployment(rabbit: &Rabbit) -> User {
    let (name, password) = rabbit.administrator();
    let own = User::of(rabbit, name, password).await;
    for exchange in [PUBLISH, EVENTS] {
        own.declare_exchange(exchange, ExchangeKind::Topic)
            .await
            .unwrap();
    }
    own.declare("requests", FieldTable::default())
        .await
        .unwrap();
    own.bind("requests", PUBLISH, "#").await.unwrap();
    own.declare(JOBS, FieldTable::default()).await.unwrap();
    own
}
