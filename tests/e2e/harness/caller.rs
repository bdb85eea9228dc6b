//! HTTP as the tests speak it: a base address, a credential, one answer.
//! It must not know routes or what an answer means.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// One answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; null if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or_default())
    }
}

/// Somebody who calls a server.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    http: Client,
    base: String,
    /// Headers.
    credential: Vec<(&'static str, String)>,
}

impl Caller {
    pub(crate) fn new(http: Client, base: &str) -> Self {
        Self {
            http,
            base: base.to_owned(),
            credential: Vec::new(),
        }
    }

    /// A client that needs no certificates: the server speaks plain HTTP on loopback.
    pub(crate) fn http() -> Client {
        // Refused when another test was first, which is as good.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = Client::builder().no_proxy().tls_certs_only([]);
        client.timeout(ANSWER_MAX).build().unwrap()
    }

    pub(crate) fn bearer(mut self, access_token: &str) -> Self {
        self.credential = vec![("authorization", format!("Bearer {access_token}"))];
        self
    }

    pub(crate) fn api_key(mut self, key: &str) -> Self {
        self.credential = vec![("x-api-key", key.to_owned())];
        self
    }

    /// One more header of a credential.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.credential.push((name, value.to_owned()));
        self
    }

    /// The same credential, shown elsewhere.
    pub(crate) fn at(&self, other: &Self) -> Self {
        Self {
            credential: self.credential.clone(),
            ..other.clone()
        }
    }

    /// A request with the credential on it.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        self.credential
            .iter()
            .fold(request, |request, (name, value)| {
                request.header(*name, value)
            })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.request(Method::PATCH, path).json(body)).await
    }

    /// Sends any request and reads its answer.
    pub(crate) async fn send(request: RequestBuilder) -> Answer {
        Self::try_send(request).await.unwrap()
    }

    /// The same where nobody may be there to answer.
    pub(crate) async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        Ok(Answer {
            status,
            headers,
            text,
        })
    }
}
