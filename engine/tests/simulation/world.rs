//! One world: its time, its events, its disasters, and the verdict at its end.
//! It must not know how an engine works inside.

use std::collections::{BTreeMap, HashMap};

use clarion_engine::broker::LeaseId;
use clarion_engine::delivery::events::Events;
use clarion_engine::delivery::limiter::Rate;
use clarion_engine::delivery::retry::Policy;
use clarion_engine::delivery::worker::{CREDIT_AT_REST, JobHandle, Options, Worker};
use clarion_engine::model::{Millis, Outcome, TenantId};
use clarion_engine::store::Settlement;
use uuid::Uuid;

use crate::broker::{Broker, Connection};
use crate::calls::{Answer, Call};
use crate::driver::Process;
use crate::ledger::{Ledger, complete};
use crate::plan::{BEGIN, Fault, Plan};
use crate::rng::Rng;
use crate::scene::Submission;
use crate::store::{Broken, Store};

/// After the last disaster everything must be over within this time, ms.
const REST_MAX: Millis = 6 * 3_600_000;
/// Events of a world, at most: more is a loop.
const EVENTS_MAX: usize = 400_000;
/// The broker gives a silent connection up after two heartbeats, ms.
const GIVE_UP: Millis = 20_000;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Sound,
    AckBeforeRecord,
    ParkedKeepsId,
    Unfenced,
    PublishBeforeReserve,
}

#[derive(Debug)]
pub(crate) enum Event {
    Tick(u32),
    /// A call that left its process at an instant happens.
    Call(u32, Call, Millis),
    Answer(u32, Answer),
    Deliver(u32, Connection, LeaseId),
    LeasesLost(u32, Connection),
    Connect(u32),
    SliceDone(u32, u64, Vec<usize>, Vec<Outcome>),
    Recommit(u32, Vec<(JobHandle, Box<Settlement>)>),
    Feed(u32),
    Release(u32),
    Submit(usize),
    Fault(Fault),
    /// The broker gives a dead or silent peer up.
    GiveUp(Connection),
}

impl Event {
    /// The process that must live and be awake for it.
    fn needs(&self) -> Option<u32> {
        match self {
            Self::Tick(serial)
            | Self::Answer(serial, _)
            | Self::Deliver(serial, _, _)
            | Self::LeasesLost(serial, _)
            | Self::Connect(serial)
            | Self::SliceDone(serial, _, _, _)
            | Self::Recommit(serial, _)
            | Self::Feed(serial)
            | Self::Release(serial) => Some(*serial),
            Self::Call(..) | Self::Submit(_) | Self::Fault(_) | Self::GiveUp(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) variant: Variant,
    pub(crate) now: Millis,
    events: BTreeMap<(Millis, u64), Event>,
    next_event: u64,
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) ledger: Ledger,
    pub(crate) submissions: Vec<Submission>,
    /// Which process runs in which of the two places.
    pub(crate) slots: [Option<u32>; 2],
    processes: HashMap<u32, Process>,
    next_serial: u32,
    pub(crate) store_back_at: Millis,
    pub(crate) suspended: BTreeMap<TenantId, Millis>,
    pub(crate) failing_ack: Option<usize>,
    tracing: Option<Vec<String>>,
}

/// What a world came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) broken: Option<Broken>,
    pub(crate) trace: Vec<String>,
    pub(crate) duplicates: u32,
}

impl World {
    pub(crate) fn new(seed: u64, variant: Variant, ledger_only: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::of(&mut rng);
        let store = Store::new(variant == Variant::Unfenced, ledger_only);
        Self {
            rng,
            plan,
            variant,
            now: BEGIN,
            events: BTreeMap::new(),
            next_event: 0,
            store,
            broker: Broker::default(),
            ledger: Ledger::default(),
            submissions: Vec::new(),
            slots: [None, None],
            processes: HashMap::new(),
            next_serial: 1,
            store_back_at: Millis::MIN,
            suspended: BTreeMap::new(),
            failing_ack: None,
            tracing: None,
        }
    }

    pub(crate) fn run(mut self, tracing: bool) -> Report {
        self.tracing = tracing.then(Vec::new);
        self.trace_plan();
        self.set_the_scene();
        self.start(0);
        self.start(1);
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, Event::Fault(fault));
        }
        for slot in [0, 1] {
            self.at(self.plan.healed_at, Event::Fault(Fault::Restart { slot }));
        }
        let broken = self.go_on().err();
        Report {
            broken: broken.map(|what| format!("{what} (at {} ms)", self.now - BEGIN)),
            trace: self.tracing.take().unwrap_or_default(),
            duplicates: self.ledger.duplicates,
        }
    }

    fn go_on(&mut self) -> Result<(), Broken> {
        for _ in 0..EVENTS_MAX {
            let Some(((at, _), event)) = self.events.pop_first() else {
                break;
            };
            self.now = self.now.max(at);
            self.step(event)?;
            self.hand_out();
            if self.is_healed() && self.is_over() {
                return self.judge();
            }
            if self.now > self.plan.healed_at + REST_MAX {
                return Err(self.unrest());
            }
        }
        Err(format!("events without end: {}", self.unrest()))
    }

    fn step(&mut self, event: Event) -> Result<(), Broken> {
        if let Some(serial) = event.needs() {
            let Some(process) = self.processes.get(&serial) else {
                return Ok(());
            };
            if process.stalled_until > self.now {
                let at = process.stalled_until + self.rng.range(0, 3);
                self.at(at, event);
                return Ok(());
            }
        }
        match event {
            Event::Tick(serial) => self.tick(serial),
            Event::Call(serial, call, at) => self.called(serial, call, at)?,
            Event::Answer(serial, answer) => self.answer(serial, answer),
            Event::Deliver(serial, connection, lease) => self.deliver(serial, connection, lease)?,
            Event::LeasesLost(serial, connection) => self.leases_lost(serial, connection),
            Event::Connect(serial) => self.connect(serial),
            Event::SliceDone(serial, id, numbers, outcomes) => {
                self.slice_done(serial, id, &numbers, outcomes)
            }
            Event::Recommit(serial, group) => self.recommit(serial, group),
            Event::Feed(serial) => self.feed(serial),
            Event::Release(serial) => self.release(serial),
            Event::Submit(number) => self.submit(number)?,
            Event::Fault(fault) => self.strike(fault),
            Event::GiveUp(connection) => self.cut_off(connection, 0),
        }
        for slot in [0, 1] {
            if let Some(serial) = self.slots[slot]
                && self
                    .processes
                    .get(&serial)
                    .is_some_and(|process| process.stalled_until <= self.now)
            {
                self.act(serial)?;
            }
        }
        Ok(())
    }

    pub(crate) fn at(&mut self, at: Millis, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    pub(crate) fn process(&mut self, serial: u32) -> Option<&mut Process> {
        self.processes.get_mut(&serial)
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.now >= self.plan.healed_at
    }

    /// A call leaves its process and happens a little later.
    pub(crate) fn call(&mut self, serial: u32, call: Call) {
        let at = self.now + self.rng.range(0, self.plan.slow_call);
        self.at(at, Event::Call(serial, call, self.now));
    }

    fn called(&mut self, serial: u32, call: Call, at: Millis) -> Result<(), Broken> {
        // What a dead process had sent may have left it, or not.
        if !self.processes.contains_key(&serial) && self.rng.permille(500) {
            return Ok(());
        }
        if let Some(answer) = self.happen(serial, call, at)? {
            let at = self.now + self.rng.range(0, self.plan.slow_call);
            self.at(at, Event::Answer(serial, answer));
        }
        Ok(())
    }

    fn hand_out(&mut self) {
        let turn = self.rng.index(2);
        while let Some((connection, lease)) = self.broker.hand_out(turn, CREDIT_AT_REST) {
            let at = self.now + self.rng.range(0, 50);
            self.at(at, Event::Deliver(connection.0, connection, lease));
        }
    }

    fn start(&mut self, slot: usize) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let (per_second, burst) = self.plan.rate;
        let options = Options {
            process: Uuid::from_u128(u128::from(serial)),
            unrecorded_max: self.plan.unrecorded_max,
            connection_since: self.now,
            policy: Policy {
                scale: self.plan.scale,
                ..Policy::default()
            },
            rate: Rate::new(per_second, Some(burst)),
            shares_rates: false,
            events: Events::All,
            seed: self.rng.next(),
        };
        self.processes
            .insert(serial, Process::new(serial, Worker::new(options)));
        self.slots[slot] = Some(serial);
        self.trace(|| format!("process {serial} starts in place {slot}"));
        self.connect(serial);
        self.at(self.now + 1, Event::Tick(serial));
        self.at(self.now + 2, Event::Feed(serial));
        self.at(self.now + 3, Event::Release(serial));
    }

    fn connect(&mut self, serial: u32) {
        if let Some(process) = self.processes.get(&serial) {
            self.broker
                .connections
                .insert(process.connection(), BTreeMap::new());
        }
    }

    /// Disasters like company: one that would hit an idle engine waits until it is at work, and mostly until the fate of
    /// a call is open.
    fn is_wasted(&mut self, fault: Fault) -> bool {
        let (Fault::Kill { slot, .. }
        | Fault::Stall { slot, .. }
        | Fault::CutOff { slot, .. }
        | Fault::AckFails { slot }) = fault
        else {
            return false;
        };
        let process = self.slots[slot].and_then(|serial| self.processes.get(&serial));
        let Some(process) = process else { return false };
        process.worker.is_idle() || (!process.awaits_answers() && self.rng.permille(900))
    }

    fn strike(&mut self, fault: Fault) {
        if self.is_wasted(fault) {
            let again = self.now + self.rng.range(1, 50);
            if again < self.plan.healed_at {
                self.at(again, Event::Fault(fault));
            }
            return;
        }
        self.trace(|| format!("{fault:?}"));
        let now = self.now;
        match fault {
            Fault::Kill {
                slot,
                noticed_at_once,
                back_after,
            } => self.kill(slot, noticed_at_once, back_after),
            Fault::Restart { slot } if self.slots[slot].is_none() => self.start(slot),
            Fault::Restart { .. } => {}
            Fault::Stall { slot, millis } => {
                let Some(process) =
                    self.slots[slot].and_then(|serial| self.processes.get_mut(&serial))
                else {
                    return;
                };
                process.stalled_until = process.stalled_until.max(now + millis);
                if millis > GIVE_UP {
                    let connection = process.connection();
                    self.at(now + GIVE_UP, Event::GiveUp(connection));
                }
            }
            Fault::CutOff {
                slot,
                noticed_after,
            } => {
                let process = self.slots[slot].and_then(|serial| self.processes.get(&serial));
                if let Some(connection) = process.map(Process::connection) {
                    self.cut_off(connection, noticed_after);
                }
            }
            Fault::BrokerRestart => {
                let connections: Vec<Connection> =
                    self.broker.connections.keys().copied().collect();
                for connection in connections {
                    let after = self.rng.range(0, 1_000);
                    self.cut_off(connection, after);
                }
                self.broker.restart();
            }
            Fault::StoreOutage { millis } => {
                self.store_back_at = self.store_back_at.max(now + millis)
            }
            Fault::Suspend { tenant, resume } => {
                self.store.suspend(tenant, !resume);
                let id = self.store.tenants[tenant].0.id.clone();
                if resume {
                    self.suspended.remove(&id);
                } else {
                    self.suspended.entry(id).or_insert(now);
                }
            }
            Fault::AckFails { slot } => self.failing_ack = Some(slot),
        }
    }

    fn kill(&mut self, slot: usize, noticed_at_once: bool, back_after: Millis) {
        let serial = self.slots[slot].take();
        let Some(process) = serial.and_then(|serial| self.processes.remove(&serial)) else {
            return;
        };
        self.ledger.generation_ended(process.worker.writer());
        let after = if noticed_at_once {
            self.rng.range(0, 10)
        } else {
            GIVE_UP
        };
        self.at(self.now + after, Event::GiveUp(process.connection()));
        let back = Event::Fault(Fault::Restart { slot });
        self.at(self.now + back_after, back);
    }

    /// The broker drops a connection; its process hears of it later.
    fn cut_off(&mut self, connection: Connection, noticed_after: Millis) {
        if self.broker.connections.contains_key(&connection) {
            self.trace(|| format!("connection {connection:?} is gone"));
            self.broker.drop_connection(connection);
            self.at(
                self.now + noticed_after,
                Event::LeasesLost(connection.0, connection),
            );
        }
    }

    fn is_over(&self) -> bool {
        self.submissions
            .iter()
            .all(|submission| submission.accepted)
            && self.broker.is_empty()
            && self.store.waiting.is_empty()
            && self.submissions.iter().all(|submission| {
                self.store
                    .rows
                    .get(&submission.notification.id)
                    .is_some_and(|row| row.finished)
            })
            && self
                .processes
                .values()
                .all(|process| process.worker.is_idle())
    }

    fn unrest(&self) -> Broken {
        let open = |submission: &&Submission| {
            self.store
                .rows
                .get(&submission.notification.id)
                .is_none_or(|row| !row.finished)
        };
        format!(
            "it does not come to rest: {} notifications are open, {} jobs wait, the queue is empty: {}, \
             leased {}, jobs in hand {:?}",
            self.submissions.iter().filter(open).count(),
            self.store.waiting.len(),
            self.broker.is_empty(),
            self.broker.leased.len(),
            self.slots.map(|slot| slot
                .and_then(|serial| self.processes.get(&serial))
                .map(|it| it.worker.jobs())),
        )
    }

    fn judge(&mut self) -> Result<(), Broken> {
        let Store {
            rows,
            devices,
            pruned,
            ..
        } = &self.store;
        for submission in &self.submissions {
            let id = submission.notification.id;
            let row = rows
                .get(&id)
                .ok_or_else(|| format!("{id} was accepted and is unknown"))?;
            if row.waiting != 0 {
                return Err(format!("{id} is finished, and {} of it wait", row.waiting));
            }
            let entries: Vec<_> = submission.pages.iter().flatten().cloned().collect();
            let devices_of = |user: &str| {
                let mine = devices.iter().filter(|(tenant, device)| {
                    *tenant == submission.notification.tenant && &*device.user_id == user
                });
                mine.map(|(_, device)| (device.id, pruned.contains(&device.id)))
                    .collect()
            };
            complete(row, &entries, &devices_of).map_err(|what| format!("{id}: {what}"))?;
        }
        self.ledger
            .settle(self.plan.unrecorded_max, self.plan.ambiguous_retries)
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.tracing {
            lines.push(format!("{:>9} {}", self.now - BEGIN, line()));
        }
    }

    fn trace_plan(&mut self) {
        let plan = format!("{:?}", self.plan);
        self.trace(|| plan);
    }
}
