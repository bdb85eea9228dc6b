//! One HTTP/2 connection from opening to its end: live stream limit, GOAWAY, PING, age.
//! It must not know pools, retries or what it carries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::connector::Connector;
use super::metered::{Budget, Metered};
use super::ready::{Bell, Signal};
use super::streams::{Clock, Flight, Landing, Streams};
use super::{ErrorKind, Origin, Request};
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_REQUESTS_MAX, DEADLINES_IN_A_ROW_MAX, PING_BUSY, PING_IDLE,
    PONG_TIMEOUT, STREAMS_MAX,
};

/// Bytes of answers a peer may send on one stream before we take them.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that h2 buffers per stream beyond the peer's window.
const SEND_BUFFER: usize = 16 * 1024;
/// How long a closing connection may take to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Polls of one connection in a turn, so that none starves the others.
const POLLS_MAX: usize = 4;
/// Bytes of answers taken from one connection in a turn, some hundred of them: well under a millisecond.
const TURN_BYTES: usize = 8 * 1024;

type Driver = h2::client::Connection<Metered, Bytes>;
type Handshake = Pin<Box<dyn Future<Output = Result<(SendRequest<Bytes>, Driver), OpenError>>>>;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Name, TCP or TLS.
    #[error("cannot connect")]
    Io(#[from] std::io::Error),
    /// The HTTP/2 preface.
    #[error("the peer does not complete the HTTP/2 handshake")]
    Handshake(#[from] h2::Error),
    /// It took longer than [`CONNECT_TIMEOUT`].
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    Timeout,
}

/// What a connection has come to since it was last looked at.
#[derive(Debug)]
pub(super) enum Change {
    /// It is open.
    Opened,
    /// It could not be opened.
    Failed(OpenError),
    /// The peer said goodbye, or it broke; for logs, with the peer's reason where the library shows it.
    Lost(Option<h2::Error>),
}

pub(super) struct Connection {
    pub(super) id: u32,
    signal: Arc<Signal>,
    waker: Waker,
    /// What may be read in this turn.
    budget: Budget,
    phase: Phase,
    proven: bool,
    /// An answer has come by it.
    pub(super) has_answered: bool,
    pub(super) last_used_at: Instant,
    /// When it is replaced by age.
    pub(super) expires_at: Instant,
}

enum Phase {
    Opening(Handshake),
    Open(Box<Open>),
    Closed,
}

struct Open {
    /// None once it is closing.
    sender: Option<SendRequest<Bytes>>,
    driver: Driver,
    budget: Budget,
    streams: Streams,
    ping: Option<PingPong>,
    pinged_at: Option<Instant>,
    heard_at: Instant,
    /// Only one stream until the first success.
    proven: bool,
    retiring: bool,
    goodbye_at: Option<Instant>,
    limit: usize,
    requests: u64,
    silent_in_a_row: u32,
    goaway: bool,
}

impl Connection {
    /// Begins to open a connection. `proven` connections use all streams from the start.
    pub(super) fn open(
        (id, bell_number): (u32, u32),
        bell: &Arc<Bell>,
        (origin, connector): (&Origin, &Connector),
        proven: bool,
        (now, expires_at): (Instant, Instant),
    ) -> Self {
        let signal = Signal::new(bell_number, bell);
        signal.raise();
        let opening = connector(origin);
        let budget = Budget::default();
        let read = budget.clone();
        let handshake = async move {
            let opened = tokio::time::timeout(CONNECT_TIMEOUT, async move {
                let io = Metered::new(opening.await?, read);
                Ok(builder().handshake(io).await?)
            });
            opened.await.unwrap_or(Err(OpenError::Timeout))
        };
        Self {
            id,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            budget,
            phase: Phase::Opening(Box::pin(handshake)),
            proven,
            has_answered: false,
            last_used_at: now,
            expires_at,
        }
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Open, and new streams may be opened on it.
    pub(super) fn is_usable(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if !open.retiring)
    }

    /// Usable, but not yet trusted with more than one stream.
    pub(super) fn is_unproven(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if !open.retiring && !open.proven)
    }

    /// Streams that are open.
    pub(super) fn in_flight(&self) -> usize {
        match &self.phase {
            Phase::Open(open) => open.streams.open(),
            _ => 0,
        }
    }

    /// Streams it may have open now.
    pub(super) fn limit(&self) -> usize {
        match &self.phase {
            Phase::Open(open) if !open.retiring => open.limit(),
            _ => 0,
        }
    }

    /// Streams that may be opened now.
    pub(super) fn free(&self) -> usize {
        self.limit().saturating_sub(self.in_flight())
    }

    /// No new streams; it closes when those in flight have ended.
    pub(super) fn retire(&mut self) {
        match &mut self.phase {
            Phase::Open(open) => open.retiring = true,
            Phase::Opening(_) => self.phase = Phase::Closed,
            Phase::Closed => {}
        }
        self.signal.raise();
    }

    /// Does what it was woken for.
    pub(super) fn drive(&mut self, clock: Clock, landed: &mut Vec<Landing>) -> Option<Change> {
        if !self.signal.lower() {
            return None;
        }
        self.budget.refill(TURN_BYTES);
        let mut change = None;
        if let Phase::Opening(handshake) = &mut self.phase {
            let mut cx = Context::from_waker(&self.waker);
            match handshake.as_mut().poll(&mut cx) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => {
                    self.phase = Phase::Closed;
                    return Some(Change::Failed(error));
                }
                Poll::Ready(Ok((sender, driver))) => {
                    let mut open = Open::new(sender, driver, &self.waker, clock.now);
                    open.proven = self.proven;
                    open.budget = self.budget.clone();
                    self.phase = Phase::Open(Box::new(open));
                    change = Some(Change::Opened);
                }
            }
        }
        if let Phase::Open(open) = &mut self.phase
            && let Poll::Ready(lost) = open.poll(&self.waker, &self.signal, clock, landed)
        {
            self.phase = Phase::Closed;
            change = Some(Change::Lost(lost));
        }
        change
    }

    /// Hands a request over; `false` if the connection did not take it after all.
    pub(super) fn send(&mut self, request: Request, flight: Flight) -> bool {
        let Phase::Open(open) = &mut self.phase else {
            return false;
        };
        self.last_used_at = flight.sent_at;
        open.send(request, flight, &self.waker)
    }

    /// Whether the peer has said goodbye since this was last asked.
    pub(super) fn take_goaway(&mut self) -> bool {
        match &mut self.phase {
            Phase::Open(open) => std::mem::take(&mut open.goaway),
            _ => false,
        }
    }

    /// Deadlines, PING, age. Whether it was given up.
    pub(super) fn tick(
        &mut self,
        deadline: Duration,
        clock: Clock,
        landed: &mut Vec<Landing>,
    ) -> Option<Change> {
        let Phase::Open(open) = &mut self.phase else {
            return None;
        };
        open.expire(deadline, clock, landed);
        if clock.now >= self.expires_at || open.requests >= CONNECTION_REQUESTS_MAX {
            open.retiring = true;
        }
        if open.is_dead(clock.now) {
            open.streams
                .end_all(ErrorKind::ConnectionLost, clock, landed);
            self.phase = Phase::Closed;
            return Some(Change::Lost(None));
        }
        open.ping_if_due(clock.now);
        if open.retiring {
            self.signal.raise();
        }
        None
    }

    /// Ends it and everything on it at once.
    pub(super) fn close(&mut self, clock: Clock, landed: &mut Vec<Landing>) {
        if let Phase::Open(open) = &mut self.phase {
            open.streams.end_all(ErrorKind::Closed, clock, landed);
        }
        self.phase = Phase::Closed;
    }
}

fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        // Until the peer's SETTINGS are here, one stream: h2's own default is no limit at all.
        .initial_max_send_streams(1)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

impl Open {
    fn new(sender: SendRequest<Bytes>, mut driver: Driver, waker: &Waker, now: Instant) -> Self {
        Self {
            sender: Some(sender),
            ping: driver.ping_pong(),
            driver,
            budget: Budget::default(),
            streams: Streams::new(waker),
            pinged_at: None,
            heard_at: now,
            proven: false,
            retiring: false,
            goodbye_at: None,
            limit: 1,
            requests: 0,
            silent_in_a_row: 0,
            goaway: false,
        }
    }

    fn limit(&self) -> usize {
        if self.proven { self.limit } else { 1 }
    }

    fn poll(
        &mut self,
        waker: &Waker,
        signal: &Signal,
        clock: Clock,
        landed: &mut Vec<Landing>,
    ) -> Poll<Option<h2::Error>> {
        let before = landed.len();
        self.streams.hush(true);
        let ended = self.poll_driver(waker, signal, clock, landed);
        self.streams.hush(false);
        self.learn(clock.now, &landed[before..]);
        if let Poll::Ready(error) = ended {
            self.streams
                .end_all(ErrorKind::ConnectionLost, clock, landed);
            return Poll::Ready(error);
        }
        self.look_at_limit(waker);
        self.say_goodbye(signal, clock.now);
        Poll::Pending
    }

    fn poll_driver(
        &mut self,
        waker: &Waker,
        signal: &Signal,
        clock: Clock,
        landed: &mut Vec<Landing>,
    ) -> Poll<Option<h2::Error>> {
        let mut cx = Context::from_waker(waker);
        for _ in 0..POLLS_MAX {
            let ended = Pin::new(&mut self.driver).poll(&mut cx);
            self.streams.poll_woken(clock, landed);
            if let Poll::Ready(result) = ended {
                return Poll::Ready(result.err());
            }
            if let (Some(ping), Some(_)) = (&mut self.ping, self.pinged_at)
                && let Poll::Ready(Ok(_)) = ping.poll_pong(&mut cx)
            {
                self.pinged_at = None;
                self.heard_at = clock.now;
            }
            if self.budget.is_spent() {
                break;
            }
            if !signal.lower() {
                return Poll::Pending;
            }
        }
        // More to do, but others have a turn first.
        signal.raise();
        Poll::Pending
    }

    fn learn(&mut self, now: Instant, landed: &[Landing]) {
        for landing in landed {
            if let Ok(response) = &landing.result {
                self.silent_in_a_row = 0;
                self.heard_at = now;
                // Apple: one stream until a request with a valid provider token has been posted.
                self.proven |= response.status == 200;
            }
        }
    }

    /// After GOAWAY a handle reports an error, though the connection lives on for its last streams.
    fn look_at_limit(&mut self, waker: &Waker) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        let mut cx = Context::from_waker(waker);
        if let Poll::Ready(Err(error)) = sender.poll_ready(&mut cx) {
            let known = std::mem::replace(&mut self.retiring, true);
            self.goaway |= !known && error.is_go_away();
        }
        self.limit = sender.current_max_send_streams().min(STREAMS_MAX);
    }

    fn say_goodbye(&mut self, signal: &Signal, now: Instant) {
        if self.retiring && self.streams.open() == 0 && self.sender.take().is_some() {
            // Without handles h2 ends the connection by itself.
            self.goodbye_at = Some(now);
            signal.raise();
        }
    }

    fn send(&mut self, request: Request, flight: Flight, waker: &Waker) -> bool {
        let Some(sender) = &mut self.sender else {
            return false;
        };
        let mut cx = Context::from_waker(waker);
        match sender.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => {
                self.retiring = true;
                return false;
            }
        }
        match sender.send_request(request.head, false) {
            Ok((answer, mut upload)) => {
                self.requests += 1;
                // A failure shows in the answer as well.
                if let Err(error) = upload.send_data(request.body, true) {
                    tracing::debug!(%error, "request body not taken");
                }
                self.streams.insert(answer, flight);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "request not taken");
                false
            }
        }
    }

    fn expire(&mut self, deadline: Duration, clock: Clock, landed: &mut Vec<Landing>) {
        let silent = self.streams.expire(deadline, clock, landed);
        if silent == 0 {
            return;
        }
        self.silent_in_a_row = self.silent_in_a_row.saturating_add(silent);
        if !self.proven || self.silent_in_a_row >= DEADLINES_IN_A_ROW_MAX {
            self.retiring = true;
        }
        self.send_ping(clock.now);
    }

    fn is_dead(&self, now: Instant) -> bool {
        let unanswered = |at: Instant| now.duration_since(at) >= PONG_TIMEOUT;
        let gone = |at: Instant| now.duration_since(at) >= GOODBYE_MAX;
        self.pinged_at.is_some_and(unanswered) || self.goodbye_at.is_some_and(gone)
    }

    fn ping_if_due(&mut self, now: Instant) {
        let pause = match self.streams.open() {
            0 => PING_IDLE,
            _ => PING_BUSY,
        };
        if now.duration_since(self.heard_at) >= pause {
            self.send_ping(now);
        }
    }

    fn send_ping(&mut self, now: Instant) {
        if let (Some(ping), None) = (&mut self.ping, self.pinged_at)
            && ping.send_ping(Ping::opaque()).is_ok()
        {
            self.pinged_at = Some(now);
        }
    }
}
