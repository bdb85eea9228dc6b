//! How a private RabbitMQ is set up: its ports, its files, and what a test wants otherwise than usual.
//! It must not know how it is started.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::{USER, as_its_user};
use crate::tls::Identity;

/// Open files of a server that is not to run out of them.
const OPEN_FILES: u32 = 65_536;

/// What a test wants otherwise than usual.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The management API is on, and waited for.
    pub management: bool,
    /// The soft limit of open files, where the hard one allows it.
    pub open_files: u32,
    /// Its data lies on a file system of so many MiB.
    pub disk_mib: Option<u32>,
    /// It speaks TLS, too, and shows this certificate.
    pub tls: Option<Identity>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            management: false,
            open_files: OPEN_FILES,
            disk_mib: None,
            tls: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) distribution: u16,
    pub(super) mapper: u16,
    /// Of the management API, where it is wanted.
    pub(super) management: Option<u16>,
    /// Of AMQP with TLS, where it is wanted.
    pub(super) amqps: Option<u16>,
}

impl Ports {
    pub(super) fn free(settings: &Settings) -> Self {
        // All are held until all are known, so that they differ.
        let listeners = [(); 5].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|it| it.local_addr().unwrap().port());
        let [amqp, distribution, mapper, management, amqps] = ports;
        Self {
            amqp,
            distribution,
            mapper,
            management: settings.management.then_some(management),
            amqps: settings.tls.is_some().then_some(amqps),
        }
    }
}

/// Writes the configuration and the cookie.
pub(super) fn prepare(dir: &Path, ports: Ports, settings: &Settings) {
    let mut conf = format!(
        "listeners.tcp.default = 127.0.0.1:{}\n\
         default_user = {USER}\ndefault_pass = {USER}\nloopback_users = none\n\
         vm_memory_high_watermark.absolute = 1GB\n\
         log.console = false\nlog.file.level = warning\n",
        ports.amqp
    );
    // A small disk may be filled to its last byte.
    let free_min = if settings.disk_mib.is_some() { 1 } else { 50 };
    conf += &format!("disk_free_limit.absolute = {free_min}MB\n");
    let mut plugins = "[].\n";
    if let Some(port) = ports.management {
        conf += &format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
        plugins = "[rabbitmq_management].\n";
    }
    if let (Some(port), Some(identity)) = (ports.amqps, &settings.tls) {
        let [authority, certificate, key] =
            identity.write(dir).map(|path| path.display().to_string());
        conf += &format!(
            "listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = {authority}\n\
             ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
        );
    }
    fs::write(dir.join("rabbitmq.conf"), conf).unwrap();
    fs::write(dir.join("enabled_plugins"), plugins).unwrap();
    fs::write(dir.join("advanced.config"), "[].\n").unwrap();
    let cookie = dir.join(".erlang.cookie");
    fs::write(&cookie, format!("CLARION{}", ports.amqp)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    fs::set_permissions(&cookie, mode).unwrap();
    if !as_its_user().is_empty() {
        let owned = Command::new("chown")
            .args(["-R", "rabbitmq:rabbitmq"])
            .arg(dir)
            .status();
        assert!(owned.is_ok_and(|status| status.success()), "chown");
    }
}
