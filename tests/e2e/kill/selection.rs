//! `kill -9` while an audience is paged that nobody lists: every device that fits gets its push, and nobody else.
//! It must not know how the server pages.

use serde_json::{Value, json};

use super::{Phase, Run, finish, ledger};
use crate::harness::{PATIENCE, alone, are_servers, seed, size, until};

/// Devices of one registration.
const REGISTERED_AT_ONCE: usize = 10_000;
/// Times the server is killed while it pages and sends.
const KILLS: u32 = 3;

/// Registers devices: every third subscribes to one of two tags, or to both, and some to others only.
async fn register(run: &Run, tokens: &[String]) -> Vec<String> {
    let calls = run.calls(0);
    let mut meant = Vec::new();
    for (part, some) in tokens.chunks(REGISTERED_AT_ONCE).enumerate() {
        let devices: Vec<Value> = some
            .iter()
            .enumerate()
            .map(|(index, token)| {
                let number = part * REGISTERED_AT_ONCE + index;
                let tags: &[&str] = match number % 6 {
                    0 => &["news", "sports"],
                    1 => &["news"],
                    2 => &["sports", "weather"],
                    3 => &["weather"],
                    _ => &[],
                };
                if number % 6 < 3 {
                    meant.push(token.clone());
                }
                let platform = if token.contains(':') {
                    "android"
                } else {
                    "ios"
                };
                json!({"user_id": format!("user-{number}"), "token": token, "platform": platform,
                    "tags": tags, "app_version": "2.1"})
            })
            .collect();
        let body = json!({"devices": devices});
        let path = calls.path("devices/bulk");
        calls.caller.post(&path, &body).await.ok();
    }
    meant
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_pages_every_device_of_a_selection_once() {
    let _alone = alone().await;
    let mut run = Run::start(seed()).await;
    let devices = size("KILL_SELECTED", 24_000);
    let all = run.compose(0, devices);
    let tokens = std::mem::take(&mut run.sent[all].tokens);
    let meant = register(&run, &tokens).await;
    assert!(meant.len() > 10_000, "{}", meant.len());
    run.sent[all].tokens = meant;

    let calls = run.calls(0);
    let body = json!({"alert": {"title": "Selected"},
        "audience": {"tags": ["sports", "news", "nobody's"], "app_versions": {"min": "2"}}});
    let answer = calls
        .caller
        .post(&calls.path("notify/bulk"), &body)
        .await
        .ok();
    assert_eq!(
        (&answer["total"], &answer["results"]),
        (&json!(0), &json!([]))
    );
    let id = answer["message_id"].as_str().unwrap().to_owned();
    run.sent[all].id = Some(id.clone());

    let mut paging = 0;
    for _ in 0..KILLS {
        let hit = run.kill_in(Phase::Sending).await;
        // On servers the claims of a process that died hold for a while, in which nothing need be sent.
        assert!(hit || are_servers(), "it was through before");
        // Some of it was not even read when the server died.
        let status = until("the status after the kill", PATIENCE, || async {
            let status = run.calls(0).status(&id).await;
            (status["state"] == "running").then_some(status)
        })
        .await;
        paging += u32::from(status["paging"] == true);
    }
    assert!(paging >= 1, "the server never died while it paged");
    let statuses = finish(&run, PATIENCE * 2).await;
    assert_eq!(statuses[0]["paging"], false);
    run.server.stop().await;
    let found = ledger::compare(&run.providers.log(), &run.sent, &run.kills, seed());
    ledger::report(&found, &run.kills, run.sent[all].tokens.len() as u64);
    ledger::assert_kept(&found, &run.sent, &statuses, seed());
}
