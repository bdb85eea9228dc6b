//! A backend that publishes straight to the queue, byte by byte as a test wants it.
//! It must not know what becomes of a message.

use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};

use super::cluster::Cluster;
use crate::harness::{PATIENCE, until};

/// Fewer returns than the broker takes before it gives a message up.
const GIVEN_BACK_MIN: usize = 20;

/// A connection with publisher confirms.
pub(crate) struct Publisher {
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Publisher {
    /// Connects, once an engine has made the exchange.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let url = cluster.rabbit.url("/");
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let exchange = cluster.exchange();
        until("the exchange", PATIENCE, || async {
            // A refusal closes the channel.
            let channel = connection.create_channel().await.unwrap();
            let options = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let (name, none) = (exchange.as_str().into(), FieldTable::default());
            let found = channel.exchange_declare(name, ExchangeKind::Topic, options, none);
            found.await.ok()
        })
        .await;
        let channel = connection.create_channel().await.unwrap();
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await.unwrap();
        Self {
            _connection: connection,
            channel,
            exchange,
        }
    }

    /// Takes the one message of a queue and gives it back, until the broker gives it up.
    pub(crate) async fn give_up(&self, queue: &str) {
        let mut given_back = 0;
        until("the broker to give a message up", PATIENCE, || {
            let got = self
                .channel
                .basic_get(queue.into(), BasicGetOptions::default());
            let seen = given_back;
            given_back += 1;
            async move {
                let Some(message) = got.await.unwrap() else {
                    return (seen >= GIVEN_BACK_MIN).then_some(());
                };
                let requeue = BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                };
                message.delivery.acker.nack(requeue).await.unwrap();
                None
            }
        })
        .await;
    }

    /// Publishes; the broker takes it whatever it is.
    pub(crate) async fn publish(&self, routing_key: &str, body: &[u8], api_key: Option<&str>) {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(api_key) = api_key {
            let mut headers = FieldTable::default();
            headers.insert("x-api-key".into(), AMQPValue::LongString(api_key.into()));
            properties = properties.with_headers(headers);
        }
        let exchange = self.exchange.as_str().into();
        let published =
            self.channel
                .basic_publish(exchange, routing_key.into(), mandatory, body, properties);
        let confirmed = published.await.unwrap().await.unwrap();
        assert!(
            matches!(confirmed, Confirmation::Ack(None)),
            "{routing_key}"
        );
    }
}
