//! The running simulator: starts its listeners, takes instructions, tells what happened. Knows nothing of
//! protocols.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::apns::auth;
use crate::credentials::ApnsTestKey;
use crate::listener::{self, Settings};
use crate::receipt::{Provider, Receipt};
use crate::rules::Rules;
use crate::stats::Stats;
use crate::tls::{Authority, Certificate};
use crate::world::{Command, World};
use crate::{Error, Options};

/// Both push services on loopback ports, until dropped or shut down. Its tasks run on the runtime it was
/// started on.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    authority: Authority,
    apns: SocketAddr,
    settings: Settings,
    tasks: JoinSet<()>,
}

fn local_addr(listener: &TcpListener, name: &'static str) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Listen {
        listener: name,
        port: 0,
        source,
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

impl Simulator {
    /// Makes certificates, binds the ports and serves.
    ///
    /// # Errors
    /// Any [`Error`]: a port in use, an unreadable file, unusable rules or credentials.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let authority = Authority::new(options.ca_path.as_deref(), &options.server_names)?;
        let rules = match &options.rules_path {
            Some(path) => Rules::from_toml(&read(path)?)?,
            None => Rules::default(),
        };
        let apns = listener::bind(options.apns_port, "APNs").await?;
        let config = authority.server_config(Certificate::Valid, true)?;
        let settings: Settings = Arc::new(Mutex::new(config));
        let world = Arc::new(World::new(options, rules)?);
        let mut simulator = Self {
            apns: local_addr(&apns, "APNs")?,
            world: Arc::clone(&world),
            authority,
            settings: Arc::clone(&settings),
            tasks: JoinSet::new(),
        };
        simulator.register_configured()?;
        simulator
            .tasks
            .spawn(listener::listen(apns, Provider::Apns, settings, world));
        Ok(simulator)
    }

    fn register_configured(&self) -> Result<(), Error> {
        let options = self.world.options();
        for key in &options.apns_keys {
            self.register_apns_key(&key.team_id, &key.key_id, &read(&key.path)?)?;
        }
        Ok(())
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }

    /// Where APNs is, as `https://127.0.0.1:PORT`.
    pub fn apns_origin(&self) -> String {
        format!("https://{}", self.apns)
    }

    /// The certificate authority that clients must trust (PEM).
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// [`Error::Certificate`] if it cannot be made.
    pub fn set_certificate(&self, certificate: Certificate) -> Result<(), Error> {
        let config = self.authority.server_config(certificate, true)?;
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Replaces the rules; their counts and their clock start anew.
    ///
    /// # Errors
    /// [`Error::Rules`] if a rule asks for something impossible.
    pub fn set_rules(&self, rules: Rules) -> Result<(), Error> {
        self.world.set_rules(rules)
    }

    /// The same, from a rule file's text.
    ///
    /// # Errors
    /// [`Error::Rules`] with the place and the cause.
    pub fn set_rules_toml(&self, text: &str) -> Result<(), Error> {
        self.world.set_rules(Rules::from_toml(text)?)
    }

    /// Does something to every connection that is open now; returns how many there are.
    pub fn command(&self, command: Command) -> usize {
        self.world.command(command)
    }

    /// Moves the providers' clock against the system's, to age credentials.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.world.set_clock_offset_ms(offset_ms);
    }

    /// Makes an APNs key and registers it.
    ///
    /// # Errors
    /// [`Error::Credential`] if the system gives no randomness.
    pub fn apns_test_key(&self, team_id: &str, key_id: &str) -> Result<ApnsTestKey, Error> {
        let key = ApnsTestKey::generate(team_id, key_id)?;
        self.register_apns_key(team_id, key_id, &key.public_key_pem)?;
        Ok(key)
    }

    /// Registers an APNs key by its public key (PEM) or its .p8; one of the same ids is replaced.
    ///
    /// # Errors
    /// [`Error::Credential`] if it is not a P-256 key.
    pub fn register_apns_key(&self, team_id: &str, key_id: &str, pem: &str) -> Result<(), Error> {
        let name = (team_id.to_owned(), key_id.to_owned());
        self.world
            .change_registry(|registry| registry.add_apns_key(name, pem))
    }

    /// Revokes an APNs key; false if it was not known.
    pub fn revoke_apns_key(&self, team_id: &str, key_id: &str) -> bool {
        let name = (team_id.to_owned(), key_id.to_owned());
        self.world
            .change_registry(|registry| registry.remove_apns_key(&name))
    }

    /// Limits an APNs key to some topics (others are `TopicDisallowed`); false if the key is not known.
    pub fn limit_apns_topics(&self, team_id: &str, key_id: &str, topics: &[&str]) -> bool {
        let name = (team_id.to_owned(), key_id.to_owned());
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.world
            .change_registry(|registry| registry.limit_apns_key(&name, topics))
    }

    /// Registers an APNs client certificate (PEM) for its topics, the first of which is its default.
    ///
    /// # Errors
    /// [`Error::Credential`] if it is not a certificate.
    pub fn register_apns_certificate(&self, pem: &str, topics: &[&str]) -> Result<(), Error> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| Error::Credential("not a certificate in PEM"))?;
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.world.change_registry(|registry| {
            registry.add_certificate(auth::fingerprint(&der), topics);
        });
        Ok(())
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.world.stats()
    }

    /// The receipts still in memory, oldest first.
    pub fn received(&self) -> Vec<Receipt> {
        self.world.received(0, usize::MAX)
    }

    /// Those of them with a number above `after`, at most `limit`.
    pub fn received_after(&self, after: u64, limit: usize) -> Vec<Receipt> {
        self.world.received(after, limit)
    }

    /// Sets the counters to zero and forgets the receipts in memory; the log file stays.
    pub fn reset(&self) {
        self.world.reset();
    }

    /// Waits until `count` requests have been processed, accepted or not.
    pub async fn wait_received(&self, count: u64) -> Stats {
        self.wait_until(|stats| stats.processed >= count).await
    }

    /// Waits until the counters are as wanted. Waits for ever if they never are: put a time limit around it.
    pub async fn wait_until(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let mut changes = self.world.changes();
        loop {
            changes.borrow_and_update();
            let stats = self.world.stats();
            // The sender lives in `self.world`, so waiting for a change cannot fail.
            if wanted(&stats) || changes.changed().await.is_err() {
                return stats;
            }
        }
    }
}
