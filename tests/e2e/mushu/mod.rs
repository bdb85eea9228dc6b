//! PyPI's `mushu-sdk`, unmodified, as its users call it.
//! It must not know how it talks; it sees what the package parsed and what the providers received.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{World, apple, environment, run, seed};

/// The release that the documents describe.
const PACKAGE: &str = "mushu-sdk==0.2.20";

#[tokio::test(flavor = "multi_thread")]
async fn the_published_package_works_unmodified() {
    let world = World::start().await;
    let (tenant, foreign) = (world.tenant().await, world.tenant().await);
    let tokens = [apple(seed(), 1), apple(seed(), 2)];
    let home = tempfile::tempdir().unwrap();
    let printed = tokio::task::block_in_place(|| {
        let own = environment(home.path(), PACKAGE).join("python");
        let calls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/mushu/calls.py");
        run(Command::new(own)
            .arg(calls)
            .env("SERVER_URL", world.server.public())
            .env("TENANT", &tenant.id)
            .env("FOREIGN_TENANT", &foreign.id)
            .env("ACCESS_TOKEN", &world.access_token)
            .env("API_KEY", &tenant.key)
            .env("DEVICE_TOKENS", json!(tokens).to_string())
            // The server is on loopback.
            .env("NO_PROXY", "*"))
    });
    let sent: Vec<String> = serde_json::from_str(printed.trim()).unwrap();
    let calls = world.calls(&tenant);
    for id in &sent {
        let status = calls.finished(id).await;
        assert_eq!(status["accepted"], status["recipients"], "{status}");
    }
    // One alone, both, twice by channel, once under the old names, once in short.
    let received = [0, 1].map(|number: usize| world.received(&tokens[number]).len());
    assert_eq!(received, [3, 4]);
    let days = world.calls(&tenant);
    let counted = days.caller.get(&days.path("analytics?days=2")).await.ok();
    assert_eq!(
        (
            &counted["push"]["sent"],
            &counted["push"]["delivered"],
            &counted["push"]["failed"]
        ),
        (&json!(7), &json!(7), &json!(0)),
        "{counted}"
    );
}
