//! A body of 100 MB is refused, whether its length is declared or not, and costs less than 32 MiB.
//! It must not know how bodies are read. Alone in its process, because it measures the process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api/house.rs"]
#[allow(
    dead_code,
    reason = "shared with the suite of the API, which uses all of it"
)]
mod house;

use std::time::Duration;

use clarion_ingest::{router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use house::{Caller, House};

const BODY: usize = 100 * 1024 * 1024;
const GROWTH_KIB_MAX: u64 = 32 * 1024;
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends the whole body before it reads the answer, as simple clients do.
async fn upload(at: std::net::SocketAddr, head: &str, chunked: bool) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..BODY / PIECE.len() {
        if chunked {
            stream.write_all(b"10000\r\n").await.unwrap();
        }
        stream.write_all(&PIECE).await.unwrap();
        if chunked {
            stream.write_all(b"\r\n").await.unwrap();
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let mut answer = vec![0; 4_096];
    let read = stream.read(&mut answer).await.unwrap();
    answer.truncate(read);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_of_100_mb_costs_less_than_32_mib() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let before = house.counts(&tenant).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let forever = std::future::pending();
    tokio::spawn(serve(
        listener,
        router(house.app.clone()),
        forever,
        Duration::from_secs(1),
    ));
    let Caller::Key(key) = key else {
        unreachable!()
    };
    for path in ["notify", "notify/bulk", "devices/bulk"] {
        for length in [
            format!("content-length: {BODY}"),
            "transfer-encoding: chunked".to_owned(),
        ] {
            let head = format!(
                "POST /tenants/{tenant}/{path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\
                 content-type: application/json\r\n{length}\r\n\r\n"
            );
            // 5 resets the peak.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let resident = status_kib("VmRSS:");
            let answer = upload(at, &head, length.starts_with("transfer")).await;
            let grown = status_kib("VmHWM:").saturating_sub(resident);
            assert!(
                answer.starts_with("HTTP/1.1 413 "),
                "{path} {length}: {answer}"
            );
            assert!(grown < GROWTH_KIB_MAX, "{path} {length}: {grown} KiB");
        }
    }
    assert_eq!(house.counts(&tenant).await, before);
}
