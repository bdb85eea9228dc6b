//! A backend that hears of its tenant: a queue of its own, bound to the events exchange, and what came into it.
//! It must not know what is sent, or why events come twice.

use std::collections::BTreeMap;

use boon::{Compiler, SchemaIndex, Schemas};
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::Value;

use super::cluster::Cluster;

/// Where the schema of an event is in the committed document.
const SCHEMA: &str = "mem:///asyncapi#/components/schemas/OutcomeEvent";

pub(crate) struct Backend {
    url: String,
    queue: String,
    tenant: String,
    schemas: Schemas,
    schema: SchemaIndex,
    /// Events by their id; a copy must be the same.
    pub(crate) events: BTreeMap<String, Value>,
    /// Copies of events that were heard before.
    pub(crate) copies: u64,
}

impl Backend {
    /// Binds a durable queue for a tenant.
    pub(crate) async fn bind(cluster: &Cluster, tenant: &str) -> Self {
        let document: Value =
            serde_json::from_str(include_str!("../../../docs/asyncapi.json")).unwrap();
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("mem:///asyncapi", document).unwrap();
        let schema = compiler.compile(SCHEMA, &mut schemas).unwrap();
        let backend = Self {
            url: cluster.rabbit.url("/"),
            queue: format!("{tenant}.events.backend"),
            tenant: tenant.to_owned(),
            schemas,
            schema,
            events: BTreeMap::new(),
            copies: 0,
        };
        let (connection, channel) = backend.connect().await;
        let (name, none) = (backend.queue.as_str(), FieldTable::default);
        let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), none());
        declared.await.unwrap();
        let exchange = format!("{}.events", cluster.prefix());
        let bind = QueueBindOptions::default();
        let bound = channel.queue_bind(name.into(), exchange.into(), tenant.into(), bind, none());
        bound.await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
        backend
    }

    async fn connect(&self) -> (Connection, Channel) {
        let named = ConnectionProperties::default().with_connection_name("backend".into());
        let connection = Connection::connect(&self.url, named).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Takes all that lies in its queue.
    pub(crate) async fn hear(&mut self) {
        let (connection, channel) = self.connect().await;
        let get =
            || channel.basic_get(self.queue.as_str().into(), BasicGetOptions { no_ack: true });
        let mut heard = Vec::new();
        while let Some(message) = get().await.unwrap() {
            heard.push(message.delivery);
        }
        for delivery in heard {
            assert_eq!(delivery.routing_key.as_str(), self.tenant);
            let event: Value = serde_json::from_slice(&delivery.data).unwrap();
            if let Err(error) = self.schemas.validate(&event, self.schema) {
                panic!("{error}: {event}");
            }
            assert_eq!(event["tenant"], self.tenant.as_str());
            let id = event["id"].as_str().unwrap().to_owned();
            let said = delivery.properties.message_id().as_ref().unwrap();
            assert_eq!(said.as_str(), id);
            match self.events.get(&id) {
                None => drop(self.events.insert(id, event)),
                Some(before) => {
                    assert_eq!(*before, event);
                    self.copies += 1;
                }
            }
        }
        connection.close(200, "done".into()).await.unwrap();
    }

    /// How everybody of a notification ended whom it has heard of, by their places in the request. Nobody may be told of in
    /// two events.
    pub(crate) fn told(&self, notification: &str) -> BTreeMap<u64, Value> {
        let mut told = BTreeMap::new();
        let events = self.events.values();
        let mine = events.filter(|event| event["notification_id"] == notification);
        for recipient in mine.flat_map(|event| event["recipients"].as_array().unwrap()) {
            let ordinal = recipient["ordinal"].as_u64().unwrap();
            let before = told.insert(ordinal, recipient.clone());
            assert_eq!(before, None, "told twice: {recipient}");
        }
        told
    }
}
