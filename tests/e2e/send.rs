//! Sending: to a user, to many, to raw device tokens, with options and data, once for each idempotency key.
//! It must not know faults; every provider here is well.

use std::collections::{BTreeMap, BTreeSet};

use clarion_simulator::Provider;
use serde_json::{Value, json};

use crate::harness::{Setup, World, apple, google, raw, seed};

/// The counts of final states that a status must show; what is not named is zero.
#[track_caller]
pub(crate) fn assert_counts(status: &Value, expected: &[(&str, u64)]) {
    let states = [
        "accepted",
        "unregistered",
        "rejected",
        "expired",
        "exhausted",
        "cancelled",
        "dead",
        "no_device",
        "unknown",
    ];
    for state in states {
        let wanted = expected.iter().find(|(name, _)| *name == state);
        let wanted = wanted.map_or(0, |(_, count)| *count);
        assert_eq!(status[state], wanted, "{state} of {status}");
    }
    assert_eq!(
        (&status["waiting"], &status["paging"]),
        (&json!(0), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_every_device_of_its_user() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let (phone, tablet, droid) = (apple(seed(), 1), apple(seed(), 2), google(seed(), 3));
    for (token, platform) in [(&phone, "ios"), (&tablet, "ios"), (&droid, "android")] {
        calls.register("ada", token, platform).await;
    }
    calls.register("bob", &apple(seed(), 4), "watchos").await;
    let body = json!({"user_id": "ada", "alert": {"title": "Hello", "body": "Ada"}, "badge": 3,
        "sound": "default", "data": {"order": 7, "deep": {"a": [1, 2]}}});
    let status = calls.finished(&calls.notify(&body).await).await;
    assert_counts(&status, &[("accepted", 3)]);
    assert_eq!(
        (&status["entries"], &status["recipients"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(status["lane"], "transactional");
    assert!(status["finished_at"].as_str().unwrap().ends_with('Z'));

    let receipts = world.simulator.received();
    assert_eq!(receipts.len(), 3, "{receipts:?}");
    let mut ids = BTreeSet::new();
    for receipt in &receipts {
        let topic = match receipt.provider {
            Provider::Apns => &tenant.bundle_id,
            _ => &tenant.project,
        };
        assert_eq!(&receipt.topic, topic);
        // An alert without a collapse id of its own replaces only its own copy on the device.
        assert!(ids.insert(receipt.collapse_id.clone()));
        assert_eq!(receipt.collapse_id.len(), 36);
        if receipt.provider == Provider::Apns {
            assert_eq!(receipt.id, receipt.collapse_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_reaches_everybody_once_whether_it_fits_a_job_or_not() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let count = 1_300;
    let devices: Vec<(String, String, &str)> = (0..count)
        .map(|number| match number % 2 {
            0 => (format!("user-{number}"), apple(seed(), number), "ios"),
            _ => (format!("user-{number}"), google(seed(), number), "android"),
        })
        .collect();
    calls.register_all(&devices).await;
    let users: Vec<&String> = devices.iter().map(|(user, ..)| user).collect();
    let mut expected = BTreeMap::new();
    for entries in [1, 499, 500, 501, 1_300] {
        let body = json!({"user_ids": users[..entries], "alert": {"title": "Sale"}});
        let answer = calls
            .caller
            .post(&calls.path("notify/bulk"), &body)
            .await
            .ok();
        assert_eq!(
            (&answer["total"], &answer["success"], &answer["failed"]),
            (&json!(entries), &json!(entries), &json!(0))
        );
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), entries);
        let ids: BTreeSet<&str> = results
            .iter()
            .map(|result| result["message_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 1, "a bulk is one notification");
        let status = calls.finished(ids.first().unwrap()).await;
        assert_counts(&status, &[("accepted", entries as u64)]);
        assert_eq!(status["entries"], entries);
        assert_eq!(status["lane"], "bulk");
        for (_, token, _) in &devices[..entries] {
            *expected.entry(token.clone()).or_insert(0) += 1;
        }
    }
    let mut received = BTreeMap::new();
    for receipt in world.simulator.received() {
        assert!(receipt.accepted());
        *received.entry(receipt.device_token).or_insert(0) += 1;
    }
    assert_eq!(received, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_devices_are_told_apart() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let hello = json!({"title": "Hello"});
    let alone = json!({"user_id": "nobody", "alert": hello});
    let answer = calls.caller.post(&calls.path("notify"), &alone).await.ok();
    assert_eq!(
        (&answer["success"], &answer["message_id"]),
        (&json!(false), &Value::Null)
    );
    assert!(answer["error"].as_str().unwrap().contains("device"));
    calls.register("ada", &apple(seed(), 1), "ios").await;
    let body = json!({"user_ids": ["nobody", "ada", "no-one"], "alert": hello});
    let id = calls.bulk(&body).await;
    assert_counts(
        &calls.finished(&id).await,
        &[("accepted", 1), ("no_device", 2)],
    );
    let failures = calls.failures(&id, 10).await;
    let seen: BTreeSet<(u64, &str, &str)> = failures
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap();
            (
                row["entry"].as_u64().unwrap(),
                text("user_id"),
                text("state"),
            )
        })
        .collect();
    let expected = [(0, "nobody", "no_device"), (2, "no-one", "no_device")];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_device_tokens_need_no_registration() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let tokens: Vec<String> = (0..600)
        .map(|number| match number % 3 {
            0 => google(seed(), number),
            _ => apple(seed(), number),
        })
        .collect();
    let one = json!({"device_tokens": raw(&tokens[..2]), "alert": {"body": "x"}});
    assert_counts(
        &calls.finished(&calls.notify(&one).await).await,
        &[("accepted", 2)],
    );
    let id = calls.alert_to(&tokens).await;
    assert_counts(&calls.finished(&id).await, &[("accepted", 600)]);
    assert_eq!(world.simulator.stats().accepted(), 602);
    let list = calls.caller.get(&calls.path("devices")).await.ok();
    assert_eq!(list["devices"], json!([]));
    // Apple's may be written in capitals.
    let capitals = json!({"device_tokens": [{"platform": "ios", "token": tokens[1].to_uppercase()}],
        "alert": {"body": "x"}});
    calls.finished(&calls.notify(&capitals).await).await;
    assert_eq!(world.received(&tokens[1]).len(), 3);
}

/// An alert, in the lines below.
const ALERT: &str = r#""alert": {"title": "a"}"#;

/// Platform, topic and collapse id that arrive, and what was said. "=" is the recipient's own id, which an alert gets
/// by default; "-" is nothing.
const OPTIONS: &str = r#"
ios | com.example.app | score-7 | {ALERT, "options": {"collapse_id": "score-7"}}
android | - | score-7 | {ALERT, "options": {"collapse_id": "score-7"}}
ios | com.example.other | = | {ALERT, "options": {"topic": "com.example.other"}}
ios | com.example.app.voip | - | {"data": {"k": 1}, "options": {"push_type": "voip"}}
ios | com.example.app | = | {ALERT, "options": {"priority": "normal", "ttl": 60, "thread_id": "t"}}
ios | com.example.app | = | {ALERT, "options": {"interruption_level": "time-sensitive"}}
ios | com.example.app | = | {ALERT, "options": {"relevance_score": 0.5, "mutable_content": true}}
ios | com.example.app | = | {ALERT, "options": {"category": "c", "target_content_id": "w"}}
ios | com.example.app | = | {ALERT, "options": {"ttl": 2419200}}
ios | com.example.app | = | {ALERT, "options": {"lane": "bulk"}}
ios | com.example.app | - | {"content_available": true}
android | - | - | {"content_available": true, "data": {"sync": true, "n": 7}}
ios | com.example.app | raw | {ALERT, "options": {"apns": {"headers": {"apns-collapse-id": "raw"}}}}
ios | com.example.app | = | {ALERT, "options": {"apns": {"payload": {"extra": [1, 2, 3]}}}}
android | - | mine | {ALERT, "options": {"fcm": {"message": {"android": {"notification": {"tag": "mine"}}}}}}
ios | com.example.app.push-type.liveactivity | - | {"options": {"live_activity": {"event": "end"}}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn options_reach_the_providers() {
    let world = World::start().await;
    let calls = world.calls(&world.tenant().await);
    for (number, line) in OPTIONS.trim().lines().enumerate() {
        let mut columns = line.splitn(4, " | ");
        let [platform, topic, collapse_id, said] = [(); 4].map(|()| columns.next().unwrap());
        let token = match platform {
            "ios" => apple(seed(), number as u64),
            _ => google(seed(), number as u64),
        };
        let mut body: Value = serde_json::from_str(&said.replace("ALERT", ALERT)).unwrap();
        body["device_tokens"] = raw(std::slice::from_ref(&token));
        let status = calls.finished(&calls.notify(&body).await).await;
        let failures = calls.failures(status["id"].as_str().unwrap(), 10).await;
        assert_eq!(status["accepted"], 1, "{line}: {failures:?}");
        let receipts = world.received(&token);
        assert_eq!(receipts.len(), 1, "{line}");
        let receipt = &receipts[0];
        if topic != "-" {
            assert_eq!(receipt.topic, topic, "{line}");
        }
        let wanted = match collapse_id {
            "=" => receipt.id.as_str(),
            "-" => "",
            other => other,
        };
        assert_eq!(receipt.collapse_id, wanted, "{line}");
        let lane = body["options"]["lane"].as_str().unwrap_or("transactional");
        assert_eq!(status["lane"], lane);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_sends_once() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let tokens: Vec<String> = (0..600).map(|number| apple(seed(), number)).collect();
    let send = async |route: &str, key: &str, body: &Value| {
        let request = calls
            .caller
            .request(reqwest::Method::POST, &calls.path(route));
        let request = request.header("idempotency-key", key).json(body);
        crate::harness::Caller::send(request).await
    };
    for (route, tokens) in [("notify", &tokens[..1]), ("notify/bulk", &tokens[..])] {
        world.simulator.reset();
        let body = json!({"device_tokens": raw(tokens), "alert": {"title": "Once"}});
        let key = format!("\"once-{}\"", tokens.len());
        let first = send(route, &key, &body).await;
        assert_eq!(first.header("idempotent-replayed"), "");
        let again = send(route, key.trim_matches('"'), &body).await;
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(first.ok(), again.ok(), "{route}");
        let other = json!({"device_tokens": raw(tokens), "alert": {"title": "Twice"}});
        assert_eq!(send(route, &key, &other).await.status, 422);
        let result = first.json();
        let id = result["message_id"].as_str();
        let id = id.unwrap_or_else(|| result["results"][0]["message_id"].as_str().unwrap());
        calls.finished(id).await;
        assert_eq!(world.simulator.stats().processed, tokens.len() as u64);
    }
    let bad = send("notify", "two words", &json!({})).await;
    assert_eq!(bad.status, 422, "{}", bad.text);
    // A refusal keeps nothing: the same key is free for the request put right.
    assert_eq!(
        send("notify", "put-right", &json!({"alert": {}}))
            .await
            .status,
        422
    );
    let body = json!({"device_tokens": raw(&tokens[..1]), "alert": {"title": "Right"}});
    assert_eq!(
        send("notify", "put-right", &body).await.ok()["success"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_failures_are_read_by_those_who_may() {
    let world = World::start().await;
    let (tenant, other) = (world.tenant().await, world.tenant().await);
    let calls = world.calls(&tenant);
    let tokens: Vec<String> = (0..25).map(|number| apple(seed(), number)).collect();
    let rules = "[[rule]]\naction = { reason = \"Unregistered\" }\n";
    world.simulator.set_rules_toml(rules).unwrap();
    let id = calls.alert_to(&tokens).await;
    assert_counts(&calls.finished(&id).await, &[("unregistered", 25)]);
    for page in [1, 10, 25, 1_000] {
        let rows = calls.failures(&id, page).await;
        let named: BTreeSet<&str> = rows
            .iter()
            .map(|row| row["token"].as_str().unwrap())
            .collect();
        assert_eq!(named, tokens.iter().map(String::as_str).collect());
        assert_eq!(rows.len(), tokens.len());
        for row in rows {
            assert_eq!(
                (&row["state"], &row["reason"]),
                (&json!("unregistered"), &json!("Unregistered"))
            );
            assert_eq!(row["platform"], "ios");
        }
    }
    let path = calls.path(&format!("notifications/{id}"));
    let outsider = world.server.access_token("elsewhere", "owner");
    let member = world.server.access_token(crate::harness::ORG, "member");
    let nobody = world.server.caller();
    let foreign = format!("/tenants/{}/notifications/{id}", other.id);
    let table = [
        (nobody.clone().bearer(&member), path.clone(), 200),
        (nobody.clone().bearer(&outsider), path.clone(), 403),
        (nobody.clone(), path.clone(), 401),
        (world.calls(&other).caller, path.clone(), 403),
        (world.calls(&other).caller, foreign, 404),
        (
            calls.caller.clone(),
            calls.path("notifications/018f0000-0000-7000-8000-000000000000"),
            404,
        ),
        (
            calls.caller.clone(),
            calls.path("notifications/nonsense"),
            404,
        ),
        (
            calls.caller.clone(),
            format!("{path}/failures?limit=0"),
            422,
        ),
        (
            calls.caller.clone(),
            format!("{path}/failures?cursor=x"),
            422,
        ),
    ];
    for (caller, path, status) in table {
        let answer = caller.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_token_moves_to_its_new_user() {
    let world = World::start_with(clarion_simulator::Options::default(), Setup::quick()).await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let token = apple(seed(), 1);
    let first = calls.register("ada", &token, "ios").await;
    let again = calls.register("ada", &token, "ios").await;
    assert_eq!(first["created_at"], again["created_at"]);
    calls.register("bob", &token, "ios").await;
    assert!(calls.devices("ada").await.is_empty());
    assert_eq!(calls.devices("bob").await, std::slice::from_ref(&token));
    let hello = |user: &str| json!({"user_id": user, "alert": {"title": "Hello"}});
    let to_ada = calls
        .caller
        .post(&calls.path("notify"), &hello("ada"))
        .await
        .ok();
    assert_eq!(to_ada["success"], false);
    calls.finished(&calls.notify(&hello("bob")).await).await;
    assert_eq!(world.received(&token).len(), 1);
    // The same device token in another tenant is another device.
    let other = world.tenant().await;
    world.calls(&other).register("eve", &token, "ios").await;
    assert_eq!(calls.devices("bob").await, [token]);
}
