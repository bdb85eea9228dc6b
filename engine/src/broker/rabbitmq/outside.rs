//! Publishing requests from outside, as a backend does: one connection, one request at a time, and the broker's word on each.
//! It must not know what is in a request.

use std::fmt;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};

use super::link::{Connector, Link, LinkError, answer};
use super::options::RabbitOptions;
use super::{failed, now};
use crate::broker::{Error, QueueName};
use crate::contract::API_KEY_HEADER;

/// The delivery mode that has a message written to disk.
const PERSISTENT: u8 = 2;

/// What the broker made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on durable storage.
    Confirmed,
    /// No queue is bound for its routing key: nobody has it.
    Returned,
    /// Its queue is full or failed: nobody has it, and later it may be taken.
    Refused,
}

/// A request on its way out.
#[derive(Clone, Copy)]
pub struct OutsideRequest<'a> {
    /// Whose it is and how urgent: the routing key.
    pub queue: &'a QueueName,
    /// The publisher's own id of it.
    pub message_id: &'a str,
    /// The request, JSON.
    pub body: &'a [u8],
    /// Where the deployment asks for one.
    pub api_key: Option<&'a str>,
}

impl fmt::Debug for OutsideRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutsideRequest")
            .field("queue", &self.queue)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// A backend's connection.
pub struct RequestPublisher {
    link: Link,
    channel: Channel,
    exchange: String,
}

impl fmt::Debug for RequestPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPublisher")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl RequestPublisher {
    /// Connects with the user in the URL; declares nothing.
    ///
    /// # Errors
    /// [`Error::Connection`] with the reason.
    pub async fn connect(options: &RabbitOptions) -> Result<Self, Error> {
        let opened = async {
            let link = Connector::new(options).await?.connect("requests").await?;
            let channel = link.channel().await?;
            answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
            Ok::<_, LinkError>((link, channel))
        };
        let (link, channel) = opened.await.map_err(failed)?;
        Ok(Self {
            link,
            channel,
            exchange: format!("{}.publish", options.prefix),
        })
    }

    /// Publishes one request: mandatory, persistent, confirmed.
    ///
    /// # Errors
    /// [`Error::Connection`]: whether it was taken, nobody knows, unless the broker refused the user. The connection is of no
    /// more use.
    pub async fn publish(&self, request: OutsideRequest<'_>) -> Result<Verdict, Error> {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(request.message_id.into())
            .with_timestamp(u64::try_from(now() / 1_000).unwrap_or_default());
        if let Some(api_key) = request.api_key {
            let mut headers = FieldTable::default();
            headers.insert(API_KEY_HEADER.into(), AMQPValue::LongString(api_key.into()));
            properties = properties.with_headers(headers);
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let QueueName { tenant, lane } = request.queue;
        let key = format!("{tenant}.{}", lane.as_str());
        let confirmed = answer(async {
            let exchange = self.exchange.as_str().into();
            let written =
                self.channel
                    .basic_publish(exchange, key.into(), options, request.body, properties);
            written.await?.await
        });
        match confirmed.await.map_err(failed)? {
            Confirmation::Ack(None) => Ok(Verdict::Confirmed),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(Verdict::Returned),
            Confirmation::Nack(None) | Confirmation::NotRequested => Ok(Verdict::Refused),
        }
    }

    /// Ends the connection in an orderly way.
    pub async fn close(self) {
        self.link.close().await;
    }
}
