//! The connection that publishes: one task owns it, rebuilds it after any error, and answers at once while there is none.
//! It must not know who consumes.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Event;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::declare::Declarer;
use super::events::{self, Outlet};
use super::flight::{Answered, Flight, Request};
use super::link::{Backoff, Connector, Link, LinkError, answer};
use super::names::{Names, ReadyQueue};
use super::now;
use super::task::{Background, stopped};
use crate::broker::{self, Error, Publish};
use crate::metrics::BrokerMetrics;

/// Calls that may wait for the publisher.
const REQUESTS_MAX: usize = 256;
/// Bodies that may wait for the publisher or for their confirms, KiB.
const PENDING_KIB: usize = 64 * 1024;
/// A publish is confirmed within this time, or its fate is unknown.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// A broker that confirms nothing for this long, and is not blocked, has lost the channel.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is in flight may be confirmed for this long after a close.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

const DOWN: Error = Error::Unavailable("the connection to RabbitMQ is down; it is being rebuilt");
const BLOCKED: Error =
    Error::Unavailable("RabbitMQ takes no publishes: it is short of memory or disk");
const CLOSING: Error = Error::Unavailable("it is closing");
const NO_QUEUE: Error =
    Error::Unavailable("RabbitMQ refused to declare the queue; the log says why");

/// Whether publishes are taken.
#[derive(Clone)]
enum Gate {
    Down,
    Up(Arc<Declarer>, Arc<Outlet>),
    /// The broker has stopped reading.
    Blocked,
}

/// What publishing works with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) connector: Arc<Connector>,
    pub(super) names: Arc<Names>,
    pub(super) is_passive: bool,
    pub(super) has_events: bool,
    pub(super) metrics: Arc<BrokerMetrics>,
}

/// The publishing side.
pub(super) struct Publisher {
    requests: mpsc::Sender<Request>,
    /// KiB of bodies that may still be taken.
    pending: Arc<Semaphore>,
    gate: watch::Receiver<Gate>,
    task: Background,
    names: Arc<Names>,
}

impl Publisher {
    /// Opens the first connection; what follows is rebuilt in the background.
    pub(super) async fn start(
        tools: Tools,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, LinkError> {
        let link = tools.connector.connect("publish").await?;
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (gate, gate_seen) = watch::channel(Gate::Down);
        let names = Arc::clone(&tools.names);
        let mut task = Task {
            tools,
            requests: receiver,
            gate,
            stop,
        };
        // The first session's beginning is waited for, so that a wrong configuration is told at the start.
        let session = task.begin(link).await?;
        let background = Background::default();
        background.start(|| task.run(session));
        Ok(Self {
            requests,
            pending: Arc::new(Semaphore::new(PENDING_KIB)),
            gate: gate_seen,
            task: background,
            names,
        })
    }

    /// Publishes to queues that are there, and waits for all confirms. Returns the messages that were refused with a nack.
    pub(super) async fn publish(&self, messages: Vec<Publish>) -> Answered {
        let confirmed = timeout(CONFIRM_WITHIN, async {
            let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
            let kib = u32::try_from((bytes / 1024 + 1).min(PENDING_KIB)).unwrap_or(u32::MAX);
            let share = Arc::clone(&self.pending)
                .acquire_many_owned(kib)
                .await
                .map_err(|_| CLOSING)?;
            let (answer, answered) = oneshot::channel();
            let request = Request {
                messages,
                share,
                answer,
            };
            self.requests.send(request).await.map_err(|_| CLOSING)?;
            answered.await.map_err(|_| CLOSING)?
        });
        match confirmed.await {
            Ok(answer) => answer,
            Err(late) => Err(Error::NotConfirmed(Box::new(late))),
        }
    }

    /// Makes sure that the queues are there, and returns those that nobody consumes, as far as it had to look. Gives up as
    /// soon as the connection does.
    pub(super) async fn prepare(&self, messages: &[Publish]) -> Result<Vec<ReadyQueue>, Error> {
        let declarer = self.declarer()?;
        let queues: HashSet<_> = messages.iter().map(|message| &message.queue).collect();
        let declare = async {
            let mut idle = Vec::new();
            for queue in queues {
                let ready = self.names.ready_queue(queue);
                match declarer.ensure(&ready).await {
                    Ok(true) => idle.push(ready),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(queue = &*ready.name, %error, "a queue cannot be declared");
                        return Err(NO_QUEUE);
                    }
                }
            }
            Ok(idle)
        };
        let mut gate = self.gate.clone();
        tokio::select! {
            declared = declare => declared,
            refusal = shut(&mut gate) => Err(refusal),
        }
    }

    fn declarer(&self) -> Result<Arc<Declarer>, Error> {
        match &*self.gate.borrow() {
            Gate::Up(declarer, _) => Ok(Arc::clone(declarer)),
            shut => Err(refusal(shut)),
        }
    }

    /// Publishes outcome events, and says of each whether it was confirmed. Gives up as soon as the connection does.
    pub(super) async fn publish_events(
        &self,
        events: Vec<broker::Event>,
    ) -> Result<Vec<bool>, Error> {
        let outlet = match &*self.gate.borrow() {
            Gate::Up(_, outlet) => Arc::clone(outlet),
            shut => return Err(refusal(shut)),
        };
        let mut gate = self.gate.clone();
        tokio::select! {
            published = outlet.publish(events, now()) => {
                published.map_err(|error| Error::Connection(Box::new(error)))
            }
            refusal = shut(&mut gate) => Err(refusal),
        }
    }

    /// Whether a publish would be taken.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&*self.gate.borrow(), Gate::Up(..)) && !self.requests.is_closed()
    }

    /// Messages that are ready in a queue.
    pub(super) async fn depth(&self, queue: &ReadyQueue) -> Result<u32, Error> {
        let declarer = self.declarer()?;
        match declarer.depth(&queue.name).await {
            Ok(found) => Ok(found.unwrap_or(0)),
            Err(error) => Err(Error::Connection(Box::new(error))),
        }
    }

    /// Waits for the end, which a stop has begun.
    pub(super) async fn ended(&self) {
        let broke = "the publisher broke; what was confirmed is safe";
        self.task.ended(broke).await;
    }
}

/// Waits until publishes are no longer taken.
async fn shut(gate: &mut watch::Receiver<Gate>) -> Error {
    let shut = gate.wait_for(|gate| !matches!(gate, Gate::Up(..))).await;
    shut.map_or(CLOSING, |gate| refusal(&gate))
}

fn refusal(gate: &Gate) -> Error {
    match gate {
        Gate::Blocked => BLOCKED,
        Gate::Down | Gate::Up(..) => DOWN,
    }
}

/// One connection's worth of publishing.
struct Session {
    link: Arc<Link>,
    declarer: Arc<Declarer>,
    outlet: Arc<Outlet>,
    channel: lapin::Channel,
    flight: Flight,
}

struct Task {
    tools: Tools,
    requests: mpsc::Receiver<Request>,
    gate: watch::Sender<Gate>,
    stop: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self, first: Session) {
        let mut next = Some(first);
        let mut backoff = Backoff::new();
        while let Some(mut session) = next {
            let began = Instant::now();
            let ended = self.work(&mut session).await;
            self.gate.send_replace(Gate::Down);
            session.flight.lose_all();
            let Err(error) = ended else {
                session.link.close().await;
                break;
            };
            tracing::warn!(%error, "publishing to RabbitMQ is interrupted");
            drop(session);
            self.tools.metrics.publishing_lost();
            backoff.ended(began.elapsed());
            next = self.come_back(&mut backoff).await;
        }
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            refuse(request, CLOSING);
        }
    }

    /// Tries until there is a connection; answers calls meanwhile. `None` when it is over.
    async fn come_back(&mut self, backoff: &mut Backoff) -> Option<Session> {
        loop {
            let connector = Arc::clone(&self.tools.connector);
            let pause = backoff.pause();
            let mut attempt = pin!(async move {
                sleep(pause).await;
                connector.connect("publish").await
            });
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break connected,
                    request = self.requests.recv() => refuse(request?, DOWN),
                    () = stopped(&mut self.stop) => return None,
                }
            };
            let began = match connected {
                Ok(link) => self.begin(link).await,
                Err(error) => Err(error),
            };
            match began {
                Ok(session) => {
                    tracing::info!("publishing to RabbitMQ again");
                    return Some(session);
                }
                Err(error) => tracing::warn!(%error, "RabbitMQ cannot be reached for publishing"),
            }
        }
    }

    async fn begin(&mut self, link: Link) -> Result<Session, LinkError> {
        let link = Arc::new(link);
        let names = Arc::clone(&self.tools.names);
        let declarer = Declarer::new(Arc::clone(&link), Arc::clone(&names), self.tools.is_passive);
        declarer.base().await?;
        let channel = link.channel().await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        if self.tools.has_events {
            events::declare(&channel, &names, self.tools.is_passive).await?;
        }
        let outlet = Outlet::new(Arc::clone(&link), Arc::clone(&names), self.tools.is_passive);
        let (declarer, outlet) = (Arc::new(declarer), Arc::new(outlet));
        self.gate
            .send_replace(Gate::Up(Arc::clone(&declarer), Arc::clone(&outlet)));
        Ok(Session {
            link,
            declarer,
            outlet,
            flight: Flight::new(channel.clone(), names),
            channel,
        })
    }

    /// Publishes until an error, or until it is over.
    async fn work(&mut self, session: &mut Session) -> Result<(), LinkError> {
        let link = Arc::clone(&session.link);
        let mut events = pin!(link.events());
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            session.flight.fill(now());
            tokio::select! {
                landed = session.flight.land(), if !session.flight.is_idle() => {
                    self.tools.metrics.refused(landed.returned, landed.nacked);
                    for queue in landed.suspects {
                        session.declarer.forget(&queue);
                    }
                }
                request = self.requests.recv(), if session.flight.has_room() => match request {
                    Some(request) if session.link.is_blocked() => refuse(request, BLOCKED),
                    Some(request) => session.flight.take(request),
                    None => return self.drain(session).await,
                },
                event = events.next() => self.on_event(event, session)?,
                _ = look.tick() => session.look()?,
                () = stopped(&mut self.stop) => return self.drain(session).await,
            }
        }
    }

    fn on_event(&self, event: Option<Event>, session: &mut Session) -> Result<(), LinkError> {
        match event {
            None => return Err(LinkError::GivenUp("it ended")),
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(%reason, "RabbitMQ takes no publishes");
                self.tools.metrics.blocked();
                self.gate.send_replace(Gate::Blocked);
                // The broker reads nothing more until its alarm ends; nobody shall wait as long.
                session.flight.lose_all();
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("RabbitMQ takes publishes again");
                let declarer = Arc::clone(&session.declarer);
                let outlet = Arc::clone(&session.outlet);
                self.gate.send_replace(Gate::Up(declarer, outlet));
            }
            // Of any channel: that on which queues are declared may be lost.
            Some(Event::Error(error)) if !session.stands() => return Err(error.into()),
            Some(_) => {}
        }
        Ok(())
    }

    /// Lets what is in flight be confirmed.
    async fn drain(&mut self, session: &mut Session) -> Result<(), LinkError> {
        self.gate.send_replace(Gate::Down);
        let landing = async {
            while !session.flight.is_idle() {
                session.flight.fill(now());
                session.flight.land().await;
            }
        };
        if timeout(DRAIN_WITHIN, landing).await.is_err() {
            tracing::warn!("closed before all publishes were confirmed");
        }
        Ok(())
    }
}

impl Session {
    fn stands(&self) -> bool {
        self.link.is_connected() && self.channel.status().connected()
    }

    fn look(&self) -> Result<(), LinkError> {
        if !self.stands() {
            return Err(LinkError::GivenUp(
                "the connection or its channel is closed",
            ));
        }
        let stuck = self.flight.waiting_since();
        if stuck.is_some_and(|since| since.elapsed() > STUCK_AFTER) && !self.link.is_blocked() {
            return Err(LinkError::GivenUp("nothing is confirmed any more"));
        }
        Ok(())
    }
}

fn refuse(request: Request, error: Error) {
    // A caller that has gone knows that nothing was promised.
    drop(request.answer.send(Err(error)));
}
