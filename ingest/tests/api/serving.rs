//! Real connections: HTTP/1.1 and HTTP/2, a graceful end, bodies that come in pieces.
//! It must not know routes beyond one that sends.

use std::time::Duration;

use axum::body::Body;
use clarion_ingest::{router, serve};
use http::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::house::{Caller, House, apns_token};

struct Server {
    at: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn serve_house(house: &House) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = router(house.app.clone());
    let shutdown = async move { drop(stopped.await) };
    let ended = tokio::spawn(serve(listener, router, shutdown, Duration::from_secs(30)));
    Server { at, stop, ended }
}

/// Reads one answer that has a Content-Length.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        let read = stream.read(&mut chunk).await.unwrap();
        text.extend_from_slice(&chunk[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return so_far;
            }
        }
        assert_ne!(read, 0, "the connection ended early: {so_far}");
    }
}

#[tokio::test]
async fn a_push_over_a_real_connection_whose_body_comes_in_pieces() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house.device(&tenant, &key, "ada", &apns_token(1)).await;
    let server = serve_house(&house).await;
    let Caller::Key(key) = key else {
        unreachable!()
    };
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    let head = format!(
        "POST /v1/tenants/{tenant}/notify HTTP/1.1\r\nhost: x\r\nX-API-KEY: {key}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in [r#"{"user"#, r#"_id": "a"#, r#"da"}"#] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains(r#""success":true"#), "{text}");
    // The same connection serves on.
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(answer(&mut stream).await.contains("clarion"));
}

#[tokio::test]
async fn a_stop_lets_a_running_request_end_and_takes_no_new_one() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house.device(&tenant, &key, "ada", &apns_token(1)).await;
    let server = serve_house(&house).await;
    let Caller::Key(key) = key else {
        unreachable!()
    };
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    let body = json!({"user_id": "ada"}).to_string();
    let head = format!(
        "POST /tenants/{tenant}/notify HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so the request is running.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"));
    server.stop.send(()).unwrap();
    // The listener is closed before running requests end.
    while TcpStream::connect(server.at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.contains(r#""success":true"#), "{text}");
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let house = House::open().await;
    let server = serve_house(&house).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    // The client preface and an empty SETTINGS frame; the server answers with its own SETTINGS.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!((frame[3], frame[4] & 1), (4, 0), "{frame:?}");
}

#[tokio::test]
async fn too_many_bodies_at_once_are_503() {
    use clarion_ingest::IngestConfig;
    let config = IngestConfig {
        bodies_in_memory_max: 64 * 1024,
        ..IngestConfig::default()
    };
    let house = House::with(config).await;
    let (tenant, key) = house.tenant().await;
    let Caller::Key(key) = key else {
        unreachable!()
    };
    // A body without a declared length may become as large as its limit, 256 KiB.
    let body = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]));
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/tenants/{tenant}/notify"))
        .header("x-api-key", key)
        .body(body)
        .unwrap();
    let reply = house.send(request).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("2"))
    );
}
