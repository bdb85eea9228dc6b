//! The HTTP client under every command that talks to a running Clarion: one call, one JSON answer.
//! It must not know commands, and never shows the credential it carries.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::Value;

use super::error::{Error, Refusal, invalid};

/// Time to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the whole of a call; a bulk of 16 MiB takes a while on a slow line.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer that is read, bytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Longest part of an answer without a `detail` that is repeated in an error, characters.
const DETAIL_MAX: usize = 300;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: &str = "x-request-id";

/// What proves who calls.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// `X-API-Key`.
    ApiKey(String),
    /// `Authorization: Bearer`.
    AccessToken(String),
    /// `Authorization: Basic`: a user and a password, of RabbitMQ's management API.
    Password(String, String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey(..)",
            Self::AccessToken(_) => "AccessToken(..)",
            Self::Password(..) => "Password(..)",
        })
    }
}

impl Credential {
    fn header(&self) -> Result<(HeaderName, HeaderValue), Error> {
        let (name, text, flag) = match self {
            Self::ApiKey(key) => (API_KEY, key.trim().to_string(), "--api-key"),
            Self::AccessToken(text) => (
                AUTHORIZATION,
                format!("Bearer {}", text.trim()),
                "--access-token",
            ),
            Self::Password(user, password) => (
                AUTHORIZATION,
                format!(
                    "Basic {}",
                    BASE64_STANDARD.encode(format!("{user}:{password}"))
                ),
                "--management-user",
            ),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            invalid(
                flag,
                "it holds characters that no credential has: copy it again",
            )
        })?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    idempotency_key: Option<String>,
    /// `If-Match: *`: whatever is there is replaced.
    if_match_any: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: &[&'a str]) -> Self {
        Self {
            method,
            path: path.to_vec(),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
            if_match_any: false,
        }
    }

    pub(crate) fn get(path: &[&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &[&'a str], body: &Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub(crate) fn put(path: &[&'a str], body: &Value) -> Self {
        Self::new(Method::PUT, path).json(body)
    }

    pub(crate) fn delete(path: &[&'a str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string().into_bytes())
    }

    /// A body that is JSON already.
    pub(crate) fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Whatever is there is to be replaced.
    pub(crate) fn if_match_any(mut self) -> Self {
        self.if_match_any = true;
        self
    }

    pub(crate) fn idempotency_key(mut self, key: Option<String>) -> Self {
        self.idempotency_key = key;
        self
    }
}

/// A server and the credential to show it.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    headers: HeaderMap,
}

impl Client {
    /// A client of the server at `base`.
    ///
    /// # Errors
    /// When the address or the credential cannot be used.
    pub(crate) fn new(
        base: &str,
        flag: &'static str,
        credential: Option<&Credential>,
    ) -> Result<Self, Error> {
        let base = base_url(base)
            .ok_or_else(|| invalid(flag, "it is not http://host[:port] or https://host[:port]"))?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // A redirect would carry the credential to another place.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("clarion/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // Nothing to verify: an image without certificates must still be able to check its own health.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let headers = credential
            .map(Credential::header)
            .transpose()?
            .into_iter()
            .collect();
        let http = builder
            .build()
            .map_err(|error| unreachable(&base, &error))?;
        Ok(Self {
            http,
            base,
            headers,
        })
    }

    /// Sends a request and reads its JSON answer; `Null` stands for an empty one.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Refused`] for every status but 2xx.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Value, Error> {
        let mut request = self
            .http
            .request(call.method.clone(), self.url(&call))
            .headers(self.headers.clone());
        if let Some(key) = call.idempotency_key {
            let value = HeaderValue::from_str(&key)
                .map_err(|_| invalid("--idempotency-key", "use visible ASCII characters only"))?;
            request = request.header(IDEMPOTENCY_KEY, value);
        }
        if call.if_match_any {
            request = request.header(reqwest::header::IF_MATCH, "*");
        }
        if let Some(body) = call.body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(&self.base, &error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.read(answer).await?;
        if !status.is_success() {
            return Err(refusal(status.as_u16(), &headers, &body).into());
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| {
            invalid(
                self.base.as_str(),
                "the answer is not JSON: is this the address of a Clarion server?",
            )
        })
    }

    async fn read(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| unreachable(&self.base, &error))?
        {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(invalid(
                    self.base.as_str(),
                    "the answer is larger than 64 MiB: ask for less at once",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }
}

/// An address without credentials, query or fragment; a path (such as `/v1`) may be part of it.
fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (matches!(url.scheme(), "http" | "https") && is_bare && url.fragment().is_none()).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The innermost cause is the one that helps; the URL, which may hold a device token, is left out.
fn unreachable(base: &Url, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let problem = if error.is_timeout() {
        "it took too long".to_string()
    } else {
        cause.to_string()
    };
    Error::Unreachable {
        url: base.as_str().trim_end_matches('/').to_string(),
        problem,
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Refusal {
        status,
        detail: detail(body),
        retry_after: header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok()),
        request_id: header(REQUEST_ID).map(str::to_string),
    }
}

/// The server's words: the documented text, the documented list as lines, else the beginning of the body.
fn detail(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    match &json["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(field_problem)
            .collect::<Vec<_>>()
            .join("; "),
        // As the identity face writes it.
        _ if json["errors"][0]["message"].is_string() => {
            let message = json["errors"][0]["message"].as_str();
            message.unwrap_or_default().to_string()
        }
        _ => String::from_utf8_lossy(body)
            .trim()
            .chars()
            .take(DETAIL_MAX)
            .collect(),
    }
}

/// `{"loc": ["body", "user_id"], "msg": "…"}` as `body.user_id: …`.
fn field_problem(item: &Value) -> String {
    let part = |part: &Value| {
        part.as_str()
            .map_or_else(|| part.to_string(), str::to_string)
    };
    let place: Vec<String> = item["loc"]
        .as_array()
        .into_iter()
        .flatten()
        .map(part)
        .collect();
    format!(
        "{}: {}",
        place.join("."),
        item["msg"].as_str().unwrap_or_default()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn client(base: &str) -> Client {
        Client {
            http: reqwest_without_tls(),
            base: base_url(base).unwrap(),
            headers: HeaderMap::new(),
        }
    }

    fn reqwest_without_tls() -> reqwest::Client {
        // A second installation is refused, which is as good.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap()
    }

    #[test]
    fn paths_and_queries_are_encoded() {
        let call =
            Call::delete(&["tenants", "acme", "devices", "a:b/c d"]).query("user_id", Some("ü&x"));
        let url = client("http://127.0.0.1:1/v1/").url(&call);
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:1/v1/tenants/acme/devices/a:b%2Fc%20d?user_id=%C3%BC%26x"
        );
        let url =
            client("http://127.0.0.1:1").url(&Call::get(&["readyz"]).query("a", None::<&str>));
        assert_eq!(url.as_str(), "http://127.0.0.1:1/readyz");
    }

    #[test]
    fn addresses_with_credentials_or_other_schemes_are_refused() {
        for bad in [
            "",
            "localhost:8080",
            "ftp://x",
            "http://u:p@h",
            "http://h?x=1",
            "http://h#f",
        ] {
            assert!(base_url(bad).is_none(), "{bad}");
        }
        assert!(is_loopback(&base_url("http://[::1]:80").unwrap()));
        assert!(is_loopback(&base_url("http://localhost").unwrap()));
        assert!(!is_loopback(&base_url("https://push.example.com").unwrap()));
    }

    #[test]
    fn details_are_read_in_each_documented_form() {
        assert_eq!(detail(br#"{"detail":"unknown tenant"}"#), "unknown tenant");
        let list = br#"{"detail":[{"loc":["body","user_ids",3],"msg":"is empty","type":"value"}]}"#;
        assert_eq!(detail(list), "body.user_ids.3: is empty");
        assert_eq!(
            detail(b"<html>bad gateway</html>"),
            "<html>bad gateway</html>"
        );
        assert_eq!(detail(&[b'x'; 1000]).len(), DETAIL_MAX);
    }

    #[test]
    fn a_credential_is_never_in_an_error_or_in_debug() {
        let credential = Credential::ApiKey("msk_live_secret\nvalue".into());
        let error = Client::new("http://127.0.0.1:1", "--url", Some(&credential)).unwrap_err();
        assert!(!format!("{error} {error:?} {credential:?}").contains("secret"));
    }
}
