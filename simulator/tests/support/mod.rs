//! A plain HTTP/2 client for the simulator's tests, on the h2 crate. Knows nothing of the simulator's inside.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clarion_simulator::{ApnsTestKey, Simulator};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the edge of a test")]
pub(crate) fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    /// How the connection ended.
    pub(crate) ended: JoinHandle<Result<(), h2::Error>>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn reason(&self) -> String {
        self.json()["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

pub(crate) fn tls(ca_pem: &str, identity: Option<(&str, &str)>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

pub(crate) async fn connect_tls(
    origin: &str,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let address = origin.strip_prefix("https://").unwrap();
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config)
        .connect(ServerName::try_from("127.0.0.1").unwrap(), tcp)
        .await
}

impl Client {
    pub(crate) async fn connect(origin: &str, ca_pem: &str) -> Self {
        Self::connect_as(origin, tls(ca_pem, None), 1).await
    }

    pub(crate) async fn connect_as(
        origin: &str,
        config: Arc<rustls::ClientConfig>,
        initial_streams: usize,
    ) -> Self {
        let io = connect_tls(origin, config).await.unwrap();
        let (send, connection) = h2::client::Builder::new()
            .initial_max_send_streams(initial_streams)
            .enable_push(false)
            .handshake(io)
            .await
            .unwrap();
        Self {
            send,
            ended: tokio::spawn(connection),
        }
    }

    /// Sends a request once a stream is free.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Answer, h2::Error> {
        let exchange = async {
            let mut ready = self.send.clone().ready().await?;
            let (parts, body) = request.into_parts();
            let (response, mut stream) =
                ready.send_request(Request::from_parts(parts, ()), false)?;
            // The server may have answered before it has seen all of the body.
            let sent = stream.send_data(body, true);
            let response = match response.await {
                Ok(response) => response,
                Err(error) => return Err(sent.err().unwrap_or(error)),
            };
            let (head, mut stream) = response.into_parts();
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                body.extend_from_slice(&data?);
            }
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8(body).unwrap(),
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("no answer in time")
    }
}

/// A push that Apple would take, to be spoilt by tests.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

pub(crate) const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

impl Push {
    pub(crate) fn new(provider_token: &str) -> Self {
        Self {
            method: "POST",
            path: format!("/3/device/{DEVICE}"),
            headers: vec![
                ("authorization", format!("bearer {provider_token}")),
                ("apns-topic", "com.example.app".to_owned()),
                ("apns-push-type", "alert".to_owned()),
            ],
            body: Bytes::from_static(br#"{"aps":{"alert":"Hello"}}"#),
        }
    }

    pub(crate) fn set(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.add(name, value)
    }

    pub(crate) fn add(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub(crate) fn to(mut self, device_token: &str) -> Self {
        self.path = format!("/3/device/{device_token}");
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn request(self) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("https://127.0.0.1{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(self.body).unwrap()
    }
}

/// A simulator with one APNs key, a client, and a push that is good there.
pub(crate) struct Apns {
    pub(crate) simulator: Simulator,
    pub(crate) key: ApnsTestKey,
    pub(crate) client: Client,
    pub(crate) good: Push,
}

pub(crate) const TEAM: &str = "TEAM000001";
pub(crate) const KEY: &str = "KEY0000001";

impl Apns {
    pub(crate) async fn start(options: clarion_simulator::Options) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let key = simulator.apns_test_key(TEAM, KEY).unwrap();
        let client = Client::connect(&simulator.apns_origin(), simulator.ca_pem()).await;
        let good = Push::new(&key.provider_token(now_s()).unwrap());
        Self {
            simulator,
            key,
            client,
            good,
        }
    }

    pub(crate) async fn reconnect(&mut self) {
        self.client = Client::connect(&self.simulator.apns_origin(), self.simulator.ca_pem()).await;
    }

    pub(crate) async fn push(&self, push: &Push) -> Result<Answer, h2::Error> {
        self.client.send(push.clone().request()).await
    }

    /// Status and reason of the answer to a push.
    pub(crate) async fn verdict(&self, push: Push) -> (u16, String) {
        let answer = self.client.send(push.request()).await.unwrap();
        (answer.status, answer.reason())
    }
}

pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("not in time")
}
