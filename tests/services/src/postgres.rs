//! A private PostgreSQL server: its own directory, a free loopback port, ended with the test process however that ends.
//! It must not know what is stored in it.

mod programs;
mod shared;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

pub use shared::{Database, Shared, URL_VARIABLE, shared};

use self::programs::{free_port, fresh_name, guard, output, programs, send, sql, unprivileged};
use crate::disk::SmallDisk;
use crate::tls::Identity;

/// The role that owns everything.
const ROLE: &str = "clarion";
/// How often a port is drawn that somebody else takes before the server does.
const STARTS_MAX: u32 = 5;

/// Signals a server and all its children; the server first, so that no child is born in between.
const SIGNAL: &str = r#"
kill -"$1" "$2"
children=$(grep -l "^PPid:[[:space:]]*$2\$" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3)
[ -z "$children" ] || kill -"$1" $children 2>/dev/null || true
"#;

/// A private server. Dropped, it is gone with its directory.
pub struct Postgres {
    dir: PathBuf,
    programs: PathBuf,
    /// Numbers of the user and group it runs as, where we are root.
    user: Option<(u32, u32)>,
    port: u16,
    disk: Option<SmallDisk>,
    /// The authority that vouches for it, where only TLS is spoken.
    authority: Option<PathBuf>,
    running: Mutex<Option<Running>>,
    guard: Option<(Child, ChildStdin)>,
}

/// A server process, and the thread that reads what it says until the last of its children is gone.
struct Running {
    process: Child,
    said: JoinHandle<()>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Makes and starts a server that writes durably, as in production.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings of its own, `name=value`.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_as(settings, None, None)
    }

    /// Starts a server whose data lies on a file system of so many MiB.
    ///
    /// # Panics
    /// As [`Postgres::start`], and when no file system may be mounted.
    #[must_use]
    pub fn start_on_small_disk(mib: u32) -> Self {
        // Little is written ahead, so that little room does.
        let settings = ["max_wal_size=32MB", "min_wal_size=32MB"];
        Self::start_as(&settings, Some(mib), None)
    }

    /// Starts a server that takes no connection without TLS, and shows this certificate.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn start_tls(identity: &Identity) -> Self {
        Self::start_as(&[], None, Some(identity))
    }

    fn start_as(settings: &[&str], disk_mib: Option<u32>, tls: Option<&Identity>) -> Self {
        let programs = programs();
        let user = unprivileged();
        let dir = tempfile::Builder::new()
            .prefix("clarion-postgres-")
            .tempdir()
            .unwrap()
            .keep();
        let guard = guard(&dir, disk_mib.is_some());
        let disk = disk_mib.map(|mib| SmallDisk::mount(&dir.join("data"), mib));
        if let Some((uid, gid)) = user {
            chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        if let (Some((uid, gid)), true) = (user, disk.is_some()) {
            chown(dir.join("data"), Some(uid), Some(gid)).unwrap();
        }
        let mut server = Self {
            dir,
            programs,
            user,
            port: 0,
            disk,
            authority: None,
            running: Mutex::new(None),
            guard: Some(guard),
        };
        server.initialise(settings);
        if let Some(identity) = tls {
            server.demand_tls(identity);
        }
        for _ in 0..STARTS_MAX {
            server.port = free_port();
            match server.launch() {
                Ok(()) => return server,
                Err(said) if said.contains("could not bind") || said.contains("in use") => {}
                Err(said) => panic!("PostgreSQL does not start:\n{said}"),
            }
        }
        panic!("no free port for PostgreSQL");
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let url = format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port);
        match &self.authority {
            Some(path) => {
                format!("{url}?sslmode=verify-full&sslrootcert={}", path.display())
            }
            None => url,
        }
    }

    /// The file system of its data.
    ///
    /// # Panics
    /// When it has none of its own.
    #[must_use]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("started with a small disk")
    }

    /// A fresh database's URL.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        let name = fresh_name();
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs a statement in a database as its owner and returns what it says, a line a row.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        sql(&self.programs, &self.url(database), statement)
    }

    /// Stops the server as `pg_ctl stop -m immediate` does: nobody is waited for, nothing is written any more.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop_immediate(&self) {
        self.end("QUIT");
    }

    /// Kills the server's first process; its children end when they notice.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&self) {
        self.end("KILL");
    }

    /// Starts a server that was stopped or killed, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        if let Err(said) = self.launch() {
            panic!("PostgreSQL does not start again:\n{said}");
        }
    }

    /// Waits until the server answers; starts it again if it has given up by itself.
    ///
    /// # Panics
    /// When it does not start.
    pub fn revive(&self) {
        let has_ended = |running: &mut Running| running.process.try_wait().unwrap().is_some();
        loop {
            let ended = self.lock().take_if(has_ended);
            if let Some(Running { said, .. }) = ended {
                said.join().unwrap();
                return self.start_again();
            }
            let mut asked = self.program("pg_isready");
            asked.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if asked.status().unwrap().success() {
                return;
            }
        }
    }

    /// Stalls every process of the server: connections stay open, and nobody answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stall(&self) {
        self.signal_all("STOP");
    }

    /// Ends a stall.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.signal_all("CONT");
    }

    fn initialise(&self, settings: &[&str]) {
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(self.data());
        initdb.args(["-U", ROLE, "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--no-sync", "--no-instructions", "--locale=C"]);
        if self.has_icu() {
            // Words are sorted as people do, not as bytes are: a store that leans on the default shows.
            initdb.args(["--locale-provider=icu", "--icu-locale=en"]);
        }
        output(&mut initdb);
        let own = [
            "listen_addresses='127.0.0.1'",
            "max_connections=200",
            "fsync=on",
            "synchronous_commit=on",
            "deadlock_timeout=200ms",
            "lc_messages='C'",
        ];
        let mut text = own.join("\n");
        for setting in settings {
            text.push('\n');
            text.push_str(setting);
        }
        let file = self.data().join("postgresql.auto.conf");
        std::fs::write(file, format!("{text}\n")).unwrap();
    }

    fn demand_tls(&mut self, identity: &Identity) {
        let files = identity.write(&self.dir);
        for path in &files {
            if let Some((uid, gid)) = self.user {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let [authority, certificate, key] = files;
        let text = format!(
            "ssl=on\nssl_cert_file='{}'\nssl_key_file='{}'\n",
            certificate.display(),
            key.display()
        );
        let path = self.data().join("postgresql.auto.conf");
        let settings = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, settings + &text).unwrap();
        let who = "hostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(self.data().join("pg_hba.conf"), who).unwrap();
        self.authority = Some(authority);
    }

    fn has_icu(&self) -> bool {
        let version = self.programs.parent().and_then(Path::file_name);
        let version = version.and_then(|name| name.to_str()?.parse::<u32>().ok());
        version.is_some_and(|version| version >= 15)
    }

    /// Starts the server and waits until it says that it is ready; else returns what it said.
    fn launch(&self) -> Result<(), String> {
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        postgres.arg("-p").arg(self.port.to_string());
        postgres.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = postgres.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                process.wait().unwrap();
                return Err(said);
            };
            if line.contains("ready to accept connections") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        let said = std::thread::spawn(move || lines.for_each(drop));
        *self.lock() = Some(Running { process, said });
        Ok(())
    }

    fn end(&self, signal: &str) {
        let mut running = self.lock();
        let Running { mut process, said } = running.take().expect("the server runs");
        send(signal, process.id());
        process.wait().unwrap();
        // The children hold the other end of the pipe: now the last of them is gone too.
        said.join().unwrap();
    }

    fn signal_all(&self, signal: &str) {
        let running = self.lock();
        let process = &running.as_ref().expect("the server runs").process;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SIGNAL, "sh", signal])
            .arg(process.id().to_string());
        output(&mut shell);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A program of this server's version, run as a user that PostgreSQL accepts.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
        };
        command
            .current_dir(&self.dir)
            .env_remove("PGDATA")
            .env("LC_ALL", "C");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The guard ends the server, however it is, and removes the directory.
        if let Some((mut guard, pipe)) = self.guard.take() {
            drop(pipe);
            let _ended = guard.wait();
        }
        if let Some(mut running) = self.lock().take() {
            let _ended = running.process.wait();
        }
    }
}
