//! The bare loop: an h2 connection and a window of requests driven by one task, and nothing else. No queue, record, retry,
//! deadline or limit: what a delivery engine on the h2 crate can at best come to. It must not know who measures it.
//!
//! Its requests are those of the engine, header by header: a stamped request is the pattern, and what is a recipient's own
//! is written anew each time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clarion_engine::http2::Request;
use clarion_engine::model::{Lane, recipient_id};
use clarion_engine::provider::{DeviceTokenRef, Stamp, encode};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use crate::samples;

const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// Where Apple's device tokens stand in a path.
const DEVICE: &str = "/3/device/";

/// A request of the engine, into which recipients are written.
#[derive(Debug)]
pub struct Pattern {
    head: http::Request<()>,
    body: Bytes,
    authority: Authority,
}

impl Pattern {
    /// The sample notification to APNs at `authority`.
    ///
    /// # Errors
    /// When the sample cannot be made.
    pub fn new(authority: Authority) -> Result<Self> {
        let said = samples::notification(Lane::Bulk)?;
        let (route, authorization) = samples::apns_route()?;
        let stamp = Stamp {
            authority: &authority,
            recipient_id: recipient_id(said.id, 0, 0),
            device_token: DeviceTokenRef(&"0".repeat(64)),
            authorization: Some(&authorization),
        };
        let Request { head, body } = encode(&said, &route, samples::NOW)?.stamp(&stamp)?;
        let has_ids =
            head.headers().contains_key(APNS_ID) && head.headers().contains_key(APNS_COLLAPSE_ID);
        ensure!(has_ids, "the engine names each recipient twice");
        Ok(Self {
            head,
            body,
            authority,
        })
    }

    /// The request for one recipient.
    ///
    /// # Errors
    /// When the device token cannot stand in a path.
    pub fn stamp(&self, id: Uuid, device_token: &str) -> Result<http::Request<()>> {
        let mut head = self.head.clone();
        let mut buffer = Uuid::encode_buffer();
        let mut id = HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))?;
        id.set_sensitive(true);
        head.headers_mut().insert(APNS_COLLAPSE_ID, id.clone());
        head.headers_mut().insert(APNS_ID, id);
        let mut path = String::with_capacity(DEVICE.len() + device_token.len());
        path.push_str(DEVICE);
        path.push_str(device_token);
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path))?);
        *head.uri_mut() = Uri::from_parts(parts)?;
        Ok(head)
    }
}

/// One connection with its window.
pub struct Loop<'a, T> {
    pattern: &'a Pattern,
    sender: SendRequest<Bytes>,
    connection: Connection<T, Bytes>,
    window: usize,
    waiting: FuturesUnordered<ResponseFuture>,
    left: u64,
    answered: u64,
}

impl<T> std::fmt::Debug for Loop<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loop")
            .field("window", &self.window)
            .field("left", &self.left)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin> Loop<'a, T> {
    /// Opens a connection, which has at most `window` requests at a time, and makes its first request.
    ///
    /// # Errors
    /// When the peer does not speak HTTP/2 or refuses the request.
    pub async fn open(io: T, pattern: &'a Pattern, window: usize) -> Result<Self> {
        let (sender, connection) = h2::client::handshake(io).await?;
        let waiting = FuturesUnordered::new();
        let mut one = Self {
            pattern,
            sender,
            connection,
            window,
            waiting,
            left: 0,
            answered: 0,
        };
        one.send(1).await?;
        Ok(one)
    }

    /// Sends so many requests and waits for their answers.
    ///
    /// # Errors
    /// When an answer is not a 200, or the connection breaks.
    pub async fn send(&mut self, requests: u64) -> Result<()> {
        (self.left, self.answered) = (requests, 0);
        poll_fn(|cx| self.poll(cx, requests)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, requests: u64) -> Poll<Result<()>> {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
                ended?;
                let says = anyhow::anyhow!("the peer closed the connection");
                return Poll::Ready(Err(says));
            }
            self.take_answers(cx)?;
            if self.answered == requests {
                return Poll::Ready(Ok(()));
            }
            // What is handed to h2 goes out when the connection is polled again.
            let sent = self.fill(cx)?;
            if !sent {
                return Poll::Pending;
            }
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while let Poll::Ready(Some(answer)) = self.waiting.poll_next_unpin(cx) {
            let status = answer?.status().as_u16();
            ensure!(status == 200, "the sink answered {status}");
            self.answered += 1;
        }
        Ok(())
    }

    /// Whether at least one request was handed over.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut sent = false;
        while self.left > 0 && self.waiting.len() < self.window {
            let Poll::Ready(ready) = self.poll_request(cx) else {
                break;
            };
            self.waiting.push(ready?);
            self.left -= 1;
            sent = true;
        }
        Ok(sent)
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseFuture>> {
        ready!(self.sender.poll_ready(cx))?;
        // As spread as derived ids are, without what deriving them costs.
        let spread = u128::from(self.left).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let mut device_token = [0; 64];
        write_hex(spread, &mut device_token);
        let device_token = std::str::from_utf8(&device_token)?;
        let head = self.pattern.stamp(Uuid::from_u128(spread), device_token)?;
        let (answer, mut body) = self.sender.send_request(head, false)?;
        body.send_data(self.pattern.body.clone(), true)
            .context("the body")?;
        Poll::Ready(Ok(answer))
    }
}

/// The number in hexadecimal digits, twice.
fn write_hex(number: u128, into: &mut [u8; 64]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (first, second) = into.split_at_mut(32);
    for (pair, byte) in first.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    second.copy_from_slice(first);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use clarion_engine::model::Platform;

    use super::*;

    #[test]
    fn its_requests_are_the_engines() {
        let authority = Authority::from_static("api.push.apple.com");
        let said = samples::notification(Lane::Bulk).unwrap();
        let (route, authorization) = samples::apns_route().unwrap();
        let prepared = encode(&said, &route, samples::NOW).unwrap();
        let id = recipient_id(said.id, 7, 8);
        let device_token = samples::device_token(Platform::Ios, 7);
        let stamp = Stamp {
            authority: &authority,
            recipient_id: id,
            device_token: DeviceTokenRef(&device_token),
            authorization: Some(&authorization),
        };
        let engine = prepared.stamp(&stamp).unwrap();

        let pattern = Pattern::new(authority.clone()).unwrap();
        let mut bare = pattern.stamp(id, &device_token).unwrap();
        // Each has a signing key of its own.
        let (ours, theirs) = (
            bare.headers()["authorization"].len(),
            engine.head.headers()["authorization"].len(),
        );
        assert_eq!(ours, theirs);
        let authorization = engine.head.headers()["authorization"].clone();
        assert!(bare.headers()["authorization"].is_sensitive() == authorization.is_sensitive());
        bare.headers_mut().insert("authorization", authorization);

        assert_eq!(
            (bare.method(), bare.uri()),
            (engine.head.method(), engine.head.uri())
        );
        assert_eq!(bare.headers(), engine.head.headers());
        for (name, value) in bare.headers() {
            let other = &engine.head.headers()[name];
            assert_eq!(value.is_sensitive(), other.is_sensitive(), "{name}");
        }
        assert_eq!(pattern.body, engine.body);
    }

    #[test]
    fn device_tokens_are_hexadecimal_and_differ() {
        let mut text = [0; 64];
        write_hex(0xabcd, &mut text);
        assert!(text.ends_with(b"000000abcd") && text[..32] == text[32..]);
    }
}
