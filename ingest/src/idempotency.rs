//! `Idempotency-Key`: the same request twice is one notification and one answer.
//! It must not know what is sent: it is given the request's bytes and a small answer to keep.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use clarion_engine::model::{Millis, NotificationId};
use clarion_engine::store::{Begun, StoredAnswer};
use http::{HeaderMap, HeaderName};

use crate::call::TenantCall;
use crate::error::{ApiError, Chain, FieldError, Kind};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was kept from the first request.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, bytes.
const KEY_MAX: usize = 255;
/// When a caller whose first request is still running should ask again.
const RUNNING_RETRY: Duration = Duration::from_secs(1);
/// A request older than this, milliseconds, does not free its key: a repetition may have taken it over (after 30 s).
const FORGET_MILLIS_MAX: Millis = 20_000;
/// The only status that is kept: refusals are forgotten.
const KEPT_STATUS: u16 = 200;

/// How a sending request goes on.
pub(crate) enum Turn {
    /// Send, with this id; afterwards tell the key, if there is one.
    Send {
        key: Option<Key>,
        notification: NotificationId,
        /// An earlier request may have sent it.
        recheck: bool,
    },
    /// Answer what the first request answered.
    Replay(Vec<u8>),
}

/// A key whose row is in progress and ours.
pub(crate) struct Key(String);

/// Begins a sending request with this raw body.
pub(crate) async fn begin(call: &TenantCall, body: &[u8]) -> Result<Turn, ApiError> {
    let notification = call.app.intake.mint(&call.tenant, call.now)?;
    let Some(key) = key_of(&call.headers)? else {
        return Ok(Turn::Send {
            key: None,
            notification,
            recheck: false,
        });
    };
    let fingerprint = fingerprint(call.method.as_str(), &call.route, body);
    let store = &call.app.store;
    match store
        .begin(&call.tenant, &key, &fingerprint, notification, call.now)
        .await?
    {
        Begun::Started {
            notification,
            recheck,
        } => Ok(Turn::Send {
            key: Some(Key(key)),
            notification,
            recheck,
        }),
        Begun::Done(answer) => Ok(Turn::Replay(answer.body)),
        Begun::Running => {
            let detail = "the first request with this Idempotency-Key is still running: ask again";
            Err(ApiError::new(Kind::Conflict, detail).retry_after(RUNNING_RETRY))
        }
        Begun::OtherRequest => Err(ApiError::field(FieldError {
            loc: vec!["header".into(), "Idempotency-Key".into()],
            msg: "was used for another request: take a new key for each request".into(),
            kind: "idempotency_key_reused",
        })),
    }
}

impl Key {
    /// Keeps the answer of a request that is done. If that fails, a repetition finds the notification by its id.
    pub(crate) async fn finish(self, call: &TenantCall, body: Vec<u8>) {
        let answer = StoredAnswer {
            status: KEPT_STATUS,
            body,
        };
        let now = (call.app.now)();
        let kept = call
            .app
            .store
            .finish(&call.tenant, &self.0, &answer, now)
            .await;
        if let Err(error) = kept {
            tracing::warn!(error = %Chain(&error), "cannot keep the answer of an idempotent request");
        }
    }

    /// Frees the key of a request that was refused before anything was stored.
    pub(crate) async fn forget(self, call: &TenantCall) {
        if (call.app.now)().saturating_sub(call.now) > FORGET_MILLIS_MAX {
            return;
        }
        if let Err(error) = call.app.store.forget(&call.tenant, &self.0).await {
            tracing::warn!(error = %Chain(&error), "cannot free the key of a refused request");
        }
    }
}

/// SHA-256 of method, route and raw body, each with its length.
fn fingerprint(method: &str, route: &str, body: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [method.as_bytes(), route.as_bytes(), body] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The key, quoted (as a structured field) or bare.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text
        .strip_prefix('"')
        .map_or(Some(text), |rest| rest.strip_suffix('"'));
    let fits = |key: &&str| {
        let is_visible = key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        (1..=KEY_MAX).contains(&key.len()) && is_visible
    };
    match (key.filter(fits), values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::field(FieldError::value(
            ["header".into(), "Idempotency-Key".into()],
            "is one value of 1 to 255 visible ASCII characters, bare or in double quotes",
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_bare_or_quoted() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().unwrap());
            key_of(&headers)
        };
        for good in ["8e03978e-40d5", "\"8e03978e-40d5\"", " 8e03978e-40d5 "] {
            assert_eq!(
                read(good).unwrap().as_deref(),
                Some("8e03978e-40d5"),
                "{good}"
            );
        }
        for bad in ["", "\"\"", "\"open", "a b", "a\"b", &"k".repeat(256)] {
            assert_eq!(read(bad).unwrap_err().status(), 422, "{bad}");
        }
        assert!(read(&"k".repeat(255)).is_ok());
        assert_eq!(key_of(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn every_part_of_a_request_enters_its_fingerprint() {
        let same = fingerprint("POST", "/tenants/{tenant}/notify", b"{}");
        assert_eq!(same, fingerprint("POST", "/tenants/{tenant}/notify", b"{}"));
        for other in [
            fingerprint("PUT", "/tenants/{tenant}/notify", b"{}"),
            fingerprint("POST", "/tenants/{tenant}/notify/bulk", b"{}"),
            fingerprint("POST", "/tenants/{tenant}/notify", b"{} "),
            fingerprint("POST", "/tenants/{tenant}/notif", b"y{}"),
        ] {
            assert_ne!(same, other);
        }
    }
}
