//! The client commands against a server that answers as the documents say: what is sent, printed and returned.
//! It must not need a running Clarion.
#![allow(clippy::unwrap_used)]

mod clients;
mod people;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use clap::Parser;
use serde_json::{Value, json};

use super::{Cli, Error};
use crate::terminal::{Buffer, Terminal};

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    line: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Arrived {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Default)]
struct Answers {
    planned: Arc<Mutex<VecDeque<(u16, Value)>>>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

async fn answer(State(answers): State<Answers>, request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 32 << 20).await.unwrap();
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_string();
    answers.arrived.lock().unwrap().push(Arrived {
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let (status, body) = answers.planned.lock().unwrap().pop_front().unwrap();
    let answer = axum::response::Response::builder().status(status);
    let answer = answer
        .header("retry-after", "7")
        .header("x-request-id", "r-1");
    answer
        .body(axum::body::Body::from(body.to_string()))
        .unwrap()
}

/// What a command did.
struct Ran {
    result: Result<(), Error>,
    arrived: Vec<Arrived>,
    out: String,
    talk: String,
}

/// Runs a line against a server with these answers. A vertical bar stands for a space within an argument.
fn run(line: &str, planned: &[(u16, Value)]) -> Ran {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let answers = Answers {
        planned: Arc::new(Mutex::new(planned.to_vec().into())),
        ..Answers::default()
    };
    let router = Router::new().fallback(answer).with_state(answers.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await });
    let words = std::iter::once("clarion".to_string())
        .chain(line.split(' ').map(|word| word.replace('|', " ")))
        .chain([
            if line.starts_with("dead") {
                "--admin-url"
            } else {
                "--url"
            }
            .to_string(),
            url,
        ]);
    let (out, talk) = (Buffer::default(), Buffer::default());
    let mut terminal = Terminal::into_buffers(out.clone(), talk.clone());
    let result = Cli::try_parse_from(words)
        .unwrap()
        .run(&mut terminal, 1_700_000_000_000);
    let arrived = answers.arrived.lock().unwrap().clone();
    Ran {
        result,
        arrived,
        out: out.text(),
        talk: talk.text(),
    }
}

const KEY: &str = "--tenant t1 --api-key msk_live_k";

#[test]
fn a_push_is_sent_with_the_key_and_prints_its_id() {
    let line = format!(
        "push send --user u|1 --title Hello --payload {{\"a\":1}} --idempotency-key i-1 {KEY}"
    );
    let ran = run(
        &line,
        &[(
            200,
            json!({"success": true, "message_id": "m-1", "error": null}),
        )],
    );
    ran.result.unwrap();
    assert_eq!(ran.out, "m-1\n");
    let request = &ran.arrived[0];
    assert_eq!(request.line, "POST /tenants/t1/notify");
    assert_eq!(request.header("x-api-key"), Some("msk_live_k"));
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("idempotency-key"), Some("i-1"));
    assert_eq!(
        request.body,
        json!({"user_id": "u 1", "alert": {"title": "Hello"}, "data": {"a": 1}})
    );
}

#[test]
fn a_push_that_nobody_gets_ends_with_one() {
    let answer = json!({"success": false, "message_id": null, "error": "user has no device"});
    let ran = run(
        &format!("push send --user u --silent {KEY}"),
        &[(200, answer)],
    );
    let error = ran.result.unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (1, "not sent: user has no device")
    );
    assert_eq!(ran.out, "");
}

#[test]
fn refusals_become_exit_codes_and_advice() {
    for (status, code, says) in [
        (429, 75, "try again in 7 s"),
        (503, 75, "try again in 7 s"),
        (401, 1, "clarion token mint"),
        (403, 1, "the tenant's own API key"),
        (422, 1, "the server answered 422: body.user_id: is empty"),
    ] {
        let detail =
            json!({"detail": [{"loc": ["body", "user_id"], "msg": "is empty", "type": "value"}]});
        let ran = run(
            &format!("push send --user u --title T {KEY}"),
            &[(status, detail)],
        );
        let error = ran.result.unwrap_err();
        assert_eq!(error.exit_code(), code, "{status}");
        let text = error.to_string();
        assert!(
            text.contains(says) && text.ends_with("request id r-1"),
            "{status}: {text}"
        );
        assert!(!text.contains("msk_live"), "{text}");
    }
}

#[test]
fn a_server_that_is_not_there_is_temporary() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut terminal = Terminal::into_buffers(Buffer::default(), Buffer::default());
    let cli =
        Cli::try_parse_from(["clarion", "healthcheck", "--url", "http://127.0.0.1:1"]).unwrap();
    let error = cli.run(&mut terminal, 0).unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(
        error
            .to_string()
            .starts_with("http://127.0.0.1:1 does not answer ("),
        "{error}"
    );
    let ran = run("healthcheck", &[(503, json!({"detail": "starting"}))]);
    assert_eq!(ran.result.unwrap_err().exit_code(), 75);
    assert_eq!(
        run("healthcheck", &[(200, json!({"status": "ready"}))]).out,
        "ready\n"
    );
}

#[test]
fn a_bulk_from_a_file_goes_in_pieces_with_keys_that_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.txt");
    let users: String = (0..100_001).map(|n| format!("user-{n}\n")).collect();
    std::fs::write(&path, users).unwrap();
    let line = format!(
        "push bulk --file {} --title T --idempotency-key k {KEY}",
        path.display()
    );
    let accepted = |total: u64, id: &str| {
        (
            200,
            json!({"total": total, "success": total, "failed": 0,
                   "results": [{"success": true, "message_id": id}]}),
        )
    };
    let ran = run(&line, &[accepted(100_000, "n1"), accepted(1, "n2")]);
    ran.result.unwrap();
    assert_eq!(ran.out, "n1\nn2\n");
    assert_eq!(
        ran.talk,
        "100001 recipients accepted and stored in 2 notifications\n"
    );
    let keys: Vec<_> = ran
        .arrived
        .iter()
        .map(|request| request.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(keys, ["k-1", "k-2"]);
    assert_eq!(
        ran.arrived[0].body["user_ids"].as_array().unwrap().len(),
        100_000
    );
    assert_eq!(ran.arrived[1].body["user_ids"], json!(["user-100000"]));

    let interrupted = run(
        &line,
        &[accepted(100_000, "n1"), (503, json!({"detail": "full"}))],
    );
    assert_eq!(interrupted.result.unwrap_err().exit_code(), 75);
    assert_eq!(
        interrupted.talk,
        "100000 recipients were accepted; repeat with --idempotency-key k\n"
    );
    let refused = run(&line, &[(401, json!({"detail": "no"}))]);
    assert_eq!(
        (
            refused.result.unwrap_err().exit_code(),
            refused.talk.as_str()
        ),
        (1, "")
    );
}

#[test]
fn an_empty_bulk_is_refused_before_any_request() {
    let ran = run(&format!("push bulk --users ,|, --title T {KEY}"), &[]);
    assert_eq!(ran.result.unwrap_err().exit_code(), 2);
    assert!(ran.arrived.is_empty());
}

#[test]
fn a_new_key_is_data_and_the_advice_is_talk() {
    let answer = json!({"key_id": "key_Ab3dEf9z", "key": "msk_live_new", "name": "backend server",
                        "created_at": "2026-01-01T00:00:00Z"});
    let ran = run(
        "tenant api-key t1 --name backend|server --access-token jwt",
        &[(200, answer)],
    );
    ran.result.unwrap();
    assert_eq!(ran.out, "msk_live_new\n");
    assert!(
        ran.talk.contains("the only time the key is shown") && !ran.talk.contains("msk_live_new")
    );
    assert_eq!(ran.arrived[0].line, "POST /tenants/t1/api-keys");
    assert_eq!(ran.arrived[0].header("authorization"), Some("Bearer jwt"));
    assert_eq!(ran.arrived[0].body, json!({"name": "backend server"}));
}

#[test]
fn devices_are_registered_from_files_and_listed_as_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("devices.csv");
    std::fs::write(
        &path,
        "user_id,token,platform\nada,aa,ios\ngrace,b:b,android\n",
    )
    .unwrap();
    let ran = run(
        &format!("device register --file {} {KEY}", path.display()),
        &[(200, json!({}))],
    );
    ran.result.unwrap();
    assert_eq!(ran.arrived[0].line, "POST /tenants/t1/devices/bulk");
    assert_eq!(
        ran.arrived[0].body,
        json!({"devices": [{"user_id": "ada", "token": "aa", "platform": "ios"},
                           {"user_id": "grace", "token": "b:b", "platform": "android"}]})
    );
    assert_eq!(ran.talk, "2 devices registered\n");

    std::fs::write(&path, "user_id,token,platform\nada,aa\n").unwrap();
    let ran = run(
        &format!("device register --file {} {KEY}", path.display()),
        &[],
    );
    assert!(
        ran.result
            .unwrap_err()
            .to_string()
            .ends_with("devices.csv:2: 2 values for 3 columns")
    );

    let listed = json!({"devices": [{"user_id": "ada", "token": "aa", "platform": "ios", "app_version": null,
                                     "environment": "production", "updated_at": "2026-01-01T00:00:00Z"}],
                        "next_cursor": "7"});
    let ran = run(&format!("device list --user ada {KEY}"), &[(200, listed)]);
    assert_eq!(
        ran.out,
        "USER  PLATFORM  ENVIRONMENT  VERSION  UPDATED               DEVICE TOKEN\n\
         ada   ios       production   -        2026-01-01T00:00:00Z  aa\n"
    );
    assert_eq!(
        ran.arrived[0].line,
        "GET /tenants/t1/devices?limit=100&user_id=ada"
    );
}

#[test]
fn limits_are_shown_or_changed_one_by_one() {
    let answer = json!({"tenant_id": "t1", "limits": {"rate": 50, "burst": null}});
    let ran = run(
        "tenant limits t1 --rate 50 --burst default --access-token jwt",
        &[(200, answer.clone())],
    );
    ran.result.unwrap();
    assert_eq!(ran.arrived[0].line, "PATCH /tenants/t1");
    assert_eq!(
        ran.arrived[0].body,
        json!({"limits": {"rate": 50, "burst": null}})
    );
    assert_eq!(ran.out, "rate   50\nburst  default\n");
    let ran = run("tenant limits t1 --access-token jwt", &[(200, answer)]);
    assert_eq!(ran.arrived[0].line, "GET /tenants/t1");
}

#[test]
fn a_tenant_is_not_deleted_without_a_word() {
    let ran = run("tenant delete t1 --access-token jwt", &[]);
    assert_eq!(
        ran.result.unwrap_err().to_string(),
        "nobody to ask: give --yes"
    );
    assert!(ran.arrived.is_empty());
    let ran = run(
        "tenant delete t1 --yes --access-token jwt",
        &[(200, json!({}))],
    );
    assert_eq!(ran.arrived[0].line, "DELETE /tenants/t1");
}

#[test]
fn pages_are_walked_to_the_end_and_a_watched_notification_to_its_finish() {
    let id = "0190a0a0-0000-7000-8000-000000000000";
    let page = |entry: u32, next: Value| {
        let failure = json!({"entry": entry, "user_id": "ada", "platform": "ios", "token": "aa",
                             "state": "rejected", "reason": "BadTopic"});
        (200, json!({"failures": [failure], "next_cursor": next}))
    };
    let ran = run(
        &format!("push failures {id} --all {KEY}"),
        &[page(0, json!("9")), page(1, Value::Null)],
    );
    ran.result.unwrap();
    assert_eq!(
        ran.out,
        "ENTRY  USER  PLATFORM  STATE     REASON    DEVICE TOKEN\n\
         0      ada   ios       rejected  BadTopic  aa\n\
         1      ada   ios       rejected  BadTopic  aa\n"
    );
    assert_eq!(
        ran.arrived[1].line,
        format!("GET /tenants/t1/notifications/{id}/failures?limit=100&cursor=9")
    );
    let ran = run(&format!("push failures {id} {KEY}"), &[page(0, json!("9"))]);
    assert_eq!(ran.talk, "more: --cursor 9, or --all\n");

    let running = (
        200,
        json!({"state": "running", "entries": 2, "recipients": 2, "accepted": 1}),
    );
    let finished = (200, json!({"state": "finished", "accepted": 2}));
    let ran = run(
        &format!("push status {id} --watch {KEY}"),
        &[running, finished],
    );
    ran.result.unwrap();
    assert_eq!(ran.out, "state     finished\naccepted  2\n");
}

#[test]
fn dead_letters_are_read_and_replayed_over_the_operators_listener() {
    let row = json!({"id": 7, "at": "2026-01-01T00:00:00Z", "reason": "poison", "detail": "d",
                     "origin": "internal", "recipients": 3, "replays": 0});
    let listed = (200, json!({"dead": [row], "next_cursor": null}));
    let person = "--tenant t1 --access-token jwt";
    let ran = run(&format!("dead list --reason poison {person}"), &[listed]);
    assert_eq!(
        ran.arrived[0].line,
        "GET /operate/tenants/t1/dead?limit=100&reason=poison"
    );
    assert_eq!(ran.arrived[0].header("authorization"), Some("Bearer jwt"));
    assert!(
        ran.out
            .contains("7   2026-01-01T00:00:00Z  poison  internal  3           0        d"),
        "{}",
        ran.out
    );

    let row = json!({"id": 8, "tenant_id": "unroutable", "at": "2026-01-01T00:00:00Z",
                     "reason": "invalid_routing_key", "routing_key": "a b", "detail": "d"});
    let listed = (200, json!({"dead": [row], "next_cursor": null}));
    let ran = run("dead list --all-tenants --access-token jwt", &[listed]);
    assert_eq!(ran.arrived[0].line, "GET /operate/dead?limit=100");
    let shown = "8   unroutable  2026-01-01T00:00:00Z  invalid_routing_key  a b          d";
    assert!(ran.out.contains(shown), "{}", ran.out);

    let part = |replayed: u64, more: bool| {
        (
            200,
            json!({"replayed": replayed, "skipped": 1, "more": more}),
        )
    };
    let ran = run(
        &format!("dead replay --all {person}"),
        &[part(500, true), part(20, false)],
    );
    ran.result.unwrap();
    assert_eq!(ran.talk, "520 replayed, 1 cannot be replayed and stay\n");
    assert_eq!(ran.arrived[0].body, json!({"all": true}));
    let stuck = run(&format!("dead replay --all {person}"), &[part(0, true)]);
    assert_eq!(stuck.talk, "0 replayed, 1 cannot be replayed and stay\n");

    let ran = run(
        &format!("dead purge 7 8 --yes {person}"),
        &[(200, json!({"purged": 2}))],
    );
    assert_eq!(ran.arrived[0].body, json!({"ids": [7, 8]}));
    assert_eq!(ran.talk, "2 deleted\n");
    assert_eq!(
        run(&format!("dead purge 7 {person}"), &[])
            .result
            .unwrap_err()
            .exit_code(),
        2
    );
}
