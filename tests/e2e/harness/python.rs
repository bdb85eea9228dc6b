//! Python packages as their users install them: by name, into an environment of a temporary directory.
//! It must not know what a package is for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a command; what it prints when it succeeds.
pub(crate) fn run(command: &mut Command) -> String {
    let output: Output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{out}");
    out
}

/// The first Python that is new enough and can make environments.
fn python() -> &'static str {
    let able = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)";
    let is_able = |name: &&str| {
        let tried = Command::new(name).args(["-c", able]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let names = ["python3", "/usr/bin/python3", "python3.11"];
    let found = names.into_iter().find(is_able);
    found
        .expect("no Python 3.11 with venv: scripts/test installs it (apt-get install python3-venv)")
}

/// An environment with a package in it; where its programs are.
pub(crate) fn environment(home: &Path, package: &str) -> PathBuf {
    let place = home.join("environment");
    run(Command::new(python()).args(["-m", "venv"]).arg(&place));
    let programs = place.join("bin");
    run(Command::new(programs.join("python")).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        package,
    ]));
    programs
}
