//! `clarion job publish`: a request to the exchange, as a backend publishes it, and the broker's word on it.
//! It must not know what an engine makes of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clarion_auth::TenantId;
use clarion_engine::broker::rabbitmq::{OutsideRequest, RabbitOptions, RequestPublisher, Verdict};
use clarion_engine::broker::{self, QueueName};
use clarion_engine::model::Lane;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::error::{Error, at, invalid};
use super::render;
use crate::config::{Config, QueuePlace, Sources};
use crate::terminal::{Terminal, plain};

/// How often a request is published that the broker refuses or does not answer for.
const ATTEMPTS_MAX: u32 = 5;
/// Wait before the second attempt, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Names the variable with the broker's URL. Never a flag: it holds a password, and the process list shows flags.
const URL_VARIABLE: &str = "CLARION_AMQP_URL";
/// First part of the exchange's name, where no configuration says otherwise.
const PREFIX: &str = "clarion";

/// Where to, and how.
#[derive(Args)]
pub(super) struct Publish {
    /// Whose push it is
    #[arg(long, env = "CLARION_TENANT", value_name = "TENANT_ID")]
    pub(super) tenant: TenantId,
    /// What waits behind what
    #[arg(long, value_enum, default_value = "transactional")]
    lane: LaneArgument,
    /// API key of the tenant, where the deployment asks for one; the variable keeps it out of the process list
    #[arg(
        long,
        env = "CLARION_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,
    /// File with the broker's URL, amqp://USER:PASSWORD@HOST/VHOST; else CLARION_AMQP_URL, else queue.url of the configuration
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// First part of the exchange's name; else queue.prefix where the configuration names the broker
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publish")
            .field("tenant", &self.tenant)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LaneArgument {
    Transactional,
    Bulk,
}

/// What came of all attempts.
struct Published {
    verdict: Result<Verdict, broker::Error>,
    attempts: u32,
}

impl Publish {
    fn queue(&self) -> QueueName {
        QueueName {
            tenant: self.tenant.clone(),
            lane: match self.lane {
                LaneArgument::Transactional => Lane::Transactional,
                LaneArgument::Bulk => Lane::Bulk,
            },
        }
    }

    /// The routing key.
    pub(super) fn routing_key(&self) -> String {
        let queue = self.queue();
        format!("{}.{}", queue.tenant, queue.lane.as_str())
    }

    /// Publishes a request that was checked, and says what the broker made of it.
    pub(super) async fn run(
        self,
        body: &[u8],
        json: bool,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Named {
            message_id: String,
        }
        let named: Named = serde_json::from_slice(body)
            .map_err(|_| invalid("message_id", "the request names none"))?;
        let options = self.options()?;
        let queue = self.queue();
        let request = OutsideRequest {
            queue: &queue,
            message_id: &named.message_id,
            body,
            api_key: self.api_key.as_deref(),
        };
        let published = publish(&options, request, terminal).await?;
        let (word, failure) = judge(&published.verdict);
        if json {
            terminal.line(render::json(&json!({
                "verdict": word, "message_id": named.message_id, "attempts": published.attempts,
                "routing_key": self.routing_key(),
            })))?;
        } else {
            terminal.line(format!("{word} {}", plain(&named.message_id)))?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn options(&self) -> Result<RabbitOptions, Error> {
        let given = match &self.url_file {
            Some(path) => {
                let text = Zeroizing::new(std::fs::read_to_string(path).map_err(at(path))?);
                Some(text.trim().to_owned())
            }
            None => std::env::var(URL_VARIABLE)
                .ok()
                .filter(|url| !url.is_empty()),
        };
        let mut options = match given {
            Some(url) => RabbitOptions {
                prefix: PREFIX.to_owned(),
                ..RabbitOptions::new(url, "job")
            },
            None => configured(self.config.clone())?,
        };
        if let Some(prefix) = &self.prefix {
            options.prefix.clone_from(prefix);
        }
        Ok(options)
    }
}

fn configured(file: Option<PathBuf>) -> Result<RabbitOptions, Error> {
    let config = Config::load(&Sources::with_data_dir(file.as_deref(), None))?;
    let QueuePlace::Amqp(url) = &config.queue.place else {
        return Err(Error::Missing {
            what: "no broker",
            advice: "set CLARION_AMQP_URL, or queue.url of the configuration to amqp://…",
        });
    };
    Ok(RabbitOptions {
        prefix: config.queue.prefix.clone(),
        ca_file: config.queue.ca_file.clone(),
        ..RabbitOptions::new(url.reveal(), "job")
    })
}

/// Publishes until the broker has confirmed or returned it. The bytes and the message id are the same each time, so that an
/// engine takes the request once.
async fn publish(
    options: &RabbitOptions,
    request: OutsideRequest<'_>,
    terminal: &mut Terminal,
) -> Result<Published, Error> {
    let mut pause = FIRST_PAUSE;
    let mut attempts = 1;
    loop {
        let verdict = attempt(options, request).await;
        let again = match &verdict {
            Ok(Verdict::Confirmed | Verdict::Returned) => false,
            Ok(Verdict::Refused) => true,
            Err(error) => !is_forbidden(error),
        };
        if !again || attempts == ATTEMPTS_MAX {
            return Ok(Published { verdict, attempts });
        }
        let why = match &verdict {
            Err(error) => plain(&error.to_string()),
            Ok(_) => "the broker refused it".to_owned(),
        };
        terminal.note(format!("attempt {attempts}: {why}; it is published again"))?;
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempts += 1;
    }
}

async fn attempt(
    options: &RabbitOptions,
    request: OutsideRequest<'_>,
) -> Result<Verdict, broker::Error> {
    let publisher = RequestPublisher::connect(options).await?;
    let verdict = publisher.publish(request).await?;
    publisher.close().await;
    Ok(verdict)
}

/// The broker knows the user and does not let it, or does not know it: the same again would end the same.
fn is_forbidden(error: &broker::Error) -> bool {
    let words = error.to_string();
    ["ACCESS_REFUSED", "ACCESS-REFUSED", "NOT_FOUND", "NOT-FOUND"]
        .iter()
        .any(|word| words.contains(word))
}

/// The word for scripts, and the failure.
fn judge(verdict: &Result<Verdict, broker::Error>) -> (&'static str, Option<Error>) {
    match verdict {
        Ok(Verdict::Confirmed) => ("confirmed", None),
        Ok(Verdict::Returned) => {
            let says = "no queue is bound for the routing key: nobody has the request";
            ("returned", Some(Error::Unsuccessful(says.to_owned())))
        }
        Ok(Verdict::Refused) => {
            let says = "the queue is full or failed: publish the same request again later";
            ("refused", Some(Error::Later(says.to_owned())))
        }
        Err(error) if is_forbidden(error) => (
            "forbidden",
            Some(Error::Unsuccessful(plain(&error.to_string()))),
        ),
        Err(error) => {
            let says = format!(
                "{}; it may have been taken: publish the very same request again",
                plain(&error.to_string())
            );
            ("unanswered", Some(Error::Later(says)))
        }
    }
}
