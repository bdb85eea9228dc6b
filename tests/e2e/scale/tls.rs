//! TLS to the broker and to the database, with an authority that only the configuration names.
//! It must not know what is spoken inside.

use std::path::Path;
use std::process::Output;

use clarion_services::postgres::Postgres;
use clarion_services::rabbitmq::Settings;
use clarion_services::tls::Identity;
use clarion_simulator::Options;
use toml::Table;

use super::broker_faults::{BACK_WITHIN, back_at_work};
use super::cluster::{Cluster, Parts};
use crate::harness::{alone, clarion, servers_on};

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// Runs an engine that is expected not to start.
async fn engine(config: &Table) -> Output {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), "clarion.toml", &config.to_string());
    let mut command = clarion();
    command.args(["engine", "--admin-listen", "127.0.0.1:0", "--config", &path]);
    command.arg("--data-dir").arg(home.path().join("data"));
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    ended.await.unwrap()
}

fn refuses(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    let said = said.to_lowercase();
    assert!(
        said.contains("certificate") || said.contains("issuer"),
        "{said}"
    );
}

/// Every process speaks `amqps` and trusts the authority in `queue.ca_file`, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_reached_by_tls_and_must_be_vouched_for() {
    let _alone = alone().await;
    let (identity, stranger) = (Identity::new(), Identity::new());
    let home = tempfile::tempdir().unwrap();
    let parts = Parts::with(Settings {
        tls: Some(identity.clone()),
        ..Settings::default()
    });
    let parts = parts.await;
    let url = parts.rabbit.tls_url("/");
    let trusting = |authority: &str| {
        let mut config = servers_on(&url);
        let queue = config["queue"].as_table_mut().unwrap();
        queue.insert("ca_file".to_owned(), authority.into());
        config
    };
    let good = file(home.path(), "authority.pem", identity.authority());
    let parts = parts.configured(trusting(&good));
    let cluster = Cluster::on(parts, 1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    back_at_work(&cluster, &cluster.world.calls(&tenant), 0, BACK_WITHIN).await;
    let connections = cluster
        .rabbit
        .ctl(&["list_connections", "client_properties", "ssl"]);
    let ours = connections.lines().filter(|line| line.contains("clarion"));
    let ours: Vec<&str> = ours.collect();
    assert!(ours.len() >= 3, "{connections}");
    assert!(
        ours.iter().all(|line| line.ends_with("true")),
        "{connections}"
    );
    let bad = file(home.path(), "stranger.pem", stranger.authority());
    refuses(&engine(&trusting(&bad)).await);
    refuses(&engine(&servers_on(&url)).await);
}

/// The same for PostgreSQL, as libpq's parameters in `store.url` say it.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_by_tls_and_must_be_vouched_for() {
    let _alone = alone().await;
    let (identity, stranger) = (Identity::new(), Identity::new());
    let home = tempfile::tempdir().unwrap();
    let database = tokio::task::spawn_blocking(move || Postgres::start_tls(&identity));
    let parts = Parts::start().await.on_database(database.await.unwrap());
    let cluster = Cluster::on(parts, 1, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    back_at_work(&cluster, &cluster.world.calls(&tenant), 0, BACK_WITHIN).await;
    let sessions = "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE application_name = 'clarion'";
    let counts = cluster.postgres().sql(&cluster.database(), sessions);
    let (encrypted, all) = counts.split_once('|').unwrap();
    assert!(encrypted == all && all != "0", "{counts}");
    // The good configuration with another authority.
    let mut config = servers_on(&cluster.rabbit.url("/"));
    let good = cluster.postgres().url(&cluster.database());
    let (address, _) = good.split_once('?').unwrap();
    let bad = file(home.path(), "stranger.pem", stranger.authority());
    let store = config["store"].as_table_mut().unwrap();
    let url = format!("{address}?sslmode=verify-full&sslrootcert={bad}");
    store.insert("url".to_owned(), url.into());
    refuses(&engine(&config).await);
    let plain = format!("{address}?sslmode=disable");
    let store = config["store"].as_table_mut().unwrap();
    store.insert("url".to_owned(), plain.into());
    let ended = engine(&config).await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        !ended.status.success() && said.contains("no encryption"),
        "{said}"
    );
}
