//! What a broker can do to its clients while it lives: restart, lose a queue, a binding or a channel, time a consumer
//! out, or fall silent. It must not know how anybody reconnects.

use std::time::Duration;

use clarion_simulator::Options;
use serde_json::{Value, json};

use super::cluster::{Cluster, Ledger, Parts, UNRECORDED_MAX};
use crate::harness::{Answer, Calls, PATIENCE, alone, apple, raw, seed, size, until};

/// How soon a refusal must come once the broker is lost.
pub(super) const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// How soon clients are back at work after the fault is gone.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(20);
/// As long as two heartbeats and more: both sides have given the connection up.
const SILENCE: Duration = Duration::from_secs(25);

pub(super) fn options() -> Options {
    Options {
        latency_ms: 50,
        ..Options::default()
    }
}

fn push(number: u64) -> Value {
    let token = apple(seed() + 1, number);
    json!({"device_tokens": raw(std::slice::from_ref(&token)), "alert": {"title": "Hi"}})
}

/// A push that is answered within `limit`, whatever the answer.
pub(super) async fn answered(calls: &Calls, number: u64, limit: Duration) -> Answer {
    let (path, body) = (calls.path("notify"), push(number));
    tokio::time::timeout(limit, calls.caller.post(&path, &body))
        .await
        .expect("an answer")
}

/// Waits until a push is taken and arrives; how often it was taken, though the answer may have been a refusal, is not asked.
pub(super) async fn back_at_work(cluster: &Cluster, calls: &Calls, number: u64, limit: Duration) {
    until("a push to be taken", limit, || async {
        (answered(calls, number, limit).await.status == 200).then_some(())
    })
    .await;
    let token = apple(seed() + 1, number);
    until("it to arrive", limit, || async {
        cluster.accepted().contains_key(&token).then_some(())
    })
    .await;
}

/// A bulk that is under way.
struct Flood {
    calls: Calls,
    id: String,
    total: u64,
}

impl Flood {
    async fn start(cluster: &Cluster, total: u64) -> Self {
        let tenant = cluster.world.tenant().await;
        let calls = cluster.world.calls(&tenant);
        let tokens: Vec<String> = (0..total).map(|number| apple(seed(), number)).collect();
        let id = calls.alert_to(&tokens).await;
        cluster.reached(total / 4, PATIENCE).await;
        Self { calls, id, total }
    }

    /// All of it has arrived, and little of it twice.
    async fn arrives(&self, cluster: &Cluster, duplicates_max: u64) {
        let status = self.calls.finished_within(&self.id, PATIENCE * 2).await;
        assert_eq!(status["accepted"], self.total, "{status}");
        let accepted = cluster.accepted();
        let copies = (0..self.total).map(|number| accepted.get(&apple(seed(), number)).copied());
        let copies: Vec<u64> = copies.map(Option::unwrap_or_default).collect();
        assert!(copies.iter().all(|copies| *copies > 0));
        let duplicates = copies.iter().sum::<u64>() - self.total;
        println!("scale: {} recipients, {duplicates} duplicates", self.total);
        assert!(duplicates <= duplicates_max, "{duplicates}");
    }
}

fn total() -> u64 {
    size("SCALE_FAULT", 40_000)
}

/// An orderly restart under load: refusals with a time to wait, then work as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_is_found_again() {
    let _alone = alone().await;
    let cluster = Cluster::start(2, options(), |setup| setup).await;
    let flood = Flood::start(&cluster, total()).await;
    cluster.settle();
    cluster.rabbit.ctl(&["stop_app"]);
    let refused = answered(&flood.calls, 0, REFUSED_WITHIN).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_ne!(refused.header("retry-after"), "");
    cluster.rabbit.ctl(&["start_app"]);
    back_at_work(&cluster, &flood.calls, 0, BACK_WITHIN).await;
    flood.arrives(&cluster, 2 * UNRECORDED_MAX).await;
}

/// Somebody deletes a tenant's queues: they are made again, and the next push arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again() {
    let _alone = alone().await;
    let cluster = Cluster::start(2, options(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    back_at_work(&cluster, &calls, 0, BACK_WITHIN).await;
    let queues = cluster.rabbit.ctl(&["list_queues", "name"]);
    let mine: Vec<&str> = queues
        .lines()
        .filter(|name| name.contains(&tenant.id))
        .collect();
    assert!(!mine.is_empty(), "{queues}");
    for queue in mine {
        cluster.rabbit.ctl(&["delete_queue", queue]);
    }
    back_at_work(&cluster, &calls, 1, BACK_WITHIN).await;
}

/// Somebody removes the bindings of the ready-queues: nothing is confirmed that goes nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_routed_is_not_accepted() {
    let _alone = alone().await;
    let cluster = Cluster::start(1, options(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    back_at_work(&cluster, &calls, 0, BACK_WITHIN).await;
    let removed = format!(
        "[rabbit_binding:remove(B, <<\"test\">>) || B = {{binding, {{resource, _, exchange, X}}, _, \
         {{resource, _, queue, Q}}, _}} <- rabbit_binding:list(<<\"/\">>), X =/= <<>>, \
         binary:match(Q, <<\"{}\">>) =/= nomatch].",
        tenant.id
    );
    let removed = cluster.rabbit.eval(&removed);
    assert_ne!(removed.trim(), "[]", "no binding was removed");
    let mut taken = Vec::new();
    let began = tokio::time::Instant::now();
    while !taken.iter().any(|(_, status)| *status == 200) {
        assert!(began.elapsed() < PATIENCE, "{taken:?}");
        let number = 1 + taken.len() as u64;
        let status = answered(&calls, number, REFUSED_WITHIN * 5).await.status;
        assert!(matches!(status, 200 | 503), "{status}");
        taken.push((number, status));
    }
    // What was answered with success arrives, whichever it was.
    for (number, _) in taken.iter().filter(|(_, status)| *status == 200) {
        let token = apple(seed() + 1, *number);
        until("it to arrive", BACK_WITHIN, || async {
            cluster.accepted().contains_key(&token).then_some(())
        })
        .await;
    }
}

/// All channels, then all connections are closed by the broker under load.
#[tokio::test(flavor = "multi_thread")]
async fn closed_channels_and_connections_are_opened_again() {
    let _alone = alone().await;
    let cluster = Cluster::start(2, options(), |setup| setup).await;
    let flood = Flood::start(&cluster, total()).await;
    let closed = cluster
        .rabbit
        .eval("length([rabbit_channel:shutdown(P) || P <- rabbit_channel:list()]).");
    assert_ne!(closed.trim(), "0", "no channel was open");
    back_at_work(&cluster, &flood.calls, 0, BACK_WITHIN).await;
    cluster.rabbit.ctl(&["close_all_connections", "test"]);
    back_at_work(&cluster, &flood.calls, 1, BACK_WITHIN).await;
    // Both engines lost their leases twice.
    flood.arrives(&cluster, 4 * UNRECORDED_MAX).await;
}

/// The broker takes a message away from a consumer that holds it too long, and closes its channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_timed_out_goes_on() {
    let _alone = alone().await;
    let parts = Parts::start().await;
    parts
        .rabbit
        .eval("application:set_env(rabbit, consumer_timeout, 2000).");
    parts
        .rabbit
        .eval("application:set_env(rabbit, channel_tick_interval, 500).");
    let cluster = Cluster::on(parts, 1, Options::default(), |setup| setup).await;
    let rule = "[[rule]]\nmatch = { until_ms = 4000 }\naction = { delay_ms = 8000 }\n";
    cluster.world.simulator.set_rules_toml(rule).unwrap();
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    assert_eq!(answered(&calls, 0, PATIENCE).await.status, 200);
    until("the channel to be closed", PATIENCE, || async {
        let log = cluster.engines[0].log();
        (log.contains("PRECONDITION") || log.contains("timed out")).then_some(())
    })
    .await;
    back_at_work(&cluster, &calls, 1, BACK_WITHIN).await;
    back_at_work(&cluster, &calls, 0, PATIENCE).await;
}

/// The network between everybody and the broker goes dead without a word, for longer than the heartbeats last.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_is_noticed_and_survived() {
    let _alone = alone().await;
    let parts = Parts::start().await.behind_a_wire().await;
    let cluster = Cluster::on(parts, 2, options(), |setup| setup).await;
    let flood = Flood::start(&cluster, total()).await;
    let wire = cluster.wire();
    wire.cut();
    let refused = answered(&flood.calls, 0, SILENCE).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    until("the broker to give its clients up", SILENCE * 2, || async {
        let connections = cluster.rabbit.ctl(&["list_connections", "pid"]);
        connections.trim().is_empty().then_some(())
    })
    .await;
    wire.mend();
    back_at_work(&cluster, &flood.calls, 1, BACK_WITHIN * 2).await;
    flood.arrives(&cluster, 2 * UNRECORDED_MAX).await;
    let ledger = Ledger::of(
        &cluster,
        (0..flood.total).map(|number| apple(seed(), number)),
    );
    assert_eq!(ledger.missing, 0);
}
