//! The operator's listener: health, metrics, dead letters, the prune brake, limits.
//! It must not know how rows die.

use std::sync::atomic::Ordering;

use axum::body::Body;
use clarion_auth::principal::Role;
use clarion_engine::model::Envelope;
use clarion_engine::store::{Dead, DeadOrigin, NewDead, RequestOrigin, Waiting};
use http::Method;
use serde_json::{Value, json};

use super::house::{Caller, House, START, apns_token, request};

async fn ask(house: &House, method: Method, path: &str, body: Value) -> super::house::Reply {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    house
        .operate(request(method, path, &house.admin(), body))
        .await
}

/// Queues a push, takes its message out and buries it.
async fn bury(house: &House, tenant: &str, key: &Caller, origin: DeadOrigin) -> i64 {
    let body = json!({"user_id": "ada", "alert": {"title": "Hello"}});
    house
        .post(&format!("/tenants/{tenant}/notify"), key, body)
        .await
        .ok();
    let jobs = house.jobs(1).await;
    let dead = NewDead {
        tenant: tenant.parse().unwrap(),
        origin,
        reason: "poison".to_owned(),
        detail: "it was begun five times".to_owned(),
        notification: Some(jobs[0].notification.id),
        job: Some(jobs[0].id),
        recipients: 1,
        body: Envelope::encode(&jobs).unwrap(),
    };
    house.store.bury(&dead, START).await.unwrap()
}

#[tokio::test]
async fn health_and_metrics_ask_for_no_credential() {
    let house = House::open().await;
    for path in ["/livez", "/readyz", "/health"] {
        let reply = house
            .operate(request(Method::GET, path, &Caller::Nobody, Body::empty()))
            .await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(house.get(path, &Caller::Nobody).await.status, 200, "{path}");
    }
    let reply = house
        .operate(request(
            Method::GET,
            "/metrics",
            &Caller::Nobody,
            Body::empty(),
        ))
        .await;
    assert_eq!(reply.body, "clarion_up 1\n");
    // Not on the public listener.
    assert_eq!(house.get("/metrics", &Caller::Nobody).await.status, 404);
}

#[tokio::test]
async fn a_closed_store_is_not_ready() {
    use clarion_engine::store::Control;
    let house = House::open().await;
    house.store.close().await;
    let reply = house.get("/readyz", &Caller::Nobody).await;
    assert_eq!(
        (reply.status, &reply.body["status"]),
        (503, &json!("not_ready"))
    );
    assert_eq!(
        (&reply.body["store"], &reply.body["queue"]),
        (&json!(false), &json!(true))
    );
}

#[tokio::test]
async fn what_was_published_for_nobody_is_for_those_who_run_the_deployment() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let bury = async |tenant: &str| {
        let dead = NewDead {
            tenant: tenant.parse().unwrap(),
            origin: DeadOrigin::External(RequestOrigin::default()),
            reason: "unknown_tenant".to_owned(),
            detail: "d".to_owned(),
            notification: None,
            job: None,
            recipients: 0,
            body: b"{}".to_vec(),
        };
        house.store.bury(&dead, START).await.unwrap()
    };
    let (theirs, nobodys) = (bury(&tenant).await, bury("unroutable").await);
    let operators = |role: Role| house.person_in("operators", role);
    let ask = async |caller: &Caller, method, path: &str, body: Value| {
        let body = match body.is_null() {
            true => Body::empty(),
            false => Body::from(body.to_string()),
        };
        house.operate(request(method, path, caller, body)).await
    };
    let get = async |caller: &Caller, path: &str| ask(caller, Method::GET, path, Value::Null).await;
    let all = get(&operators(Role::Admin), "/operate/dead").await.ok();
    let found: Vec<_> = all["dead"].as_array().unwrap().iter().collect();
    let ids: Vec<_> = found
        .iter()
        .map(|row| (&row["id"], &row["tenant_id"]))
        .collect();
    assert_eq!(
        ids,
        [
            (&json!(theirs), &json!(tenant)),
            (&json!(nobodys), &json!("unroutable"))
        ]
    );
    let path = "/operate/tenants/unroutable/dead";
    let one = format!("{path}/{nobodys}");
    assert_eq!(get(&operators(Role::Admin), &one).await.status, 200);
    let of_a_tenant = format!("/operate/tenants/{tenant}/dead/{theirs}");
    assert_eq!(get(&operators(Role::Admin), &of_a_tenant).await.status, 200);
    for (caller, all, one) in [
        (operators(Role::Member), 403, 404),
        (house.admin(), 403, 404),
    ] {
        assert_eq!(get(&caller, "/operate/dead").await.status, all);
        assert_eq!(get(&caller, path).await.status, one);
    }
    // Nothing else of other organisations is theirs.
    let limits = format!("/operate/tenants/{tenant}/limits");
    assert_eq!(get(&operators(Role::Owner), &limits).await.status, 403);
    let purge = format!("{path}/purge");
    let caller = operators(Role::Admin);
    let purged = ask(&caller, Method::POST, &purge, json!({"all": true}));
    assert_eq!(purged.await.ok()["purged"], 1);
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_purged() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    house.device(&tenant, &key, "ada", &apns_token(1)).await;
    let id = bury(&house, &tenant, &key, DeadOrigin::Internal).await;
    let path = format!("/operate/tenants/{tenant}/dead");
    let listed = ask(&house, Method::GET, &path, Value::Null).await.ok();
    assert_eq!(
        (&listed["dead"][0]["id"], &listed["dead"][0]["origin"]),
        (&json!(id), &json!("internal"))
    );
    let other = ask(
        &house,
        Method::GET,
        &format!("{path}?reason=malformed"),
        Value::Null,
    )
    .await
    .ok();
    assert_eq!(other["dead"], json!([]));
    let shown = ask(&house, Method::GET, &format!("{path}/{id}"), Value::Null)
        .await
        .ok();
    assert_eq!(shown["notification"]["content"]["title"], "Hello");
    let replay = format!("{path}/replay");
    for bad in [
        json!({}),
        json!({"all": true, "ids": [id]}),
        json!({"all": false}),
    ] {
        assert_eq!(ask(&house, Method::POST, &replay, bad).await.status, 422);
    }
    let done = ask(&house, Method::POST, &replay, json!({"ids": [id]}))
        .await
        .ok();
    assert_eq!(done, json!({"replayed": 1, "skipped": 0, "more": false}));
    let waiting = house.store.due(START, 10, 10, &[]).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].recipients), (1, 1));
    let again = ask(&house, Method::POST, &replay, json!({"all": true}))
        .await
        .ok();
    assert_eq!(again["replayed"], 0);
}

#[tokio::test]
async fn a_dead_publish_request_shows_where_it_is_broken_and_goes_back_through_its_door() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/operate/tenants/{tenant}/dead");
    let bury = async |body: &str, reason: &str, place: &str| {
        let dead = NewDead {
            tenant: tenant.parse().unwrap(),
            origin: DeadOrigin::External(RequestOrigin {
                routing_key: format!("{tenant}.bulk"),
                path: place.to_owned(),
            }),
            reason: reason.to_owned(),
            detail: "as it was found".to_owned(),
            notification: None,
            job: None,
            recipients: 0,
            body: body.into(),
        };
        house.store.bury(&dead, START).await.unwrap()
    };
    let broken = r#"{"v": 1, "message_id": "a", "user_id": "ada", "badge": -1}"#;
    let broken = bury(broken, "invalid", "/badge").await;
    // Its tenant did not exist when it came.
    let mended = r#"{"v": 1, "message_id": "b", "user_ids": ["ada", "bob"]}"#;
    bury(mended, "unknown_tenant", "").await;
    let listed = ask(&house, Method::GET, &path, Value::Null).await.ok();
    let row = &listed["dead"][0];
    let found = (&row["origin"], &row["routing_key"], &row["path"]);
    let routing_key = json!(format!("{tenant}.bulk"));
    assert_eq!(found, (&json!("external"), &routing_key, &json!("/badge")));
    let one = format!("{path}/{broken}");
    let shown = ask(&house, Method::GET, &one, Value::Null).await.ok();
    assert_eq!(
        (&shown["request"]["badge"], &shown["notification"]),
        (&json!(-1), &json!(null))
    );
    let replay = format!("{path}/replay");
    let done = ask(&house, Method::POST, &replay, json!({"all": true}));
    assert_eq!(
        done.await.ok(),
        json!({"replayed": 1, "skipped": 1, "more": false})
    );
    let waiting = house.store.due(START, 10, 10, &[]).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].recipients), (1, 2));
    let left = ask(&house, Method::GET, &path, Value::Null).await.ok();
    assert_eq!(left["dead"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["dead"][0]["id"], broken);
}

#[tokio::test]
async fn what_this_engine_did_not_parse_stays_dead_until_it_is_purged() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/operate/tenants/{tenant}/dead");
    let dead = NewDead {
        tenant: tenant.parse().unwrap(),
        origin: DeadOrigin::Unparsed,
        reason: "malformed".to_owned(),
        detail: String::new(),
        notification: None,
        job: None,
        recipients: 0,
        body: b"\xff\x00".to_vec(),
    };
    let id = house.store.bury(&dead, START).await.unwrap();
    let shown = ask(&house, Method::GET, &format!("{path}/{id}"), Value::Null)
        .await
        .ok();
    assert_eq!(
        (&shown["body"], &shown["notification"]),
        (&json!("/wA="), &json!(null))
    );
    let done = ask(
        &house,
        Method::POST,
        &format!("{path}/replay"),
        json!({"all": true}),
    )
    .await
    .ok();
    assert_eq!(
        (&done["replayed"], &done["skipped"]),
        (&json!(0), &json!(1))
    );
    let purged = ask(
        &house,
        Method::POST,
        &format!("{path}/purge"),
        json!({"reason": "malformed"}),
    )
    .await
    .ok();
    assert_eq!(purged["purged"], 1);
    let gone = ask(&house, Method::GET, &format!("{path}/{id}"), Value::Null).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn dead_letters_of_other_organisations_and_without_a_credential_are_refused() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/operate/tenants/{tenant}/dead");
    let as_caller = |caller: &Caller| request(Method::GET, &path, caller, Body::empty());
    assert_eq!(house.operate(as_caller(&Caller::Nobody)).await.status, 401);
    assert_eq!(house.operate(as_caller(&key)).await.status, 403);
    let stranger = house.person_in("others", clarion_auth::principal::Role::Owner);
    assert_eq!(house.operate(as_caller(&stranger)).await.status, 403);
    let member = house.person_in(super::house::ORG, clarion_auth::principal::Role::Member);
    assert_eq!(house.operate(as_caller(&member)).await.status, 403);
}

#[tokio::test]
async fn a_brake_is_settled_and_the_engine_is_told() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/operate/tenants/{tenant}/prunes");
    let listed = ask(&house, Method::GET, &path, Value::Null).await.ok();
    assert_eq!(listed["candidates"], json!([]));
    for decision in ["release", "discard"] {
        let body = json!({"platform": "ios"});
        let done = ask(&house, Method::POST, &format!("{path}/{decision}"), body)
            .await
            .ok();
        assert_eq!(done["settled"], 0);
    }
    assert_eq!(house.brakes.load(Ordering::SeqCst), 2);
    let bad = ask(
        &house,
        Method::POST,
        &format!("{path}/release"),
        json!({"platform": "x"}),
    )
    .await;
    assert_eq!(bad.status, 422);
}

#[tokio::test]
async fn limits_are_shown_as_they_are_in_effect() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/operate/tenants/{tenant}/limits");
    let limits = ask(&house, Method::GET, &path, Value::Null).await.ok();
    assert_eq!(
        (&limits["rate"], &limits["backlog"]),
        (&json!(2_000), &json!(10_000_000))
    );
    let patch = json!({"limits": {"rate": 50}});
    let tenant = format!("/tenants/{tenant}");
    house
        .send_json(Method::PATCH, &tenant, &house.admin(), patch)
        .await
        .ok();
    assert_eq!(
        ask(&house, Method::GET, &path, Value::Null).await.ok()["rate"],
        50
    );
}
