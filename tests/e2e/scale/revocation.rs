//! Two ingest processes on one database: a key that is deleted at one is refused by the other, whatever becomes of the channel
//! between them. It must not know how a process hears of a deletion.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clarion_simulator::Options;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::{Cluster, Parts};
use crate::harness::{Calls, PATIENCE, Server, Tenant, alone, postgres, size, until};

/// Callers at once, of each key.
const CALLERS: usize = 4;
/// A key in use is refused that soon, though its deletion takes a second to be answered: the channel has told of it.
const HEARD_WITHIN: Duration = Duration::from_millis(900);

/// What callers with one key saw: when each request began, and its status.
async fn call(calls: Calls, stop: Arc<AtomicBool>) -> Vec<(Instant, u16)> {
    let path = calls.path("devices?user_id=nobody");
    let mut seen = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        seen.push((began, calls.caller.get(&path).await.status));
    }
    seen
}

/// Deletes keys at the first process, one after another, while callers use them at the second. Returns how long each was
/// taken after its deletion had begun.
async fn delete_under_load(cluster: &Cluster, other: &Server) -> Vec<Duration> {
    let tenant = cluster.world.tenant().await;
    let person = cluster.world.person();
    let mut taken_for = Vec::new();
    for _ in 0..size("SCALE_REVOKED", 3) {
        let (key_id, key) = Tenant::new_key(&person, &tenant.id).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let calls = Calls::new(other.caller().api_key(&key), &tenant.id);
            callers.spawn(call(calls, Arc::clone(&stop)));
        }
        let probe = Calls::new(other.caller().api_key(&key), &tenant.id);
        until("the key to work", PATIENCE, || async {
            let path = probe.path("devices?user_id=nobody");
            (probe.caller.get(&path).await.status == 200).then_some(())
        })
        .await;
        let path = format!("/tenants/{}/api-keys/{key_id}", tenant.id);
        let asked = Instant::now();
        person.delete(&path).await.ok();
        let answered = Instant::now();
        until("the key to be refused", PATIENCE, || async {
            let path = probe.path("devices?user_id=nobody");
            (probe.caller.get(&path).await.status == 401).then_some(())
        })
        .await;
        stop.store(true, Ordering::SeqCst);
        let seen: Vec<(Instant, u16)> = callers.join_all().await.into_iter().flatten().collect();
        assert!(
            seen.iter()
                .all(|(_, status)| matches!(status, 200 | 401 | 503))
        );
        let late = seen
            .iter()
            .filter(|(began, status)| *began > answered && *status == 200);
        assert_eq!(late.count(), 0, "a deleted key was taken");
        let taken = seen.iter().filter(|(_, status)| *status == 200);
        let last = taken.map(|(began, _)| *began).max().unwrap();
        taken_for.push(last.saturating_duration_since(asked));
    }
    println!("scale: keys were taken for {taken_for:?} after their deletion began");
    taken_for
}

/// Ends the connections on which processes hear of deletions, as fast as they are made again.
fn cut_channels(database: String, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u32> {
    tokio::task::spawn_blocking(move || {
        let cut = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = '{database}' AND application_name = 'clarion-keys'"
        );
        let mut ended = 0;
        while !stop.load(Ordering::SeqCst) {
            let count = postgres().sql("postgres", &cut);
            ended += count.trim().parse::<u32>().unwrap();
        }
        ended
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_refused_by_every_process_also_without_their_channel() {
    let _alone = alone().await;
    let parts = Parts::start().await;
    let cluster = Cluster::on(parts, 0, Options::default(), |setup| setup).await;
    let other = cluster.another_ingest().await;
    let taken_for = delete_under_load(&cluster, &other).await;
    let soonest = taken_for.iter().min().unwrap();
    assert!(*soonest < HEARD_WITHIN, "nobody was told: {taken_for:?}");
    let stop = Arc::new(AtomicBool::new(false));
    let cutting = cut_channels(cluster.database(), Arc::clone(&stop));
    delete_under_load(&cluster, &other).await;
    stop.store(true, Ordering::SeqCst);
    let ended = cutting.await.unwrap();
    println!("scale: {ended} channels were ended");
    assert!(ended >= 4, "{ended}");
}

/// With the database away a process takes a key that it knows, and says of others that it cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_database_away_known_keys_work_and_others_are_not_refused() {
    let _alone = alone().await;
    let parts = Parts::start().await.with_database().await;
    let cluster = Cluster::on(parts, 0, Options::default(), |setup| setup).await;
    let tenant = cluster.world.tenant().await;
    let (_, unused) = Tenant::new_key(&cluster.world.person(), &tenant.id).await;
    let calls = cluster.world.calls(&tenant);
    let unused = Calls::new(cluster.world.server.caller().api_key(&unused), &tenant.id);
    // Judged by the key alone: a key never lists keys.
    let path = calls.path("api-keys");
    assert_eq!(calls.caller.get(&path).await.status, 403);
    cluster.postgres().stop_immediate();
    assert_eq!(calls.caller.get(&path).await.status, 403);
    assert_eq!(unused.caller.get(&path).await.status, 503);
    cluster.postgres().start_again();
    until("the database to be used again", PATIENCE, || async {
        (unused.caller.get(&path).await.status == 403).then_some(())
    })
    .await;
}
