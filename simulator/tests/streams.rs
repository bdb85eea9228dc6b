//! Connections and streams as clients see them: limits, and every way in which a request can end without an
//! answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use clarion_simulator::{Certificate, Command, Fate, Goaway, Options, ReceiveLog, Simulator};
use futures_util::future::join_all;
use support::{Apns, Client, in_time};

async fn scripted(rules: &str) -> Apns {
    let apns = Apns::start(Options::default()).await;
    apns.simulator.set_rules_toml(rules).unwrap();
    apns
}

/// Makes the connection's first success, which opens up its stream limit.
async fn warm(apns: &Apns) {
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 200);
    in_time(async {
        while apns.client.send.current_max_send_streams() == 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_stream_until_the_first_success() {
    let apns = Apns::start(Options {
        apns_max_streams: 300,
        ..Options::default()
    })
    .await;
    let bad = apns.good.clone().to("bad");
    assert_eq!(apns.push(&bad).await.unwrap().status, 400);
    assert_eq!(apns.client.send.current_max_send_streams(), 1);
    warm(&apns).await;
    assert_eq!(apns.client.send.current_max_send_streams(), 300);
}

#[tokio::test]
async fn streams_above_a_limit_that_is_not_known_yet_are_refused() {
    let mut apns = scripted("[[rule]]\naction = { hang = true }").await;
    let config = support::tls(apns.simulator.ca_pem(), None);
    apns.client = Client::connect_as(&apns.simulator.apns_origin(), config, 50).await;
    let pushes = (0..50).map(|_| apns.push(&apns.good));
    let refused = join_all(pushes.map(|push| async {
        tokio::time::timeout(Duration::from_millis(500), push)
            .await
            .ok()
    }));
    let outcomes = refused.await;
    let errors: Vec<_> = outcomes
        .into_iter()
        .flatten()
        .map(Result::unwrap_err)
        .collect();
    assert_eq!(errors.len(), 49, "all but the first");
    assert!(
        errors
            .iter()
            .all(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
    );
    assert_eq!(apns.simulator.stats().streams_refused, 49);
}

#[tokio::test]
async fn the_stream_limit_changes_while_requests_are_in_flight() {
    let apns = Apns::start(Options::default()).await;
    warm(&apns).await;
    for limit in [1, 1000, 7] {
        assert_eq!(
            apns.simulator.command(Command::StreamLimit(limit)).unwrap(),
            1
        );
        let pushes = (0..20).map(|_| apns.push(&apns.good));
        for answer in join_all(pushes).await {
            assert_eq!(answer.unwrap().status, 200);
        }
        in_time(async {
            while apns.client.send.current_max_send_streams() != limit as usize {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(apns.simulator.stats().stream_limit_violations, 0);
}

#[tokio::test]
async fn resets_are_unprocessed_unless_accepted() {
    let apns = scripted(
        "[[rule]]\nmatch = { nth = 2 }\naction = { rst = 'REFUSED_STREAM' }\n\
         [[rule]]\nmatch = { nth = 2 }\naction = { rst = 'INTERNAL_ERROR', accept = true }",
    )
    .await;
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 200);
    let refused = apns.push(&apns.good).await.unwrap_err();
    assert!(refused.is_reset() && refused.is_remote());
    assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    let ambiguous = apns.push(&apns.good).await.unwrap_err();
    assert_eq!(ambiguous.reason(), Some(h2::Reason::INTERNAL_ERROR));
    let fates: Vec<_> = apns
        .simulator
        .received()
        .iter()
        .map(|one| one.fate)
        .collect();
    assert_eq!(
        fates,
        [Fate::Answer, Fate::Reset],
        "the refused one was not processed"
    );
    let stats = apns.simulator.stats();
    assert_eq!(
        (stats.resets, stats.unprocessed, stats.rule_hits),
        (2, 1, vec![1, 1])
    );
}

#[tokio::test]
async fn a_hanging_request_harms_no_other() {
    let apns =
        scripted("[[rule]]\nmatch = { nth = 2 }\naction = { hang = true, accept = true }").await;
    warm(&apns).await;
    let hanging = apns.push(&apns.good);
    let mut hanging = std::pin::pin!(hanging);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut hanging)
            .await
            .is_err()
    );
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 200);
    assert_eq!(apns.simulator.stats().hangs, 1);
    assert_eq!(apns.simulator.received()[1].fate, Fate::Hang);
}

#[tokio::test]
async fn goaway_parts_the_processed_from_the_unprocessed() {
    for process in [true, false] {
        let apns = Apns::start(Options {
            latency_ms: 20,
            ..Options::default()
        })
        .await;
        warm(&apns).await;
        let rule = "[[rule]]\nmatch.nth = 30\naction.goaway = { reason = 'Shutdown', process = ";
        apns.simulator
            .set_rules_toml(&format!("{rule}{process} }}"))
            .unwrap();
        let outcomes = join_all((0..50).map(|_| apns.push(&apns.good))).await;
        let processed = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(processed, 29 + usize::from(process));
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(error.is_go_away() && error.is_remote(), "{error}");
        }
        let stats = apns.simulator.stats();
        assert_eq!(
            stats.processed,
            1 + processed as u64,
            "and nothing else was logged"
        );
        assert_eq!(stats.goaways, 1);
        in_time(
            apns.simulator
                .wait_until(|stats| stats.connections_open == 0),
        )
        .await;
    }
}

#[tokio::test]
async fn goaway_carries_apples_json_as_debug_data() {
    let apns = Apns::start(Options::default()).await;
    warm(&apns).await;
    let goaway = Goaway {
        code: "ENHANCE_YOUR_CALM".to_owned(),
        reason: Some("IdleTimeout".to_owned()),
        ..Goaway::default()
    };
    assert_eq!(apns.simulator.command(Command::Goaway(goaway)).unwrap(), 1);
    let ended = in_time(apns.client.ended).await.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert!(
        ended
            .to_string()
            .contains(r#"{\"reason\":\"IdleTimeout\"}"#),
        "{ended}"
    );
}

#[tokio::test]
async fn a_cut_connection_leaves_its_requests_unanswered() {
    let apns =
        scripted("[[rule]]\nmatch = { nth = 11 }\naction = { cut = true, accept = true }").await;
    warm(&apns).await;
    let outcomes = join_all((0..10).map(|_| apns.push(&apns.good))).await;
    let lost = outcomes
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    assert!(
        !lost.is_empty() && lost.iter().all(h2::Error::is_io),
        "{lost:?}"
    );
    let received = apns.simulator.received();
    assert_eq!((received.len(), received[10].fate), (11, Fate::Cut));
}

#[tokio::test]
async fn a_frozen_connection_stays_open_and_silent() {
    let apns = scripted("[[rule]]\nmatch.nth = 2\naction = { freeze = true, accept = true }").await;
    warm(&apns).await;
    let waiting = apns.push(&apns.good);
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        outcome = &mut waiting => panic!("an answer from a frozen connection: {outcome:?}"),
        stats = in_time(apns.simulator.wait_received(2)) => assert_eq!(stats.connections_open, 1),
    }
    let later = tokio::time::timeout(Duration::from_millis(50), apns.push(&apns.good)).await;
    assert!(later.is_err(), "{later:?}");
    let stats = apns.simulator.stats();
    assert_eq!(
        (stats.processed, stats.connections_open, stats.hangs),
        (2, 1, 1)
    );
    assert_eq!(apns.simulator.command(Command::Cut).unwrap(), 1);
    assert!(in_time(waiting).await.unwrap_err().is_io());
}

#[tokio::test]
async fn everything_open_can_be_cut_at_once() {
    let apns = Apns::start(Options::default()).await;
    let other = Client::connect(&apns.simulator.apns_origin(), apns.simulator.ca_pem()).await;
    in_time(
        apns.simulator
            .wait_until(|stats| stats.connections_open == 2),
    )
    .await;
    assert_eq!(apns.simulator.command(Command::Cut).unwrap(), 2);
    in_time(
        apns.simulator
            .wait_until(|stats| stats.connections_open == 0),
    )
    .await;
    assert!(other.send(apns.good.clone().request()).await.is_err());
}

#[tokio::test]
async fn answers_wait_for_latency_and_delay() {
    let apns = Apns::start(Options {
        latency_ms: 30,
        ..Options::default()
    })
    .await;
    apns.simulator
        .set_rules_toml(
            "[[rule]]\nmatch = { first = 1 }\naction = { delay_ms = 200, jitter_ms = 50 }",
        )
        .unwrap();
    let timed = || async {
        let start = tokio::time::Instant::now();
        assert_eq!(apns.push(&apns.good).await.unwrap().status, 200);
        start.elapsed()
    };
    assert!(timed().await >= Duration::from_millis(230));
    let quick = timed().await;
    assert!(
        quick >= Duration::from_millis(30) && quick < Duration::from_millis(200),
        "{quick:?}"
    );
}

#[tokio::test]
async fn receipts_are_in_the_file_before_the_answer_is_out() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("receipts.tsv");
    let options = Options {
        log_path: Some(path.clone()),
        log_fsync: true,
        ..Options::default()
    };
    let apns = Apns::start(options).await;
    for sent in 1..=5 {
        let id = format!("00000000-0000-4000-8000-00000000000{sent}");
        let push = apns
            .good
            .clone()
            .set("apns-id", &id)
            .set("apns-collapse-id", "weather");
        assert_eq!(apns.push(&push).await.unwrap().status, 200);
        let read: Vec<_> = ReceiveLog::read(&path)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(read.len(), sent);
        let last = &read[sent - 1];
        assert_eq!(
            (last.seq, last.id.as_str(), last.collapse_id.as_str()),
            (sent as u64, id.as_str(), "weather")
        );
        assert_eq!(last.device_token, support::DEVICE);
    }
    assert_eq!(apns.simulator.received().len(), 5);
}

#[tokio::test]
async fn bad_certificates_are_refused_by_clients() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let config = support::tls(simulator.ca_pem(), None);
    for (certificate, good) in [
        (Certificate::Expired, false),
        (Certificate::WrongName, false),
        (Certificate::UnknownIssuer, false),
        (Certificate::Valid, true),
    ] {
        simulator.set_certificate(certificate).unwrap();
        let outcome = support::connect_tls(&simulator.apns_origin(), config.clone()).await;
        assert_eq!(outcome.is_ok(), good, "{certificate:?}");
    }
}

#[tokio::test]
async fn an_authority_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        ca_path: Some(home.path().join("ca.pem")),
        ..Options::default()
    };
    let first = Simulator::start(options.clone()).await.unwrap();
    let trusted = std::fs::read_to_string(home.path().join("ca.pem")).unwrap();
    assert_eq!(trusted, first.ca_pem());
    first.shutdown().await;
    let second = Simulator::start(options).await.unwrap();
    let config = support::tls(&trusted, None);
    support::connect_tls(&second.apns_origin(), config)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_of_another_protocol_is_sent_away() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let config = support::tls(simulator.ca_pem(), None);
    let mut io = support::connect_tls(&simulator.apns_origin(), config)
        .await
        .unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    io.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    in_time(io.read_to_end(&mut said)).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("not an HTTP/2 preface"));
}

#[tokio::test]
async fn a_thousand_streams_at_once_are_all_answered() {
    let apns = Apns::start(Options {
        latency_ms: 20,
        ..Options::default()
    })
    .await;
    warm(&apns).await;
    let body = Bytes::from(format!(r#"{{"aps":{{"alert":"{}"}}}}"#, "x".repeat(3000)));
    let pushes = (0..3000).map(|_| apns.good.clone().body(body.clone()));
    let answers = join_all(pushes.map(|push| apns.client.send(push.request()))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200))
    );
    assert_eq!(apns.simulator.stats().apns_accepted, 3001);
}
