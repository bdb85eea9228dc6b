//! Provider credentials: checked offline, sealed for their row, replaced, never shown.
//! It must not know how the engine uses them.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clarion_auth::token::SigningKey;
use clarion_engine::store::Accounts;
use http::Method;
use serde_json::{Value, json};

use super::house::{House, ORG};

fn p8() -> String {
    SigningKey::generate().unwrap().reveal_pem().to_string()
}

fn apns(pem: &str) -> Value {
    json!({"team_id": "ABCDE12345", "key_id": "KEY1234567", "private_key": pem})
}

/// An upload for Apple, as good as any.
pub(crate) fn apns_key() -> Value {
    apns(&p8())
}

/// An upload for Google, as good as any.
pub(crate) fn fcm() -> Value {
    json!({"service_account": service_account()})
}

fn service_account() -> Value {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    );
    json!({
        "type": "service_account", "project_id": "demo-1", "private_key_id": "1", "private_key": pem,
        "client_email": "push@demo-1.iam.gserviceaccount.com",
        "token_uri": "https://evil.example/token",
    })
}

#[tokio::test]
async fn a_tenant_is_created_with_its_credentials() {
    let house = House::open().await;
    let pem = p8();
    let mut body = apns(&pem);
    body["org_id"] = json!(ORG);
    body["bundle_id"] = json!("com.example.app");
    body["use_sandbox"] = json!(false);
    body["fcm"] = service_account();
    let tenant = house.post("/tenants", &house.admin(), body).await.ok();
    assert_eq!(
        (&tenant["team_id"], &tenant["key_id"]),
        (&json!("ABCDE12345"), &json!("KEY1234567"))
    );
    assert_eq!(
        (&tenant["push_enabled"], &tenant["use_sandbox"]),
        (&json!(true), &json!(false))
    );
    let path = format!(
        "/tenants/{}/credentials",
        tenant["tenant_id"].as_str().unwrap()
    );
    let listed = house.get(&path, &house.admin()).await.ok();
    let ids: Vec<&Value> = listed["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["credential_id"])
        .collect();
    assert_eq!(ids, ["apns-production", "fcm"]);
    assert!(!listed.to_string().contains("PRIVATE"));
    assert!(!tenant.to_string().contains("PRIVATE"));
}

#[tokio::test]
async fn a_replacement_grows_the_version_and_what_is_stored_is_sealed() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let path = format!("/tenants/{tenant}/credentials");
    let put = |last: &str, body: Value| {
        let path = format!("{path}/{last}");
        let house = &house;
        async move {
            house
                .send_json(Method::PUT, &path, &house.admin(), body)
                .await
        }
    };
    let pem = p8();
    let first = put("apns", apns(&pem)).await.ok();
    assert_eq!(
        (&first["credential_id"], &first["version"]),
        (&json!("apns-sandbox"), &json!(1))
    );
    assert_eq!(first["public"]["team_id"], "ABCDE12345");
    assert_eq!(put("apns", apns(&p8())).await.ok()["version"], 2);
    let mut production = apns(&p8());
    production["environment"] = json!("production");
    assert_eq!(
        put("apns", production).await.ok()["credential_id"],
        "apns-production"
    );
    let fcm = put("fcm", json!({"service_account": service_account()}))
        .await
        .ok();
    assert_eq!(
        (&fcm["kind"], &fcm["public"]["project_id"]),
        (&json!("fcm"), &json!("demo-1"))
    );
    let rows = house
        .store
        .credentials(&tenant.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let text = String::from_utf8_lossy(&row.sealed).into_owned();
        assert!(!text.contains("PRIVATE") && !row.public.contains("PRIVATE"));
    }
    assert_eq!(
        house
            .delete(&format!("{path}/apns"), &house.admin())
            .await
            .ok()["deleted"],
        true
    );
    assert_eq!(
        house
            .delete(&format!("{path}/apns-sandbox"), &house.admin())
            .await
            .status,
        404
    );
    assert_eq!(
        house
            .delete(&format!("{path}/apns-production"), &house.admin())
            .await
            .status,
        200
    );
    // A version is never used again, not even after a deletion.
    assert_eq!(put("apns", apns(&p8())).await.ok()["version"], 3);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_it_is_stored() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let before = house.counts(&tenant).await;
    let mut lower = apns(&p8());
    lower["team_id"] = json!("abcde12345");
    let mut foreign = service_account();
    foreign["type"] = json!("authorized_user");
    let both = json!({"private_key": p8(), "certificate_pem": "x", "team_id": "A", "key_id": "B"});
    for (last, body, status) in [
        ("apns", apns("not a key"), 400),
        ("apns", lower, 400),
        (
            "apns",
            json!({"certificate_p12": "!!!", "password": "x"}),
            400,
        ),
        (
            "apns",
            json!({"certificate_p12": STANDARD.encode("junk")}),
            400,
        ),
        ("apns", json!({"certificate_pem": "junk"}), 400),
        ("apns", json!({"private_key": p8()}), 422),
        ("apns", json!({}), 422),
        ("apns", both, 422),
        ("fcm", json!({"service_account": foreign}), 400),
        ("fcm", json!({"service_account": {}}), 400),
        ("fcm", json!({}), 422),
        ("windows", json!({}), 404),
    ] {
        let path = format!("/tenants/{tenant}/credentials/{last}");
        let reply = house
            .send_json(Method::PUT, &path, &house.admin(), body.clone())
            .await;
        assert_eq!(reply.status, status, "{last}: {}", reply.body);
        assert!(
            !reply.body.to_string().contains("PRIVATE KEY"),
            "{}",
            reply.body
        );
    }
    assert_eq!(house.counts(&tenant).await, before);
}
