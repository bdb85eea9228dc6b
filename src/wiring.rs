//! From the configuration to the values that the rooms are built with.
//! It must not decide anything: every number comes from the configuration or from the room's own default.

use std::time::Duration;

use clarion_engine::delivery::retry::Policy;
use clarion_engine::model::Millis;

use crate::config::Retry;

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
    }
}
