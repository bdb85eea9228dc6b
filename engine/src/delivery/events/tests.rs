//! What backends are told, against the schema that they are given.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::contract::asyncapi;
use crate::model::{Counts, JobId, NotificationId, Platform};
use crate::store::JobKey;

const MINUTE: i64 = 60_000;

fn part(block: &[(u32, i64, FinalState)]) -> Part {
    let mut counts = Counts::default();
    block.iter().for_each(|(_, _, state)| counts.add(*state));
    Part {
        seq: 3,
        counts,
        block: block.to_vec(),
        end: true,
    }
}

fn failure(ordinal: u32) -> Failure {
    Failure {
        ordinal,
        device: 7,
        platform: Some(Platform::Ios),
        user_id: Some("ada".into()),
        device_token: Some("00ff".into()),
        state: FinalState::Unregistered,
        reason: "Unregistered".to_owned(),
    }
}

fn row(body: Vec<u8>) -> OutboxRow {
    OutboxRow {
        id: 1,
        key: JobKey {
            tenant: "acme".parse().unwrap(),
            notification: NotificationId(Uuid::from_u128(1)),
            job: JobId(Uuid::from_u128(2)),
        },
        seq: 3,
        at: MINUTE,
        body,
    }
}

fn mixed() -> Part {
    part(&[
        (0, 0, FinalState::Accepted),
        (2, 7, FinalState::Unregistered),
        (1, 8, FinalState::Cancelled),
        (0, 9, FinalState::Accepted),
    ])
}

fn states(events: Events, part: &Part, failures: &[Failure]) -> Vec<(u32, String)> {
    let Some(body) = keep(events, part, failures) else {
        return Vec::new();
    };
    let told = event(&row(body)).unwrap().recipients.into_iter();
    told.map(|one| (one.ordinal, one.state)).collect()
}

fn owned(states: &[(u32, &str)]) -> Vec<(u32, String)> {
    let pairs = states.iter();
    pairs
        .map(|(ordinal, state)| (*ordinal, (*state).to_owned()))
        .collect()
}

#[test]
fn each_recipient_of_a_part_is_told_once_in_the_order_of_the_request() {
    let failures = [failure(2)];
    assert_eq!(
        states(Events::All, &mixed(), &failures),
        owned(&[
            (0, "accepted"),
            (0, "accepted"),
            (1, "cancelled"),
            (2, "unregistered")
        ])
    );
    assert_eq!(
        states(Events::Failures, &mixed(), &failures),
        owned(&[(1, "cancelled"), (2, "unregistered")])
    );
    assert_eq!(states(Events::Off, &mixed(), &failures), owned(&[]));
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_told() {
    let accepted = part(&[(0, 0, FinalState::Accepted)]);
    assert_eq!(keep(Events::Failures, &accepted, &[]), None);
    assert_eq!(keep(Events::All, &part(&[]), &[]), None);
    assert_eq!(keep(Events::Off, &mixed(), &[failure(2)]), None);
}

#[test]
fn failures_without_rows_are_told_by_their_state() {
    let dead = part(&[(4, -1, FinalState::Dead), (5, 0, FinalState::Accepted)]);
    assert_eq!(states(Events::Failures, &dead, &[]), owned(&[(4, "dead")]));
}

#[test]
fn a_full_part_of_accepted_ones_takes_few_bytes() {
    let block: Vec<_> = (0..500).map(|n| (n, 0, FinalState::Accepted)).collect();
    let body = keep(Events::All, &part(&block), &[]).unwrap();
    assert!(body.len() < 1_500, "{}", body.len());
}

#[test]
fn an_event_says_what_the_documented_schema_allows() {
    let body = keep(Events::All, &mixed(), &[failure(2)]).unwrap();
    let told: Value = serde_json::from_slice(&payload(&row(body)).unwrap()).unwrap();
    assert_eq!(told["id"], "00000000-0000-0000-0000-000000000002.3");
    assert_eq!(told["at"], "1970-01-01T00:01:00Z");
    assert_eq!(
        told["recipients"][3],
        json!({
            "ordinal": 2, "state": "unregistered", "user_id": "ada", "platform": "ios",
            "device_token": "00ff", "reason": "Unregistered",
        })
    );
    let document: Value = serde_json::from_str(&asyncapi()).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("mem:///asyncapi", document).unwrap();
    let place = "mem:///asyncapi#/components/schemas/OutcomeEvent";
    let schema = compiler.compile(place, &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&told, schema) {
        panic!("{error}");
    }
    let mut wrong = told;
    wrong["recipients"][0]["ordinal"] = json!("first");
    assert!(schemas.validate(&wrong, schema).is_err());
}

#[test]
fn a_row_of_another_form_is_told_from_one_that_can_be_read() {
    assert!(matches!(
        event(&row(vec![0xff])),
        Err(EventError::Unreadable(_))
    ));
    let failure = failure(0);
    let unknown = Kept {
        accepted: Vec::new(),
        cancelled: Vec::new(),
        failed: vec![KeptFailure {
            state: 200,
            ..KeptFailure::of(&failure)
        }],
    };
    let body = minicbor::to_vec(unknown).unwrap();
    assert!(matches!(event(&row(body)), Err(EventError::Unknown)));
}
