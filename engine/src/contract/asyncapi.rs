//! The AsyncAPI document of the queue: exchanges, routing keys, headers and messages, with their AMQP bindings.
//! It must not know the broker's library.

use serde_json::{Map, Value, json};

use super::schema::{examples, schemas, text};
use super::{API_KEY_HEADER, EVENTS_EXCHANGE, PUBLISH_EXCHANGE};
use crate::intake::request::VERSION;
use crate::limits::PUBLISH_BYTES_MAX;
use crate::model::Lane;

/// The version of AsyncAPI's AMQP bindings.
const BINDING_VERSION: &str = "0.3.0";

/// The AsyncAPI 3.0 document as JSON text.
#[must_use]
pub fn asyncapi() -> String {
    text(&json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Clarion on RabbitMQ",
            "version": format!("{VERSION}.0.0"),
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The deployment's RabbitMQ.",
            },
        },
        "channels": {
            "publish": publish_channel(),
            "outcomes": outcomes_channel(),
        },
        "operations": operations(),
        "components": {
            "messages": messages(),
            "schemas": Value::Object(schemas("#/components/schemas/")),
        },
    }))
}

const DESCRIPTION: &str = "\
Backends publish requests straight to the queue, and may hear what came of them.\n\n\
Use publisher confirms, `mandatory` and persistent messages: a request is accepted when the broker \
confirms it and did not return it. A request that is not confirmed is published again with the same \
`message_id` and the same bytes; a returned one is in no queue.\n\n\
Names begin with `clarion` unless the deployment sets another `queue.prefix`.\n\n\
The routing key alone says whose a request is and how urgent: `TENANT.transactional` or `TENANT.bulk`. \
What cannot be taken, an unknown tenant's included, becomes a dead letter of that tenant, with a \
machine-readable reason, the place of the problem and the original bytes.";

fn reference(section: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{section}/{name}") })
}

fn exchange(name: &str) -> Value {
    json!({
        "amqp": {
            "is": "routingKey",
            "exchange": {
                "name": name,
                "type": "topic",
                "durable": true,
                "autoDelete": false,
                "vhost": "/",
            },
            "bindingVersion": BINDING_VERSION,
        },
    })
}

fn tenant() -> Value {
    json!({ "description": "The tenant's id: 1 to 64 of the characters A-Z a-z 0-9 _ and -." })
}

fn publish_channel() -> Value {
    let lanes = [Lane::Transactional, Lane::Bulk].map(Lane::as_str);
    json!({
        "address": "{tenant}.{lane}",
        "title": "Requests",
        "description": format!(
            "The routing key on the exchange `{PUBLISH_EXCHANGE}`, which the deployment declares. \
             A body has at most {PUBLISH_BYTES_MAX} bytes."
        ),
        "parameters": {
            "tenant": tenant(),
            "lane": {
                "enum": lanes,
                "description": "The priority class: what waits behind what.",
            },
        },
        "messages": { "publishRequest": reference("components/messages", "publishRequest") },
        "bindings": exchange(PUBLISH_EXCHANGE),
    })
}

fn outcomes_channel() -> Value {
    json!({
        "address": "{tenant}",
        "title": "Outcomes",
        "description": format!(
            "Bind a queue of your own to `{EVENTS_EXCHANGE}`; the binding key is the tenant's id. Events \
             come at least once: the same `id`, which is also the message id, is the same event. An \
             event for which no queue is bound is gone."
        ),
        "parameters": { "tenant": tenant() },
        "messages": { "outcomeEvent": reference("components/messages", "outcomeEvent") },
        "bindings": exchange(EVENTS_EXCHANGE),
    })
}

fn operations() -> Value {
    json!({
        "receiveRequests": {
            "action": "receive",
            "title": "Take a request",
            "channel": reference("channels", "publish"),
            "messages": [reference("channels/publish/messages", "publishRequest")],
            "bindings": {
                "amqp": {
                    "deliveryMode": 2,
                    "mandatory": true,
                    "timestamp": false,
                    "ack": true,
                    "bindingVersion": BINDING_VERSION,
                },
            },
        },
        "sendOutcomes": {
            "action": "send",
            "title": "Tell what came of recipients",
            "channel": reference("channels", "outcomes"),
            "messages": [reference("channels/outcomes/messages", "outcomeEvent")],
            "bindings": {
                "amqp": {
                    "deliveryMode": 2,
                    "mandatory": false,
                    "timestamp": false,
                    "ack": true,
                    "bindingVersion": BINDING_VERSION,
                },
            },
        },
    })
}

fn messages() -> Value {
    let examples: Vec<Value> = examples()
        .as_array()
        .into_iter()
        .flatten()
        .map(|payload| json!({ "payload": payload }))
        .collect();
    let binding = json!({
        "amqp": {
            "contentEncoding": "utf-8",
            "bindingVersion": BINDING_VERSION,
        },
    });
    json!({
        "publishRequest": {
            "name": "PublishRequest",
            "title": "A push to be sent",
            "contentType": "application/json",
            "headers": headers(),
            "payload": reference("components/schemas", "PublishRequest"),
            "examples": examples,
            "bindings": binding,
        },
        "outcomeEvent": {
            "name": "OutcomeEvent",
            "title": "What came of some recipients",
            "contentType": "application/json",
            "payload": reference("components/schemas", "OutcomeEvent"),
            "bindings": binding,
        },
    })
}

fn headers() -> Value {
    let mut properties = Map::new();
    let key = json!({
        "type": "string",
        "description": "An API key of the tenant, where the deployment asks for one. It is never kept.",
    });
    properties.insert(API_KEY_HEADER.to_owned(), key);
    json!({ "type": "object", "properties": properties })
}
