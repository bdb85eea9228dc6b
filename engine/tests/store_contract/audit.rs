//! Clauses about the audit log. They must not know tables.

use clarion_engine::store::{AuditEntry, AuditRow, SweepHorizon};

use crate::contract;
use crate::place::{NOW, Place};

contract!(the_log_is_read_backwards_by_organisation_and_swept_by_age);

fn entry(org: &str, at: i64, target: &str) -> AuditEntry {
    AuditEntry {
        org: org.parse().unwrap(),
        at,
        actor: "ada@example.com".into(),
        credential: "access_token",
        source: Some("127.0.0.1".into()),
        operation: "delete_api_key",
        tenant: Some("shop".parse().unwrap()),
        target: target.into(),
        status: 200,
        request_id: "r1".into(),
    }
}

async fn the_log_is_read_backwards_by_organisation_and_swept_by_age(place: Place) {
    let store = place.open().await;
    let mut bare = entry("acme", NOW + 2, "");
    (bare.tenant, bare.source) = (None, None);
    for entry in [
        entry("acme", NOW, "key_id=1 \0"),
        entry("other", NOW, "key_id=9"),
        entry("acme", NOW + 1, "key_id=2"),
        bare.clone(),
    ] {
        store.append_audit(&entry).await.unwrap();
    }
    let acme = "acme".parse().unwrap();
    let page = store.audit(&acme, i64::MAX, 2).await.unwrap();
    let last = AuditRow {
        id: page[0].id,
        at: bare.at,
        actor: bare.actor,
        credential: bare.credential.into(),
        source: None,
        operation: bare.operation.into(),
        tenant: None,
        target: String::new(),
        status: 200,
        request_id: "r1".into(),
    };
    assert_eq!(page[0], last);
    let targets =
        |rows: &[AuditRow]| -> Vec<String> { rows.iter().map(|row| row.target.clone()).collect() };
    assert_eq!(targets(&page), ["", "key_id=2"]);
    assert_eq!(page[1].tenant, Some("shop".parse().unwrap()));
    let rest = store.audit(&acme, page[1].id, 2).await.unwrap();
    assert_eq!(targets(&rest), ["key_id=1 \0"]);
    let horizon = SweepHorizon {
        analytics: 0,
        receipts: 0,
        payloads: 0,
        dead: 0,
        idempotency: 0,
        audit: NOW + 1,
        expired: 0,
    };
    assert_eq!(store.sweep(&horizon, 10).await.unwrap(), 2);
    let left = store.audit(&acme, i64::MAX, 9).await.unwrap();
    assert_eq!(targets(&left), ["", "key_id=2"]);
}
