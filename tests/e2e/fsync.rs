//! A success answer follows a synchronisation with the disk: seen in a trace of the server's system calls.
//! It must not know which file is synchronised.

use std::path::Path;

use clarion_simulator::Simulator;
use serde_json::json;

use crate::harness::{Calls, ORG, PATIENCE, Server, Setup, Tenant, apple, raw, seed, size, until};

/// What the trace shows of a request on its way in, and of its answer.
const REQUEST: &str = "\"POST /tenants/";
const SENDING: &str = "/notify";
const ANSWER: &str = "\"HTTP/1.1 200 OK";

/// Requests answered with success, and those of them without a synchronisation between request and answer.
fn read(trace: &Path) -> (u64, u64) {
    let text = std::fs::read(trace).unwrap();
    let text = String::from_utf8_lossy(&text);
    let (mut answered, mut unsynced) = (0, 0);
    let mut request: Option<bool> = None;
    for line in text.lines() {
        let is_sync = (line.contains("fsync") || line.contains("fdatasync"))
            && line.trim_end().ends_with("= 0");
        if line.contains(REQUEST) && line.contains(SENDING) {
            request = Some(false);
        } else if is_sync {
            request = request.map(|_| true);
        } else if line.contains(ANSWER)
            && let Some(synced) = request.take()
        {
            answered += 1;
            unsynced += u64::from(!synced);
        }
    }
    (answered, unsynced)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_success_answer_follows_a_synchronisation() {
    let requests = size("FSYNC_REQUESTS", 0);
    if requests == 0 {
        println!("fsync: needs strace; run it with scripts/proof/fsync");
        return;
    }
    let simulator = Simulator::start(clarion_simulator::Options::default())
        .await
        .unwrap();
    // Nothing is ever answered, so that nothing but the requests themselves is written down.
    simulator
        .set_rules_toml("[[rule]]\naction = { hang = true }\n")
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("trace");
    let calls = "trace=fsync,fdatasync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg";
    let wrapper = [
        "strace",
        "-D",
        "-f",
        "-s",
        "64",
        "-e",
        calls,
        "-o",
        trace.to_str().unwrap(),
    ];
    let setup = Setup::quick().with("connections.request_timeout", "60s");
    let mut server = Server::start(setup.towards(&simulator).wrapped(&wrapper)).await;
    let person = server.caller().bearer(&server.access_token(ORG, "owner"));
    let key = simulator.apns_test_key("TEAM000000", "APNS000000").unwrap();
    let body = json!({"org_id": ORG, "bundle_id": "com.example.app", "team_id": "TEAM000000",
        "key_id": "APNS000000", "private_key": key.p8_pem, "use_sandbox": false});
    let made = person.post("/tenants", &body).await.ok();
    let id = made["tenant_id"].as_str().unwrap();
    let (_, key) = Tenant::new_key(&person, id).await;
    let calls = Calls::new(server.caller().api_key(&key), id);
    for number in 0..requests {
        let tokens: Vec<String> = match number % 4 {
            // Beyond one job: kept in the store, not in the queue.
            3 => (0..600).map(|more| apple(seed(), 1_000 + more)).collect(),
            _ => vec![apple(seed(), number)],
        };
        let body = json!({"device_tokens": raw(&tokens), "alert": {"title": "Sync"}});
        calls.bulk(&body).await;
        // The tracer writes beside the server: the next request must not overtake the line of this answer.
        let line = until("the answer's line in the trace", PATIENCE, || async {
            (read(&trace).0 > number).then_some(())
        });
        line.await;
    }
    let (answered, unsynced) = read(&trace);
    server.kill9();
    println!("fsync: {answered} success answers, {unsynced} without a synchronisation before them");
    assert_eq!((answered, unsynced), (requests, 0));
}
