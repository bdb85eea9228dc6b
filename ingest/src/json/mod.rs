//! Reading JSON bodies: malformed text, duplicate keys and wrong types become the documented list of field errors.
//! It must not know what the fields mean, and never repeats a value.

use clarion_engine::intake::request::json;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

pub(crate) use clarion_engine::intake::request::json::{Bounded, Member, Object};

#[cfg(test)]
use clarion_engine::intake::request::json::MEMBER_BYTES_MAX;

/// Reads a body.
///
/// # Errors
/// 422 with the field, or 413 for lists and members over their limit.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    json::read(body).map_err(ApiError::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
