//! New ids: sorted by time, random enough that nobody guesses them.
//! It must not know what they name, and reads no clock.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use clarion_engine::model::Millis;
use uuid::{Builder, Uuid};

use crate::error::ApiError;

/// A new UUIDv7.
pub(crate) fn uuid(now: Millis) -> Result<Uuid, ApiError> {
    let millis = u64::try_from(now).unwrap_or_default();
    Ok(Builder::from_unix_timestamp_millis(millis, &random()?).into_uuid())
}

/// A new request id: a UUIDv7 whose first twelve random bits are the time within its millisecond (RFC 9562, section 6.2, method
/// 3), so that it tells when the request arrived to a quarter of a microsecond. Without random bytes all of one such instant
/// share it, which only makes logs harder to read.
pub(crate) fn request_id(now: SystemTime) -> String {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let millis = u64::try_from(since.as_millis()).unwrap_or_default();
    let within = u64::from(since.subsec_nanos() % 1_000_000) * 4_096 / 1_000_000;
    let mut rest = random().unwrap_or_default();
    let [_, _, .., high, low] = within.to_be_bytes();
    rest[0] = high;
    rest[1] = low;
    let id = Builder::from_unix_timestamp_millis(millis, &rest);
    id.into_uuid().simple().to_string()
}

fn random() -> Result<[u8; 10], ApiError> {
    let mut random = [0; 10];
    rand::fill(&mut random)
        .map_err(|_| ApiError::unavailable("the system has no random bytes: try again"))?;
    Ok(random)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_7_that_tells_its_time_to_less_than_a_microsecond() {
        let nanos = 1_763_000_000_123_456_789_u64;
        let id = request_id(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos));
        let id: Uuid = id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        let bits = id.as_u128();
        let (millis, within) = ((bits >> 80) as u64, (bits >> 64) as u64 & 0xFFF);
        assert_eq!(millis, nanos / 1_000_000);
        let told = millis * 1_000_000 + within * 1_000_000 / 4_096;
        assert!((0..250).contains(&(nanos - told)), "{told}");
    }
}
