//! A private RabbitMQ server: loopback ports, data directory, node name, cookie and port mapper of its own; ended with
//! the test process, even when that is killed. It must not know what is queued in it.

#![allow(
    clippy::disallowed_methods,
    reason = "it waits for a process that tells nobody that it is ready"
)]

mod settings;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use self::settings::Settings;

use self::settings::{Ports, prepare};
use crate::disk::{SmallDisk, is_root};

/// Names a server that is already there: an AMQP URL whose user may configure, write and read everything.
pub const URL_VARIABLE: &str = "CLARION_TEST_AMQP_URL";

/// Where Debian's package and RabbitMQ's own have their scripts. Not `/usr/sbin/rabbitmq-server`: that one goes through
/// `su`, which sets the limit of open files back to 1,024, and from 310 quorum queues on no connection is taken.
const SCRIPTS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];
/// Said where there is none.
const MISSING: &str = "RabbitMQ is missing: apt-get install --no-install-recommends rabbitmq-server, \
     or name a server in CLARION_TEST_AMQP_URL";
/// User and password of the private server.
const USER: &str = "clarion";
/// How long a start or an orderly stop may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long `rabbitmqctl` may take, seconds.
const CTL_SECONDS_MAX: &str = "60";
/// Between two looks at a server that starts or stops.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ends everything when its standard input does, which is when the test process is gone.
const GUARD: &str = r#"cat > /dev/null
while read group; do kill -9 "-$group" 2> /dev/null; done < "$1/groups"
if [ -n "$2" ]; then umount -l "$1/data" || sudo -n umount -l "$1/data"; fi
rm -rf "$1""#;

/// A private server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Rabbit {
    dir: PathBuf,
    scripts: &'static str,
    ports: Ports,
    open_files: u32,
    disk: Option<SmallDisk>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mapper: Child,
    server: Option<Child>,
    guard: Child,
    vhosts: u32,
}

/// What the tests of one binary share: a private server, or the one that the environment names.
#[derive(Debug)]
pub struct Shared {
    url: String,
    rabbit: Option<Rabbit>,
}

impl Shared {
    /// The AMQP URL, of the default virtual host where the server is a private one.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The private server; `None` where the environment names another, which tests must not stop or reconfigure. Tests
    /// that share a server keep apart by the names of their queues and exchanges.
    #[must_use]
    pub fn rabbit(&self) -> Option<&Rabbit> {
        self.rabbit.as_ref()
    }
}

/// The server of this test binary, started by the first who asks.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var(URL_VARIABLE) {
        Ok(url) if !url.is_empty() => Shared { url, rabbit: None },
        _ => {
            let rabbit = Rabbit::start();
            Shared {
                url: rabbit.url("/"),
                rabbit: Some(rabbit),
            }
        }
    })
}

impl Rabbit {
    /// Starts a server with no data and waits until it speaks AMQP.
    ///
    /// # Panics
    /// When RabbitMQ is missing (the message says what to install) or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&Settings::default())
    }

    /// The same with the management API, which is waited for, too.
    ///
    /// # Panics
    /// As [`Rabbit::start`].
    #[must_use]
    pub fn start_managed() -> Self {
        Self::start_with(&Settings {
            management: true,
            ..Settings::default()
        })
    }

    /// Starts a server that is otherwise than usual.
    ///
    /// # Panics
    /// As [`Rabbit::start`].
    #[must_use]
    pub fn start_with(settings: &Settings) -> Self {
        let ports = Ports::free(settings);
        let is_there = |dir: &&str| Path::new(dir).join("rabbitmq-server").exists();
        let scripts = SCRIPTS.into_iter().find(is_there).expect(MISSING);
        let dir = tempfile::Builder::new()
            .prefix("clarion-rabbitmq-")
            .tempdir()
            .expect("a temporary directory");
        let dir = dir.keep();
        let guard = guard(&dir, settings);
        let disk = settings.disk_mib;
        let disk = disk.map(|mib| SmallDisk::mount(&dir.join("data"), mib));
        prepare(&dir, ports, settings);
        let mapper = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports.mapper.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect(MISSING);
        note_group(&dir, mapper.id());
        let rabbit = Self {
            dir,
            scripts,
            ports,
            open_files: settings.open_files,
            disk,
            state: Mutex::new(State {
                mapper,
                server: None,
                guard,
                vhosts: 0,
            }),
        };
        rabbit.start_again();
        rabbit.wait_for_management();
        rabbit
    }

    /// Starts the server on the data it had, after [`Rabbit::stop`] or [`Rabbit::kill9`].
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn start_again(&self) {
        let mut state = self.lock();
        assert!(state.server.is_none(), "it runs");
        let log = fs::File::create(self.dir.join("output")).unwrap();
        let limit = self.open_files;
        let limited =
            format!("ulimit -n {limit} 2> /dev/null || ulimit -n \"$(ulimit -H -n)\"; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, "server"]);
        command.args(as_its_user());
        command.arg(format!("{}/rabbitmq-server", self.scripts));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let server = self
            .with_environment(&mut command)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh");
        note_group(&self.dir, server.id());
        state.server = Some(server);
        self.wait_until_it_speaks(&mut state);
    }

    /// Kills it with signal 9 and waits until it is gone. Does nothing when it does not run.
    pub fn kill9(&self) {
        if let Some(mut server) = self.lock().server.take() {
            kill_group(server.id());
            server.wait().unwrap();
        }
    }

    /// Stops it in an orderly way. Does nothing when it does not run.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) {
        let Some(mut server) = self.lock().server.take() else {
            return;
        };
        self.ctl(&["stop"]);
        let until = Instant::now() + PATIENCE;
        while server.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "RabbitMQ does not stop");
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Stops it in an orderly way and starts it on the same data.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// The URL of a virtual host.
    #[must_use]
    pub fn url(&self, vhost: &str) -> String {
        let vhost = vhost.replace('/', "%2f");
        format!("amqp://{USER}:{USER}@127.0.0.1:{}/{vhost}", self.ports.amqp)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The URL of a virtual host with TLS, under a name that its certificate is good for.
    ///
    /// # Panics
    /// When it was started without.
    #[must_use]
    pub fn tls_url(&self, vhost: &str) -> String {
        let (vhost, port) = (vhost.replace('/', "%2f"), self.ports.amqps);
        let port = port.expect("started with TLS");
        format!("amqps://{USER}:{USER}@localhost:{port}/{vhost}")
    }

    /// The file system of its data.
    ///
    /// # Panics
    /// When it has none of its own.
    #[must_use]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("started with a small disk")
    }

    /// Whether it answers a new client.
    #[must_use]
    pub fn speaks(&self) -> bool {
        speaks_amqp(self.ports.amqp)
    }

    /// Address of the management API.
    ///
    /// # Panics
    /// When it was started without.
    #[must_use]
    pub fn management_url(&self) -> String {
        let port = self.ports.management.expect("started with management");
        format!("http://127.0.0.1:{port}")
    }

    /// User and password of its administrator.
    #[must_use]
    pub fn administrator(&self) -> (&'static str, &'static str) {
        (USER, USER)
    }

    /// The id of the Erlang machine's process group; `None` when it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lock().server.as_ref().map(Child::id)
    }

    /// Makes a virtual host that nobody else has; returns its URL.
    #[must_use]
    pub fn vhost(&self) -> String {
        let name = {
            let mut state = self.lock();
            state.vhosts += 1;
            format!("v{}", state.vhosts)
        };
        self.ctl(&["add_vhost", &name]);
        self.ctl(&["set_permissions", "-p", &name, USER, ".*", ".*", ".*"]);
        self.url(&name)
    }

    /// Runs `rabbitmqctl` on it and returns what it printed.
    ///
    /// # Panics
    /// When that fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        // A broker in trouble may leave it without an answer.
        let mut command = Command::new("timeout");
        command.arg(CTL_SECONDS_MAX).args(as_its_user());
        command.arg(format!("{}/rabbitmqctl", self.scripts));
        command.args(["--quiet", "--node", &self.node()]);
        let output = self
            .with_environment(&mut command)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect(MISSING);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Has the server evaluate an Erlang expression.
    pub fn eval(&self, expression: &str) -> String {
        self.ctl(&["eval", expression])
    }

    fn node(&self) -> String {
        format!("clarion-{}@localhost", self.ports.amqp)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = |name: &str| self.dir.join(name);
        command
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("ERL_EPMD_PORT", self.ports.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            )
    }

    fn wait_for_management(&self) {
        let Some(port) = self.ports.management else {
            return;
        };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "no management API");
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    fn wait_until_it_speaks(&self, state: &mut State) {
        let until = Instant::now() + PATIENCE;
        while !speaks_amqp(self.ports.amqp) {
            let ended = state
                .server
                .as_mut()
                .is_none_or(|server| server.try_wait().unwrap().is_some());
            if ended || Instant::now() > until {
                let output = fs::read_to_string(self.dir.join("output")).unwrap_or_default();
                panic!("RabbitMQ does not start:\n{output}");
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill9();
        let mut state = self.lock();
        kill_group(state.mapper.id());
        // Its standard input ends with this: it finds nothing left to kill, and removes the data.
        drop(state.guard.stdin.take());
        for child in [state.mapper.wait(), state.guard.wait()] {
            drop(child);
        }
    }
}

/// The server and its tools run as the package's user, like in production, where this process may become it.
fn as_its_user() -> Vec<&'static str> {
    if is_root() && user_exists() {
        vec![
            "setpriv",
            "--reuid=rabbitmq",
            "--regid=rabbitmq",
            "--init-groups",
        ]
    } else {
        Vec::new()
    }
}

fn user_exists() -> bool {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().any(|line| line.starts_with("rabbitmq:"))
}

fn guard(dir: &Path, settings: &Settings) -> Child {
    let is_mounted = if settings.disk_mib.is_some() {
        "mounted"
    } else {
        ""
    };
    Command::new("sh")
        .args(["-c", GUARD, "guard"])
        .arg(dir)
        .arg(is_mounted)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("sh")
}

/// Notes a process group that the guard must end.
fn note_group(dir: &Path, group: u32) {
    let mut groups = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("groups"))
        .unwrap();
    writeln!(groups, "{group}").unwrap();
}

fn kill_group(group: u32) {
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -9 -{group}")])
        .stderr(Stdio::null())
        .status();
    drop(killed);
}

/// Whether a server answers the AMQP 0-9-1 header with its first method.
fn speaks_amqp(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut first = [0];
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .is_ok()
        && stream.write_all(b"AMQP\0\0\x09\x01").is_ok()
        && stream.read_exact(&mut first).is_ok()
        && first == [1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_its_data_when_it_is_killed_and_leaves_nothing_behind() {
        let rabbit = Rabbit::start();
        let dir = rabbit.dir.clone();
        let url = rabbit.vhost();
        assert!(url.ends_with("/v1"), "{url}");
        rabbit.kill9();
        assert!(!speaks_amqp(rabbit.port()));
        rabbit.start_again();
        assert!(rabbit.ctl(&["list_vhosts"]).contains("v1"));
        let limit = rabbit.eval("proplists:get_value(total_limit, file_handle_cache:info()).");
        assert!(limit.trim().parse::<u32>().unwrap() > 10_000, "{limit}");
        rabbit.restart();
        assert!(speaks_amqp(rabbit.port()));
        drop(rabbit);
        assert!(!dir.exists());
    }
}
