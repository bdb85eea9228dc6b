//! How to reach RabbitMQ and how to lay out queues on it. It must not know configuration files.

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// What kind of queue ready messages wait in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated, with a delivery limit and at-least-once dead-lettering.
    #[default]
    Quorum,
    /// Not replicated, cheaper by the thousand, without a delivery limit.
    Classic,
}

/// How to reach RabbitMQ and how to lay out queues on it. All processes of an installation agree on `prefix`,
/// `queue_type` and `shards`.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Never logged.
    pub url: String,
    /// Certificate authorities (PEM) that are trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// What this process is (`ingest`, `engine`): part of the name its connections have on the broker's screen.
    pub role: String,
    /// Which one it is: part of that name, too. Default: host name and process id.
    pub instance: String,
    /// First part of the names of all exchanges and queues. Default: `clarion`.
    pub prefix: String,
    /// What kind of queue ready messages wait in.
    pub queue_type: QueueType,
    /// So many queues per lane, shared by all tenants, in place of one per tenant and lane.
    pub shards: Option<NonZeroU16>,
    /// Outcome events are published: their exchange is declared, too.
    pub events: bool,
    /// Declares nothing and only checks that everything is there: for brokers on which Clarion may not configure.
    pub passive: bool,
}

impl RabbitOptions {
    /// The defaults for a URL and a role.
    #[must_use]
    pub fn new(url: impl Into<String>, role: impl Into<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            url: url.into(),
            ca_file: None,
            role: role.into(),
            instance: format!("{}-{}", host.trim(), std::process::id()),
            prefix: "clarion".to_owned(),
            queue_type: QueueType::default(),
            shards: None,
            events: false,
            passive: false,
        }
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("role", &self.role)
            .field("instance", &self.instance)
            .field("prefix", &self.prefix)
            .field("queue_type", &self.queue_type)
            .field("shards", &self.shards)
            .field("events", &self.events)
            .field("passive", &self.passive)
            .finish_non_exhaustive()
    }
}
