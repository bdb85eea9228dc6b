//! How a simulator is started, as plain data. Knows nothing of how any of it is carried out.

use std::path::PathBuf;

use serde::Deserialize;

/// Everything that can be chosen at start. Every field has a default, so a configuration names only what
/// differs.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Port of the APNs listener on 127.0.0.1; 0 takes a free one.
    pub apns_port: u16,
    /// Port of the FCM listener, which also serves the token endpoint; 0 takes a free one.
    pub fcm_port: u16,
    /// Port of the control API (plain HTTP); 0 takes a free one.
    pub control_port: u16,
    /// Further names and addresses the server certificate is good for, beside localhost and 127.0.0.1.
    pub server_names: Vec<String>,
    /// Where to write the certificate authority (PEM). Its key is kept beside it, as `<name>.key` with mode
    /// 0600, and both are used again by the next start, so that clients may go on trusting the same file.
    pub ca_path: Option<PathBuf>,
    /// Time from a request to its answer, in milliseconds.
    pub latency_ms: u64,
    /// A rule file to start with (TOML, see [`crate::Rules`]).
    pub rules_path: Option<PathBuf>,
    /// Where to append the receive log; none keeps no file.
    pub log_path: Option<PathBuf>,
    /// Synchronise the receive log with the disk before each batch of answers. The thread waits for the disk.
    pub log_fsync: bool,
    /// How many receipts are kept in memory for [`crate::Simulator::received`].
    pub receipts_kept: usize,
    /// How many bodies of pushes are kept in memory for [`crate::Simulator::bodies`].
    pub bodies_kept: usize,
    /// Check the form and age of credentials, but accept any key, certificate and account.
    pub accept_any_credential: bool,
    /// Streams an APNs connection may have open.
    pub apns_max_streams: u32,
    /// Streams an FCM connection may have open.
    pub fcm_max_streams: u32,
    /// APNs allows one stream until the first request with a valid provider token was accepted, as Apple
    /// does.
    pub strict_first_stream: bool,
    /// Answer streams above the acknowledged limit with REFUSED_STREAM rather than with GOAWAY.
    pub refuse_excess_streams: bool,
    /// Least seconds between the `iat` of two provider tokens of one key; Apple's is 20 minutes. 0 switches
    /// the check off.
    pub provider_token_interval_s: i64,
    /// Most seconds between a provider token's `iat` and now; Apple's is one hour.
    pub provider_token_age_s: i64,
    /// Seconds a Google access token is good for.
    pub access_token_life_s: i64,
    /// APNs keys known from the start.
    pub apns_keys: Vec<ApnsKeyFile>,
    /// Service accounts known from the start: their JSON files, as Google hands them out.
    pub fcm_accounts: Vec<PathBuf>,
}

/// An APNs key known from the start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApnsKeyFile {
    /// The ten characters of the team.
    pub team_id: String,
    /// The ten characters of the key.
    pub key_id: String,
    /// The key: a public key (PEM), or the .p8 as Apple hands it out.
    pub path: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            apns_port: 0,
            fcm_port: 0,
            control_port: 0,
            server_names: Vec::new(),
            ca_path: None,
            latency_ms: 0,
            rules_path: None,
            log_path: None,
            log_fsync: false,
            receipts_kept: 10_000,
            bodies_kept: 0,
            accept_any_credential: false,
            apns_max_streams: 1_000,
            fcm_max_streams: 1_000,
            strict_first_stream: true,
            refuse_excess_streams: false,
            provider_token_interval_s: 20 * 60,
            provider_token_age_s: 60 * 60,
            access_token_life_s: 3_599,
            apns_keys: Vec::new(),
            fcm_accounts: Vec::new(),
        }
    }
}
