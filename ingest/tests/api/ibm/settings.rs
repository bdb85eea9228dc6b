//! Settings: what of Apple's and Google's credentials can be said in IBM's words.
//! It must not know how credentials are sealed.

use axum::body::Body;
use http::{Method, Request};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKeyChain};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::{App, refused};

const P12_PASSWORD: &str = "open sesame";

/// A certificate with its key in a `.p12` file.
fn apns_p12() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::default().self_signed(&key).unwrap();
    let leaf = Certificate::from_der(made.der()).unwrap();
    let chain = PrivateKeyChain::new(key.serialize_der(), [1, 2, 3], [leaf]);
    let mut store = KeyStore::new();
    store.add_entry("push", KeyStoreEntry::PrivateKeyChain(chain));
    store.writer(P12_PASSWORD).write().unwrap()
}

#[tokio::test]
async fn links_name_what_there_is() {
    let app = App::open().await;
    let links = app.get("settings", &app.server()).await.ok();
    assert_eq!(links["apnsConf"], app.path("settings/apnsConf"));
    assert_eq!(
        (&links["chromeWebConf"], &links["safariWebConf"]),
        (&json!(""), &json!(""))
    );
    for path in [
        "settings/webpushServerKey",
        "settings/chromeAppExtConfPublic",
        "settings/safariWebConf",
    ] {
        let reply = app.get(path, &app.client()).await;
        refused(&reply, 404, "FPWSE0001E");
        assert!(
            reply.body["message"]
                .as_str()
                .unwrap()
                .contains("not to browsers")
        );
    }
}

#[tokio::test]
async fn a_certificate_is_uploaded_as_a_form_and_never_shown() {
    let app = App::open().await;
    let form = |certificate: &[u8], sandbox: &str| {
        let mut body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{}\r\n\
             --x\r\nContent-Disposition: form-data; name=\"isSandBox\"\r\n\r\n{sandbox}\r\n\
             --x\r\nContent-Disposition: form-data; name=\"certificate\"; filename=\"a.p12\"\r\n\r\n",
            P12_PASSWORD,
        )
        .into_bytes();
        body.extend_from_slice(certificate);
        body.extend_from_slice(b"\r\n--x--\r\n");
        body
    };
    let put = async |body: Vec<u8>| {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(app.path("settings/apnsConf"))
            .header("content-type", "multipart/form-data; boundary=x")
            .header("appSecret", &app.app_secret);
        app.house
            .send(request.body(Body::from(body)).unwrap())
            .await
    };
    let certificate = apns_p12();
    let stored = put(form(&certificate, "true")).await.ok();
    assert_eq!(stored["isSandBox"], true);
    assert!(
        stored["certificate"]
            .as_str()
            .unwrap()
            .starts_with("certificate "),
        "{stored}"
    );
    assert!(
        stored["validUntil"].as_str().unwrap().ends_with('Z'),
        "{stored}"
    );
    assert_eq!(
        app.get("settings/apnsConf", &app.server()).await.ok(),
        stored
    );
    refused(&put(form(b"junk", "true")).await, 400, "FPWSE0005E");
    refused(&put(form(&certificate, "maybe")).await, 400, "FPWSE0005E");
    refused(&put(b"--x--".to_vec()).await, 400, "FPWSE0005E");
    assert_eq!(
        app.delete("settings/apnsConf", &app.server()).await.status,
        204
    );
    refused(
        &app.get("settings/apnsConf", &app.server()).await,
        404,
        "FPWSE0001E",
    );
}

#[tokio::test]
async fn a_service_account_stands_where_the_server_key_stood() {
    let app = App::open().await;
    let legacy = json!({"apiKey": "AAAAoldserverkey", "senderId": "123"});
    let reply = app.put("settings/gcmConf", &app.server(), legacy).await;
    refused(&reply, 400, "FPWSE0005E");
    assert!(
        reply.body["message"]
            .as_str()
            .unwrap()
            .contains("service account"),
        "{}",
        reply.body
    );
    refused(
        &app.get("settings/gcmConfPublic", &[]).await,
        404,
        "FPWSE0001E",
    );
    let account = crate::credentials::fcm()["service_account"].clone();
    let text = account.to_string();
    for api_key in [account.clone(), Value::from(text)] {
        let body = json!({"apiKey": api_key, "senderId": "123"});
        let stored = app.put("settings/gcmConf", &app.server(), body).await.ok();
        assert_eq!(
            (&stored["senderId"], &stored["apiKey"]),
            (&json!("123"), &account["client_email"])
        );
    }
    let body = json!({"senderId": "456"});
    let stored = app.put("settings/gcmConf", &app.server(), body).await.ok();
    assert_eq!(
        app.get("settings/gcmConf", &app.server()).await.ok(),
        stored
    );
    // Apps need it to register at Google.
    assert_eq!(
        app.get("settings/gcmConfPublic", &[]).await.ok(),
        json!({"senderId": "456"})
    );
    assert_eq!(
        app.delete("settings/gcmConf", &app.server()).await.status,
        204
    );
    refused(
        &app.delete("settings/gcmConf", &app.server()).await,
        404,
        "FPWSE0001E",
    );
    refused(
        &app.get("settings/gcmConfPublic", &[]).await,
        404,
        "FPWSE0001E",
    );
    refused(
        &app.put("settings/gcmConf", &app.client(), json!({})).await,
        403,
        "FORBIDDEN",
    );
}
