//! The processes of a test: RabbitMQ, PostgreSQL, one ingest, some engines, simulated providers in this process.
//! It must not know what any test shows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clarion_services::postgres::Postgres;
use clarion_services::rabbitmq::{self, Rabbit};
use clarion_simulator::{Options, ReceiveLog, Simulator};

use super::wire::Wire;
use crate::harness::{
    Caller, ORG, Server, Setup, World, clarion, database_of, servers_of, servers_on, until,
};

/// Handed to a provider and not yet recorded, per engine.
pub(crate) const UNRECORDED_MAX: u64 = 256;

/// The servers of a test, before anybody uses them.
pub(crate) struct Parts {
    pub(crate) rabbit: Rabbit,
    postgres: Option<Postgres>,
    wire: Option<Wire>,
    /// What processes are told, where it is not the usual.
    told: Option<toml::Table>,
}

impl Parts {
    /// A broker of the test's own.
    pub(crate) async fn start() -> Self {
        Self::with(rabbitmq::Settings::default()).await
    }

    /// A database server of the test's own as well.
    pub(crate) async fn with_database(self) -> Self {
        let started = tokio::task::spawn_blocking(Postgres::start).await;
        self.on_database(started.unwrap())
    }

    /// A broker that is otherwise than usual.
    pub(crate) async fn with(settings: rabbitmq::Settings) -> Self {
        let started = tokio::task::spawn_blocking(move || Rabbit::start_with(&settings));
        Self {
            rabbit: started.await.unwrap(),
            postgres: None,
            wire: None,
            told: None,
        }
    }

    /// Processes are told this of store, queue and keys.
    pub(crate) fn configured(mut self, told: toml::Table) -> Self {
        self.told = Some(told);
        self
    }

    /// This database server.
    pub(crate) fn on_database(mut self, postgres: Postgres) -> Self {
        self.postgres = Some(postgres);
        self
    }

    /// Everybody reaches the broker by a wire that can be cut.
    pub(crate) async fn behind_a_wire(mut self) -> Self {
        self.wire = Some(Wire::to(self.rabbit.port()).await);
        self
    }

    fn config(&self) -> toml::Table {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let url = self.rabbit.url("/");
        let url = match &self.wire {
            Some(wire) => url.replace(
                &format!(":{}/", self.rabbit.port()),
                &format!(":{}/", wire.port),
            ),
            None => url,
        };
        match &self.postgres {
            Some(postgres) => servers_of(postgres, &url),
            None => servers_on(&url),
        }
    }
}

/// Everything that runs. Dropping it ends all of it.
pub(crate) struct Cluster {
    /// The ingest process, and calls to it.
    pub(crate) world: World,
    pub(crate) engines: Vec<Server>,
    pub(crate) rabbit: Rabbit,
    postgres: Option<Postgres>,
    wire: Option<Wire>,
    /// How an engine is configured.
    engine: Setup,
    /// How an ingest process is.
    ingest: Setup,
    /// What every process is told of store, queue and keys.
    shared: toml::Table,
    log: PathBuf,
    _home: tempfile::TempDir,
}

impl Cluster {
    /// Starts all of it; `adjust` sees the configuration of every process.
    pub(crate) async fn start(
        engines: usize,
        options: Options,
        adjust: impl Fn(Setup) -> Setup,
    ) -> Self {
        Self::on(Parts::start().await, engines, options, adjust).await
    }

    /// The same on these servers.
    pub(crate) async fn on(
        parts: Parts,
        engines: usize,
        options: Options,
        adjust: impl Fn(Setup) -> Setup,
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("received.tsv");
        let options = Options {
            log_path: Some(log.clone()),
            receipts_kept: 0,
            ..options
        };
        let shared = parts.config();
        let simulator = Simulator::start(options).await.unwrap();
        let setup = |role| {
            let unrecorded = i64::try_from(UNRECORDED_MAX).unwrap();
            let setup = Setup::quick().with("engine.unrecorded_max", unrecorded);
            adjust(setup)
                .sections(&shared)
                .role(role)
                .towards(&simulator)
        };
        let at_ingest = setup("ingest");
        let ingest = Server::start(at_ingest.clone()).await;
        let engine = setup("engine");
        let mut running = Vec::new();
        for _ in 0..engines {
            running.push(Server::start(engine.clone()).await);
        }
        let access_token = ingest.access_token(ORG, "owner");
        Self {
            world: World::of(ingest, simulator, access_token),
            engines: running,
            rabbit: parts.rabbit,
            postgres: parts.postgres,
            wire: parts.wire,
            engine,
            ingest: at_ingest,
            shared,
            log,
            _home: home,
        }
    }

    /// Starts another engine.
    pub(crate) async fn add_engine(&mut self) {
        self.engines.push(Server::start(self.engine.clone()).await);
    }

    /// Starts another ingest process.
    pub(crate) async fn another_ingest(&self) -> Server {
        Server::start(self.ingest.clone()).await
    }

    /// The database server of the test's own.
    pub(crate) fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("started with a database")
    }

    /// The wire to the broker.
    pub(crate) fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("started behind a wire")
    }

    /// Name of the database.
    pub(crate) fn database(&self) -> String {
        let url = self.shared["store"]["url"].as_str().unwrap();
        database_of(url).to_owned()
    }

    /// First part of the names of exchanges and queues.
    pub(crate) fn prefix(&self) -> &str {
        self.shared["queue"]["prefix"].as_str().unwrap()
    }

    /// The exchange that backends publish to.
    pub(crate) fn exchange(&self) -> String {
        format!("{}.publish", self.prefix())
    }

    /// An access token of one of those who run the deployment.
    pub(crate) fn operators_token(&self) -> String {
        self.world.server.access_token("operators", "admin")
    }

    /// Calls in their name on the operator's listener.
    pub(crate) fn operators(&self) -> Caller {
        let token = self.operators_token();
        self.world.server.operator().bearer(&token)
    }

    /// What a command prints that somebody runs.
    pub(crate) async fn command(&self, access_token: &str, arguments: &[&str]) -> String {
        let server = &self.world.server;
        let mut command = clarion();
        command
            .args(arguments)
            .env("HOME", server.home())
            .env("XDG_CONFIG_HOME", server.home())
            .env("CLARION_URL", server.public())
            .env("CLARION_ADMIN_URL", server.admin())
            .env("CLARION_TOKEN", access_token);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has RabbitMQ write down which queues there are. Until it does so by itself, some seconds after a quorum queue was made,
    /// a killed broker forgets the queue's members and comes back with a queue that nobody leads.
    pub(crate) fn settle(&self) {
        self.rabbit
            .eval("[dets:sync(Table) || Table <- dets:all()].");
    }

    /// Requests that the providers have processed.
    pub(crate) fn processed(&self) -> u64 {
        self.world.simulator.stats().processed
    }

    /// Waits until the providers have processed so many.
    pub(crate) async fn reached(&self, processed: u64, limit: Duration) {
        until("requests to arrive", limit, || async {
            (self.processed() >= processed).then_some(())
        })
        .await;
    }

    /// Instants of all requests by device token, oldest first.
    pub(crate) fn attempts(&self) -> BTreeMap<String, Vec<i64>> {
        let mut attempts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for receipt in ReceiveLog::read(&self.log).unwrap() {
            let receipt = receipt.unwrap();
            let at_ms = receipt.at_ms();
            attempts
                .entry(receipt.device_token)
                .or_default()
                .push(at_ms);
        }
        attempts
    }

    /// Acceptances by device token.
    pub(crate) fn accepted(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for receipt in ReceiveLog::read(&self.log).unwrap() {
            let receipt = receipt.unwrap();
            if receipt.accepted() {
                *counts.entry(receipt.device_token).or_default() += 1;
            }
        }
        counts
    }
}

/// What the receive log says of device tokens that were sent to once each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) missing: u64,
    pub(crate) unexpected: u64,
    pub(crate) duplicates: u64,
}

impl Ledger {
    pub(crate) fn of(cluster: &Cluster, tokens: impl Iterator<Item = String>) -> Self {
        let mut accepted = cluster.accepted();
        let mut ledger = Self::default();
        for token in tokens {
            match accepted.remove(&token) {
                None => ledger.missing += 1,
                Some(copies) => ledger.duplicates += copies - 1,
            }
        }
        ledger.unexpected = accepted.len() as u64;
        ledger
    }
}
