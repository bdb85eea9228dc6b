//! Tags, selections and who of them receives, over HTTP and from the command line.
//! It must not know how devices are found.

use serde_json::{Value, json};

use crate::harness::{Calls, World, apple, google};

async fn register(calls: &Calls, user: &str, token: &str, more: &Value) {
    let mut body = json!({"user_id": user, "token": token, "platform": "ios"});
    let members = body.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    calls.caller.post(&calls.path("devices"), &body).await.ok();
}

/// Sends to an audience and waits for its end.
async fn send(calls: &Calls, audience: &Value) -> Value {
    let body = json!({"alert": {"title": "t"}, "audience": audience});
    let answer = calls
        .caller
        .post(&calls.path("notify/bulk"), &body)
        .await
        .ok();
    calls.finished(answer["message_id"].as_str().unwrap()).await
}

/// Audiences, and which of an old app, a new one, a watch and an Android device each means.
fn audiences() -> Vec<(Value, [bool; 4])> {
    vec![
        (json!({"everyone": true}), [true, true, true, true]),
        (json!({"tags": ["news"]}), [true, true, false, false]),
        (
            json!({"tags": ["sports", "news"]}),
            [true, true, false, true],
        ),
        (
            json!({"tags": ["sports"], "platforms": ["ios"]}),
            [false, true, false, false],
        ),
        (
            json!({"platforms": ["watchos", "android"]}),
            [false, false, true, true],
        ),
        (
            json!({"app_versions": {"min": "1.10"}}),
            [false, true, false, false],
        ),
        (
            json!({"app_versions": {"below": "1.10"}}),
            [true, false, false, false],
        ),
        (json!({"tags": ["nobody's"]}), [false; 4]),
    ]
}

#[tokio::test]
async fn whoever_fits_receives_and_nobody_else() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let other = world.tenant().await;
    let (calls, theirs) = (world.calls(&tenant), world.calls(&other));
    let [old, new, watch] = [1, 2, 3].map(|number| apple(7, number));
    let droid = google(7, 4);
    register(
        &calls,
        "ada",
        &old,
        &json!({"tags": ["news"], "app_version": "1.9"}),
    )
    .await;
    register(
        &calls,
        "ada",
        &new,
        &json!({"tags": ["news", "sports"], "app_version": "1.10"}),
    )
    .await;
    register(&calls, "bob", &watch, &json!({"platform": "watchos"})).await;
    register(
        &calls,
        "bob",
        &droid,
        &json!({"platform": "android", "tags": ["sports"]}),
    )
    .await;
    register(&theirs, "eve", &apple(7, 5), &json!({"tags": ["news"]})).await;
    let all: [&str; 4] = [&old, &new, &watch, &droid];
    for (audience, meant) in audiences() {
        let before = all.map(|token| world.received(token).len());
        let status = send(&calls, &audience).await;
        let count = meant.iter().filter(|is_meant| **is_meant).count();
        assert_eq!(status["entries"], count, "{audience}: {status}");
        assert_eq!(
            (&status["accepted"], &status["paging"]),
            (&json!(count), &json!(false))
        );
        for ((token, before), is_meant) in all.iter().zip(before).zip(meant) {
            let got = world.received(token).len() - before;
            assert_eq!(got, usize::from(is_meant), "{audience}");
        }
    }
    assert!(world.received(&apple(7, 5)).is_empty());
}

#[tokio::test]
async fn tags_are_listed_and_changed_by_device() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let token = apple(9, 1);
    register(&calls, "ada", &token, &json!({"tags": ["b", "a", "b"]})).await;
    let of_device = calls.path(&format!("devices/{token}/tags?user_id=ada"));
    assert_eq!(
        calls.caller.get(&of_device).await.ok(),
        json!({"tags": ["a", "b"]})
    );
    // A registration that says nothing of tags leaves them.
    register(&calls, "ada", &token, &json!({})).await;
    let upper = calls.path(&format!(
        "devices/{}/tags?user_id=ada",
        token.to_uppercase()
    ));
    assert_eq!(
        calls.caller.get(&upper).await.ok(),
        json!({"tags": ["a", "b"]})
    );
    let set = calls
        .caller
        .put(&of_device, &json!({"tags": ["c"]}))
        .await
        .ok();
    assert_eq!(set, json!({"tags": ["c"]}));
    let path = |name: &str| calls.path(&format!("tags/{name}"));
    let put = calls
        .caller
        .put(&path("c"), &json!({"description": "Sea"}))
        .await
        .ok();
    assert_eq!(
        (&put["name"], &put["description"]),
        (&json!("c"), &json!("Sea"))
    );
    let list = calls.caller.get(&calls.path("tags?limit=2")).await.ok();
    assert_eq!(
        (&list["tags"][0]["name"], &list["next_cursor"]),
        (&json!("a"), &json!("b"))
    );
    let rest = calls
        .caller
        .get(&calls.path("tags?limit=2&cursor=b"))
        .await
        .ok();
    assert_eq!(
        (&rest["tags"][0]["name"], &rest["next_cursor"]),
        (&json!("c"), &Value::Null)
    );
}

#[tokio::test]
async fn a_tag_is_cut_by_a_person_and_refused_when_it_is_none() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let calls = world.calls(&tenant);
    let token = apple(9, 1);
    register(&calls, "ada", &token, &json!({"tags": ["c"]})).await;
    let of_device = calls.path(&format!("devices/{token}/tags?user_id=ada"));
    let path = |name: &str| calls.path(&format!("tags/{name}"));
    // A key keeps devices; the catalogue is a person's to cut.
    assert_eq!(calls.caller.delete(&path("c")).await.status, 403);
    let person = world.person();
    assert_eq!(
        person.delete(&path("c")).await.ok(),
        json!({"deleted": true})
    );
    assert_eq!(person.delete(&path("c")).await.status, 404);
    assert_eq!(calls.caller.get(&of_device).await.ok(), json!({"tags": []}));
    for (path, body, status) in [
        (
            calls.path(&format!("devices/{token}/tags?user_id=bob")),
            json!({"tags": ["c"]}),
            404,
        ),
        (
            calls.path(&format!("devices/{token}/tags")),
            json!({"tags": ["c"]}),
            422,
        ),
        (of_device.clone(), json!({"tags": [""]}), 422),
        (of_device.clone(), json!({"tags": vec!["x"; 101]}), 413),
        (path("a%0Ab"), json!({}), 422),
        (path(&"a".repeat(129)), json!({}), 422),
    ] {
        assert_eq!(
            calls.caller.put(&path, &body).await.status,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_audience_that_could_mean_too_many_is_refused() {
    let world = World::start().await;
    let calls = world.calls(&world.tenant().await);
    for (more, status) in [
        (json!({"audience": {}}), 422),
        (json!({"audience": {"tag": ["x"]}}), 422),
        (json!({"audience": {"everyone": true, "tags": ["x"]}}), 422),
        (
            json!({"audience": {"everyone": true}, "user_ids": ["ada"]}),
            422,
        ),
        (json!({"audience": {"platforms": ["symbian"]}}), 422),
        (json!({"audience": {"tags": vec!["x"; 21]}}), 413),
        (json!({"audience": []}), 422),
    ] {
        let mut body = json!({"alert": {"title": "t"}});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = calls.caller.post(&calls.path("notify/bulk"), &body).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text);
    }
}
