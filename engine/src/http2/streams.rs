//! The open streams of one connection, by slot: futures and bodies on their way, and what came of them.
//! It must not know connections' lives, pools or retries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use tokio::time::Instant;

use super::ready::{Bell, Signal};
use super::{Error, ErrorKind, Response, parse_http_date, parse_retry_after};
use crate::limits::RESPONSE_BODY_MAX;
use crate::model::{Millis, Processed};

/// The time of one turn: read once, used for everything in it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// For durations.
    pub now: Instant,
    /// Unix milliseconds.
    pub wall: Millis,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) ticket: u64,
    pub(super) resends: u8,
    pub(super) sent_at: Instant,
}

/// A request's end.
#[derive(Debug)]
pub(super) struct Landing {
    pub(super) flight: Flight,
    pub(super) result: Result<Response, Error>,
}

pub(super) struct Streams {
    slots: Vec<Slot>,
    free: Vec<u32>,
    bell: Arc<Bell>,
    rung: Vec<u32>,
    open: usize,
    answered: bool,
}

struct Slot {
    signal: Arc<Signal>,
    waker: Waker,
    state: State,
}

enum State {
    Free,
    Head(ResponseFuture, Flight),
    Body(Box<Body>, Flight),
}

struct Body {
    stream: RecvStream,
    response: Response,
    bytes: BytesMut,
}

impl Streams {
    pub(super) fn new(connection: &Waker) -> Self {
        let bell = Arc::new(Bell::default());
        bell.set_task(connection);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            bell,
            rung: Vec::new(),
            open: 0,
            answered: false,
        }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// While the connection is driven its streams need not wake it.
    pub(super) fn hush(&self, hushed: bool) {
        self.bell.hush(hushed);
    }

    /// Watches an answer.
    pub(super) fn insert(&mut self, future: ResponseFuture, flight: Flight) {
        let index = self.free.pop().unwrap_or_else(|| self.new_slot());
        let slot = &mut self.slots[index as usize];
        slot.state = State::Head(future, flight);
        self.open += 1;
        // Polled once, so that it knows whom to wake.
        slot.signal.raise();
    }

    fn new_slot(&mut self) -> u32 {
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let signal = Signal::new(index, &self.bell);
        let waker = Waker::from(Arc::clone(&signal));
        self.slots.push(Slot {
            signal,
            waker,
            state: State::Free,
        });
        index
    }

    /// Polls what was woken, until nothing is.
    pub(super) fn poll_woken(&mut self, clock: Clock, landed: &mut Vec<Landing>) {
        let mut rung = std::mem::take(&mut self.rung);
        loop {
            self.bell.take(&mut rung);
            if rung.is_empty() {
                break;
            }
            for index in &rung {
                self.poll_slot(*index, clock, landed);
            }
        }
        self.rung = rung;
    }

    fn poll_slot(&mut self, index: u32, clock: Clock, landed: &mut Vec<Landing>) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        slot.signal.lower();
        let mut cx = Context::from_waker(&slot.waker);
        if let State::Head(future, flight) = &mut slot.state {
            match Pin::new(future).poll(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    let result = Err(Error::of_stream(error));
                    let flight = *flight;
                    return self.land(index, flight, result, landed);
                }
                Poll::Ready(Ok(head)) => {
                    let first = !std::mem::replace(&mut self.answered, true);
                    let (response, stream) = read_head(head, first, clock.wall);
                    let flight = *flight;
                    if stream.is_end_stream() {
                        return self.land(index, flight, Ok(response), landed);
                    }
                    let bytes = BytesMut::new();
                    slot.state = State::Body(
                        Box::new(Body {
                            stream,
                            response,
                            bytes,
                        }),
                        flight,
                    );
                }
            }
        }
        if let State::Body(body, flight) = &mut slot.state
            && body.poll(&mut cx).is_ready()
        {
            let (flight, response) = (*flight, body.finish());
            self.land(index, flight, Ok(response), landed);
        }
    }

    fn land(
        &mut self,
        index: u32,
        flight: Flight,
        result: Result<Response, Error>,
        landed: &mut Vec<Landing>,
    ) {
        self.slots[index as usize].state = State::Free;
        self.free.push(index);
        self.open -= 1;
        landed.push(Landing { flight, result });
    }

    /// Ends what was sent `deadline` ago or before; how many had no answer at all. Dropping a stream resets it. A
    /// status that has arrived is an answer, even if its body never ends.
    pub(super) fn expire(
        &mut self,
        deadline: Duration,
        clock: Clock,
        landed: &mut Vec<Landing>,
    ) -> u32 {
        let late = |flight: &Flight| clock.now.duration_since(flight.sent_at) >= deadline;
        self.end(late, ErrorKind::Deadline, landed)
    }

    /// Ends all of them: the connection is gone. What the library knows of each comes first.
    pub(super) fn end_all(&mut self, kind: ErrorKind, clock: Clock, landed: &mut Vec<Landing>) {
        for index in 0..self.slots.len() {
            self.poll_slot(u32::try_from(index).unwrap_or(u32::MAX), clock, landed);
        }
        self.end(|_| true, kind, landed);
    }

    fn end(
        &mut self,
        ends: impl Fn(&Flight) -> bool,
        kind: ErrorKind,
        landed: &mut Vec<Landing>,
    ) -> u32 {
        let mut silent = 0;
        for index in 0..self.slots.len() {
            let (flight, result) = match &mut self.slots[index].state {
                State::Head(_, flight) if ends(flight) => {
                    silent += 1;
                    (*flight, Err(Error::new(kind, Processed::Unknown)))
                }
                State::Body(body, flight) if ends(flight) => (*flight, Ok(body.finish())),
                _ => continue,
            };
            self.land(
                u32::try_from(index).unwrap_or(u32::MAX),
                flight,
                result,
                landed,
            );
        }
        silent
    }
}

impl Body {
    /// Ready at the end of the body, whether the peer reached it or broke off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(chunk))) => {
                    let room = RESPONSE_BODY_MAX.saturating_sub(self.bytes.len());
                    self.bytes
                        .extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if self
                        .stream
                        .flow_control()
                        .release_capacity(chunk.len())
                        .is_err()
                    {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Response {
        let mut response = std::mem::take(&mut self.response);
        response.body = std::mem::take(&mut self.bytes).freeze();
        response
    }
}

/// Times are read only where somebody looks at them: on refusals, and the peer's clock once per connection.
fn read_head(
    head: http::Response<RecvStream>,
    first: bool,
    wall: Millis,
) -> (Response, RecvStream) {
    let status = head.status().as_u16();
    let text = |name: HeaderName| {
        head.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let mut response = Response {
        status,
        ..Response::default()
    };
    if status != 200 || first {
        response.date = text(DATE).and_then(parse_http_date);
        let now = response.date.unwrap_or(wall);
        response.retry_after = text(RETRY_AFTER).and_then(|value| parse_retry_after(value, now));
    }
    (response, head.into_body())
}
