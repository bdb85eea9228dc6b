//! Organisations: who becomes what, what a role opens, and the audit log of all that.
//! It must not know tenants beyond that they belong to an organisation.

use clarion_auth::principal::Role;
use http::Method;
use serde_json::{Value, json};

use super::house::{Caller, House, ORG};

/// Creates an organisation as its owner.
async fn org(house: &House, owner: &Caller) -> String {
    let made = house
        .post("/orgs", owner, json!({"name": "Acme"}))
        .await
        .ok();
    assert_eq!(made["role"], "owner");
    made["org_id"].as_str().unwrap().to_owned()
}

async fn put(house: &House, org: &str, user: &str, role: &str, caller: &Caller) -> u16 {
    let path = format!("/orgs/{org}/members/{user}");
    let body = json!({"role": role});
    house
        .send_json(Method::PUT, &path, caller, body)
        .await
        .status
}

async fn roles(house: &House, org: &str, caller: &Caller) -> Value {
    let path = format!("/orgs/{org}/members");
    let list = house.get(&path, caller).await.ok();
    let members = list["members"].as_array().unwrap().iter();
    members
        .map(|one| json!([one["user_id"], one["role"]]))
        .collect()
}

#[tokio::test]
async fn whoever_creates_an_organisation_owns_it_and_its_access_token_need_not_say_so() {
    let house = House::open().await;
    let (ada, bob) = (house.nobody("ada"), house.nobody("bob"));
    let acme = org(&house, &ada).await;
    let list = house.get("/orgs", &ada).await.ok();
    assert_eq!(list["orgs"][0]["org_id"], json!(acme));
    assert_eq!(house.get("/orgs", &bob).await.ok(), json!({"orgs": []}));
    let me = format!("/orgs/{acme}/members/me");
    assert_eq!(house.get(&me, &ada).await.ok()["role"], "owner");
    assert_eq!(house.get(&me, &bob).await.status, 404);
    let tenant = json!({"org_id": acme});
    house.post("/tenants", &ada, tenant.clone()).await.ok();
    assert_eq!(
        house.post("/tenants", &bob, tenant.clone()).await.status,
        403
    );
    // A role that is given counts for the next request, and one that is taken away no more.
    assert_eq!(put(&house, &acme, "bob", "admin", &ada).await, 200);
    house.post("/tenants", &bob, tenant.clone()).await.ok();
    assert_eq!(put(&house, &acme, "bob", "member", &ada).await, 200);
    assert_eq!(
        house.post("/tenants", &bob, tenant.clone()).await.status,
        403
    );
    let path = format!("/orgs/{acme}/members/bob");
    house.delete(&path, &ada).await.ok();
    assert_eq!(house.get(&format!("/orgs/{acme}"), &bob).await.status, 403);
}

#[tokio::test]
async fn members_are_managed_by_admins_and_there_is_always_one_owner() {
    let house = House::open().await;
    let (ada, bob, eve) = (
        house.nobody("ada"),
        house.nobody("bob"),
        house.nobody("eve"),
    );
    let acme = org(&house, &ada).await;
    assert_eq!(put(&house, &acme, "eve", "member", &eve).await, 403);
    assert_eq!(put(&house, &acme, "bob", "admin", &ada).await, 200);
    assert_eq!(put(&house, &acme, "eve", "member", &bob).await, 200);
    assert_eq!(put(&house, &acme, "bob", "admin", &eve).await, 403);
    // An admin neither takes the organisation nor the owner's role away.
    assert_eq!(put(&house, &acme, "bob", "owner", &bob).await, 403);
    assert_eq!(put(&house, &acme, "ada", "member", &bob).await, 409);
    let ada_path = format!("/orgs/{acme}/members/ada");
    assert_eq!(house.delete(&ada_path, &bob).await.status, 409);
    assert_eq!(put(&house, &acme, "zoe", "owner", &ada).await, 404);
    assert_eq!(put(&house, &acme, "bob", "owner", &ada).await, 200);
    let expected = json!([["ada", "admin"], ["bob", "owner"], ["eve", "member"]]);
    assert_eq!(roles(&house, &acme, &eve).await, expected);
    // Everybody may leave; nobody but admins may send others away.
    assert_eq!(house.delete(&ada_path, &eve).await.status, 403);
    house
        .delete(&format!("/orgs/{acme}/members/eve"), &eve)
        .await
        .ok();
    assert_eq!(put(&house, &acme, "eve", "root", &ada).await, 422);
}

#[tokio::test]
async fn only_the_owner_deletes_an_organisation_and_its_tenants_go_with_it() {
    let house = House::open().await;
    let (ada, bob) = (house.nobody("ada"), house.nobody("bob"));
    let acme = org(&house, &ada).await;
    put(&house, &acme, "bob", "admin", &ada).await;
    let tenant = house
        .post("/tenants", &ada, json!({"org_id": acme}))
        .await
        .ok();
    let tenant = tenant["tenant_id"].as_str().unwrap();
    let path = format!("/orgs/{acme}");
    assert_eq!(house.delete(&path, &bob).await.status, 403);
    let made = format!("/tenants/{tenant}/api-keys");
    let key = house.post(&made, &ada, json!({"name": "k"})).await.ok();
    let key = Caller::Key(key["key"].as_str().unwrap().to_owned());
    let devices = format!("/tenants/{tenant}/devices?user_id=u");
    house.get(&devices, &key).await.ok();
    assert_eq!(house.delete(&path, &ada).await.ok()["tenants"], 1);
    assert_eq!(house.get(&devices, &key).await.status, 401);
    assert_eq!(house.get(&path, &ada).await.status, 403);
}

#[tokio::test]
async fn nobody_becomes_the_owner_of_an_organisation_that_others_speak_of() {
    let house = House::open().await;
    let eve = house.nobody("eve");
    for id in [ORG, "operators", "free"] {
        let body = json!({"name": "x", "org_id": id});
        assert_eq!(house.post("/orgs", &eve, body).await.status, 403, "{id}");
    }
    let operator = house.person_in("operators", Role::Owner);
    let body = json!({"name": "x", "org_id": "operators"});
    assert_eq!(house.post("/orgs", &operator, body).await.status, 403);
    let admin = house.admin();
    let body = || json!({"name": "Acme", "org_id": ORG});
    assert_eq!(house.post("/orgs", &admin, body()).await.status, 403);
    let owner = house.person_in(ORG, Role::Owner);
    house.post("/orgs", &owner, body()).await.ok();
    assert_eq!(house.post("/orgs", &owner, body()).await.status, 409);
}

#[tokio::test]
async fn every_administrative_call_is_noted_with_who_and_what_came_of_it() {
    let house = House::open().await;
    let (tenant, key) = house.tenant().await;
    let (admin, member) = (house.admin(), house.person_in(ORG, Role::Member));
    let keys = format!("/tenants/{tenant}/api-keys");
    house.get(&keys, &admin).await.ok();
    let made = house.post(&keys, &admin, json!({"name": "k"})).await.ok();
    let id = made["key_id"].as_str().unwrap();
    house.delete(&format!("{keys}/{id}"), &admin).await.ok();
    assert_eq!(
        house
            .delete(&format!("/tenants/{tenant}"), &key)
            .await
            .status,
        403
    );
    assert_eq!(
        house
            .post(&keys, &member, json!({"name": "k"}))
            .await
            .status,
        403
    );
    let path = format!("/orgs/{ORG}/audit");
    assert_eq!(house.get(&path, &member).await.status, 403);
    let page = house.get(&path, &admin).await.ok();
    let entries = page["entries"].as_array().unwrap();
    let seen: Vec<Value> = entries
        .iter()
        .map(|row| {
            json!([
                row["operation"],
                row["target"],
                row["status"],
                row["credential"]
            ])
        })
        .collect();
    let target = format!("key_id={id}");
    // Latest first; what only reads is not there.
    let expected = [
        json!(["create_api_key", "", 403, "access_token"]),
        json!(["delete_tenant", "", 403, "api_key"]),
        json!(["delete_api_key", target, 200, "access_token"]),
        json!(["create_api_key", target, 200, "access_token"]),
    ];
    assert_eq!(seen[..4], expected);
    assert_eq!(entries[2]["tenant_id"], json!(tenant));
    assert_eq!(entries[2]["actor"], "ada@example.com");
    assert!(
        entries
            .iter()
            .all(|row| row["request_id"].as_str().unwrap().len() == 32)
    );
    let all = page.to_string();
    assert!(!all.contains("msk_live_"), "a key is in the log");

    let first = house.get(&format!("{path}?limit=3"), &admin).await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = house
        .get(&format!("{path}?cursor={cursor}"), &admin)
        .await
        .ok();
    assert_eq!(rest["entries"][0], entries[3]);
    assert_eq!(rest["next_cursor"], json!(null));
}
