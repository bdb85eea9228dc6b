//! What backends publish straight to the queue: what is well arrives, what is broken becomes a dead letter, nothing blocks.
//! It must not know how a message is judged.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clarion_simulator::Options;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::publisher::Publisher;
use crate::harness::{PATIENCE, Tenant, alone, apple, postgres, raw, seed, until};

/// A broken message, and what its dead letter says.
struct Broken {
    routing_key: String,
    body: Vec<u8>,
    reason: &'static str,
    path: &'static str,
}

/// A request to one device token, well but for `more`.
fn request(message_id: &str, to: &str, more: &Value) -> Vec<u8> {
    let mut request = json!({
        "v": 1, "message_id": message_id, "device_tokens": raw(&[to.to_owned()]),
        "alert": {"title": "Hello"},
    });
    let members = request.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    request.to_string().into_bytes()
}

/// Bytes that are no request at all.
fn no_requests() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    vec![
        (b"".to_vec(), "malformed_json", ""),
        (b"{\"v\": 1".to_vec(), "malformed_json", ""),
        (b"{\"v\": \"\xff\"}".to_vec(), "malformed_json", ""),
        (deep.into_bytes(), "malformed_json", ""),
        (b"[]".to_vec(), "invalid", ""),
    ]
}

/// What is wrong in a request, by the place of the problem.
fn wrong_members() -> Vec<(Value, &'static str, &'static str)> {
    let nobody = Value::Null;
    let many = json!({"user_ids": vec!["u"; 10_001], "device_tokens": nobody});
    let both = json!({"user_id": "a", "user_ids": ["b"], "device_tokens": nobody});
    let windows = json!([{"platform": "windows", "token": "x"}]);
    let short = json!([{"platform": "ios", "token": "short"}]);
    let past = json!({"expires_at": "2020-01-15T10:30:00Z"});
    let (large, larger) = ("x".repeat(5_000), "x".repeat(1024 * 1024));
    let lane = json!({"lane": "transactional"});
    let platform = "/device_tokens/0/platform";
    vec![
        (json!({"v": 2}), "unsupported_version", "/v"),
        (json!({"v": "1"}), "invalid", "/v"),
        (json!({"message_id": null}), "invalid", "/message_id"),
        (json!({"message_id": "a b"}), "invalid", "/message_id"),
        (json!({ "device_tokens": nobody }), "invalid", "/user_id"),
        (both, "invalid", "/user_ids"),
        (many, "too_large", "/user_ids"),
        (json!({ "device_tokens": windows }), "invalid", platform),
        (
            json!({ "device_tokens": short }),
            "invalid",
            "/device_tokens/0/token",
        ),
        (json!({"data": {"aps": {}}}), "invalid", "/data/aps"),
        (json!({"data": {"k": large}}), "too_large", ""),
        (json!({ "unknown": larger }), "too_large", ""),
        (json!({ "options": past }), "expired", "/options/expires_at"),
        (json!({"tenant": "other"}), "tenant_mismatch", "/tenant"),
        (json!({ "options": lane }), "invalid", "/options/lane"),
    ]
}

/// Twenty kinds of message that their publisher has broken.
fn twenty(tenant: &str) -> Vec<Broken> {
    let to = apple(seed(), 999);
    let wrong = wrong_members().into_iter().enumerate();
    let wrong = wrong.map(|(number, (members, reason, path))| {
        let body = request(&format!("broken-{number}"), &to, &members);
        (body, reason, path)
    });
    let all = no_requests().into_iter().chain(wrong);
    let broken: Vec<Broken> = all
        .map(|(body, reason, path)| Broken {
            routing_key: format!("{tenant}.bulk"),
            body,
            reason,
            path,
        })
        .collect();
    assert_eq!(broken.len(), 20);
    broken
}

/// What is wrong with the routing key or with what came before.
fn otherwise_broken(tenant: &str) -> Vec<Broken> {
    let to = apple(seed(), 999);
    let body = request("elsewhere", &to, &json!({}));
    let by_key = |routing_key: &str, reason| Broken {
        routing_key: routing_key.to_owned(),
        body: body.clone(),
        reason,
        path: "",
    };
    vec![
        by_key(&format!("{tenant}.loud"), "invalid_routing_key"),
        Broken {
            routing_key: format!("{tenant}.bulk"),
            body: request("good", &to, &json!({"badge": 1})),
            reason: "message_id_reused",
            path: "/message_id",
        },
        by_key("nobody.bulk", "unknown_tenant"),
        by_key("", "invalid_routing_key"),
        by_key("a.b.c", "invalid_routing_key"),
    ]
}

/// Waits until a push has reached a device token once.
pub(super) async fn arrives(cluster: &Cluster, device_token: &str) {
    until("a published push to arrive", PATIENCE, || async {
        let accepted = cluster.accepted();
        accepted
            .get(device_token)
            .copied()
            .filter(|count| *count > 0)
    })
    .await;
}

/// The dead letters below a path of the operator's listener, once there are so many.
async fn dead(cluster: &Cluster, path: &str, count: usize) -> Vec<Value> {
    let operator = cluster.operators();
    until(
        &format!("{count} dead letters at {path}"),
        PATIENCE,
        || async {
            let list = operator.get(path).await.ok();
            let rows = list["dead"].as_array().unwrap();
            (rows.len() >= count).then(|| rows.clone())
        },
    )
    .await
}

async fn original(cluster: &Cluster, tenant: &str, id: &Value) -> Vec<u8> {
    let path = format!("/operate/tenants/{tenant}/dead/{id}");
    let shown = cluster.operators().get(&path).await.ok();
    STANDARD.decode(shown["body"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_well_arrives_and_every_broken_message_becomes_a_dead_letter() {
    let _alone = alone().await;
    let cluster = Cluster::start(2, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let backend = Publisher::of(&cluster).await;
    let (good, better) = (apple(seed(), 1), apple(seed(), 2));
    let key = format!("{}.bulk", tenant.id);
    let first = request("good", &good, &json!({}));
    backend.publish(&key, &first, None).await;
    arrives(&cluster, &good).await;
    // Published twice, taken once.
    backend.publish(&key, &first, None).await;
    let mut expected = BTreeMap::new();
    for broken in twenty(&tenant.id)
        .into_iter()
        .chain(otherwise_broken(&tenant.id))
    {
        backend
            .publish(&broken.routing_key, &broken.body, None)
            .await;
        let told = (broken.reason.to_owned(), broken.path.to_owned());
        expected.insert((broken.routing_key, broken.body), told);
    }
    backend
        .publish(&key, &request("better", &better, &json!({})), None)
        .await;
    arrives(&cluster, &better).await;
    let mut found = BTreeMap::new();
    let rows = dead(&cluster, "/operate/dead?limit=1000", expected.len()).await;
    assert_eq!(rows.len(), expected.len());
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        assert_eq!(
            (row["origin"].as_str(), text("detail").is_empty()),
            (Some("external"), false)
        );
        let body = original(&cluster, &text("tenant_id"), &row["id"]).await;
        found.insert((text("routing_key"), body), (text("reason"), text("path")));
    }
    assert!(
        found == expected,
        "{:?} is not {:?}",
        told(&found),
        told(&expected)
    );
    assert_eq!(
        cluster.accepted().values().copied().collect::<Vec<_>>(),
        [1, 1]
    );
    its_own_are_listed_by_the_command(&cluster, &tenant).await;
    those_of_nobody_are_the_operators(&cluster).await;
}

type Told = (String, String);

fn told(all: &BTreeMap<(String, Vec<u8>), Told>) -> Vec<(&str, usize, &Told)> {
    let told = all.iter();
    told.map(|((key, body), told)| (key.as_str(), body.len(), told))
        .collect()
}

async fn its_own_are_listed_by_the_command(cluster: &Cluster, tenant: &Tenant) {
    let arguments = ["dead", "list", "--json", "--tenant", &tenant.id];
    let listed = cluster.command(&cluster.world.access_token, &arguments);
    let listed: Value = serde_json::from_str(&listed.await).unwrap();
    // With the one of an unknown lane and the one whose id was used before.
    assert_eq!(listed["dead"].as_array().unwrap().len(), 22, "{listed}");
}

async fn those_of_nobody_are_the_operators(cluster: &Cluster) {
    let reasons = async |tenant: &str| {
        let arguments = ["dead", "list", "--json", "--tenant", tenant];
        let listed: Value = serde_json::from_str(
            &cluster
                .command(&cluster.operators_token(), &arguments)
                .await,
        )
        .unwrap();
        let rows = listed["dead"].as_array().unwrap().iter();
        rows.map(|row| row["reason"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons("nobody").await, ["unknown_tenant"]);
    assert_eq!(reasons("unroutable").await, ["invalid_routing_key"]);
    assert_eq!(reasons("a").await, ["invalid_routing_key"]);
    // Nobody else's business: an owner of another organisation is told nothing, and refused the whole list.
    let owner = cluster.world.operator();
    assert_eq!(owner.get("/operate/tenants/nobody/dead").await.status, 404);
    assert_eq!(owner.get("/operate/dead").await.status, 403);
    let arguments = [
        "dead",
        "list",
        "--json",
        "--all-tenants",
        "--reason",
        "unknown_tenant",
    ];
    let listed = cluster
        .command(&cluster.operators_token(), &arguments)
        .await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["dead"][0]["tenant_id"], "nobody");
}

/// What is dead for a reason outside of it is sent when that is mended.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_mended_is_replayed() {
    let _alone = alone().await;
    let cluster = Cluster::start(1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let suspend = async |is_so: bool| {
        let (database, id) = (cluster.database(), tenant.id.clone());
        let change = format!("UPDATE tenants SET suspended = {is_so} WHERE id = '{id}'");
        let change = move || postgres().sql(&database, &change);
        tokio::task::spawn_blocking(change).await.unwrap();
        // Another change has engines read the state of all tenants.
        cluster.world.tenant().await;
    };
    suspend(true).await;
    let backend = Publisher::of(&cluster).await;
    let key = format!("{}.transactional", tenant.id);
    let (mended, broken) = (apple(seed(), 1), apple(seed(), 2));
    backend
        .publish(&key, &request("mended", &mended, &json!({})), None)
        .await;
    backend
        .publish(
            &key,
            &request("broken", &broken, &json!({"badge": -1})),
            None,
        )
        .await;
    let path = format!("/operate/tenants/{}/dead", tenant.id);
    let rows = dead(&cluster, &path, 2).await;
    let mut reasons: Vec<&str> = rows
        .iter()
        .map(|row| row["reason"].as_str().unwrap())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["invalid", "tenant_suspended"]);
    suspend(false).await;
    let replayed = cluster
        .world
        .operator()
        .post(&format!("{path}/replay"), &json!({"all": true}))
        .await
        .ok();
    assert_eq!(
        (&replayed["replayed"], &replayed["skipped"]),
        (&json!(1), &json!(1))
    );
    arrives(&cluster, &mended).await;
    let left = dead(&cluster, &path, 1).await;
    assert_eq!(
        (left.len(), left[0]["reason"].as_str()),
        (1, Some("invalid"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_keys_are_asked_for_only_the_tenants_own_opens() {
    let _alone = alone().await;
    let mut cluster = Cluster::start(1, Options::default(), |setup| {
        setup.with("queue.publish_trust", "api-key")
    })
    .await;
    let (tenant, other) = (cluster.world.tenant().await, cluster.world.tenant().await);
    let backend = Publisher::of(&cluster).await;
    let key = format!("{}.transactional", tenant.id);
    let keys = [None, Some("msk_live_nonsense"), Some(other.key.as_str())];
    for (number, api_key) in keys.into_iter().enumerate() {
        let body = request(
            &format!("refused-{number}"),
            &apple(seed(), 999),
            &json!({}),
        );
        backend.publish(&key, &body, api_key).await;
    }
    let good = apple(seed(), 1);
    let body = request("good", &good, &json!({}));
    backend.publish(&key, &body, Some(&tenant.key)).await;
    arrives(&cluster, &good).await;
    let path = format!("/operate/tenants/{}/dead", tenant.id);
    let rows = dead(&cluster, &path, keys.len()).await;
    for row in &rows {
        assert_eq!(row["reason"], "unauthorized");
    }
    // Nobody vouches for them afterwards either.
    let operator = cluster.world.operator();
    let replayed = operator
        .post(&format!("{path}/replay"), &json!({"all": true}))
        .await
        .ok();
    assert_eq!(replayed["skipped"], keys.len());
    cluster.engines[0].stop().await;
    let log = cluster.engines[0].log();
    assert!(
        !log.contains("msk_live_") && !log.contains("msk_test_"),
        "{log}"
    );
    let path = format!("/tenants/{}/api-keys", tenant.id);
    let listed = cluster.world.person().get(&path).await.ok();
    assert!(listed[0]["last_used_at"].is_string(), "{listed}");
}

/// What the broker itself gave up on is written down: a job's recipients end as dead, and a replay sends to them.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gives_up_on_becomes_a_dead_letter() {
    let _alone = alone().await;
    let mut cluster = Cluster::start(1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let publisher = Publisher::of(&cluster).await;
    let calls = cluster.world.calls(&tenant);
    let (first, pushed, published) = (apple(seed(), 1), apple(seed(), 2), apple(seed(), 3));
    let push = |to: &String| {
        let to = raw(std::slice::from_ref(to));
        json!({"device_tokens": to, "alert": {"title": "Hello"}})
    };
    // The queue is there, and the engine is not.
    calls.finished(&calls.notify(&push(&first)).await).await;
    cluster.engines[0].stop().await;
    let id = calls.notify(&push(&pushed)).await;
    let queue = format!("{}.jobs.{}.transactional", cluster.prefix(), tenant.id);
    publisher.give_up(&queue).await;
    // No binding names it.
    let body = request("given-up", &published, &json!({}));
    publisher.publish("nobody.bulk", &body, None).await;
    publisher
        .give_up(&format!("{}.unbound", cluster.exchange()))
        .await;
    cluster.engines[0].restart().await;
    let status = calls.finished(&id).await;
    assert_eq!(
        (&status["dead"], &status["accepted"]),
        (&json!(1), &json!(0)),
        "{status}"
    );
    let rows = dead(&cluster, "/operate/dead", 2).await;
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| ["tenant_id", "origin", "reason"].map(|name| row[name].as_str().unwrap()))
        .collect();
    found.sort_unstable_by_key(|row| row[1]);
    let own = [tenant.id.as_str(), "internal", "delivery_limit"];
    assert_eq!(found, [["nobody", "external", "delivery_limit"], own]);
    let path = format!("/operate/tenants/{}/dead/replay", tenant.id);
    let operator = cluster.world.operator();
    let replayed = operator.post(&path, &json!({"all": true})).await.ok();
    assert_eq!(replayed["replayed"], 1);
    arrives(&cluster, &pushed).await;
}
