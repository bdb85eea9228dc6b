//! The commands for organisations, service IDs, IAM keys and API keys' successors: what is sent and printed.
//! It must not need a running Clarion.

use serde_json::json;

use super::run;

const ME: &str = "--access-token jwt";

#[test]
fn a_key_is_made_with_scopes_and_replaced_by_a_successor() {
    let made = json!({"key_id": "key_Ab3dEf9z", "key": "msk_test_x"});
    let line =
        format!("tenant api-key t1 --name cron --scope send --scope read --test --rate 5 {ME}");
    let ran = run(&line, &[(200, made.clone())]);
    ran.result.unwrap();
    assert_eq!(ran.arrived[0].line, "POST /tenants/t1/api-keys");
    let body =
        json!({"name": "cron", "scopes": ["send", "read"], "test": true, "rate_per_second": 5});
    assert_eq!(
        (&ran.arrived[0].body, ran.out.as_str()),
        (&body, "msk_test_x\n")
    );
    let line = format!("tenant api-key t1 --rotate key_Ab3dEf9z --overlap 60 {ME}");
    let ran = run(&line, &[(200, made)]);
    let expected = "POST /tenants/t1/api-keys/key_Ab3dEf9z/rotate";
    assert_eq!(ran.arrived[0].line, expected);
    assert_eq!(ran.arrived[0].body, json!({"overlap_seconds": 60}));
}

#[test]
fn organisations_are_created_staffed_and_not_deleted_without_a_word() {
    let ran = run(
        &format!("org create --name Acme|Inc {ME}"),
        &[(200, json!({"org_id": "o1"}))],
    );
    assert_eq!(ran.arrived[0].line, "POST /orgs");
    assert_eq!(
        ran.arrived[0].body,
        json!({"name": "Acme Inc", "org_id": null})
    );
    assert_eq!(ran.out, "o1\n");
    let line = format!("org member o1 bob@example.com --role admin {ME}");
    let ran = run(&line, &[(200, json!({}))]);
    assert_eq!(ran.arrived[0].line, "PUT /orgs/o1/members/bob@example.com");
    assert_eq!(ran.arrived[0].body, json!({"role": "admin"}));
    let refused = run(&format!("org delete o1 {ME}"), &[]);
    assert_eq!(
        refused.result.unwrap_err().to_string(),
        "nobody to ask: give --yes"
    );
    assert!(refused.arrived.is_empty());
    let ran = run(
        &format!("org delete o1 --yes {ME}"),
        &[(200, json!({"tenants": 2}))],
    );
    assert_eq!(ran.talk, "deleted o1 with 2 tenants\n");
}

#[test]
fn services_and_keys_are_managed_at_ibms_paths() {
    let line =
        format!("service-id create --org o1 --name shop --grant all=reader --grant t1=Writer {ME}");
    let ran = run(&line, &[(201, json!({"id": "ServiceId-1"}))]);
    assert_eq!(ran.arrived[0].line, "POST /v1/serviceids");
    let grants =
        json!([{"tenant_id": null, "role": "Reader"}, {"tenant_id": "t1", "role": "Writer"}]);
    assert_eq!(ran.arrived[0].body["grants"], grants);
    assert_eq!(ran.out, "ServiceId-1\n");
    let ran = run(
        &format!("service-id grant ServiceId-1 {ME}"),
        &[(200, json!({}))],
    );
    assert_eq!(ran.arrived[0].line, "PUT /v1/serviceids/ServiceId-1");
    assert_eq!(ran.arrived[0].header("if-match"), Some("*"));
    let line = format!("key create --name k --service-id ServiceId-1 {ME}");
    let ran = run(
        &line,
        &[(201, json!({"id": "ApiKey-1", "apikey": "iam_x"}))],
    );
    assert_eq!(ran.arrived[0].body["iam_id"], "iam-ServiceId-1");
    assert_eq!(ran.out, "iam_x\n");
    for (word, expected) in [
        ("lock", "POST /v1/apikeys/ApiKey-1/lock"),
        ("unlock", "DELETE /v1/apikeys/ApiKey-1/lock"),
        ("disable", "POST /v1/apikeys/ApiKey-1/disable"),
        ("enable", "DELETE /v1/apikeys/ApiKey-1/disable"),
        ("delete", "DELETE /v1/apikeys/ApiKey-1"),
    ] {
        let ran = run(&format!("key {word} ApiKey-1 {ME}"), &[(200, json!(null))]);
        ran.result.unwrap();
        assert_eq!(ran.arrived[0].line, expected);
    }
    let errors = json!({"errors": [{"code": "not_found", "message": "no such IAM key"}]});
    let refused = run(&format!("key delete ApiKey-1 {ME}"), &[(404, errors)]);
    assert!(
        refused
            .result
            .unwrap_err()
            .to_string()
            .contains("no such IAM key")
    );
}

#[test]
fn the_audit_log_is_a_table_with_the_way_to_earlier_rows() {
    let entry = json!({"at": "2026-01-01T00:00:00Z", "actor": "ada", "source": "192.0.2.7",
        "operation": "delete_api_key", "status": 200, "tenant_id": "t1", "target": "key_id=k"});
    let page = json!({"entries": [entry], "next_cursor": "9"});
    let ran = run(&format!("audit o1 --limit 1 {ME}"), &[(200, page)]);
    assert_eq!(ran.arrived[0].line, "GET /orgs/o1/audit?limit=1");
    assert!(
        ran.out
            .contains("192.0.2.7  delete_api_key  200     t1      key_id=k"),
        "{}",
        ran.out
    );
    assert_eq!(ran.talk, "earlier entries: --cursor 9\n");
}
