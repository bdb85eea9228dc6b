//! The sections of the configuration as typed values, one struct each, with the range of every key.
//! It must not know files, layers or who uses a value. What a key means stands in `config.default.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clarion_engine::http2::Origin;
use clarion_engine::limits;
use clarion_engine::provider::fcm::TokenEndpoint;

use super::reader::{DATA_DIR_PLACE, FILE_SUFFIX, Reader};
use super::secret::Secret;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Most waits of one retry ladder.
const WAITS_MAX: usize = 8;
/// Longest issuer or audience, characters.
const CLAIM_MAX: usize = 256;

/// `[server]`
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) body_max: usize,
    pub(crate) bulk_body_max: usize,
    pub(crate) bulk_entries_max: usize,
    pub(crate) bodies_in_memory_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
}

impl Server {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let section = Self {
            listen: from.address("server.listen"),
            admin_listen: from.address("server.admin_listen"),
            body_max: from.size("server.body_max", KIB..=16 * MIB),
            bulk_body_max: from.size("server.bulk_body_max", 64 * KIB..=64 * MIB),
            bulk_entries_max: from.number("server.bulk_entries_max", 1..=limits::BULK_ENTRIES_MAX),
            bodies_in_memory_max: from.size("server.bodies_in_memory_max", 16 * MIB..=4 * GIB),
            request_timeout: from.duration("server.request_timeout", SECOND..=10 * MINUTE),
            shutdown_grace: from.duration("server.shutdown_grace", SECOND..=10 * MINUTE),
        };
        from.contradiction(
            section.listen == section.admin_listen && section.listen.port() != 0,
            ["server.admin_listen", "server.listen"],
            "is the same address as {}: give the operator's listener a port of its own",
        );
        from.contradiction(
            section.body_max > section.bulk_body_max,
            ["server.body_max", "server.bulk_body_max"],
            "is above {}: lower it, or raise the other",
        );
        from.contradiction(
            section.bodies_in_memory_max < section.bulk_body_max,
            ["server.bodies_in_memory_max", "server.bulk_body_max"],
            "is below {}, so that no bulk could be taken: raise it",
        );
        section
    }
}

/// `[engine]`
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) unrecorded_max: usize,
    /// Delivery threads; `None` means one per core.
    pub(crate) threads: Option<usize>,
}

impl Engine {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let window = limits::UNRECORDED_MAX_FLOOR..=limits::UNRECORDED_MAX_CEILING;
        Self {
            unrecorded_max: from.number("engine.unrecorded_max", window),
            threads: Some(from.number("engine.threads", 0..=256)).filter(|threads| *threads > 0),
        }
    }
}

/// `[connections]`
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) per_credential_max: usize,
}

impl Connections {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let timeout = 100 * MILLISECOND..=2 * MINUTE;
        Self {
            connect_timeout: from.duration("connections.connect_timeout", SECOND..=2 * MINUTE),
            request_timeout: from.duration("connections.request_timeout", timeout),
            per_credential_max: from.number("connections.per_credential_max", 1..=64),
        }
    }
}

/// Where a provider is, as written.
fn origin(from: &Reader<'_>, key: &str) -> String {
    from.fitting(key, "https://host[:port]", |text| {
        text.parse::<Origin>().is_ok()
    })
}

/// `[apns]`
#[derive(Clone, Debug)]
pub(crate) struct Apns {
    pub(crate) endpoint_production: String,
    pub(crate) endpoint_sandbox: String,
}

impl Apns {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        Self {
            endpoint_production: origin(from, "apns.endpoint_production"),
            endpoint_sandbox: origin(from, "apns.endpoint_sandbox"),
        }
    }
}

/// `[fcm]`
#[derive(Clone, Debug)]
pub(crate) struct Fcm {
    pub(crate) endpoint: String,
    pub(crate) token_endpoint: String,
}

impl Fcm {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let is_endpoint = |text: &str| text.parse::<TokenEndpoint>().is_ok();
        let want = "https://host[:port]/path";
        let token_endpoint = from.fitting("fcm.token_endpoint", want, is_endpoint);
        Self {
            endpoint: origin(from, "fcm.endpoint"),
            token_endpoint,
        }
    }
}

/// `[tls]`
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Authorities in place of the built-in ones.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Tls {
    pub(super) fn read(from: &Reader<'_>, data_dir: &Path) -> Self {
        Self {
            ca_file: from.path("tls.ca_file", data_dir),
        }
    }
}

/// `[retry]`
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) attempts_max: u8,
    pub(crate) unsent: Vec<Duration>,
    pub(crate) apns_unavailable: Vec<Duration>,
    pub(crate) apns_strict: bool,
    pub(crate) apns_throttled: Duration,
    pub(crate) apns_throttled_retries: u8,
    pub(crate) fcm_throttled: Duration,
    pub(crate) fcm_unavailable: Duration,
    pub(crate) fcm_unavailable_total: Duration,
    pub(crate) unauthorized: Duration,
    pub(crate) jitter: f64,
    pub(crate) ambiguous_retries: u8,
    pub(crate) ambiguous_wait: Duration,
    pub(crate) ttl_default: Duration,
    pub(crate) scale: f64,
}

impl Retry {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let wait = || MILLISECOND..=HOUR;
        Self {
            attempts_max: from.number("retry.attempts_max", 1..=20),
            unsent: from.durations("retry.unsent", WAITS_MAX, wait()),
            apns_unavailable: from.durations(
                "retry.apns_unavailable",
                WAITS_MAX,
                MILLISECOND..=DAY,
            ),
            apns_strict: from.flag("retry.apns_strict"),
            apns_throttled: from.duration("retry.apns_throttled", wait()),
            apns_throttled_retries: from.number("retry.apns_throttled_retries", 0..=20),
            fcm_throttled: from.duration("retry.fcm_throttled", wait()),
            fcm_unavailable: from.duration("retry.fcm_unavailable", wait()),
            fcm_unavailable_total: from.duration("retry.fcm_unavailable_total", MILLISECOND..=DAY),
            unauthorized: from.duration("retry.unauthorized", wait()),
            jitter: from.fraction("retry.jitter", 0.0..=0.5),
            ambiguous_retries: from.number("retry.ambiguous_retries", 0..=3),
            ambiguous_wait: from.duration("retry.ambiguous_wait", wait()),
            ttl_default: from.duration("retry.ttl_default", MINUTE..=limits::TTL_MAX),
            scale: from.fraction("retry.scale", 0.0001..=10.0),
        }
    }
}

/// `[limits]`: those of a tenant without its own.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) rate: u32,
    pub(crate) burst: u32,
    pub(crate) backlog: u64,
}

impl Limits {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        Self {
            rate: from.number("limits.rate", 1..=1_000_000),
            burst: from.number("limits.burst", 1..=1_000_000),
            backlog: from.number("limits.backlog", 1..=1_000_000_000),
        }
    }
}

/// `[ingest]`
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    pub(crate) check_devices: bool,
}

impl Ingest {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        Self {
            check_devices: from.flag("ingest.check_devices"),
        }
    }
}

/// `[retention]`
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    pub(crate) receipts: Duration,
    pub(crate) payloads: Duration,
    pub(crate) dead: Duration,
    pub(crate) idempotency: Duration,
    pub(crate) audit: Duration,
    pub(crate) analytics: Duration,
    pub(crate) events: Duration,
}

impl Retention {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let section = Self {
            receipts: from.duration("retention.receipts", HOUR..=365 * DAY),
            payloads: from.duration("retention.payloads", HOUR..=365 * DAY),
            dead: from.duration("retention.dead", HOUR..=365 * DAY),
            idempotency: from.duration("retention.idempotency", HOUR..=7 * DAY),
            audit: from.duration("retention.audit", DAY..=3650 * DAY),
            analytics: from.duration("retention.analytics", DAY..=800 * DAY),
            events: from.duration("retention.events", MINUTE..=7 * DAY),
        };
        from.contradiction(
            section.payloads > section.receipts,
            ["retention.payloads", "retention.receipts"],
            "is longer than {}: lower it, or raise the other",
        );
        section
    }
}

/// `[auth]`
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) access_token_ttl: Duration,
    /// PEM; `None` means the generated one of the data directory.
    pub(crate) signing_key: Option<Secret>,
    /// Base64; `None` means the generated one of the data directory.
    pub(crate) master_key: Option<Secret>,
}

impl Auth {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        Self {
            issuer: from.text("auth.issuer", CLAIM_MAX),
            audience: from.text("auth.audience", CLAIM_MAX),
            access_token_ttl: from.duration("auth.access_token_ttl", MINUTE..=7 * DAY),
            signing_key: from.secret("auth.signing_key"),
            master_key: from.secret("auth.master_key"),
        }
    }

    /// A generated key is one process's own: what processes share must be signed and sealed with keys that all of them have.
    pub(super) fn check_shared(&self, from: &Reader<'_>, is_shared: bool) {
        if !is_shared {
            return;
        }
        let keys = [
            ("auth.master_key", self.master_key.is_none()),
            ("auth.signing_key", self.signing_key.is_none()),
        ];
        for (key, is_missing) in keys {
            if is_missing && from.is_sound(&[key, &format!("{key}{FILE_SUFFIX}")]) {
                let text = "must be given with postgres://, the same for every process";
                from.complain(key, format!("{key} {text}: see config.default.toml"));
            }
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Log {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let level = from.text("log.level", CLAIM_MAX);
        if from.is_sound(&["log.level"]) && tracing_subscriber::EnvFilter::try_new(&level).is_err()
        {
            let text = "log.level is not a filter: give error, warn, info, debug, trace, \
                        or such as \"info,clarion_engine=debug\"";
            from.complain("log.level", text);
        }
        let format = from.choice(
            "log.format",
            ("text", LogFormat::Text),
            &[("json", LogFormat::Json)],
        );
        Self { level, format }
    }
}

/// `[metrics]`
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) latency_buckets: Vec<Duration>,
}

impl Metrics {
    pub(super) fn read(from: &Reader<'_>) -> Self {
        let key = "metrics.latency_buckets";
        let latency_buckets = from.durations(key, 32, MILLISECOND..=HOUR);
        if from.is_sound(&[key]) && !latency_buckets.is_sorted_by(|one, next| one < next) {
            from.complain(
                key,
                format!("{key} is not rising: order the bounds and keep each once"),
            );
        }
        Self { latency_buckets }
    }
}

/// `[simulate]`
#[derive(Clone, Debug)]
pub(crate) struct Simulate {
    pub(crate) apns_port: u16,
    pub(crate) fcm_port: u16,
    pub(crate) control_port: u16,
    pub(crate) latency: Duration,
    pub(crate) rules_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) accept_any_credential: bool,
    pub(crate) receive_log: Option<PathBuf>,
}

impl Simulate {
    pub(super) fn read(from: &Reader<'_>, data_dir: &Path) -> Self {
        Self {
            apns_port: from.number("simulate.apns_port", 0..=u16::MAX),
            fcm_port: from.number("simulate.fcm_port", 0..=u16::MAX),
            control_port: from.number("simulate.control_port", 0..=u16::MAX),
            latency: from.duration("simulate.latency", Duration::ZERO..=MINUTE),
            rules_file: from.path("simulate.rules_file", data_dir),
            ca_file: from.path("simulate.ca_file", data_dir),
            accept_any_credential: from.flag("simulate.accept_any_credential"),
            receive_log: from.path("simulate.receive_log", data_dir),
        }
    }
}

/// The key without a section.
pub(super) fn read_data_dir(from: &Reader<'_>) -> PathBuf {
    let text = from.text("data_dir", 4_096);
    if text.contains(DATA_DIR_PLACE) {
        from.complain(
            "data_dir",
            format!("data_dir holds {DATA_DIR_PLACE}, which stands for itself: give a path"),
        );
    }
    PathBuf::from(text)
}
