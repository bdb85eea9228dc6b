//! PostgreSQL's programs: where they are, as whom they run, and what outlives the test process to end them.
//! It must not know databases or settings.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::URL_VARIABLE;

/// Where Debian keeps the servers, one folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What outlives the test process: waits for it to end, then ends the server and removes its directory.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
    kill -STOP "$pid"
    kill -KILL "$pid" $(grep -l "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3)
fi
if [ -n "$2" ]; then umount -l "$1/data" || sudo -n umount -l "$1/data"; fi
rm -rf "$1" || rm -rf "$1"
"#;

/// The newest installed server's programs.
pub(super) fn programs() -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    match found.pop() {
        Some((_, bin)) => bin,
        None => panic!(
            "these tests need PostgreSQL in {DEBIAN}: install it (Debian, Ubuntu: apt-get install \
             postgresql), or name a server in {URL_VARIABLE}"
        ),
    }
}

/// PostgreSQL refuses to run as root: the user to run as then.
pub(super) fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| output(Command::new("id").args(arguments)).parse().unwrap();
    if id(&["-u"]) != 0 {
        return None;
    }
    let known = Command::new("id").arg("postgres").output().unwrap().status;
    let name = if known.success() {
        "postgres"
    } else {
        "nobody"
    };
    Some((id(&["-u", name]), id(&["-g", name])))
}

pub(super) fn guard(dir: &Path, is_mounted: bool) -> (Child, ChildStdin) {
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "sh"]).arg(dir);
    guard.arg(if is_mounted { "mounted" } else { "" });
    guard
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Not in the group that a terminal interrupts.
    let mut guard = guard.process_group(0).spawn().unwrap();
    let pipe = guard.stdin.take().unwrap();
    (guard, pipe)
}

pub(super) fn send(signal: &str, process: u32) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "kill -\"$1\" \"$2\"", "sh", signal])
        .arg(process.to_string());
    output(&mut shell);
}

pub(super) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

pub(super) fn fresh_name() -> String {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let number = DRAWN.fetch_add(1, Ordering::Relaxed);
    format!("clarion_test_{}_{number}", std::process::id())
}

pub(super) fn sql(programs: &Path, url: &str, statement: &str) -> String {
    let mut psql = Command::new(programs.join("psql"));
    psql.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url,
        "-c",
        statement,
    ]);
    output(&mut psql)
}

/// Runs a command and returns what it says, trimmed.
pub(super) fn output(command: &mut Command) -> String {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut said = String::new();
    process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let ended = process.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{command:?}: {errors}");
    said.trim().to_owned()
}
