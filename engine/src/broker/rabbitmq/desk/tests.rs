//! Hand-outs and consumers without a broker: credit, bytes in hand, lost connections. They must not know AMQP.

use std::collections::BTreeMap;

use lapin::message::Delivery as Brought;

use super::*;
use crate::broker::rabbitmq::names::Names;
use crate::broker::rabbitmq::options::RabbitOptions;
use crate::broker::rabbitmq::plan::Step;
use crate::broker::{Lease, QueueName};

/// A desk and the consumers that its steps have started.
struct Bench {
    desk: Arc<Desk>,
    names: Names,
    session: u64,
    /// Per queue: consumers and their prefetch.
    consumers: BTreeMap<Arc<str>, BTreeMap<u64, u32>>,
    out: mpsc::Receiver<Delivery>,
    now: Instant,
    tag: u64,
    /// The queues of this lane hold messages of so many bytes without end, and bring what their consumers may.
    brings: Option<(Lane, usize)>,
}

impl Bench {
    fn new(rest: u32, shards: u16) -> Self {
        let mut options = RabbitOptions::new("amqp://localhost", "test");
        options.shards = std::num::NonZeroU16::new(shards);
        let desk = Arc::new(Desk::new(Arc::new(BrokerMetrics::new())));
        let (sender, out) = mpsc::channel(16);
        assert!(desk.open(sender, rest));
        let session = desk.begin();
        Self {
            desk,
            names: Names::new(&options),
            session,
            consumers: BTreeMap::new(),
            out,
            now: Instant::now(),
            tag: 0,
            brings: None,
        }
    }

    fn watch(&mut self, queue: &QueueName) -> Arc<str> {
        let ready = self.names.ready_queue(queue);
        let name = Arc::clone(&ready.name);
        self.desk.watch(std::iter::once(ready));
        self.run();
        name
    }

    /// Takes all steps.
    fn run(&mut self) {
        let mut looked_at = 0;
        // One channel's step may let another go on.
        while looked_at < CHANNELS {
            let channel = looked_at;
            looked_at += 1;
            while let Ok(task) = self.desk.next_step(channel, self.now) {
                looked_at = 0;
                let name = task.queue.name;
                let consumers = self.consumers.entry(Arc::clone(&name)).or_default();
                match task.step {
                    Step::Declare => self.desk.stepped(&name, None, |plan| plan.declared(1)),
                    Step::Consume(prefetch) => {
                        consumers.insert(task.consumer, prefetch);
                        self.desk.stepped(&name, None, |_| {});
                        let lane = task.queue.lane;
                        if let Some((_, bytes)) = self.brings.filter(|(brings, _)| *brings == lane)
                        {
                            for _ in 0..prefetch {
                                self.brought(&name, task.consumer, bytes);
                            }
                        }
                    }
                    Step::Cancel(id) | Step::LetGo(id) => {
                        consumers.remove(&id);
                        self.desk.stepped(&name, None, |plan| plan.ended(id));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn prefetch(&self, name: &Arc<str>) -> u32 {
        self.consumers[name].values().sum()
    }

    fn bring(&mut self, name: &Arc<str>, bytes: usize) {
        let consumer = *self.consumers[name].keys().next().unwrap();
        self.brought(name, consumer, bytes);
        self.run();
    }

    fn brought(&mut self, name: &Arc<str>, consumer: u64, bytes: usize) {
        self.tag += 1;
        let message = Brought::mock(self.tag, "".into(), "".into(), false, vec![0; bytes]);
        let from = (self.session, name, consumer);
        self.desk.brought(from, Ok(Some(message)));
    }

    fn lease(&self) -> Lease {
        match self.desk.next() {
            Some(Delivery::Leased(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    fn ack(&mut self, lease: Lease) {
        let name = self.names.ready_queue(&lease.queue).name;
        let brought_by = self
            .desk
            .lock()
            .leases
            .get(&lease.id)
            .map(|held| held.consumer);
        for taken in self.desk.take(&[lease]) {
            taken.unwrap().acked();
        }
        if let (Some(consumer), Some((_, bytes))) = (brought_by, self.brings)
            && self.consumers[&name].contains_key(&consumer)
        {
            self.brought(&name, consumer, bytes);
        }
        self.run();
    }
}

fn queue(tenant: &str, lane: Lane) -> QueueName {
    QueueName {
        tenant: tenant.parse().unwrap(),
        lane,
    }
}

#[test]
fn too_many_bytes_in_hand_rest_bulk_first_and_then_everything() {
    let mut bench = Bench::new(4, 0);
    let flood = bench.watch(&queue("flood", Lane::Bulk));
    let other = bench.watch(&queue("other", Lane::Bulk));
    let quick = bench.watch(&queue("quick", Lane::Transactional));
    let all = [&flood, &other, &quick];
    assert_eq!(all.map(|name| bench.prefetch(name)), [4, 4, 4]);
    bench.bring(&flood, PREFETCHED_BYTES_MAX + 1);
    assert_eq!(all.map(|name| bench.prefetch(name)), [0, 0, 4]);
    bench.bring(&quick, PREFETCHED_BYTES_MAX / 2 + 1);
    assert_eq!(all.map(|name| bench.prefetch(name)), [0, 0, 0]);
    let first = bench.lease();
    bench.ack(first);
    // Less than what made it rest, more than what lets it go on.
    assert_eq!(all.map(|name| bench.prefetch(name)), [0, 0, 0]);
    let second = bench.lease();
    bench.ack(second);
    assert_eq!(all.map(|name| bench.prefetch(name)), [4, 4, 4]);
}

/// Two hundred queues of a lane, each with more messages of a MiB than anybody takes.
#[test]
fn queues_that_hold_more_than_fits_are_served_in_turn_and_keep_no_other_lane_waiting() {
    const MESSAGE: usize = 1024 * 1024;
    let mut bench = Bench::new(1, 0);
    bench.brings = Some((Lane::Bulk, MESSAGE));
    let names: Vec<Arc<str>> = (0..200)
        .map(|n| bench.watch(&queue(&format!("t{n}"), Lane::Bulk)))
        .collect();
    let mut served: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for _ in 0..1_000 {
        let lease = bench.lease();
        let name = bench.names.ready_queue(&lease.queue).name;
        *served.entry(name).or_default() += 1;
        assert!(bench.desk.lock().bytes < PREFETCHED_BYTES_MAX / 4);
        bench.ack(lease);
    }
    let counts: Vec<u32> = names.iter().map(|name| served[name]).collect();
    assert!(
        counts.iter().all(|count| (4..=6).contains(count)),
        "{counts:?}"
    );
    let quick = bench.watch(&queue("quick", Lane::Transactional));
    assert_eq!(bench.prefetch(&quick), 1);
    let counted = {
        let state = bench.desk.lock();
        (state.first_bytes, state.bytes)
    };
    assert_eq!(counted.0, counted.1);
    // Nothing more comes in: in the end all are consumed again.
    bench.brings = None;
    while bench.desk.lock().bytes > 0 {
        let lease = bench.lease();
        bench.ack(lease);
    }
    assert!(names.iter().all(|name| bench.prefetch(name) == 1));
}

#[test]
fn a_flood_within_its_credit_keeps_nobody_in_line() {
    let mut bench = Bench::new(4, 0);
    let flood = bench.watch(&queue("flood", Lane::Bulk));
    for _ in 0..4 {
        bench.bring(&flood, PREFETCHED_BYTES_MAX / 8);
    }
    let late = bench.watch(&queue("late", Lane::Bulk));
    assert_eq!((bench.prefetch(&flood), bench.prefetch(&late)), (4, 4));
    bench.desk.end();
    assert_eq!(bench.desk.lock().first_bytes, 0);
}

#[test]
fn no_more_than_the_credit_is_handed_out_whatever_the_consumers_bring() {
    let mut bench = Bench::new(1, 0);
    let acme = queue("acme", Lane::Bulk);
    let name = bench.watch(&acme);
    let set = |bench: &mut Bench, credit| {
        let ready = bench.names.ready_queue(&acme);
        bench
            .desk
            .set_credit(ready, &acme.tenant, credit, bench.now);
        bench.run();
    };
    set(&mut bench, 3);
    assert_eq!(bench.prefetch(&name), 3);
    for _ in 0..3 {
        bench.bring(&name, 1);
    }
    let first = bench.lease();
    set(&mut bench, 1);
    assert!(bench.desk.next().is_none());
    bench.ack(first);
    let second = bench.lease();
    assert!(bench.desk.next().is_none());
    bench.ack(second);
    drop(bench.lease());
    // Given back: it is the broker's.
    assert!(bench.desk.next().is_none());
    assert!(bench.desk.next_return().is_some_and(|(_, requeue)| requeue));
}

#[test]
fn a_lost_connection_voids_the_leases_before_anything_new() {
    let mut bench = Bench::new(2, 0);
    let name = bench.watch(&queue("acme", Lane::Bulk));
    bench.bring(&name, 1);
    let held = bench.lease();
    bench.bring(&name, 1);
    bench.desk.end();
    bench.session = bench.desk.begin();
    bench.consumers.clear();
    bench.run();
    bench.bring(&name, 1);
    assert!(matches!(bench.desk.next(), Some(Delivery::LeasesLost)));
    assert!(bench.desk.take(&[held])[0].is_none());
    let again = bench.lease();
    assert!(bench.desk.next().is_none());
    bench.ack(again);
    assert_eq!(bench.desk.lock().bytes, 0);
}

#[test]
fn without_credit_everything_goes_back() {
    let mut bench = Bench::new(2, 0);
    let acme = queue("acme", Lane::Bulk);
    let name = bench.watch(&acme);
    bench.bring(&name, 1);
    bench.bring(&name, 1);
    let held = bench.lease();
    let ready = bench.names.ready_queue(&acme);
    bench.desk.set_credit(ready, &acme.tenant, 0, bench.now);
    bench.run();
    assert_eq!(bench.prefetch(&name), 0);
    assert!(bench.desk.next_return().is_some());
    assert!(bench.desk.next_return().is_none());
    bench.ack(held);
}

#[test]
fn a_message_that_names_no_tenant_goes_to_the_dead_letters() {
    let mut bench = Bench::new(2, 1);
    let name = bench.watch(&queue("acme", Lane::Bulk));
    bench.bring(&name, 1);
    assert!(bench.desk.next().is_none());
    assert!(
        bench
            .desk
            .next_return()
            .is_some_and(|(_, requeue)| !requeue)
    );
}

#[test]
fn a_subscriber_that_goes_leaves_nothing_here() {
    let mut bench = Bench::new(2, 0);
    let name = bench.watch(&queue("acme", Lane::Bulk));
    bench.bring(&name, 1);
    bench.out.close();
    bench.desk.unsubscribed();
    bench.run();
    assert_eq!(bench.prefetch(&name), 0);
    assert!(bench.desk.next_return().is_some());
    let (sender, _out) = mpsc::channel(1);
    assert!(bench.desk.open(sender, 2));
    bench.run();
    assert_eq!(bench.prefetch(&name), 2);
}
