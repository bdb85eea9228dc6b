//! Sends: what reaches the queue, what becomes pages, who gets what answer, and the backlog cap.
//! It must not know what happens to a job.

use std::time::Duration;

use clarion_engine::model::{Audience, Environment, Lane, Platform, Target};
use clarion_engine::store::{Pages, StalePages};
use clarion_ingest::IngestConfig;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::house::{House, START, apns_token, fcm_token, pass};

#[tokio::test]
async fn a_user_without_devices_is_answered_with_success_false() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/tenants/{tenant}/notify");
    let sent = house
        .post(&path, &key, json!({"user_id": "nobody"}))
        .await
        .ok();
    assert_eq!(
        (&sent["success"], &sent["message_id"]),
        (&json!(false), &json!(null))
    );
    assert!(
        sent["error"]
            .as_str()
            .unwrap()
            .contains("no registered device")
    );
    assert_eq!(house.queued().await, 0);
    let unchecked = House::with(IngestConfig {
        check_devices: false,
        ..IngestConfig::default()
    })
    .await;
    let (tenant, key) = unchecked.tenant().await;
    let path = format!("/tenants/{tenant}/notify");
    let sent = unchecked
        .post(&path, &key, json!({"user_id": "nobody"}))
        .await
        .ok();
    assert_eq!(
        (&sent["success"], unchecked.queued().await),
        (&json!(true), 1)
    );
}

#[tokio::test]
async fn concurrent_sends_each_get_the_answer_of_their_own_user() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    for user in 0..8 {
        house
            .device(&tenant, &key, &format!("u{user}"), &apns_token(user))
            .await;
    }
    let path = format!("/tenants/{tenant}/notify");
    let sends =
        (0..300).map(|n| house.post(&path, &key, json!({"user_id": format!("u{}", n % 16)})));
    for (n, reply) in join_all(sends).await.into_iter().enumerate() {
        assert_eq!(reply.ok()["success"], n % 16 < 8, "{n}");
    }
    assert_eq!(house.queued().await, 152);
}

#[tokio::test]
async fn everything_that_is_said_reaches_the_job() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let body = json!({
        "device_tokens": [
            {"platform": "ios", "token": apns_token(1).to_uppercase()},
            {"platform": "watchos", "token": apns_token(2), "environment": "production"},
            {"platform": "android", "token": fcm_token(3), "environment": null},
        ],
        "alert": {"title": "T", "subtitle": "S", "body": "B"}, "badge": 3, "sound": "default",
        "content_available": true, "data": {"k": {"n": 1}}, "unknown": [1, 2],
        "options": {
            "priority": "normal", "ttl": 60, "collapse_id": "c", "thread_id": "t", "lane": "bulk",
            "interruption_level": "time-sensitive", "relevance_score": 0.5, "mutable_content": true,
            "delivery": "at_most_once", "apns": {"headers": {"apns-priority": "5"}, "payload": {"x": 1}},
            "fcm": {"message": {"android": {"restricted_package_name": "p"}}},
        },
    });
    let path = format!("/tenants/{tenant}/notify");
    assert_eq!(house.post(&path, &key, body).await.ok()["success"], true);
    let job = house.jobs(1).await.remove(0);
    let notification = &job.notification;
    assert_eq!(
        (notification.lane, notification.created_at),
        (Lane::Bulk, START)
    );
    assert_eq!(notification.expires_at, START + 60_000);
    let content = &notification.content;
    assert_eq!((content.badge, content.content_available), (Some(3), true));
    assert_eq!(
        serde_json::to_value(&content.data).unwrap(),
        json!({"k": {"n": 1}})
    );
    let options = serde_json::to_value(&notification.options).unwrap();
    assert_eq!(
        options["apns"],
        json!({"headers": {"apns-priority": "5"}, "payload": {"x": 1}})
    );
    assert_eq!(
        options["fcm"],
        json!({"android": {"restricted_package_name": "p"}})
    );
    assert_eq!(
        (&options["delivery"], &options["priority"]),
        (&json!("at_most_once"), &json!("normal"))
    );
    let addresses = job.entries.iter().map(|entry| match &entry.target {
        Target::Device(to) => (
            to.device,
            to.platform,
            to.environment,
            to.device_token.to_string(),
        ),
        Target::User { .. } => panic!("a device token was asked for"),
    });
    let expected = [
        (0, Platform::Ios, Environment::Sandbox, apns_token(1)),
        (0, Platform::Watchos, Environment::Production, apns_token(2)),
        (0, Platform::Android, Environment::Production, fcm_token(3)),
    ];
    assert_eq!(addresses.collect::<Vec<_>>(), expected);
}

fn bulk(users: usize) -> Value {
    let users: Vec<String> = (0..users).map(|n| format!("u{n}")).collect();
    json!({"user_ids": users, "alert": {"title": "Sale"}})
}

#[tokio::test]
async fn up_to_500_users_are_one_message_and_more_are_pages() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let path = format!("/apps/{tenant}/notify/bulk");
    let sent = house.post(&path, &key, bulk(500)).await.ok();
    let job = house.jobs(1).await.remove(0);
    assert_eq!(
        (job.entries.len(), job.notification.lane),
        (500, Lane::Bulk)
    );
    assert_eq!(
        sent["results"][499]["message_id"],
        job.notification.id.to_string()
    );
    let sent = house.post(&path, &key, bulk(1_201)).await.ok();
    assert_eq!(
        (&sent["total"], &sent["failed"]),
        (&json!(1_201), &json!(0))
    );
    assert_eq!(sent["results"].as_array().unwrap().len(), 1_201);
    assert_eq!(house.queued().await, 0);
    // The feeder was woken before the answer.
    house.feeder.notified().await;
    let stale = StalePages {
        reserved_before: 0,
        fed_before: 0,
    };
    let pages = house
        .store
        .reserve_pages(100, 100, stale, START)
        .await
        .unwrap();
    let sizes: Vec<usize> = pages.iter().map(|page| page.entries.len()).collect();
    assert_eq!(sizes, [500, 500, 201]);
    assert_eq!(
        pages[2].notification.id.to_string(),
        sent["results"][0]["message_id"]
    );
    assert_eq!(pages[2].entries[200].ordinal, 1_200);
    let status = format!(
        "/tenants/{tenant}/notifications/{}",
        pages[0].notification.id
    );
    let status = house.get(&status, &key).await.ok();
    assert_eq!(
        (&status["state"], &status["entries"]),
        (&json!("running"), &json!(1_201))
    );
    assert_eq!(Audience::Users(vec![]).len(), 0);
}

#[tokio::test]
async fn a_queued_notification_is_known_by_its_id_and_any_other_is_not() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let (other, other_key) = house.tenant().await;
    house.device(&tenant, &key, "ada", &apns_token(1)).await;
    let path = format!("/tenants/{tenant}/notify");
    let sent = house
        .post(&path, &key, json!({"user_id": "ada"}))
        .await
        .ok();
    let id = sent["message_id"].as_str().unwrap();
    let at = |tenant: &str, id: &str| format!("/tenants/{tenant}/notifications/{id}");
    let status = house.get(&at(&tenant, id), &key).await.ok();
    assert_eq!(
        (&status["id"], &status["state"]),
        (&json!(id), &json!("queued"))
    );
    assert_eq!(status["created_at"], "2026-01-15T10:30:00Z");
    for count in [
        "entries",
        "recipients",
        "accepted",
        "no_device",
        "waiting",
        "dead",
    ] {
        assert_eq!(status[count], 0, "{count}");
    }
    let failures = format!("{}/failures", at(&tenant, id));
    let failures = house.get(&failures, &key).await.ok();
    assert_eq!(failures, json!({"failures": [], "next_cursor": null}));
    let forged = "019a0000-0000-7000-8000-000000000000";
    for (tenant, key, id) in [
        (&other, &other_key, id),
        (&tenant, &key, forged),
        (&tenant, &key, "not-an-id"),
    ] {
        assert_eq!(house.get(&at(tenant, id), key).await.status, 404, "{id}");
        let failures = format!("{}/failures", at(tenant, id));
        assert_eq!(house.get(&failures, key).await.status, 404, "{id}");
    }
}

#[tokio::test]
async fn a_full_backlog_is_429_until_it_is_looked_at_again() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let limits = json!({"limits": {"backlog": 700}});
    let path = format!("/tenants/{tenant}");
    house
        .send_json(Method::PATCH, &path, &house.admin(), limits)
        .await
        .ok();
    let path = format!("{path}/notify/bulk");
    house.post(&path, &key, bulk(600)).await.ok();
    let refused = house.post(&path, &key, bulk(200)).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("10"))
    );
    assert!(
        refused.body["detail"].as_str().unwrap().contains("700"),
        "{}",
        refused.body
    );
    assert_eq!(house.post(&path, &key, bulk(100)).await.status, 200);
    pass(Duration::from_secs(2));
    assert_eq!(house.post(&path, &key, bulk(1)).await.status, 429);
    let limits = json!({"limits": {"backlog": null}});
    let tenant = format!("/tenants/{tenant}");
    house
        .send_json(Method::PATCH, &tenant, &house.admin(), limits)
        .await
        .ok();
    assert_eq!(house.post(&path, &key, bulk(1)).await.status, 200);
}

#[tokio::test]
async fn a_suspended_tenant_sends_nothing() {
    use clarion_engine::store::{Accounts, TenantPatch};
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let patch = TenantPatch {
        suspended: Some(true),
        ..TenantPatch::default()
    };
    house
        .store
        .update_tenant(&tenant.parse().unwrap(), &patch, START)
        .await
        .unwrap();
    let refused = house
        .post(&format!("/tenants/{tenant}/notify/bulk"), &key, bulk(1))
        .await;
    assert_eq!((refused.status, house.queued().await), (403, 0));
}
