//! The publishers in `examples/publish`, run as a backend would run them.
//! It must not know how they publish.

use std::path::{Path, PathBuf};
use std::process::Command;

use clarion_simulator::Options;

use super::cluster::Cluster;
use super::publisher::Publisher;
use crate::harness::{Tenant, alone, apple, seed};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/publish")
}

/// Runs a command; what it prints when it succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The first Python that knows pika: Debian's package is for Debian's own.
fn python() -> Command {
    let knows = |name: &&str| {
        let tried = Command::new(name).args(["-c", "import pika"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(knows);
    let found = found
        .expect("no Python with pika: scripts/test installs it (apt-get install python3-pika)");
    let mut command = Command::new(found);
    command.arg(examples().join("python/publish.py"));
    command
}

/// The program in a directory of its own, with its dependencies.
fn node(home: &Path) -> Command {
    for name in ["package.json", "publish.mjs"] {
        std::fs::copy(examples().join("node").join(name), home.join(name)).unwrap();
    }
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
    run(install.current_dir(home));
    let mut command = Command::new("node");
    command.arg(home.join("publish.mjs"));
    command
}

/// The example as the tests' own build has it.
fn rust() -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_clarion"));
    let profile = binary.parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build
        .args([
            "build",
            "--workspace",
            "--locked",
            "--quiet",
            "--example",
            "publish",
        ])
        .env("CARGO_TARGET_DIR", profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    run(&mut build);
    Command::new(profile.join("examples/publish"))
}

fn publish(mut command: Command, cluster: &Cluster, tenant: &Tenant, user: &str) {
    let printed = run(command
        .args([
            "--url",
            &cluster.rabbit.url("/"),
            "--exchange",
            &cluster.exchange(),
        ])
        .args(["--tenant", &tenant.id, "--user", user, "--title", "Hello"])
        .args(["--message-id", user]));
    assert_eq!(printed.trim(), format!("confirmed {user}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_publishers_reach_devices() {
    let _alone = alone().await;
    let cluster = Cluster::start(1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    // The exchange is there.
    drop(Publisher::of(&cluster).await);
    let home = tempfile::tempdir().unwrap();
    let users = ["of-python", "of-node", "of-rust"];
    for (number, user) in users.iter().enumerate() {
        calls
            .register(user, &apple(seed(), number as u64), "ios")
            .await;
    }
    tokio::task::block_in_place(|| {
        publish(python(), &cluster, &tenant, users[0]);
        publish(node(home.path()), &cluster, &tenant, users[1]);
        publish(rust(), &cluster, &tenant, users[2]);
    });
    for number in 0..users.len() {
        super::published::arrives(&cluster, &apple(seed(), number as u64)).await;
    }
}
