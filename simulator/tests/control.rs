//! The control API as a client of plain HTTP sees it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use clarion_simulator::{ApnsTestKey, FcmTestAccount, Options};
use serde_json::{Value, json};
use support::{Apns, Push, in_time, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One exchange: status, and the body as JSON or else as a string.
async fn call(apns: &Apns, request: &str, kind: &str, body: &str) -> (u16, Value) {
    let url = apns.simulator.control_url();
    let mut io = TcpStream::connect(url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {length}\r\n\r\n"
    );
    io.write_all((head + body).as_bytes()).await.unwrap();
    let mut said = String::new();
    in_time(io.read_to_string(&mut said)).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())),
    )
}

async fn get(apns: &Apns, path: &str) -> Value {
    let (status, body) = call(apns, &format!("GET {path}"), "text/plain", "").await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn it_tells_where_things_are_and_what_happened() {
    let apns = Apns::start(Options::default()).await;
    let places = get(&apns, "/").await;
    assert_eq!(places["apns"], json!(apns.simulator.apns_origin()));
    assert_eq!(places["token_url"], json!(apns.simulator.fcm_token_url()));
    assert_eq!(get(&apns, "/ca.pem").await, json!(apns.simulator.ca_pem()));
    for _ in 0..3 {
        assert_eq!(apns.push(&apns.good).await.unwrap().status, 200);
    }
    assert_eq!(get(&apns, "/stats").await["apns_accepted"], json!(3));
    let received = get(&apns, "/received?after=1&limit=1").await;
    assert_eq!(
        (received.as_array().unwrap().len(), &received[0]["seq"]),
        (1, &json!(2))
    );
    assert_eq!(received[0]["device_token"], json!(support::DEVICE));
    assert_eq!(call(&apns, "POST /reset", "text/plain", "").await.0, 204);
    let stats = get(&apns, "/stats").await;
    assert_eq!(
        (&stats["apns_accepted"], &stats["connections_open"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(get(&apns, "/received").await, json!([]));
}

#[tokio::test]
async fn rules_are_put_as_toml_or_json() {
    let apns = Apns::start(Options::default()).await;
    let toml =
        "seed = 3\n[[rule]]\nname = 'full'\nmatch.first = 1\naction.reason = 'TooManyRequests'\n";
    let (status, put) = call(&apns, "PUT /rules", "application/toml", toml).await;
    assert_eq!(status, 200, "{put}");
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 429);
    assert_eq!(
        apns.push(&apns.good).await.unwrap().status,
        200,
        "only once"
    );
    let rules = get(&apns, "/rules").await;
    assert_eq!(rules, put);
    assert_eq!(get(&apns, "/stats").await["rule_hits"], json!([1]));

    let (status, _) = call(&apns, "PUT /rules", "application/json", &rules.to_string()).await;
    assert_eq!(status, 200, "what was read can be put again");
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 429);
    for bad in [
        "[[rule]]\nmatch.share = 2",
        "[[rule]]\naction.rst = 'NO'",
        "[[rule]]\naction.goaway.code = 'NO'",
        "[[rule]]\naction.status = 1000",
        "[[rule]]\nmatch.nth = 0",
        "[[rule]]\naction = { hang = true, cut = true }",
        "[[rule]]\nmatch.tokn = 'x'",
        "[[",
    ] {
        let (status, said) = call(&apns, "PUT /rules", "text/plain", bad).await;
        assert_eq!(status, 422, "{bad}: {said}");
        assert!(
            said["detail"]
                .as_str()
                .unwrap()
                .starts_with("the rules are not usable"),
            "{said}"
        );
    }
    assert_eq!(
        get(&apns, "/rules").await,
        rules,
        "bad rules change nothing"
    );
}

#[tokio::test]
async fn credentials_and_the_clock_are_steered() {
    let apns = Apns::start(Options::default()).await;
    let key = ApnsTestKey::generate("TEAM000009", "KEY0000009").unwrap();
    let push = Push::new(&key.provider_token(now_s()).unwrap());
    let body =
        json!({ "team_id": key.team_id, "key_id": key.key_id, "pem": key.p8_pem }).to_string();
    assert_eq!(
        call(&apns, "PUT /credentials/apns", "application/json", &body)
            .await
            .0,
        204
    );
    assert_eq!(apns.verdict(push.clone()).await.0, 200);
    let broken = body.replace("PRIVATE", "PRIVY");
    assert_eq!(
        call(&apns, "PUT /credentials/apns", "application/json", &broken)
            .await
            .0,
        422
    );

    let ahead = json!({ "offset_ms": 7_200_000 }).to_string();
    assert_eq!(
        call(&apns, "PUT /clock", "application/json", &ahead)
            .await
            .0,
        204
    );
    assert_eq!(apns.verdict(push.clone()).await.1, "ExpiredProviderToken");
    call(
        &apns,
        "PUT /clock",
        "application/json",
        r#"{"offset_ms":0}"#,
    )
    .await;

    let path = "DELETE /credentials/apns/TEAM000009/KEY0000009";
    assert_eq!(call(&apns, path, "text/plain", "").await.0, 204);
    assert_eq!(call(&apns, path, "text/plain", "").await.0, 404);
    assert_eq!(apns.verdict(push).await.1, "InvalidProviderToken");

    let account = FcmTestAccount::generate("p", "unused")
        .unwrap()
        .service_account_json;
    assert_eq!(
        call(&apns, "PUT /credentials/fcm", "application/json", &account)
            .await
            .0,
        204
    );
    let path = "DELETE /credentials/fcm/push@p.iam.gserviceaccount.com";
    assert_eq!(call(&apns, path, "text/plain", "").await.0, 204);
}

#[tokio::test]
async fn open_connections_are_steered() {
    let mut apns = Apns::start(Options::default()).await;
    assert_eq!(apns.verdict(apns.good.clone()).await.0, 200);
    let bad = r#"{"goaway":{"code":"NO"}}"#;
    assert_eq!(
        call(&apns, "POST /connections", "application/json", bad)
            .await
            .0,
        422
    );
    let cut = call(&apns, "POST /connections", "application/json", r#""cut""#).await;
    assert_eq!(cut, (200, json!({ "connections": 1 })));
    in_time(
        apns.simulator
            .wait_until(|stats| stats.connections_open == 0),
    )
    .await;
    apns.reconnect().await;
    assert_eq!(apns.verdict(apns.good.clone()).await.0, 200);
}
