//! Servers that have no room left: a full disk beneath the broker, no file handles for another connection.
//! It must not know how anybody reconnects.

use std::time::Duration;

use clarion_services::rabbitmq::Settings;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinSet;

use super::broker_faults::{BACK_WITHIN, REFUSED_WITHIN, answered, back_at_work, options};
use super::cluster::{Cluster, Parts};
use crate::harness::{PATIENCE, alone, apple, seed, until};

/// How soon a push is answered that the broker neither confirms nor refuses.
const UNCONFIRMED_WITHIN: Duration = Duration::from_secs(13);
/// A connection that is not open by then waits for a file handle.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// Open files of a broker that soon has none left.
const OPEN_FILES: u32 = 300;
/// Connections that are more than its files.
const CONNECTIONS_MAX: usize = 400;
/// Connections that get the file handles of those that are lost.
const WAITING: usize = 20;
/// Pushes, ten a second, while nobody gets a connection: some attempts to connect must fail meanwhile.
const REFUSALS: u32 = 130;
/// Pushes that are more than what fits into a full disk's last block.
const PUSHES_MAX: u64 = 2_000;
/// Room for the data of the broker, MiB.
const DISK_MIB: u32 = 192;

/// Nothing more can be written beneath the broker: nothing is accepted that it could not keep, and what was accepted arrives.
/// RabbitMQ 3.10 gives its Raft log up when the disk is full, and begins no other before it is started again: an operator makes
/// room and restarts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_a_full_disk_confirms_nothing_that_it_cannot_keep() {
    let _alone = alone().await;
    let parts = Parts::with(Settings {
        disk_mib: Some(DISK_MIB),
        ..Settings::default()
    });
    let cluster = Cluster::on(parts.await, 1, options(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    back_at_work(&cluster, &calls, 0, BACK_WITHIN).await;
    cluster.settle();
    cluster.rabbit.disk().fill();
    let mut taken = Vec::new();
    let refused = loop {
        let number = 1 + taken.len() as u64;
        assert!(number < PUSHES_MAX, "nothing is refused");
        let answer = answered(&calls, number, UNCONFIRMED_WITHIN).await;
        if answer.status != 200 {
            break answer;
        }
        taken.push(number);
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_ne!(refused.header("retry-after"), "");
    let still = answered(&calls, 1 + taken.len() as u64, UNCONFIRMED_WITHIN).await;
    assert_eq!(still.status, 503, "{}", still.text);
    cluster.rabbit.disk().empty();
    cluster.rabbit.kill9();
    cluster.rabbit.start_again();
    back_at_work(&cluster, &calls, PUSHES_MAX, PATIENCE).await;
    println!("scale: {} pushes were taken on a full disk", taken.len());
    for number in taken {
        let token = apple(seed() + 1, number);
        until("what was accepted to arrive", PATIENCE, || async {
            cluster.accepted().contains_key(&token).then_some(())
        })
        .await;
    }
}

/// Connections that do nothing.
#[derive(Default)]
struct Idle {
    open: Vec<Connection>,
    /// Those that wait for a file handle, and get the next ones that are given back.
    opening: JoinSet<lapin::Result<Connection>>,
}

impl Idle {
    fn one_more(&mut self, url: &str) {
        let url = url.to_owned();
        self.opening.spawn(async move {
            let named = ConnectionProperties::default().with_connection_name("idle".into());
            Connection::connect(&url, named).await
        });
    }
}

/// Opens connections until the broker has no file handle for another: it accepts that one and then says nothing.
async fn exhaust(url: &str) -> Idle {
    let mut idle = Idle::default();
    while idle.open.len() < CONNECTIONS_MAX {
        idle.one_more(url);
        let opened = idle.opening.join_next();
        match tokio::time::timeout(HANGS_AFTER, opened).await {
            Ok(Some(Ok(Ok(connection)))) => idle.open.push(connection),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                println!(
                    "scale: {} idle connections exhaust the broker",
                    idle.open.len()
                );
                (0..WAITING).for_each(|_| idle.one_more(url));
                return idle;
            }
        }
    }
    panic!("{CONNECTIONS_MAX} connections, and still no end");
}

/// Established connections go on; those that must be opened anew hold nobody up, and are there once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_file_handles_keeps_nobody_waiting() {
    let _alone = alone().await;
    let parts = Parts::with(Settings {
        open_files: OPEN_FILES,
        ..Settings::default()
    });
    let parts = parts.await.behind_a_wire().await;
    let cluster = Cluster::on(parts, 1, options(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let calls = cluster.world.calls(&tenant);
    back_at_work(&cluster, &calls, 0, BACK_WITHIN).await;
    let idle = exhaust(&cluster.rabbit.url("/")).await;
    back_at_work(&cluster, &calls, 1, REFUSED_WITHIN).await;
    cluster.wire().reset();
    let mut pushes = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..REFUSALS {
        pushes.tick().await;
        let answer = answered(&calls, 2, REFUSED_WITHIN).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    drop(idle);
    back_at_work(&cluster, &calls, 3, PATIENCE).await;
}
