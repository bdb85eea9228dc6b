//! `clarion job publish`: what it says of a request that the broker confirms, returns, refuses or does not allow.
//! It must not know what becomes of a request.

use std::io::Write;
use std::process::Stdio;

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::user::{User, deployment};
use super::{PUBLISH, Rabbit, added};
use crate::harness::{alone, clarion};

/// Runs the command with a request on its standard input; gives its exit code, and what it printed as JSON.
async fn publish(url: String, lane: &'static str, request: Value) -> (Option<i32>, Value) {
    tokio::task::spawn_blocking(move || {
        let mut child = clarion()
            .args([
                "job", "publish", "-", "--tenant", "acme", "--lane", lane, "--json",
            ])
            .env("CLARION_AMQP_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(request.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), printed)
    })
    .await
    .unwrap()
}

fn request() -> Value {
    json!({"v": 1, "message_id": "m-1", "user_id": "ada", "alert": {"title": "Hi"}})
}

fn url(rabbit: &Rabbit, (name, password): (&str, &str)) -> String {
    format!("amqp://{name}:{password}@127.0.0.1:{}/%2f", rabbit.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_checked_published_and_judged_by_the_broker() {
    let _alone = alone().await;
    let rabbit = super::managed().await;
    let own = deployment(&rabbit).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret").unwrap();
    let path = file.path().to_str().unwrap();
    super::ok(
        &rabbit,
        &["add", "shop", "--tenant", "acme", "--password-file", path],
    )
    .await;
    let shop = url(&rabbit, ("shop", "secret"));

    let (code, said) = publish(shop.clone(), "bulk", request()).await;
    assert_eq!(code, Some(0), "{said}");
    let expected = json!({
        "verdict": "confirmed", "message_id": "m-1", "attempts": 1, "routing_key": "acme.bulk",
    });
    assert_eq!(said, expected);
    let arrived = own.get("requests").await.unwrap().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&arrived).unwrap(),
        request()
    );

    let mut broken = request();
    broken["badge"] = json!(-1);
    let (code, said) = publish(shop.clone(), "bulk", broken).await;
    assert_eq!((code, &said["valid"]), (Some(1), &json!(false)), "{said}");
    assert_eq!(said["problems"][0]["path"], "/badge");
    assert_eq!(own.get("requests").await.unwrap(), None);

    forbidden(&rabbit).await;

    // A queue that is full refuses, and does so each time.
    full(&own).await;
    let (code, said) = publish(shop.clone(), "transactional", request()).await;
    assert_eq!(
        (code, &said["verdict"]),
        (Some(75), &json!("refused")),
        "{said}"
    );
    assert_eq!(said["attempts"], 5);
    own.unbind("full", "acme.transactional").await.unwrap();
    own.unbind("requests", "#").await.unwrap();
    let (code, said) = publish(shop, "bulk", request()).await;
    assert_eq!(
        (code, &said["verdict"]),
        (Some(1), &json!("returned")),
        "{said}"
    );
    let (code, said) = publish("amqp://127.0.0.1:1".to_owned(), "bulk", request()).await;
    assert_eq!(
        (code, &said["verdict"]),
        (Some(75), &json!("unanswered")),
        "{said}"
    );
}

/// What the broker does not allow is not tried again: it would end the same.
async fn forbidden(rabbit: &Rabbit) {
    let other = added(rabbit, &["other", "--tenant", "globex"]).await;
    drop(other);
    rabbit.ctl(&["change_password", "other", "secret"]);
    let foreign = url(rabbit, ("other", "secret"));
    let (code, said) = publish(foreign, "bulk", request()).await;
    assert_eq!(
        (code, &said["verdict"]),
        (Some(1), &json!("forbidden")),
        "{said}"
    );
    assert_eq!(said["attempts"], 1);
    let (code, said) = publish(url(rabbit, ("shop", "wrong")), "bulk", request()).await;
    assert_eq!(
        (code, &said["verdict"]),
        (Some(1), &json!("forbidden")),
        "{said}"
    );
}

async fn full(own: &User) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(0));
    let overflow = AMQPValue::LongString("reject-publish".into());
    arguments.insert("x-overflow".into(), overflow);
    own.declare("full", arguments).await.unwrap();
    own.bind("full", PUBLISH, "acme.transactional")
        .await
        .unwrap();
}
