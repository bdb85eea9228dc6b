//! The queue's contract with the outside as documents: what backends publish, what they hear, and by which exchanges.
//! It must not know how a request is judged or an event is made: it describes their types.

mod asyncapi;
mod outcome_event;
mod schema;

pub use asyncapi::asyncapi;
pub use outcome_event::{OutcomeEvent, RecipientOutcome};
pub use schema::publish_schema;

/// The exchange that backends publish to: topic, durable, routing key `TENANT.LANE`.
pub const PUBLISH_EXCHANGE: &str = "clarion.publish";
/// The exchange that backends bind to for outcomes: topic, durable, routing key `TENANT`.
pub const EVENTS_EXCHANGE: &str = "clarion.events";
/// The header in which a publisher sends an API key of its tenant, where the deployment asks for it.
pub const API_KEY_HEADER: &str = "x-api-key";
