//! Users of the broker, as `clarion publisher` makes them: what each may do, and each refusal.
//! It must not know how the broker is told.

mod job;
mod user;

use std::process::Output;

use clarion_services::rabbitmq::Rabbit;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Confirmation, ExchangeKind};
use serde_json::Value;

use self::user::{User, deployment};
use crate::harness::{alone, clarion};

const PUBLISH: &str = "clarion.publish";
const EVENTS: &str = "clarion.events";
/// A queue of the deployment's own.
const JOBS: &str = "clarion.jobs.globex.bulk";

async fn managed() -> Rabbit {
    tokio::task::spawn_blocking(Rabbit::start_managed)
        .await
        .unwrap()
}

/// Runs `clarion publisher …` as the broker's administrator.
async fn publisher(rabbit: &Rabbit, arguments: &[&str]) -> Output {
    let (user, password) = rabbit.administrator();
    let mut command = clarion();
    command
        .arg("publisher")
        .args(arguments)
        .env("CLARION_MANAGEMENT_URL", rabbit.management_url())
        .env("CLARION_MANAGEMENT_USER", user)
        .env("CLARION_MANAGEMENT_PASSWORD", password);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn ok(rabbit: &Rabbit, arguments: &[&str]) -> String {
    let output = publisher(rabbit, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, answer: lapin::Result<T>) {
    let said = format!("{:?}", answer.expect_err(what));
    assert!(said.contains("ACCESS_REFUSED"), "{what}: {said}");
}

/// A new user's connection, with the password that was printed.
async fn added(rabbit: &Rabbit, arguments: &[&str]) -> User {
    let printed = ok(rabbit, &[&["add"], arguments].concat()).await;
    let password = printed.trim_end();
    assert!(
        !password.is_empty() && !password.contains('\n'),
        "{printed}"
    );
    User::of(rabbit, arguments[0], password).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_publishes_for_its_tenant_and_nothing_else() {
    let _alone = alone().await;
    let rabbit = managed().await;
    let own = deployment(&rabbit).await;
    let shop = added(&rabbit, &["shop", "--tenant", "acme"]).await;
    for key in ["acme.transactional", "acme.bulk"] {
        let confirmed = shop.publish(PUBLISH, key).await.unwrap();
        assert!(
            matches!(confirmed, Confirmation::Ack(None)),
            "{confirmed:?}"
        );
    }
    for key in [
        "globex.bulk",
        "acme.loud",
        "acme",
        "xacme.bulk",
        "acme.bulk.x",
        "acme_bulk",
    ] {
        refused(key, shop.publish(PUBLISH, key).await);
    }
    refused("events", shop.publish(EVENTS, "acme").await);
    refused("default exchange", shop.publish("", JOBS).await);
    refused(
        "an exchange of the broker's",
        shop.publish("amq.topic", "acme.bulk").await,
    );
    for queue in ["acme.events.shop", "anything"] {
        refused(queue, shop.declare(queue, FieldTable::default()).await);
    }
    refused("bind", shop.bind("requests", PUBLISH, "acme.bulk").await);
    refused("get", shop.get("requests").await);
    refused("get", shop.get(JOBS).await);
    // Only what was allowed has arrived.
    let mut arrived = 0;
    while own.get("requests").await.unwrap().is_some() {
        arrived += 1;
    }
    assert_eq!(arrived, 2);
    assert_eq!(own.get(JOBS).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_its_tenant_and_nothing_else() {
    let _alone = alone().await;
    let rabbit = managed().await;
    let own = deployment(&rabbit).await;
    let ears = added(&rabbit, &["ears", "--tenant", "acme", "--listen"]).await;
    let queue = "acme.events.shop";
    ears.declare(queue, FieldTable::default()).await.unwrap();
    ears.bind(queue, EVENTS, "acme").await.unwrap();
    own.publish(EVENTS, "acme").await.unwrap();
    assert_eq!(ears.get(queue).await.unwrap().as_deref(), Some(&b"{}"[..]));
    for key in ["globex", "#", "*", "acme.x", ""] {
        refused(key, ears.bind(queue, EVENTS, key).await);
    }
    refused("bind", ears.bind(queue, PUBLISH, "acme.bulk").await);
    for queue in [
        "globex.events.shop",
        "acme.events.",
        "acme",
        JOBS,
        "xacme.events.y",
    ] {
        refused(queue, ears.declare(queue, FieldTable::default()).await);
    }
    refused("publish", ears.publish(PUBLISH, "acme.bulk").await);
    refused("default exchange", ears.publish("", queue).await);
    refused("get", ears.get(JOBS).await);
    refused("get", ears.get("requests").await);
    refused(
        "an exchange",
        ears.declare_exchange("acme.x", ExchangeKind::Topic).await,
    );
    // What comes by a dead-letter exchange or from exchange to exchange is held to no entry.
    let mut dead = FieldTable::default();
    for (name, value) in [("exchange", PUBLISH), ("routing-key", "globex.bulk")] {
        let name = format!("x-dead-letter-{name}");
        dead.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    refused("dead letters", ears.declare("acme.events.dead", dead).await);
    refused(
        "exchange to exchange",
        ears.bind_exchange(PUBLISH, EVENTS).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_and_those_without_an_entry_are_marked() {
    let _alone = alone().await;
    let rabbit = managed().await;
    let own = deployment(&rabbit).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file\n").unwrap();
    let path = file.path().to_str().unwrap();
    let printed = ok(
        &rabbit,
        &["add", "shop", "--tenant", "acme", "--password-file", path],
    )
    .await;
    assert_eq!(printed, "");
    User::of(&rabbit, "shop", "from%20a%20file").await;
    let add = ["add", "ears", "--tenant", "acme", "--listen", "--json"];
    let printed: Value = serde_json::from_str(&ok(&rabbit, &add).await).unwrap();
    assert_eq!(
        (&printed["may"], &printed["tenant"]),
        (&"listen".into(), &"acme".into())
    );
    User::of(&rabbit, "ears", printed["password"].as_str().unwrap()).await;
    // Nobody is replaced by accident.
    let again = publisher(&rabbit, &["add", "shop", "--tenant", "globex"]).await;
    assert_eq!(again.status.code(), Some(2));
    rabbit.ctl(&["add_user", "rogue", "secret"]);
    rabbit.ctl(&[
        "set_permissions",
        "rogue",
        "^$",
        r"^clarion\.publish$",
        "^$",
    ]);
    // Why it is marked: it is held to no tenant.
    let rogue = User::of(&rabbit, "rogue", "secret").await;
    rogue.publish(PUBLISH, "globex.bulk").await.unwrap();
    assert!(own.get("requests").await.unwrap().is_some());
    let listed: Value = serde_json::from_str(&ok(&rabbit, &["list", "--json"]).await).unwrap();
    let said = |name: &str| {
        let users = listed["users"].as_array().unwrap();
        let user = users.iter().find(|user| user["user"] == name).unwrap();
        [&user["tenant"], &user["may"], &user["warning"]]
            .map(|word| word.as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(said("shop"), ["acme", "publish", "-"]);
    assert_eq!(said("ears"), ["acme", "listen", "-"]);
    assert_eq!(said("rogue"), ["-", "-", "no entry for clarion.publish"]);
    assert!(said("clarion")[2].contains("no entry for clarion.publish"));
    let table = ok(&rabbit, &["list"]).await;
    let shop = table.lines().find(|line| line.starts_with("shop")).unwrap();
    assert_eq!(
        shop.split_whitespace().collect::<Vec<_>>(),
        ["shop", "acme", "publish", "-"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_virtual_host_are_told() {
    let _alone = alone().await;
    let rabbit = managed().await;
    let run = |variable: &'static str, value: &'static str, extra: &'static [&'static str]| {
        let (user, password) = rabbit.administrator();
        let mut command = clarion();
        command
            .args(["publisher", "add", "shop", "--tenant", "acme"])
            .args(extra)
            .env("CLARION_MANAGEMENT_URL", rabbit.management_url())
            .env("CLARION_MANAGEMENT_USER", user)
            .env("CLARION_MANAGEMENT_PASSWORD", password)
            .env(variable, value);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run("CLARION_MANAGEMENT_PASSWORD", "wrong", &[]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("refuses user or password") && !said.contains("wrong"),
        "{said}"
    );
    let (code, said) = run("NO_COLOR", "1", &["--vhost", "nowhere"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("check --vhost"), "{said}");
    // Nothing is left of it.
    assert!(!rabbit.ctl(&["list_users"]).contains("shop"));
    let (code, _) = run("CLARION_MANAGEMENT_URL", "http://127.0.0.1:1", &[]);
    assert_eq!(code, Some(75));
}
