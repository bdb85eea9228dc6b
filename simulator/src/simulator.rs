//! The running simulator: starts its listeners, takes instructions, tells what happened. Knows nothing of
//! protocols.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::apns::auth;
use crate::control::{self, Control};
use crate::credentials::{ApnsTestKey, FcmTestAccount};
use crate::listener::{self, Settings};
use crate::receipt::{Provider, Receipt};
use crate::registry::Registry;
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
    fcm: SocketAddr,
    control: SocketAddr,
    apns_tls: Settings,
    fcm_tls: Settings,
    tasks: JoinSet<()>,
    /// Dropping it ends the control API.
    stop: watch::Sender<()>,
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
        let fcm = listener::bind(options.fcm_port, "FCM").await?;
        let control = listener::bind(options.control_port, "the control API").await?;
        let fcm_address = local_addr(&fcm, "FCM")?;
        let world = Arc::new(World::new(
            options,
            rules,
            format!("https://{fcm_address}/token"),
        )?);
        let settings = |mutual| -> Result<Settings, Error> {
            Ok(Arc::new(Mutex::new(
                authority.server_config(Certificate::Valid, mutual)?,
            )))
        };
        let (apns_tls, fcm_tls) = (settings(true)?, settings(false)?);
        let mut simulator = Self {
            apns: local_addr(&apns, "APNs")?,
            fcm: fcm_address,
            control: local_addr(&control, "the control API")?,
            authority,
            stop: watch::Sender::new(()),
            apns_tls: Arc::clone(&apns_tls),
            fcm_tls: Arc::clone(&fcm_tls),
            tasks: JoinSet::new(),
            world: Arc::clone(&world),
        };
        simulator.register_configured()?;
        let serve_apns = listener::listen(apns, Provider::Apns, apns_tls, Arc::clone(&world));
        simulator.tasks.spawn(serve_apns);
        simulator
            .tasks
            .spawn(listener::listen(fcm, Provider::Fcm, fcm_tls, world));
        simulator.tasks.spawn(control::serve(
            control,
            simulator.shown(),
            simulator.stop.subscribe(),
        ));
        Ok(simulator)
    }

    /// What the control API works with.
    fn shown(&self) -> Control {
        let places = serde_json::json!({
            "apns": self.apns_origin(),
            "fcm": self.fcm_origin(),
            "token_url": self.fcm_token_url(),
            "control": self.control_url(),
        });
        Control {
            world: Arc::clone(&self.world),
            ca_pem: self.ca_pem().to_owned(),
            places,
        }
    }

    fn register_configured(&self) -> Result<(), Error> {
        let options = self.world.options();
        for key in &options.apns_keys {
            self.register_apns_key(&key.team_id, &key.key_id, &read(&key.path)?)?;
        }
        for path in &options.fcm_accounts {
            self.register_fcm_account(&read(path)?)?;
        }
        Ok(())
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(());
        self.tasks.shutdown().await;
    }

    /// Where APNs is, as `https://127.0.0.1:PORT`.
    pub fn apns_origin(&self) -> String {
        format!("https://{}", self.apns)
    }

    /// Where FCM is, as `https://127.0.0.1:PORT`.
    pub fn fcm_origin(&self) -> String {
        format!("https://{}", self.fcm)
    }

    /// Where Google's token endpoint is.
    pub fn fcm_token_url(&self) -> String {
        self.world.token_url().to_owned()
    }

    /// Where the control API is: plain HTTP.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
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
        for (settings, mutual) in [(&self.apns_tls, true), (&self.fcm_tls, false)] {
            let config = self.authority.server_config(certificate, mutual)?;
            *settings.lock().unwrap_or_else(PoisonError::into_inner) = config;
        }
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
    ///
    /// # Errors
    /// [`Error::Rules`] if it names an unknown error code.
    pub fn command(&self, command: Command) -> Result<usize, Error> {
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

    /// Makes a service account for a project, with this simulator as its `token_uri`, and registers it.
    ///
    /// # Errors
    /// [`Error::Credential`] if the system gives no randomness.
    pub fn fcm_test_account(&self, project_id: &str) -> Result<FcmTestAccount, Error> {
        let account = FcmTestAccount::generate(project_id, self.world.token_url())?;
        self.register_fcm_account(&account.service_account_json)?;
        Ok(account)
    }

    /// Registers a service account by its JSON, as Google hands it out; one of the same name is replaced.
    ///
    /// # Errors
    /// [`Error::Credential`] if it is not a service account with an RSA key.
    pub fn register_fcm_account(&self, service_account_json: &str) -> Result<(), Error> {
        self.world
            .change_registry(|registry| registry.add_account(service_account_json))
    }

    /// Removes a service account, and with it its access tokens; false if it was not known.
    pub fn revoke_fcm_account(&self, client_email: &str) -> bool {
        self.world
            .change_registry(|registry| registry.remove_account(client_email))
    }

    /// Makes every access token handed out so far worthless (401), as a revocation or a restart at Google's
    /// would.
    pub fn revoke_access_tokens(&self) {
        self.world.change_registry(Registry::revoke_access_tokens);
    }

    /// Makes a device known as one of a project: other projects get `SENDER_ID_MISMATCH` for it.
    pub fn register_fcm_device(&self, device_token: &str, project_id: &str) {
        let (device_token, project) = (device_token.to_owned(), project_id.to_owned());
        self.world
            .change_registry(|registry| registry.add_device(device_token, project));
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

    /// What the pushes to a device said, oldest first: those of the latest [`Options::bodies_kept`].
    pub fn bodies(&self, device_token: &str) -> Vec<Vec<u8>> {
        self.world.bodies(device_token)
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
