//! Publishes one push straight to Clarion's queue: confirmed, mandatory, persistent.
//! It must not know anything of Clarion but the exchange, the routing key and the request.
//!
//! Exits with 0 when the broker has confirmed the request and did not return it, with 1 otherwise.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use serde_json::json;

const ATTEMPTS_MAX: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A broker that is short of memory or disk blocks its publishers: without a deadline they would wait for ever.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// AMQP's delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// Publishes one push straight to Clarion's queue
#[derive(Parser)]
struct Asked {
    /// The broker
    #[arg(
        long,
        env = "AMQP_URL",
        default_value = "amqp://guest:guest@localhost:5672/%2F"
    )]
    url: String,
    /// Where the deployment has another prefix
    #[arg(long, default_value = "clarion.publish")]
    exchange: String,
    /// Whose push it is
    #[arg(long)]
    tenant: String,
    /// transactional or bulk
    #[arg(long, default_value = "transactional", value_parser = ["transactional", "bulk"])]
    lane: String,
    /// Whose devices; may be repeated
    #[arg(long, required = true)]
    user: Vec<String>,
    /// What people see
    #[arg(long, default_value = "Hello")]
    title: String,
    /// Your own id of this push
    #[arg(long, default_value_t = uuid::Uuid::new_v4().to_string())]
    message_id: String,
    /// Where the deployment asks for one
    #[arg(long, env = "CLARION_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// What the broker answered.
enum Answer {
    Confirmed,
    /// No queue is behind the exchange: nobody has the message.
    Returned,
    /// The queue is full.
    Refused,
}

async fn publish_once(asked: &Asked, body: &[u8]) -> Result<Answer, Box<dyn std::error::Error>> {
    let named = ConnectionProperties::default().with_connection_name("publish.rs".into());
    let connection = Connection::connect(&asked.url, named).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(asked.message_id.as_str().into());
    if let Some(api_key) = &asked.api_key {
        let mut headers = FieldTable::default();
        headers.insert(
            "x-api-key".into(),
            AMQPValue::LongString(api_key.as_str().into()),
        );
        properties = properties.with_headers(headers);
    }
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let routing_key = format!("{}.{}", asked.tenant, asked.lane);
    let confirm = channel
        .basic_publish(
            asked.exchange.as_str().into(),
            routing_key.into(),
            options,
            body,
            properties,
        )
        .await?
        .await?;
    let answer = match confirm {
        Confirmation::Ack(None) => Answer::Confirmed,
        Confirmation::Ack(Some(_)) => Answer::Returned,
        Confirmation::Nack(_) | Confirmation::NotRequested => Answer::Refused,
    };
    connection.close(200, "done".into()).await?;
    Ok(answer)
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Asked::parse();
    // Once: a repetition sends the very same bytes, and is taken once.
    let body = json!({
        "v": 1,
        "message_id": asked.message_id,
        "user_ids": asked.user,
        "alert": {"title": asked.title},
    });
    let body = body.to_string().into_bytes();
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS_MAX {
        let what = match tokio::time::timeout(ANSWER_MAX, publish_once(&asked, &body)).await {
            Ok(Ok(Answer::Confirmed)) => {
                tell(&format!("confirmed {}", asked.message_id));
                return ExitCode::SUCCESS;
            }
            Ok(Ok(Answer::Returned)) => {
                complain("returned: no queue is behind the exchange; has an engine been started?");
                return ExitCode::FAILURE;
            }
            Ok(Ok(Answer::Refused)) => "refused".to_owned(),
            // It may or may not have been taken: the same message id makes a repetition safe.
            Ok(Err(error)) => format!("no answer ({error})"),
            Err(_) => "no answer in time".to_owned(),
        };
        complain(&format!("{what}, attempt {attempt}"));
        if attempt < ATTEMPTS_MAX {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    ExitCode::FAILURE
}

fn tell(text: &str) {
    // Whoever does not listen is not told.
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
