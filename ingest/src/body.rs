//! Reading a request's body within its limits: by its declared length before a byte is read, by counting afterwards.
//! It must not know what the body says.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{BODY_PIECE, Inner};
use crate::error::{ApiError, Kind};

/// Of a body that is refused by its size, at most this much is read and dropped, so that a caller that reads no
/// answer before it has sent everything still gets it.
const LINGER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// And for at most this long.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// A body in memory, and its share of the memory that bodies may take.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Reads a JSON body of at most `limit` bytes.
pub(crate) async fn read(
    app: &Inner,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Held, ApiError> {
    check_media_type(headers)?;
    read_raw(app, headers, body, limit).await
}

/// Reads a body of whatever media type, of at most `limit` bytes.
pub(crate) async fn read_raw(
    app: &Inner,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Held, ApiError> {
    let declared = declared_len(headers);
    if declared.is_some_and(|len| len > limit) {
        linger(body);
        return Err(too_large(limit));
    }
    let pieces = declared.unwrap_or(limit).div_ceil(BODY_PIECE);
    let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
    let bodies = std::sync::Arc::clone(&app.bodies);
    let share = bodies
        .try_acquire_many_owned(pieces)
        .map_err(|_| ApiError::unavailable("too many request bodies at once: try again"))?;
    let timeout = app.config.request_timeout;
    let bytes = match tokio::time::timeout(timeout, collect(body, declared, limit)).await {
        Ok(bytes) => bytes?,
        Err(_) => {
            return Err(ApiError::new(
                Kind::RequestTimeout,
                "the body did not arrive in time",
            ));
        }
    };
    Ok(Held {
        bytes,
        _share: share,
    })
}

async fn collect(body: Body, declared: Option<usize>, limit: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    // Room for all at once: growing would hold two copies for a while, and untouched pages cost nothing.
    let mut bytes = BytesMut::with_capacity(declared.unwrap_or(limit));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::new(Kind::BadValue, "the body broke off"))?;
        if bytes.len() + chunk.len() > limit {
            linger(Body::from_stream(stream));
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Reads what is left of a refused body in the background and keeps none of it.
fn linger(body: Body) {
    tokio::spawn(tokio::time::timeout(LINGER_MAX, async move {
        let (mut stream, mut left) = (body.into_data_stream(), LINGER_BYTES_MAX);
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    }));
}

fn declared_len(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    Some(value.parse().unwrap_or(usize::MAX))
}

fn too_large(limit: usize) -> ApiError {
    let detail = format!(
        "the body is larger than {limit} bytes, the limit of this route: send less at once"
    );
    ApiError::new(Kind::TooLarge, detail)
}

/// JSON, or nothing said; never compressed.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |detail: &'static str| ApiError::new(Kind::UnsupportedMediaType, detail);
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value != "identity")
    {
        return Err(unsupported(
            "compressed bodies are not read: send it as it is",
        ));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let value = value.to_str().unwrap_or_default();
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    let charset = value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then_some(value.trim().trim_matches('"'))
    });
    if is_json && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8")) {
        return Ok(());
    }
    Err(unsupported(
        "send JSON in UTF-8, with Content-Type: application/json",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn json_or_nothing_is_read_and_nothing_else() {
        let table = [
            (None, true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            // As IBM's web client writes it.
            (Some("application/json; charset = UTF-8"), true),
            (Some("application/problem+json"), true),
            (Some("application/json; charset=latin1"), false),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/jsonp"), false),
        ];
        for (value, is_read) in table {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(check_media_type(&headers).is_ok(), is_read, "{value:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(check_media_type(&headers).is_err());
    }
}
