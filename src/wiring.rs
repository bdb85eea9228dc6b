//! From the configuration to the values that the rooms are built with.
//! It must not decide anything: every number comes from the configuration or from the room's own default.

use std::num::NonZero;
use std::time::Duration;

use clarion_engine::delivery::dispatch::DispatchOptions;
use clarion_engine::delivery::events::Events;
use clarion_engine::delivery::retry::Policy;
use clarion_engine::http2::{OriginError, TlsOptions};
use clarion_engine::model::Millis;

use crate::config::{self, Config, Retry};

/// A duration as the engine counts it.
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// The retry schedule.
pub(crate) fn retry_policy(retry: &Retry) -> Policy {
    let ladder = |waits: &[Duration]| waits.iter().copied().map(millis).collect();
    Policy {
        attempts_max: retry.attempts_max,
        unsent: ladder(&retry.unsent),
        apns_unavailable: ladder(&retry.apns_unavailable),
        strict: retry.apns_strict,
        strict_first: Policy::default().strict_first,
        apns_throttled: millis(retry.apns_throttled),
        apns_throttled_retries: retry.apns_throttled_retries,
        fcm_throttled_floor: millis(retry.fcm_throttled),
        fcm_unavailable_floor: millis(retry.fcm_unavailable),
        fcm_unavailable_total: millis(retry.fcm_unavailable_total),
        ambiguous_retries: retry.ambiguous_retries,
        ambiguous_delay: millis(retry.ambiguous_wait),
        unauthorized_delay: millis(retry.unauthorized),
        jitter: retry.jitter,
        scale: retry.scale,
    }
}

/// Of which recipients backends are told.
pub(crate) fn events(events: config::Events) -> Events {
    match events {
        config::Events::Off => Events::Off,
        config::Events::Failures => Events::Failures,
        config::Events::All => Events::All,
    }
}

/// How devices are reached.
///
/// # Errors
/// When an endpoint is not one; the configuration was checked for that.
pub(crate) fn dispatch_options(config: &Config) -> Result<DispatchOptions, OriginError> {
    let apns = &config.apns;
    let all_cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let options = DispatchOptions::new(
        config.engine.threads.unwrap_or_else(all_cores),
        (
            apns.endpoint_production.parse()?,
            apns.endpoint_sandbox.parse()?,
        ),
        config.fcm.endpoint.parse()?,
        config.fcm.token_endpoint.parse()?,
        TlsOptions {
            ca_file: config.tls.ca_file.clone(),
        },
    );
    Ok(DispatchOptions {
        request_deadline: config.connections.request_timeout,
        connect_deadline: config.connections.connect_timeout,
        connections_per_key_max: config.connections.per_credential_max,
        ..options
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clarion_engine::limits;

    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn the_default_configuration_is_the_rooms_own_default() {
        let sources = Sources {
            file: Some("/dev/null".into()),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(retry_policy(&config.retry), Policy::default());
        let options = dispatch_options(&config).unwrap();
        assert_eq!(options.request_deadline, limits::REQUEST_DEADLINE);
        assert_eq!(options.connect_deadline, limits::CONNECT_DEADLINE);
        assert_eq!(
            options.connections_per_key_max,
            limits::CONNECTIONS_PER_KEY_MAX
        );
        assert_eq!(options.fcm.host(), "fcm.googleapis.com");
    }
}
