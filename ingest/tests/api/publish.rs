//! What is published straight to the queue says the same as what comes over HTTP.
//! It must not know how either is read.

use std::sync::Arc;

use clarion_auth::MacKey;
use clarion_engine::broker::Broker;
use clarion_engine::intake::{Incoming, Intake, Trust, Verdict};
use clarion_engine::limits::BACKLOG_MAX_DEFAULT;
use clarion_engine::model::Job;
use clarion_engine::store::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::house::{Caller, House, START, apns_token, fcm_token};

/// Requests compared; each goes through both doors.
const CASES: usize = 400;

/// A member of a request: its name, and a value that is right, or one that is wrong now and then.
fn member(
    name: &'static str,
    right: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Option<(String, Value)>> {
    let wrong = prop_oneof![
        Just(json!(null)),
        Just(json!(7)),
        Just(json!(-1)),
        Just(json!("word")),
        Just(json!([])),
        Just(json!({"aps": 1})),
    ];
    prop_oneof![
        60 => Just(None),
        50 => right.prop_map(move |value| Some((name.to_owned(), value))),
        2 => wrong.prop_map(move |value| Some((name.to_owned(), value))),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<Value> {
    prop_oneof![
        "[a-zA-Z0-9 äπ☃\"\\\\\u{0}]{0,20}".prop_map(Value::from),
        Just(json!("default"))
    ]
    .boxed()
}

fn words(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::sample::select(words)
        .prop_map(Value::from)
        .boxed()
}

fn object(members: Vec<BoxedStrategy<Option<(String, Value)>>>) -> BoxedStrategy<Value> {
    let gathered = |members: Vec<Option<(String, Value)>>| {
        Value::Object(members.into_iter().flatten().collect::<Map<_, _>>())
    };
    members.prop_map(gathered).boxed()
}

fn options() -> BoxedStrategy<Value> {
    let live_activity = object(vec![
        member("event", words(&["start", "update", "end"])),
        member("timestamp", (0_i64..2_000_000_000).prop_map(Value::from)),
        member("content_state", Just(json!({"score": 3}))),
    ]);
    object(vec![
        member("priority", words(&["high", "normal", "low"])),
        member("ttl", (1_u64..2_500_000).prop_map(Value::from)),
        member(
            "expires_at",
            words(&["2026-01-16T10:30:00Z", "2026-01-15T10:30:01Z", "soon"]),
        ),
        member("collapse_id", text()),
        member(
            "push_type",
            words(&["alert", "background", "voip", "liveactivity"]),
        ),
        member(
            "topic",
            words(&["com.example.app", "com.example.app.voip", "a_b", "a b"]),
        ),
        member("thread_id", text()),
        member(
            "interruption_level",
            words(&["passive", "time-sensitive", "critical"]),
        ),
        member(
            "relevance_score",
            prop_oneof![9 => Just(json!(0.5)), 9 => Just(json!(1)), 1 => Just(json!(2))],
        ),
        member("mutable_content", any::<bool>().prop_map(Value::from)),
        member("category", text()),
        member("live_activity", live_activity),
        member("delivery", words(&["at_least_once", "at_most_once"])),
        member(
            "apns",
            prop_oneof![
                18 => Just(
                    json!({"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 2}, "x": 1}})
                ),
                1 => Just(json!({"headers": {"apns-id": "x"}})),
                1 => Just(json!({"payload": {"aps": 1}})),
            ],
        ),
        member(
            "fcm",
            prop_oneof![
                9 => Just(json!({"message": {"android": {"ttl": "60s"}}})),
                1 => Just(json!({"message": {"token": "x"}})),
            ],
        ),
    ])
}

/// Whom a request names, under names that both faces know; now and then nobody, or in two ways.
fn recipients() -> BoxedStrategy<Value> {
    let device_token = prop_oneof![
        8 => Just(json!({"platform": "ios", "token": apns_token(1).to_uppercase()})),
        8 => Just(json!({"platform": "watchos", "token": apns_token(2), "environment": "sandbox"})),
        8 => Just(json!({"platform": "android", "token": fcm_token(3)})),
        1 => Just(json!({"platform": "ios", "token": "short"})),
    ];
    let users = vec("[a-z]{1,5}", 1..4);
    let device_tokens = vec(device_token, 1..3);
    prop_oneof![
        8 => users.clone().prop_map(|users| json!({ "user_ids": users })),
        8 => device_tokens.clone().prop_map(|tokens| json!({ "device_tokens": tokens })),
        1 => (users, device_tokens)
            .prop_map(|(users, tokens)| json!({"user_ids": users, "device_tokens": tokens})),
        1 => Just(json!({"user_ids": [], "device_tokens": null})),
        1 => Just(json!({})),
    ]
    .boxed()
}

/// What both faces share of a request.
fn content() -> BoxedStrategy<Value> {
    let alert = object(vec![
        member("title", text()),
        member("subtitle", text()),
        member("body", text()),
    ]);
    let data = prop_oneof![
        20 => Just(json!({"order": 7, "nested": {"a": [1, null, "x"]}})),
        1 => Just(json!({"aps": {}})),
        1 => Just(json!({"from": "ada"})),
        1 => Just(json!({"k": "x".repeat(5_000)})),
    ];
    let said = object(vec![
        member("alert", alert),
        member("badge", (0_u32..9).prop_map(Value::from)),
        member("sound", text()),
        member("content_available", any::<bool>().prop_map(Value::from)),
        member("data", data),
        member("options", options()),
        member("unknown", Just(json!({"to": "both"}))),
    ]);
    let joined = |(mut said, named): (Value, Value)| {
        if let (Some(said), Value::Object(named)) = (said.as_object_mut(), named) {
            said.extend(named);
        }
        said
    };
    (said, recipients()).prop_map(joined).boxed()
}

/// What a job says, without its ids and without what follows from the instant of its id.
fn said(job: &Job) -> Value {
    json!({
        "content": job.notification.content,
        "options": job.notification.options,
        "lane": job.notification.lane,
        "life": job.notification.expires_at - job.notification.created_at,
        "entries": format!("{:?}", job.entries),
        "tokens": job.entries.iter().map(|entry| match &entry.target {
            clarion_engine::model::Target::Device(address) => address.device_token.to_string(),
            clarion_engine::model::Target::User { user_id, .. } => user_id.to_string(),
        }).collect::<Vec<_>>(),
    })
}

struct Doors {
    house: House,
    intake: Intake,
    tenant: String,
    key: Caller,
}

impl Doors {
    async fn open() -> Self {
        let house = House::open().await;
        let (tenant, key) = house.tenant().await;
        let store = Arc::clone(&house.store) as Arc<dyn Store>;
        let broker = Arc::clone(&house.broker) as Arc<dyn Broker>;
        let mac = MacKey::new(&[7; 32]);
        let intake = Intake::new(
            store,
            broker,
            mac,
            BACKLOG_MAX_DEFAULT,
            Arc::new(Notify::new()),
        );
        Self {
            house,
            intake,
            tenant,
            key,
        }
    }

    /// What HTTP makes of it: a job, or nothing.
    async fn by_http(&self, body: &Value) -> Option<Value> {
        let path = format!("/tenants/{}/notify/bulk", self.tenant);
        let reply = self.house.post(&path, &self.key, body.clone()).await;
        assert!(
            reply.status == 200 || (400..500).contains(&reply.status),
            "{body}: {reply:?}"
        );
        match reply.status {
            200 => Some(said(&self.house.jobs(1).await[0])),
            _ => None,
        }
    }

    async fn by_queue(&self, body: &Value, number: usize) -> Option<Value> {
        let mut body = body.clone();
        body["v"] = json!(1);
        body["message_id"] = json!(format!("m-{number}"));
        let routing_key = format!("{}.bulk", self.tenant);
        let body = body.to_string();
        let incoming = Incoming {
            routing_key: &routing_key,
            body: body.as_bytes(),
            api_key: None,
            may_have_been_seen: false,
        };
        match self.intake.take(&incoming, Trust::Broker, START).await {
            Verdict::Accepted(_) => Some(said(&self.house.jobs(1).await[0])),
            Verdict::Dead(dead) => {
                assert_eq!(dead.body, body.as_bytes());
                None
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_either_door_takes_the_other_takes_and_it_says_the_same() {
    let doors = Doors::open().await;
    let (strategy, mut runner) = (content(), TestRunner::deterministic());
    let mut taken = 0;
    for number in 0..CASES {
        let body = strategy.new_tree(&mut runner).unwrap().current();
        let (by_http, by_queue) = (
            doors.by_http(&body).await,
            doors.by_queue(&body, number).await,
        );
        assert_eq!(by_http, by_queue, "{body}");
        taken += usize::from(by_http.is_some());
    }
    // Both kinds are met often, or nothing is compared.
    assert!(
        (CASES / 10..CASES * 9 / 10).contains(&taken),
        "{taken} of {CASES} were taken"
    );
}
