//! HTTP/2 as no library would speak it: broken limits, split header blocks, tiny windows.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use clarion_simulator::{Options, Simulator};
use support::{Client, DEVICE, Push, in_time, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

struct Raw {
    io: TlsStream<TcpStream>,
}

impl Raw {
    /// A connection that has greeted and acknowledged the server's settings.
    async fn connect(simulator: &Simulator) -> Self {
        let config = support::tls(simulator.ca_pem(), None);
        let io = support::connect_tls(&simulator.apns_origin(), config)
            .await
            .unwrap();
        let mut raw = Self { io };
        raw.send(&[
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[]),
        ])
        .await;
        let (kind, ..) = raw.next_of(SETTINGS).await;
        assert_eq!(kind, SETTINGS);
        raw.send(&[frame(SETTINGS, 1, 0, &[])]).await;
        raw
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.io.write_all(&frames.concat()).await.unwrap();
    }

    /// The next frame: kind, flags, stream, payload.
    async fn next(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        in_time(self.io.read_exact(&mut head)).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        in_time(self.io.read_exact(&mut payload)).await.unwrap();
        (
            head[3],
            head[4],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        )
    }

    /// The next frame of a kind.
    async fn next_of(&mut self, kind: u8) -> (u8, u8, u32, Vec<u8>) {
        loop {
            let next = self.next().await;
            if next.0 == kind {
                return next;
            }
        }
    }
}

/// A header block of a good push, in literals.
fn block(provider_token: &str) -> Vec<u8> {
    let path = format!("/3/device/{DEVICE}");
    let bearer = format!("bearer {provider_token}");
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path.as_str()),
        ("authorization", &bearer),
        ("apns-topic", "com.example.app"),
    ] {
        block.push(0);
        for text in [name, value] {
            match text.len() {
                length @ 0..127 => block.push(length as u8),
                length @ 127..254 => block.extend([127, (length - 127) as u8]),
                length => block.extend([
                    127,
                    ((length - 127) % 128) as u8 | 128,
                    ((length - 127) / 128) as u8,
                ]),
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

async fn start(options: Options) -> (Simulator, Vec<u8>) {
    let simulator = Simulator::start(options).await.unwrap();
    let key = simulator
        .apns_test_key(support::TEAM, support::KEY)
        .unwrap();
    let block = block(&key.provider_token(now_s()).unwrap());
    (simulator, block)
}

const PAYLOAD: &[u8] = br#"{"aps":{}}"#;

fn push(stream: u32, block: &[u8]) -> Vec<u8> {
    [
        frame(HEADERS, 4, stream, block),
        frame(DATA, 1, stream, PAYLOAD),
    ]
    .concat()
}

#[tokio::test]
async fn breaking_an_acknowledged_stream_limit_ends_the_connection() {
    let (simulator, block) = start(Options {
        apns_max_streams: 2,
        ..Options::default()
    })
    .await;
    let mut raw = Raw::connect(&simulator).await;
    raw.send(&[push(1, &block)]).await;
    let (_, flags, stream, payload) = raw.next_of(HEADERS).await;
    assert_eq!((flags & 1, stream, payload[0]), (1, 1, 0x88), "accepted");
    // Acknowledges the raised limit, then has three requests open at once.
    raw.send(&[frame(SETTINGS, 1, 0, &[])]).await;
    raw.send(&[3, 5, 7].map(|stream| frame(HEADERS, 4, stream, &block)))
        .await;
    let (.., payload) = raw.next_of(GOAWAY).await;
    assert_eq!(
        payload[..8],
        [0, 0, 0, 5, 0, 0, 0, 1],
        "the third was not processed"
    );
    assert_eq!(
        &payload[8..],
        br#"{"reason":"Maximum active streams violated"}"#
    );
    let stats = in_time(simulator.wait_until(|stats| stats.connections_open == 0)).await;
    assert_eq!((stats.stream_limit_violations, stats.processed), (1, 1));
}

#[tokio::test]
async fn excess_streams_can_be_refused_instead() {
    let options = Options {
        apns_max_streams: 1,
        refuse_excess_streams: true,
        ..Options::default()
    };
    let (simulator, block) = start(options).await;
    let mut raw = Raw::connect(&simulator).await;
    raw.send(&[push(1, &block)]).await;
    raw.next_of(HEADERS).await;
    raw.send(&[
        frame(HEADERS, 4, 3, &block),
        push(5, &block),
        frame(DATA, 1, 3, PAYLOAD),
    ])
    .await;
    let (_, _, stream, payload) = raw.next_of(RST_STREAM).await;
    assert_eq!((stream, payload), (5, vec![0, 0, 0, 7]));
    assert_eq!(
        raw.next_of(HEADERS).await.2,
        3,
        "the one that was within the limit"
    );
    assert_eq!(simulator.stats().streams_refused, 1);
}

#[tokio::test]
async fn a_header_block_may_come_in_pieces() {
    let (simulator, block) = start(Options::default()).await;
    let mut raw = Raw::connect(&simulator).await;
    // Padded by three octets, with a priority, in three frames.
    let mut first = vec![3, 0, 0, 0, 0, 16];
    first.extend_from_slice(&block[..20]);
    first.extend_from_slice(&[0; 3]);
    let mut padded = vec![2];
    padded.extend_from_slice(PAYLOAD);
    padded.extend_from_slice(&[0; 2]);
    let frames = [
        frame(HEADERS, 0x08 | 0x20, 1, &first),
        frame(CONTINUATION, 0, 1, &block[20..50]),
        frame(CONTINUATION, 4, 1, &block[50..]),
        frame(DATA, 0x08 | 1, 1, &padded),
    ];
    // One octet at a time, so that every boundary is met.
    for octet in frames.concat() {
        raw.io.write_all(&[octet]).await.unwrap();
        raw.io.flush().await.unwrap();
    }
    let (_, _, stream, payload) = raw.next_of(HEADERS).await;
    assert_eq!((stream, payload[0]), (1, 0x88));
    assert_eq!(simulator.received()[0].device_token, DEVICE);
}

#[tokio::test]
async fn broken_frames_end_the_connection() {
    let oversized = vec![1, 0, 0, DATA, 0, 0, 0, 0, 1];
    for (broken, code) in [
        (frame(HEADERS, 4, 2, &[]), 1),
        (frame(DATA, 0, 9, &[]), 1),
        (frame(HEADERS, 4, 1, &[0xff, 0xff, 0xff]), 9),
        (frame(HEADERS, 4 | 8, 1, &[200]), 1),
        (frame(CONTINUATION, 4, 1, &[]), 1),
        (
            [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(),
            1,
        ),
        (frame(PING, 0, 0, &[0; 7]), 6),
        (frame(SETTINGS, 0, 0, &[0; 5]), 6),
        (frame(5, 0, 1, &[0; 8]), 1),
        (oversized, 6),
    ] {
        let (simulator, _) = start(Options::default()).await;
        let mut raw = Raw::connect(&simulator).await;
        raw.send(std::slice::from_ref(&broken)).await;
        let (.., payload) = raw.next_of(GOAWAY).await;
        assert_eq!(
            payload[7],
            code,
            "{broken:?}: {}",
            String::from_utf8_lossy(&payload[8..])
        );
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let (simulator, _) = start(Options::default()).await;
    let mut raw = Raw::connect(&simulator).await;
    raw.send(&[frame(PING, 0, 0, b"are you?")]).await;
    let (_, flags, _, payload) = raw.next_of(PING).await;
    assert_eq!((flags, payload.as_slice()), (1, &b"are you?"[..]));
}

#[tokio::test]
async fn answers_fit_into_tiny_windows() {
    let (simulator, _) = start(Options::default()).await;
    let config = support::tls(simulator.ca_pem(), None);
    let io = support::connect_tls(&simulator.apns_origin(), config)
        .await
        .unwrap();
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(10)
        .initial_max_send_streams(1)
        .handshake(io)
        .await
        .unwrap();
    let client = Client {
        send,
        ended: tokio::spawn(connection),
    };
    let response = async {
        let request = Push::new("x").request().map(|_| ());
        let mut ready = client.send.clone().ready().await.unwrap();
        let (response, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(PAYLOAD.into(), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut read = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            assert!(data.len() <= 10);
            body.flow_control().release_capacity(data.len()).unwrap();
            read.extend_from_slice(&data);
        }
        read
    };
    assert_eq!(
        in_time(response).await,
        br#"{"reason":"InvalidProviderToken"}"#
    );
}
