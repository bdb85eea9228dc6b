//! The fast sink as clients see it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use clarion_simulator::{FastSink, SinkOptions};
use futures_util::future::join_all;
use http::Request;
use support::{Client, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

fn request(body: usize) -> Request<Bytes> {
    Request::post("https://127.0.0.1/3/device/00")
        .header("apns-topic", "com.example.app")
        .header("apns-id", "123e4567-e89b-12d3-a456-42661417400a")
        .body(Bytes::from(vec![b'x'; body]))
        .unwrap()
}

#[tokio::test]
async fn everything_is_answered_and_counted() {
    let sink = FastSink::start(SinkOptions {
        threads: 2,
        ..SinkOptions::default()
    })
    .unwrap();
    let connect = || async { Client::connect(&sink.origin(), sink.ca_pem()).await };
    let (one, two) = (connect().await, connect().await);
    // More octets than the window a connection starts with, and bodies of several frames.
    for size in [0, 200, 4096, 40_000] {
        let requests = (0..500).map(|nth| if nth % 2 == 0 { &one } else { &two });
        for answer in join_all(requests.map(|client| client.send(request(size)))).await {
            assert_eq!(answer.unwrap().status, 200);
        }
    }
    assert_eq!((sink.requests(), sink.connections()), (2000, 2));
    assert_eq!(one.send.current_max_send_streams(), 1000);
}

#[tokio::test]
async fn latency_is_kept() {
    let sink = FastSink::start(SinkOptions {
        latency_ms: 40,
        ..SinkOptions::default()
    })
    .unwrap();
    let client = Client::connect(&sink.origin(), sink.ca_pem()).await;
    let start = Instant::now();
    let answers = join_all((0..300).map(|_| client.send(request(100)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(start.elapsed() >= Duration::from_millis(40));
    in_time(sink.wait_requests(300)).await;
}

#[tokio::test]
async fn it_speaks_in_the_clear_and_breaks_off_other_protocols() {
    let sink = FastSink::start(SinkOptions {
        tls: false,
        ..SinkOptions::default()
    })
    .unwrap();
    let origin = sink.origin();
    let address = origin.strip_prefix("http://").unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
    let driver = tokio::spawn(connection);
    let (response, _) = send.send_request(request(0).map(|_| ()), true).unwrap();
    assert_eq!(in_time(response).await.unwrap().status(), 200);

    let mut other = TcpStream::connect(address).await.unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: somewhere\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    in_time(other.read_to_end(&mut said)).await.unwrap();
    drop(sink);
    assert!(
        in_time(driver).await.is_ok(),
        "the connection ends with the sink"
    );
}
