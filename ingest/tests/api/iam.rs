//! IBM's identity face: keys for access tokens, refresh, service IDs, locks, and the shape of its refusals.
//! It must not know what an access token opens beyond the Notify face.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::house::{Caller, House, ORG, Reply, pass, request};

const APIKEY: &str = "urn:ibm:params:oauth:grant-type:apikey";

/// Asks `/identity/token` with a form.
async fn token(house: &House, form: &str) -> Reply {
    let request = Request::post("/identity/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", "Basic Yng6Yng=");
    house
        .send(request.body(Body::from(form.to_owned())).unwrap())
        .await
}

/// The access token for a key.
async fn exchange(house: &House, key: &str) -> Caller {
    let reply = token(house, &format!("grant_type={APIKEY}&apikey={key}"))
        .await
        .ok();
    Caller::Person(reply["access_token"].as_str().unwrap().to_owned())
}

/// An answer with this status.
fn body_of(reply: Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{}", reply.body);
    reply.body
}

async fn service(house: &House, grants: Value) -> Value {
    let body = json!({"account_id": ORG, "name": "shop", "grants": grants});
    let made = house.post("/v1/serviceids/", &house.admin(), body).await;
    body_of(made, 201)
}

async fn key_of(house: &House, caller: &Caller, iam_id: Option<&Value>) -> Value {
    let body = json!({"name": "key", "iam_id": iam_id});
    body_of(house.post("/v1/apikeys", caller, body).await, 201)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn if_match(house: &House, path: &str, tag: &str, body: Value) -> Reply {
    let text = body.to_string();
    let mut asked = request(Method::PUT, path, &house.admin(), Body::from(text));
    asked.headers_mut().insert("if-match", tag.parse().unwrap());
    house.send(asked).await
}

#[tokio::test]
async fn a_service_ids_key_is_exchanged_for_a_token_that_does_what_is_granted() {
    let house = House::open().await;
    let (tenant, _) = house.tenant().await;
    let (other, _) = house.tenant().await;
    let grants = json!([{"role": "Reader"}, {"tenant_id": tenant, "role": "writer"}]);
    let service = service(&house, grants).await;
    let key = key_of(&house, &house.admin(), Some(&service["iam_id"])).await;
    let shown = text(&key["apikey"]);
    let form = format!("apikey={shown}&grant_type={APIKEY}&response_type=cloud_iam");
    let answer = token(&house, &form).await.ok();
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    assert!(answer["expiration"].is_i64() && answer["refresh_token"].is_string());
    assert_eq!(
        (&answer["ims_user_id"], &answer["scope"]),
        (&json!(1), &json!("ibm openid"))
    );
    let caller = Caller::Person(text(&answer["access_token"]).to_owned());
    let status = async |tenant: &str| {
        let devices = house.get(&format!("/tenants/{tenant}/devices?user_id=u"), &caller);
        let devices = devices.await.status;
        let send = house.post(
            &format!("/tenants/{tenant}/notify"),
            &caller,
            json!({"user_id": "u"}),
        );
        (devices, send.await.status)
    };
    assert_eq!(status(&tenant).await, (200, 200));
    assert_eq!(status(&other).await, (200, 403));
    assert_eq!(house.get("/tenants", &caller).await.status, 403);
    // A grant that is taken away counts no more, whatever the token's age.
    let path = format!("/v1/serviceids/{}", text(&service["id"]));
    let less = json!({"grants": [{"tenant_id": tenant, "role": "Reader"}]});
    assert_eq!(if_match(&house, &path, "7", less.clone()).await.status, 409);
    assert_eq!(
        if_match(&house, &path, text(&service["entity_tag"]), less)
            .await
            .status,
        200
    );
    assert_eq!(status(&tenant).await, (200, 403));
    assert_eq!(status(&other).await, (403, 403));
    assert_eq!(house.delete(&path, &house.admin()).await.status, 204);
    assert_eq!(status(&tenant).await, (401, 401));
}

#[tokio::test]
async fn a_deleted_key_is_exchanged_no_more_and_what_was_issued_lives_to_its_end() {
    let house = House::open().await;
    let ada = house.nobody("ada");
    house
        .post("/orgs", &ada, json!({"name": "Acme"}))
        .await
        .ok();
    let key = key_of(&house, &ada, None).await;
    assert_eq!(key["iam_id"], "ada");
    let form = format!("grant_type={APIKEY}&apikey={}", text(&key["apikey"]));
    let answer = token(&house, &form).await.ok();
    let caller = Caller::Person(text(&answer["access_token"]).to_owned());
    assert_eq!(
        house.get("/orgs", &caller).await.ok()["orgs"][0]["role"],
        "owner"
    );
    let path = format!("/v1/apikeys/{}", text(&key["id"]));
    assert_eq!(house.delete(&path, &ada).await.status, 204);
    let refused = token(&house, &form).await;
    assert_eq!(
        (refused.status, &refused.body["errorCode"]),
        (400, &json!("BXNIM0415E"))
    );
    assert_eq!(
        refused.body["errorMessage"],
        "Provided API key could not be found."
    );
    assert!(refused.body["context"]["requestId"].is_string());
    let renew = format!(
        "grant_type=refresh_token&refresh_token={}",
        text(&answer["refresh_token"])
    );
    assert_eq!(token(&house, &renew).await.status, 400);
    pass(Duration::from_secs(3_599));
    house.get("/orgs", &caller).await.ok();
    pass(Duration::from_secs(1));
    assert_eq!(house.get("/orgs", &caller).await.status, 401);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_thief_ends_its_family() {
    let house = House::open().await;
    let key = key_of(&house, &house.nobody("ada"), None).await;
    let form = format!("grant_type={APIKEY}&apikey={}", text(&key["apikey"]));
    let renew = |answer: &Value| {
        let token = text(&answer["refresh_token"]);
        format!("grant_type=refresh_token&refresh_token={token}")
    };
    let first = token(&house, &form).await.ok();
    let second = token(&house, &renew(&first)).await.ok();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let caller = Caller::Person(text(&second["access_token"]).to_owned());
    house.get("/orgs", &caller).await.ok();
    for dead in [&first, &second] {
        let refused = token(&house, &renew(dead)).await;
        assert_eq!(
            (refused.status, &refused.body["errorCode"]),
            (400, &json!("BXNIM0407E"))
        );
    }
    house
        .get("/orgs", &exchange(&house, text(&key["apikey"])).await)
        .await
        .ok();
}

#[tokio::test]
async fn forms_are_read_in_any_order_and_bad_ones_are_refused_in_the_endpoints_shape() {
    let house = House::open().await;
    let long = "x".repeat(20_000);
    for (form, status) in [
        ("", 400),
        ("grant_type=password", 400),
        (
            "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey",
            400,
        ),
        ("grant_type=refresh_token&refresh_token=rt_x", 400),
        ("apikey=a&apikey=b&grant_type=x", 400),
        ("\u{0}", 400),
        (long.as_str(), 413),
    ] {
        let reply = token(&house, form).await;
        assert_eq!(reply.status, status, "{form:.40}: {}", reply.body);
        let code = text(&reply.body["errorCode"]);
        assert!(code.starts_with("BXNIM"), "{form:.40}");
    }
    let reply = house.get("/identity/nowhere", &Caller::Nobody).await;
    assert_eq!(
        (reply.status, reply.body["errorCode"].is_string()),
        (404, true)
    );
}

#[tokio::test]
async fn a_locked_key_stays_as_it_is_and_a_disabled_one_is_not_exchanged() {
    let house = House::open().await;
    let admin = house.admin();
    let service = service(&house, json!([])).await;
    let key = key_of(&house, &admin, Some(&service["iam_id"])).await;
    let path = format!("/v1/apikeys/{}", text(&key["id"]));
    let at = |end: &str| format!("{path}{end}");
    let post = async |path: String| house.post(&path, &admin, json!({})).await.status;
    assert_eq!(post(at("/lock")).await, 204);
    assert_eq!(house.delete(&path, &admin).await.status, 409);
    assert_eq!(post(at("/disable")).await, 409);
    let locked = house.get(&path, &admin).await.ok();
    assert_eq!(
        (&locked["locked"], &locked["apikey"]),
        (&json!(true), &json!(""))
    );
    let rename = json!({"name": "new"});
    let tag = text(&locked["entity_tag"]).to_owned();
    assert_eq!(
        if_match(&house, &path, &tag, rename.clone()).await.status,
        409
    );
    exchange(&house, text(&key["apikey"])).await;
    assert_eq!(house.delete(&at("/lock"), &admin).await.status, 204);
    assert_eq!(if_match(&house, &path, "*", rename).await.status, 200);
    assert_eq!(post(at("/disable")).await, 204);
    let form = format!("grant_type={APIKEY}&apikey={}", text(&key["apikey"]));
    assert_eq!(token(&house, &form).await.status, 400);
    assert_eq!(house.delete(&at("/disable"), &admin).await.status, 204);
    exchange(&house, text(&key["apikey"])).await;
    let mut asked = request(Method::GET, "/v1/apikeys/details", &admin, Body::empty());
    let value = text(&key["apikey"]).parse().unwrap();
    asked.headers_mut().insert("iam-apikey", value);
    let details = house.send(asked).await.ok();
    assert_eq!(
        (&details["id"], &details["name"]),
        (&key["id"], &json!("new"))
    );
    assert_eq!(details["apikey"], "");
}

#[tokio::test]
async fn nobody_makes_or_touches_a_key_that_is_anothers() {
    let house = House::open().await;
    let (ada, eve) = (house.nobody("ada"), house.nobody("eve"));
    let service = service(&house, json!([])).await;
    let for_ada = json!({"name": "key", "iam_id": "ada"});
    // Not even an admin becomes another person by a key.
    for caller in [&eve, &house.admin()] {
        let reply = house.post("/v1/apikeys", caller, for_ada.clone()).await;
        assert_eq!(reply.status, 403, "{}", reply.body);
        assert_eq!(reply.body["errors"][0]["code"], "insufficent_permissions");
        assert_eq!(reply.body["status_code"], 403);
    }
    let for_service = json!({"name": "key", "iam_id": service["iam_id"]});
    assert_eq!(
        house.post("/v1/apikeys", &eve, for_service).await.status,
        403
    );
    let key = key_of(&house, &ada, None).await;
    let path = format!("/v1/apikeys/{}", text(&key["id"]));
    for caller in [&eve, &house.admin()] {
        assert_eq!(house.get(&path, caller).await.status, 403);
        assert_eq!(house.delete(&path, caller).await.status, 403);
    }
    let unknown = house.get("/v1/apikeys/ApiKey-0", &eve).await;
    assert_eq!(
        (unknown.status, &unknown.body["errors"][0]["code"]),
        (404, &json!("not_found"))
    );
    let nobody = house.get("/v1/apikeys", &Caller::Nobody).await;
    assert_eq!(nobody.body["errors"][0]["code"], "invalid_access_token");
    let weak = json!({"name": "key", "apikey": "chosen-by-a-person-and-so-on-and-on"});
    assert_eq!(house.post("/v1/apikeys", &ada, weak).await.status, 400);
    let listed = house.get("/v1/apikeys", &ada).await.ok();
    assert_eq!(listed["apikeys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["apikeys"][0]["apikey"], "");
}
