//! A `clarion serve` process with a directory and ports of its own: started, killed, stopped, started again.
//! It must not know what it is asked to do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use clarion_simulator::Simulator;
use tempfile::TempDir;
use toml::{Table, Value};

use super::backends;
use super::{Caller, PATIENCE, until};

/// How much of the server's log is shown when a test fails, lines.
const LOG_SHOWN: usize = 60;
/// Longest start, recovery of a large database included.
const START_MAX: Duration = Duration::from_secs(60);

/// The binary under test: this build's, unless a proof names another one, such as one that is broken on purpose.
pub(crate) fn clarion() -> Command {
    let other = std::env::var_os("CLARION_PROOF_BINARY");
    let mut command = Command::new(other.unwrap_or(env!("CARGO_BIN_EXE_clarion").into()));
    // Nothing of the developer's own configuration may reach a test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CLARION_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a server is configured: a file made of dotted keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    table: Table,
    /// The command, `serve` unless it says otherwise.
    role: Option<&'static str>,
    /// What the binary is started with, such as a tracer.
    wrapper: Vec<String>,
}

impl Setup {
    /// Free ports, no rate limit to speak of, and waits a hundred times shorter.
    pub(crate) fn quick() -> Self {
        Self::plain()
            .with("limits.rate", 1_000_000)
            .with("limits.burst", 1_000_000)
            .with("retry.scale", 0.01)
    }

    /// Free ports, and otherwise what is delivered.
    pub(crate) fn plain() -> Self {
        Self::default()
            .with("server.listen", "127.0.0.1:0")
            .with("server.admin_listen", "127.0.0.1:0")
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (section, key) = key.split_once('.').unwrap();
        let section = self.table.entry(section).or_insert(Table::new().into());
        let section = section.as_table_mut().unwrap();
        section.insert(key.to_owned(), value.into());
        self
    }

    /// Takes whole sections over.
    pub(crate) fn sections(mut self, sections: &Table) -> Self {
        for (name, keys) in sections {
            let section = self.table.entry(name).or_insert(Table::new().into());
            let keys = keys.as_table().cloned().unwrap_or_default();
            section.as_table_mut().unwrap().extend(keys);
        }
        self
    }

    /// Runs this command in place of `serve`.
    pub(crate) fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// Sends to these providers.
    pub(crate) fn towards(self, simulator: &Simulator) -> Self {
        self.towards_places(
            &simulator.apns_origin(),
            &simulator.fcm_origin(),
            &simulator.fcm_token_url(),
        )
        .authority(simulator.ca_pem())
    }

    pub(crate) fn towards_places(self, apns: &str, fcm: &str, token_endpoint: &str) -> Self {
        self.with("apns.endpoint_production", apns)
            .with("apns.endpoint_sandbox", apns)
            .with("fcm.endpoint", fcm)
            .with("fcm.token_endpoint", token_endpoint)
    }

    /// Trusts this authority (PEM), which is written beside the configuration.
    pub(crate) fn authority(self, pem: &str) -> Self {
        self.with("tls.ca_pem", pem)
    }

    /// Starts the binary with this in front of it.
    pub(crate) fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Writes the configuration and the authority into a directory.
    fn write(mut self, home: &Path) -> PathBuf {
        if let Some(tls) = self.table.get_mut("tls").and_then(Value::as_table_mut)
            && let Some(pem) = tls.remove("ca_pem")
        {
            let path = home.join("ca.pem");
            std::fs::write(&path, pem.as_str().unwrap()).unwrap();
            let path = path.to_string_lossy().into_owned();
            tls.insert("ca_file".to_owned(), path.into());
        }
        if backends::are_servers() && !self.table.contains_key("store") {
            self = self.sections(&backends::servers());
        }
        let data_dir = home.join("data").to_string_lossy().into_owned();
        self.table.insert("data_dir".to_owned(), data_dir.into());
        let path = home.join("clarion.toml");
        std::fs::write(&path, toml::to_string(&self.table).unwrap()).unwrap();
        path
    }
}

/// A running server. Dropping it kills the process; if a test failed, its log is shown.
pub(crate) struct Server {
    home: TempDir,
    config: PathBuf,
    start: Start,
    child: Child,
    /// Kept open, or the server's next line would find nobody.
    _stdout: BufReader<ChildStdout>,
    public: String,
    admin: String,
    http: reqwest::Client,
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let home = tempfile::Builder::new()
            .prefix("clarion-e2e-")
            .tempdir()
            .unwrap();
        let start = Start {
            role: setup.role.unwrap_or("serve"),
            wrapper: setup.wrapper.clone(),
        };
        let config = setup.write(home.path());
        let (child, stdout, [public, admin]) = launch(home.path(), &config, &start).await;
        Self {
            home,
            config,
            start,
            child,
            _stdout: stdout,
            public,
            admin,
            http: Caller::http(),
        }
    }

    /// Starts it again on the same directory, on other ports.
    pub(crate) async fn restart(&mut self) {
        let (child, stdout, [public, admin]) =
            launch(self.home.path(), &self.config, &self.start).await;
        self.child = child;
        self._stdout = stdout;
        self.public = public;
        self.admin = admin;
        self.http = Caller::http();
    }

    /// Ends it as a power cut would, without a moment to say anything.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits until the process is gone.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = std::sync::Mutex::new(&mut self.child);
        until("the server to end", PATIENCE, || {
            let ended = child.lock().unwrap().try_wait().unwrap();
            async move { ended }
        })
        .await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &process])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Somebody without a credential at the public listener.
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.http.clone(), &self.public)
    }

    /// The same at the operator's listener.
    pub(crate) fn operator(&self) -> Caller {
        Caller::new(self.http.clone(), &self.admin)
    }

    /// Address of the public listener, as `http://127.0.0.1:PORT`.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// Address of the operator's listener.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Its directory: configuration, log, and `data` with everything that is kept.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("stderr.log")).unwrap_or_default()
    }

    /// Mints an access token with the server's own key.
    pub(crate) fn access_token(&self, org: &str, role: &str) -> String {
        let minted = clarion()
            .args(["token", "mint", "--subject", "ada", "--org"])
            .arg(format!("{org}={role}"))
            .arg("--config")
            .arg(&self.config)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&minted.stderr);
        assert!(minted.status.success(), "{said}");
        String::from_utf8(minted.stdout).unwrap().trim().to_owned()
    }

    /// Rows by table of everything it keeps; stop it first.
    pub(crate) fn rows(&self) -> BTreeMap<String, u64> {
        backends::rows(&self.config, &self.home.path().join("data"))
    }

    /// Everything it keeps in a database, as text, what is binary as hexadecimal digits; `None` where it keeps files.
    pub(crate) fn dump(&self) -> Option<String> {
        backends::dump(&self.config)
    }

    /// A line of `/proc/PID/status` in KiB, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let found = status.lines().find(|text| text.starts_with(line)).unwrap();
        let number = found.split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended before.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_SHOWN)..].join("\n");
            println!("--- the server's log, {} lines ---\n{shown}", lines.len());
        }
    }
}

/// What is run: the command, and what it is wrapped in.
struct Start {
    role: &'static str,
    wrapper: Vec<String>,
}

type Launched = (Child, BufReader<ChildStdout>, [String; 2]);

async fn launch(home: &Path, config: &Path, start: &Start) -> Launched {
    let binary = clarion();
    let mut command = match start.wrapper.as_slice() {
        [] => binary,
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(binary.get_program());
            command
        }
    };
    let log = File::options()
        .append(true)
        .create(true)
        .open(home.join("stderr.log"));
    let mut child = command
        .arg(start.role)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.unwrap())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let is_engine = start.role == "engine";
    let reading = tokio::task::spawn_blocking(move || {
        let public = match is_engine {
            true => String::new(),
            false => address(&mut stdout, "clarion listens on ")?,
        };
        let admin = address(&mut stdout, "operator listener on ")?;
        Some((stdout, [public, admin]))
    });
    let started = tokio::time::timeout(START_MAX, reading).await;
    match started {
        Ok(Ok(Some((stdout, addresses)))) => (child, stdout, addresses),
        _ => {
            drop(child.kill());
            drop(child.wait());
            let log = std::fs::read_to_string(home.join("stderr.log")).unwrap_or_default();
            panic!("clarion {} did not start:\n{log}", start.role);
        }
    }
}

/// The address after these words on the next line.
fn address(stdout: &mut impl BufRead, words: &str) -> Option<String> {
    let mut line = String::new();
    stdout.read_line(&mut line).ok()?;
    Some(line.trim().strip_prefix(words)?.to_owned())
}
