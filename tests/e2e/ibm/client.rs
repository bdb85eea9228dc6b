//! npm `ibm-push-notifications` 0.9.0, unmodified, as a backend runs it: what it sends arrives.
//! It must not know how the package speaks.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{said_within, secrets, world};
use crate::harness::{ORG, PATIENCE, Tenant, World, apple, google, seed};

/// Where the package asks for access tokens; it is built in.
const IAM_HOST: &str = "iam.cloud.ibm.com";

/// The program in a directory of its own, with the package from the registry beside it.
fn node(home: &Path) -> Command {
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--no-save",
    ]);
    install
        .arg("ibm-push-notifications@0.9.0")
        .current_dir(home);
    let output = install.output().expect("npm: scripts/test installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let program = home.join("client.cjs");
    std::fs::write(&program, include_str!("client.cjs")).unwrap();
    let mut command = Command::new("node");
    command.arg(program).current_dir(home);
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

/// What the program was told, by what it did.
fn answers(command: &mut Command) -> Vec<Value> {
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    // The package says things of its own.
    lines
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Both of the user's devices get what the program sends, each in its provider's words.
async fn arrives(world: &World, devices: &(String, String), answers: &[Value]) {
    let [send, bulk] = answers else {
        panic!("{answers:?}")
    };
    for answer in [send, bulk] {
        assert_eq!(
            (&answer["status"], &answer["error"]),
            (&json!(202), &Value::Null),
            "{answer}"
        );
    }
    let body: Value = serde_json::from_str(send["body"].as_str().unwrap()).unwrap();
    let id = body["messageId"].as_str().unwrap();
    let listed: Value = serde_json::from_str(bulk["body"].as_str().unwrap()).unwrap();
    assert_eq!(listed["messages"].as_array().unwrap().len(), 2);
    let apns = said_within(world, &devices.0, 3, PATIENCE).await;
    let first = apns.iter().find(|push| push["nid"] == id).unwrap();
    let expected = json!({
        "alert": {"title": "Parcel", "body": "Your parcel is here"}, "badge": 3, "sound": "bell.caf",
        "category": "PARCEL", "content-available": 1,
    });
    assert_eq!(first["aps"], expected);
    assert_eq!(first["url"], "https://shop.example/7");
    assert_eq!(first["payload"], format!(r#"{{"nid":"{id}","order":7}}"#));
    let mut texts: Vec<&Value> = apns
        .iter()
        .map(|push| &push["aps"]["alert"]["body"])
        .collect();
    texts.sort_by_key(|text| text.to_string());
    assert_eq!(
        texts,
        ["Your parcel is here", "first of many", "second of many"]
    );
    let fcm = said_within(world, &devices.1, 3, PATIENCE).await;
    let first = fcm
        .iter()
        .map(|push| &push["message"])
        .find(|push| push["data"]["nid"] == id);
    let first = first.unwrap();
    let shown = json!({"title": "Parcel", "body": "Your parcel is here"});
    assert_eq!(first["notification"], shown);
    let android = &first["android"];
    assert_eq!(
        (&android["priority"], &android["ttl"]),
        (&json!("HIGH"), &json!("600s"))
    );
    let details = &android["notification"];
    assert_eq!(details["image"], "https://shop.example/7.png");
    assert_eq!(details["visibility"], "PRIVATE");
    assert_eq!(details["light_settings"]["light_off_duration"], "0.250s");
    assert_eq!(
        first["data"]["payload"],
        format!(r#"{{"nid":"{id}","order":7}}"#)
    );
}

/// A user with an iPhone and an Android phone.
async fn devices(world: &World, tenant: &Tenant) -> (String, String) {
    let (iphone, android) = (apple(seed(), 1), google(seed(), 2));
    let calls = world.calls(tenant);
    calls.register("u1", &iphone, "ios").await;
    calls.register("u1", &android, "android").await;
    (iphone, android)
}

#[tokio::test(flavor = "multi_thread")]
async fn ibms_own_client_sends_with_an_app_secret() {
    let world = world().await;
    let tenant = world.tenant().await;
    let devices = devices(&world, &tenant).await;
    let (_, app_secret) = secrets(&world, &tenant).await;
    let home = tempfile::tempdir().unwrap();
    let mut command = node(home.path());
    command
        .env("HOST", world.server.public())
        .env("APP", &tenant.id)
        .env("USER", "u1");
    let sent = answers(command.env("SECRET", &app_secret));
    arrives(&world, &devices, &sent).await;
    // A secret that is none: the client passes the refusal on.
    let refused = answers(command.env("SECRET", "wrong"));
    let statuses: Vec<&Value> = refused.iter().map(|answer| &answer["status"]).collect();
    assert_eq!(statuses, [401, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ibms_own_client_exchanges_an_api_key_and_sends() {
    let world = world().await;
    let tenant = world.tenant().await;
    let devices = devices(&world, &tenant).await;
    let person = world.person();
    let grants = json!([{"tenant_id": tenant.id, "role": "Writer"}]);
    let body = json!({"account_id": ORG, "name": "sender", "grants": grants});
    let service = person.post("/v1/serviceids/", &body).await;
    assert_eq!(service.status, 201, "{}", service.text);
    let body = json!({"name": "sender", "iam_id": service.json()["iam_id"]});
    let key = person.post("/v1/apikeys", &body).await;
    assert_eq!(key.status, 201, "{}", key.text);
    let key = key.json()["apikey"].as_str().unwrap().to_owned();
    let proxy = Proxy::start(IAM_HOST, world.server.public()).await;
    let home = tempfile::tempdir().unwrap();
    let authority = home.path().join("ca.pem");
    std::fs::write(&authority, &proxy.ca_pem).unwrap();
    let mut command = node(home.path());
    command
        .env("HOST", world.server.public())
        .env("APP", &tenant.id)
        .env("USER", "u1");
    command
        .env("HTTPS_PROXY", &proxy.url)
        .env("NO_PROXY", "127.0.0.1");
    command.env("NODE_EXTRA_CA_CERTS", &authority);
    let told = answers(command.env("API_KEY", &key));
    let (token, sent) = told.split_first().unwrap();
    assert_eq!(
        token,
        &json!({"what": "token", "status": 200, "body": "eyJ"})
    );
    arrives(&world, &devices, sent).await;
    // A key that nobody made gets no token, and nothing is sent.
    let refused = answers(command.env("API_KEY", "nobody-made-this"));
    assert_eq!(refused, [json!({"what": "token", "status": 0, "body": ""})]);
}
