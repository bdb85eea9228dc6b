//! Published messages at the door: what is taken, what is not, and what is kept of it.
//! It must not know a broker that backends publish to.

mod broken;
mod house;

use std::time::Duration;

use clarion_auth::api_key::{ApiKey, ApiKeyKind};
use clarion_auth::{Scope, Scopes};
use serde_json::json;

use super::*;
use crate::limits::JOB_ENTRIES_MAX;
use crate::model::Target;
use crate::store::{ApiKeyRecord, DeadFilter, DeadOrigin, TenantPatch};
use house::{DAY, House, NOW, request};

#[tokio::test]
async fn a_message_becomes_a_job_with_the_id_of_its_message_id() {
    let house = House::open().await;
    let body = request(json!({"message_id": "m-1", "user_ids": ["ada", "bob"], "badge": 3}));
    let verdict = house.take("acme.bulk", &body).await;
    let id = NotificationId::of_message(&"acme".parse().unwrap(), "m-1");
    // As any backend derives it with its own library.
    assert_eq!(id.to_string(), "6d1b5217-490b-5e82-ad6b-0c4d67225c49");
    let expected = Receipt { id, entries: 2 };
    assert!(
        matches!(verdict, Verdict::Accepted(receipt) if receipt == expected),
        "{verdict:?}"
    );
    let job = house.jobs(1).await.remove(0);
    assert_eq!(
        (job.notification.id, job.notification.lane, job.recheck),
        (id, Lane::Bulk, false)
    );
    assert_eq!(job.notification.content.title.as_deref(), Some("Hello"));
    assert_eq!(job.notification.content.badge, Some(3));
    assert_eq!(
        (job.notification.created_at, job.notification.expires_at),
        (NOW, NOW + DAY)
    );
    let users = job.entries.iter().map(|entry| match &entry.target {
        Target::User { user_id, .. } => &**user_id,
        Target::Device(_) => "a device",
    });
    assert_eq!(users.collect::<Vec<_>>(), ["ada", "bob"]);
}

#[tokio::test]
async fn the_same_message_is_taken_once_and_its_id_means_nothing_else() {
    let house = House::open().await;
    house.tenant("other").await;
    let body = request(json!({"message_id": "m-1"}));
    let first = house.take("acme.bulk", &body).await;
    assert!(matches!(first, Verdict::Accepted(_)), "{first:?}");
    for _ in 0..2 {
        let again = house.take("acme.bulk", &body).await;
        assert!(matches!(again, Verdict::Repeated(_)), "{again:?}");
    }
    assert_eq!(house.queued().await, 1);
    let other_body = request(json!({"message_id": "m-1", "badge": 1}));
    for (routing_key, body) in [("acme.bulk", &other_body), ("acme.transactional", &body)] {
        let dead = house.dead(routing_key, body).await;
        assert_eq!(
            (&*dead.reason, &*dead.body),
            ("message_id_reused", &body[..])
        );
    }
    let others = house.take("other.bulk", &body).await;
    assert!(matches!(others, Verdict::Accepted(_)), "{others:?}");
    assert_eq!(house.queued().await, 2);
}

#[tokio::test]
async fn what_may_have_been_seen_is_looked_up_before_it_is_sent() {
    let house = House::open().await;
    let body = request(json!({"message_id": "seen"}));
    let incoming = Incoming {
        may_have_been_seen: true,
        ..house::incoming("acme.bulk", &body)
    };
    house.intake.take(&incoming, Trust::Broker, NOW).await;
    // The process died after it had begun, before or after the publish: the message comes again, at once or later.
    let acme = "acme".parse().unwrap();
    for (message_id, later) in [("begun", 0), ("long ago", 60_000)] {
        let message_id = message_id.replace(' ', "-");
        let body = request(json!({ "message_id": message_id }));
        let key = format!("{KEY_PREFIX}{message_id}");
        let id = NotificationId::of_message(&acme, &message_id);
        let digest = fingerprint(Lane::Bulk, &body);
        house
            .store
            .begin(&acme, &key, &digest, id, NOW)
            .await
            .unwrap();
        let incoming = house::incoming("acme.bulk", &body);
        let verdict = house
            .intake
            .take(&incoming, Trust::Broker, NOW + later)
            .await;
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    }
    assert!(house.jobs(3).await.iter().all(|job| job.recheck));
}

#[tokio::test]
async fn a_refused_message_id_is_free_again() {
    let house = House::open().await;
    let expired =
        request(json!({"message_id": "m", "options": {"expires_at": "2001-01-01T00:00:00Z"}}));
    assert_eq!(house.dead("acme.bulk", &expired).await.reason, "expired");
    let mended = request(json!({"message_id": "m"}));
    let verdict = house.take("acme.bulk", &mended).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
}

#[tokio::test]
async fn a_time_to_live_counts_from_the_publishers_clock() {
    let house = House::open().await;
    for (message_id, said_at, options, created_at, expires_at) in [
        (
            "hour",
            NOW - 60_000,
            json!({"ttl": 3600}),
            NOW - 60_000,
            NOW - 60_000 + 3_600_000,
        ),
        (
            "day",
            NOW - 60_000,
            json!({}),
            NOW - 60_000,
            NOW - 60_000 + DAY,
        ),
        // A clock that is a little ahead is not believed.
        ("ahead", NOW + 60_000, json!({"ttl": 60}), NOW, NOW + 60_000),
    ] {
        let said = jiff::Timestamp::from_millisecond(said_at)
            .unwrap()
            .to_string();
        let body = json!({"message_id": message_id, "created_at": said, "options": options});
        let verdict = house.take("acme.bulk", &request(body)).await;
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
        let job = house.jobs(1).await.remove(0);
        let found = (job.notification.created_at, job.notification.expires_at);
        assert_eq!(found, (created_at, expires_at), "{message_id}");
    }
}

#[tokio::test]
async fn a_large_audience_is_stored_in_pages() {
    let house = House::open().await;
    let users: Vec<String> = (0..=JOB_ENTRIES_MAX)
        .map(|user| format!("u{user}"))
        .collect();
    let body = request(json!({"message_id": "many", "user_ids": users}));
    let verdict = house.take("acme.bulk", &body).await;
    assert!(
        matches!(verdict, Verdict::Accepted(Receipt { entries: 501, .. })),
        "{verdict:?}"
    );
    assert_eq!(house.queued().await, 0);
    let acme = "acme".parse().unwrap();
    assert_eq!(house.store.backlog(&acme).await.unwrap(), 501);
    // Its copy adds nothing.
    let again = house.take("acme.bulk", &body).await;
    assert!(matches!(again, Verdict::Repeated(_)), "{again:?}");
    assert_eq!(house.store.backlog(&acme).await.unwrap(), 501);
}

#[tokio::test]
async fn a_tenant_over_its_cap_waits_in_the_store() {
    let house = House::open().await;
    let acme: TenantId = "acme".parse().unwrap();
    let patch = TenantPatch {
        backlog: Some(Some(1)),
        ..TenantPatch::default()
    };
    house.store.update_tenant(&acme, &patch, NOW).await.unwrap();
    let first = house
        .take("acme.bulk", &request(json!({"message_id": "1"})))
        .await;
    assert!(matches!(first, Verdict::Accepted(_)), "{first:?}");
    let body = request(json!({"message_id": "2", "user_ids": ["ada", "bob"]}));
    let second = house.take("acme.bulk", &body).await;
    let Verdict::Waiting(receipt) = second else {
        panic!("{second:?}")
    };
    assert_eq!(house.queued().await, 1);
    assert_eq!(
        house.store.next_due().await.unwrap(),
        Some(NOW + BACKLOG_REST)
    );
    let waiting = house
        .store
        .due(NOW + BACKLOG_REST, 10, 10, &[])
        .await
        .unwrap();
    let row = &waiting[0];
    assert_eq!(
        (waiting.len(), row.notification, row.recipients),
        (1, receipt.id, 2)
    );
    let job = Envelope::decode(&row.body).unwrap().jobs.remove(0);
    assert!(job.recheck && job.entries.len() == 2);
    let status = house
        .store
        .notification_status(&acme, receipt.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (status.entries, status.waiting, status.finished_at),
        (2, 2, None)
    );
    // A copy of it is known; a large audience waits in pages.
    let again = house.take("acme.bulk", &body).await;
    assert!(matches!(again, Verdict::Repeated(_)), "{again:?}");
    let users: Vec<String> = (0..600).map(|user| format!("u{user}")).collect();
    let large = request(json!({"message_id": "3", "user_ids": users}));
    let large = house.take("acme.bulk", &large).await;
    assert!(matches!(large, Verdict::Waiting(_)), "{large:?}");
    assert_eq!(house.queued().await, 1);
}

/// Keys that open as little as what is unknown: one that was not made for sending, and one that has ended.
async fn weaker_keys(house: &House) -> Vec<ApiKey> {
    let mut weaker = Vec::new();
    for (scopes, expires_at) in [(Scope::Devices, None), (Scope::Send, Some(NOW))] {
        let key = ApiKey::generate(ApiKeyKind::Live).unwrap();
        let record = ApiKeyRecord {
            tenant: "acme".parse().unwrap(),
            key_id: key.public().key_id,
            is_test: false,
            hash: key.hash(),
            name: "weaker".to_owned(),
            scopes: [scopes].into_iter().collect(),
            rate: None,
            expires_at,
            created_by: "ada".to_owned(),
            created_at: NOW,
            last_used_at: None,
        };
        house.store.create_api_key(&record).await.unwrap();
        weaker.push(key);
    }
    weaker
}

#[tokio::test]
async fn with_api_keys_only_the_tenants_own_key_opens() {
    let house = House::open().await;
    house.tenant("other").await;
    let mut keys = Vec::new();
    for tenant in ["acme", "other", "acme"] {
        let key = ApiKey::generate(ApiKeyKind::Live).unwrap();
        let record = ApiKeyRecord {
            tenant: tenant.parse().unwrap(),
            key_id: key.public().key_id,
            is_test: false,
            hash: key.hash(),
            name: "publisher".to_owned(),
            scopes: Scopes::ALL,
            rate: None,
            expires_at: None,
            created_by: "ada".to_owned(),
            created_at: NOW,
            last_used_at: None,
        };
        house.store.create_api_key(&record).await.unwrap();
        keys.push(key);
    }
    let weaker = weaker_keys(&house).await;
    let deleted = keys.pop().unwrap();
    let (acme, key_id) = ("acme".parse().unwrap(), deleted.public().key_id);
    let gone = house.store.delete_api_key(&acme, &key_id, NOW).await;
    assert!(gone.unwrap());
    let body = request(json!({"message_id": "m"}));
    let unknown = ApiKey::generate(ApiKeyKind::Live).unwrap();
    let refused = [
        None,
        Some("junk"),
        Some(unknown.reveal()),
        Some(keys[1].reveal()),
        Some(deleted.reveal()),
    ];
    let weaker = weaker.iter().map(|key| Some(key.reveal()));
    let refused: Vec<_> = refused.into_iter().chain(weaker).collect();
    for api_key in refused.iter().copied() {
        let incoming = Incoming {
            api_key,
            ..house::incoming("acme.bulk", &body)
        };
        let Verdict::Dead(dead) = house.intake.take(&incoming, Trust::ApiKey, NOW).await else {
            panic!("taken with a wrong key")
        };
        assert_eq!((&*dead.reason, &*dead.body), ("unauthorized", &body[..]));
        let kept = format!("{}{:?}", dead.detail, dead.origin);
        assert!(!kept.contains("msk_") && !kept.contains("junk"), "{kept}");
        house.store.bury(&dead, NOW).await.unwrap();
    }
    // Nobody vouches for them later either.
    let replayed = house
        .intake
        .replay(&DeadFilter::default(), NOW)
        .await
        .unwrap();
    assert_eq!(
        (replayed.replayed, replayed.skipped),
        (0, refused.len() as u64)
    );
    let incoming = Incoming {
        api_key: Some(keys[0].reveal()),
        ..house::incoming("acme.bulk", &body)
    };
    let verdict = house.intake.take(&incoming, Trust::ApiKey, NOW).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    assert!(!format!("{incoming:?}").contains("msk_"));
}

#[tokio::test]
async fn a_replay_takes_what_has_been_mended_and_checks_the_rest_again() {
    let house = House::open().await;
    let live = request(json!({"message_id": "live", "user_ids": ["a", "b"]}));
    let short = request(json!({"message_id": "short", "options": {"ttl": 60}}));
    let broken = request(json!({"message_id": "broken", "badge": -1}));
    let both = request(json!({"message_id": "both"}));
    for (routing_key, body) in [
        ("late.bulk", &live),
        ("late.transactional", &short),
        ("late.bulk", &broken),
        ("late.bulk", &both),
    ] {
        let dead = house.dead(routing_key, body).await;
        house.store.bury(&dead, NOW).await.unwrap();
    }
    let all = DeadFilter::default();
    let replayed = house.intake.replay(&all, NOW + 2_000).await.unwrap();
    assert_eq!((replayed.replayed, replayed.skipped), (0, 4));
    house.tenant("late").await;
    // The backend published it again meanwhile.
    let now = NOW + 120_000;
    let incoming = house::incoming("late.bulk", &both);
    let verdict = house.intake.take(&incoming, Trust::Broker, now).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    let replayed = house.intake.replay(&all, now).await.unwrap();
    assert_eq!((replayed.replayed, replayed.skipped), (2, 2));
    let waiting = house.store.due(now, 10, 10, &[]).await.unwrap();
    let id = NotificationId::of_message(&"late".parse().unwrap(), "live");
    assert_eq!(
        (
            waiting.len(),
            waiting[0].notification,
            waiting[0].recipients
        ),
        (1, id, 2)
    );
    let job = Envelope::decode(&waiting[0].body).unwrap().jobs.remove(0);
    // It lives from when it came, not from when somebody got round to it.
    assert_eq!(
        (job.notification.created_at, job.notification.expires_at),
        (NOW, NOW + DAY)
    );
    let left = house.store.dead(&all, 0, 10).await.unwrap();
    let left: Vec<&[u8]> = left.iter().map(|row| &*row.dead.body).collect();
    assert_eq!(left, [&short[..], &broken[..]]);
    assert_eq!(house.queued().await, 1);
}

#[tokio::test]
async fn a_replay_is_released_at_a_capped_rate() {
    let house = House::open().await;
    for number in 0..6 {
        let users: Vec<String> = (0..500).map(|user| format!("u{user}")).collect();
        let body = request(json!({"message_id": format!("m{number}"), "user_ids": users}));
        let dead = house.dead("late.bulk", &body).await;
        house.store.bury(&dead, NOW).await.unwrap();
    }
    house.tenant("late").await;
    let now = NOW + 2_000;
    let replayed = house
        .intake
        .replay(&DeadFilter::default(), now)
        .await
        .unwrap();
    assert_eq!(replayed.replayed, 6);
    // 1,000 recipients a second.
    for (after, due) in [(0, 1), (499, 1), (500, 2), (2_499, 5), (2_500, 6)] {
        let rows = house.store.due(now + after, 10, 10, &[]).await.unwrap();
        assert_eq!(rows.len(), due, "{after} ms later");
    }
}

#[tokio::test]
async fn a_message_without_a_life_of_its_own_has_the_configured_one() {
    let house = House::open().await;
    let House { intake, store, .. } = &house;
    let _ = store;
    let short = house
        .second_intake()
        .with_default_life(Duration::from_secs(60));
    let body = request(json!({"message_id": "m"}));
    let incoming = house::incoming("acme.bulk", &body);
    let verdict = short.take(&incoming, Trust::Broker, NOW).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    assert_eq!(house.jobs(1).await[0].notification.expires_at, NOW + 60_000);
    let verdict = intake.take(&incoming, Trust::Broker, NOW).await;
    assert!(matches!(verdict, Verdict::Repeated(_)), "{verdict:?}");
}

#[tokio::test]
async fn while_the_store_is_away_a_message_is_kept() {
    let house = House::open().await;
    house.store.close().await;
    let body = request(json!({"message_id": "m"}));
    let verdict = house.take("acme.bulk", &body).await;
    assert!(matches!(verdict, Verdict::Again(_)), "{verdict:?}");
    assert_eq!(verdict.as_str(), "again");
    // What is broken whatever the store says can be told without it.
    let dead = house.dead("acme.bulk", b"{").await;
    assert!(matches!(dead.origin, DeadOrigin::External(_)));
}

#[test]
fn what_can_never_be_written_blocks_nobody_and_what_can_later_is_kept() {
    let cause = || Box::new(std::io::Error::other("disk"));
    let never = Stop::from(store::Error::Data(cause()));
    let Stop::Rejected(rejected) = never else {
        panic!("it would come again for ever")
    };
    let dead = rejected.into_dead("acme.bulk", b"{}");
    assert_eq!(dead.reason, Reason::Unrecordable.as_str());
    let later = Stop::from(store::Error::Unavailable(cause()));
    assert!(matches!(later, Stop::Failed(_)));
}
