//! Clauses about push messages and delivery receipts. They must not know tables.

use clarion_engine::model::{MessageId, Millis, NotificationId, TenantId};
use clarion_engine::store::{
    DeliveryReceipt, Error, Message, Seen, SeenCounts, Store, SweepHorizon,
};
use uuid::Uuid;

use crate::contract;
use crate::place::{NOW, Place, create};

contract!(
    messages_come_back_as_they_were_sent,
    an_id_is_taken_once_in_a_tenant_and_all_or_none_are_stored,
    pages_go_from_the_newest_on_and_meet_each_message_once,
    a_receipt_is_noted_once_and_counted,
    receipts_are_listed_by_device_in_pages,
    what_is_deleted_takes_its_receipts_with_it,
    days_count_messages_and_reports,
    a_sweep_and_a_deleted_tenant_leave_no_messages,
    a_deleted_tenant_takes_no_messages,
);

const DAY: Millis = 24 * 3600 * 1000;

fn id(number: u32) -> MessageId {
    format!("m{number:07}").parse().unwrap()
}

fn message(tenant: &TenantId, number: u32) -> Message {
    Message {
        tenant: tenant.clone(),
        id: id(number),
        notification: NotificationId(Uuid::from_u128(number.into())),
        alert: Some("a text with a NUL \0 in it".into()),
        url: None,
        body: b"{\"message\":{\"alert\":\"\\u0000\"}}".to_vec(),
        created_at: NOW + Millis::from(number),
    }
}

fn report(device: &str, seen: Seen, at: Millis) -> DeliveryReceipt {
    DeliveryReceipt {
        device: device.into(),
        seen,
        at,
    }
}

async fn fill(store: &dyn Store, tenant: &TenantId, count: u32) {
    let messages: Vec<Message> = (0..count).map(|n| message(tenant, n)).collect();
    store.create_messages(tenant, &messages).await.unwrap();
}

async fn messages_come_back_as_they_were_sent(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    fill(&*store, &acme, 1).await;
    let stored = store.message(&acme, id(0)).await.unwrap();
    assert_eq!(stored, Some(message(&acme, 0)));
    assert_eq!(store.message(&acme, id(1)).await.unwrap(), None);
    assert_eq!(store.message(&other, id(0)).await.unwrap(), None);
}

async fn an_id_is_taken_once_in_a_tenant_and_all_or_none_are_stored(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    fill(&*store, &acme, 1).await;
    let again = [message(&acme, 1), message(&acme, 0)];
    let refused = store.create_messages(&acme, &again).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert_eq!(store.count_messages(&acme).await.unwrap(), 1);
    // The same id is free in another tenant.
    fill(&*store, &other, 1).await;
    assert_eq!(store.count_messages(&other).await.unwrap(), 1);
}

async fn pages_go_from_the_newest_on_and_meet_each_message_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 7).await;
    let mut after = None;
    let mut met = Vec::new();
    loop {
        let page = store.messages(&acme, after, 0, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.id));
        met.extend(page.iter().map(|message| message.id));
    }
    let newest_first: Vec<MessageId> = (0..7).rev().map(id).collect();
    assert_eq!(met, newest_first);
    let skipped = store.messages(&acme, None, 5, 9).await.unwrap();
    assert_eq!(skipped, [message(&acme, 1), message(&acme, 0)]);
    assert_eq!(store.messages(&acme, None, 7, 9).await.unwrap(), []);
}

async fn a_receipt_is_noted_once_and_counted(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 2).await;
    for at in [NOW, NOW + 5] {
        let shown = report("phone", Seen::Shown, at);
        store.put_receipt(&acme, id(0), &shown).await.unwrap();
    }
    for device in ["phone", "tablet"] {
        let opened = report(device, Seen::Opened, NOW + 1);
        store.put_receipt(&acme, id(0), &opened).await.unwrap();
    }
    let unknown = report("phone", Seen::Shown, NOW);
    let refused = store.put_receipt(&acme, id(9), &unknown).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let counts = store.count_receipts(&acme, id(0)).await.unwrap();
    assert_eq!(
        counts,
        SeenCounts {
            shown: 1,
            opened: 2
        }
    );
    let none = store.count_receipts(&acme, id(1)).await.unwrap();
    assert_eq!(none, SeenCounts::default());
    let of_phone = store.receipts(&acme, id(0), Some("phone"), None, 9).await;
    let expected = [
        report("phone", Seen::Shown, NOW),
        report("phone", Seen::Opened, NOW + 1),
    ];
    assert_eq!(of_phone.unwrap(), expected, "the first report stays");
}

async fn receipts_are_listed_by_device_in_pages(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 1).await;
    let mut all = Vec::new();
    for device in ["", "a", "b\0", "ü"] {
        for seen in [Seen::Shown, Seen::Opened] {
            let receipt = report(device, seen, NOW);
            store.put_receipt(&acme, id(0), &receipt).await.unwrap();
            all.push(receipt);
        }
    }
    let mut met: Vec<DeliveryReceipt> = Vec::new();
    loop {
        let after = met.last().map(|last| (&*last.device, last.seen));
        let page = store.receipts(&acme, id(0), None, after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        met.extend(page);
    }
    assert_eq!(met, all);
}

async fn what_is_deleted_takes_its_receipts_with_it(place: Place) {
    let (store, acme) = place.with_tenant().await;
    fill(&*store, &acme, 2).await;
    let shown = report("phone", Seen::Shown, NOW);
    store.put_receipt(&acme, id(0), &shown).await.unwrap();
    let deleted = [
        store.delete_message(&acme, id(0)).await.unwrap(),
        store.delete_message(&acme, id(0)).await.unwrap(),
    ];
    assert_eq!(deleted, [true, false]);
    assert_eq!(store.message(&acme, id(0)).await.unwrap(), None);
    let left = store.receipts(&acme, id(0), None, None, 9).await.unwrap();
    assert_eq!(left, []);
    assert_eq!(store.count_messages(&acme).await.unwrap(), 1);
}

async fn days_count_messages_and_reports(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let today = NOW.div_euclid(DAY) * DAY;
    let mut two = [message(&acme, 0), message(&acme, 1)];
    two[0].created_at = today - 1;
    two[1].created_at = today;
    store.create_messages(&acme, &two).await.unwrap();
    for (device, seen, at) in [
        ("a", Seen::Shown, today),
        ("b", Seen::Shown, today + 1),
        ("a", Seen::Opened, today + DAY),
    ] {
        let receipt = report(device, seen, at);
        store.put_receipt(&acme, id(0), &receipt).await.unwrap();
    }
    let days = store.message_days(&acme, today - 2 * DAY).await.unwrap();
    let told: Vec<_> = days
        .iter()
        .map(|day| (day.day, day.messages, day.seen.shown, day.seen.opened))
        .collect();
    let expected = [
        (today - DAY, 1, 0, 0),
        (today, 1, 2, 0),
        (today + DAY, 0, 0, 1),
    ];
    assert_eq!(told, expected);
    let later = store.message_days(&acme, today + DAY).await.unwrap();
    assert_eq!(later.len(), 1);
}

async fn a_sweep_and_a_deleted_tenant_leave_no_messages(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let other = create(&*store, "other").await;
    for tenant in [&acme, &other] {
        fill(&*store, tenant, 7).await;
        for number in 0..7 {
            let shown = report("phone", Seen::Shown, NOW);
            store.put_receipt(tenant, id(number), &shown).await.unwrap();
        }
    }
    let horizon = |receipts| SweepHorizon {
        receipts,
        payloads: 0,
        dead: 0,
        idempotency: 0,
        audit: 0,
        expired: 0,
        analytics: 0,
    };
    assert_eq!(store.sweep(&horizon(NOW), 3).await.unwrap(), 0);
    store.delete_tenant(&acme, NOW).await.unwrap();
    assert_eq!(store.count_messages(&acme).await.unwrap(), 0);
    let left = store.count_receipts(&acme, id(0)).await.unwrap();
    assert_eq!(left, SeenCounts::default());
    // The oldest goes, and all receipts are older than that.
    while store.sweep(&horizon(NOW + 1), 3).await.unwrap() > 0 {}
    assert_eq!(store.count_messages(&other).await.unwrap(), 6);
    let left = store.count_receipts(&other, id(3)).await.unwrap();
    assert_eq!(left, SeenCounts::default());
}

async fn a_deleted_tenant_takes_no_messages(place: Place) {
    let (store, acme) = place.with_tenant().await;
    store.delete_tenant(&acme, NOW).await.unwrap();
    let refused = store.create_messages(&acme, &[message(&acme, 0)]).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
}
