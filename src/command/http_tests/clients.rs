//! What `clarion client` asks and shows. It must not know a server.

use serde_json::json;

use super::run;

#[test]
fn client_applications_and_push_secrets_are_made_shown_once_and_deleted() {
    let person = "--tenant t1 --access-token jwt";
    let made = json!({"client_id": "c1", "client_secret": "s", "name": "Ada", "section": "inside"});
    let ran = run(
        &format!("client create --name Ada {person}"),
        &[(200, made)],
    );
    ran.result.unwrap();
    assert_eq!(ran.arrived[0].line, "POST /tenants/t1/clients");
    assert_eq!(
        ran.arrived[0].body,
        json!({"name": "Ada", "section": "inside"})
    );
    assert!(ran.out.contains("client_secret  s"), "{}", ran.out);
    assert!(ran.talk.contains("only time"), "{}", ran.talk);
    let ran = run(
        &format!("client delete c1 {person}"),
        &[(200, json!({"deleted": true}))],
    );
    assert_eq!(ran.arrived[0].line, "DELETE /tenants/t1/clients/c1");
    let ran = run(
        &format!("client add-secret c1 {person}"),
        &[(200, json!({"client_id": "c1", "client_secret": "s"}))],
    );
    assert_eq!(ran.arrived[0].line, "POST /tenants/t1/clients/c1/secret");

    let rotated = (200, json!({"client_secret": null, "app_secret": "a"}));
    let patched = (200, json!({"verify_client_secret": false}));
    let ran = run(
        &format!("client push-secrets --rotate-app-secret --verify-client-secret false {person}"),
        &[rotated, patched],
    );
    ran.result.unwrap();
    assert_eq!(
        ran.arrived[0].body,
        json!({"client_secret": false, "app_secret": true})
    );
    assert_eq!(ran.arrived[1].line, "PATCH /tenants/t1/push-secrets");
    assert_eq!(ran.arrived[1].body["verify_client_secret"], false);
    assert!(ran.out.contains("app_secret  a"), "{}", ran.out);
}
