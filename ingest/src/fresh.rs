//! New ids: sorted by time, random enough that nobody guesses them.
//! It must not know what they name, and reads no clock.

use aws_lc_rs::rand;
use clarion_engine::model::Millis;
use uuid::{Builder, Uuid};

use crate::error::ApiError;

/// A new UUIDv7.
pub(crate) fn uuid(now: Millis) -> Result<Uuid, ApiError> {
    let mut random = [0; 10];
    rand::fill(&mut random)
        .map_err(|_| ApiError::unavailable("the system has no random bytes: try again"))?;
    let millis = u64::try_from(now).unwrap_or_default();
    Ok(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

/// A new request id; without random bytes all of one millisecond share it, which only makes logs harder to read.
pub(crate) fn request_id(now: Millis) -> String {
    uuid(now).unwrap_or_default().simple().to_string()
}
