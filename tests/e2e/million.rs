//! Many recipients at once through the whole path: an exact ledger, and a bound on memory.
//! It must not know how the demonstration is staged.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{clarion, seed, size};

/// Peak of the whole process, simulators included, MiB.
const MEMORY_MAX_MIB: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_many_is_exact_and_memory_bounded() {
    let recipients = size("MILLION_RECIPIENTS", 100_000);
    let output = tokio::task::spawn_blocking(move || {
        clarion()
            .arg("demo")
            .args(["--recipients", &recipients.to_string()])
            .args(["--bulks", "10", "--json", "--seed", &seed().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{}", output.status);
    let summary: Value = serde_json::from_str(&text).unwrap();
    let ledger = &summary["ledger"];
    assert_eq!(summary["exact"], true);
    assert_eq!(
        (&ledger["missing"], &ledger["unexpected"]),
        (&0.into(), &0.into())
    );
    assert_eq!(ledger["expected"], ledger["received"]);
    let count = |value: &Value| value.as_u64().unwrap();
    assert!(count(&ledger["duplicates"]) <= count(&ledger["unanswered"]));
    assert!(count(&summary["entries"]) >= recipients);
    let memory = count(&summary["peak_memory_mib"]);
    assert!(memory < MEMORY_MAX_MIB, "{memory} MiB at its highest");
}
