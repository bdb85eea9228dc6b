//! One server connection of HTTP/2 (RFC 9113) as a state machine: octets in, requests and octets out. Does
//! no I/O and knows nothing of push providers, rules or time.
//!
//! It is written here rather than taken from a library because a simulator must do on purpose what a
//! library prevents: change the stream limit while requests are in flight, name any last stream in GOAWAY
//! with any debug data, and leave a stream without an answer.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
mod limit;
mod send;

use std::collections::{HashMap, VecDeque};

use frame::Frame;
pub(crate) use frame::code;
pub(crate) use hpack::Headers;
use limit::{Admission, StreamLimit};

/// Octets of a request body kept; below the initial stream window, so a longer body is answered, never
/// waited for.
const BODY_OCTETS_MAX: usize = 60_000;
/// Octets clients may have in flight towards this side on one connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The window both sides start with.
const INITIAL_WINDOW: u32 = 65_535;
/// What APNs was seen to announce as SETTINGS_MAX_HEADER_LIST_SIZE.
const HEADER_LIST_OCTETS: u32 = 8_000;
/// Octets of a header block spread over CONTINUATION frames.
const HEADER_BLOCK_OCTETS_MAX: usize = 64 * 1024;

/// What the input meant for the layer above.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request is complete, or too large to be read on.
    Request(Incoming),
    /// The client gave up on a stream that was not answered yet.
    Cancelled,
    /// A stream above the limit was turned away with REFUSED_STREAM.
    Refused,
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) stream: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    /// The body was longer than `BODY_OCTETS_MAX`; only its beginning is kept.
    pub(crate) oversized: bool,
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// The client broke the protocol: the connection ends with this GOAWAY.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u32,
    pub(crate) debug: &'static str,
    /// True for a stream opened above the acknowledged limit.
    pub(crate) streams: bool,
}

const fn violation(code: u32, debug: &'static str) -> Violation {
    Violation {
        code,
        debug,
        streams: false,
    }
}

#[derive(Debug, Default)]
struct Stream {
    headers: Headers,
    body: Vec<u8>,
    /// END_STREAM was received.
    ended: bool,
    /// Handed up as an event.
    delivered: bool,
}

/// An answer's body that waits for the client's window.
#[derive(Debug)]
struct Stalled {
    stream: u32,
    body: Vec<u8>,
    sent: usize,
}

/// A header block whose END_HEADERS is still to come.
#[derive(Debug)]
struct Unfinished {
    stream: u32,
    ends_stream: bool,
    block: Vec<u8>,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// What is to be written to the client.
    pub(crate) out: Vec<u8>,
    greeted: bool,
    decoder: hpack::Decoder,
    streams: HashMap<u32, Stream>,
    highest: u32,
    goaway_last: Option<u32>,
    limit: StreamLimit,
    unfinished: Option<Unfinished>,
    consumed: u32,
    window: i64,
    stream_window: i64,
    credit: HashMap<u32, i64>,
    stalled: VecDeque<Stalled>,
}

impl Http2 {
    /// A connection that announces `max_streams`; `refuse_excess` answers a stream above an acknowledged
    /// limit with REFUSED_STREAM, otherwise it is a violation.
    pub(crate) fn new(max_streams: u32, refuse_excess: bool) -> Self {
        let mut out = Vec::with_capacity(4096);
        frame::settings(
            &mut out,
            &[
                (frame::SETTING_MAX_CONCURRENT_STREAMS, max_streams),
                (frame::SETTING_MAX_HEADER_LIST_SIZE, HEADER_LIST_OCTETS),
            ],
        );
        frame::window_update(&mut out, 0, CONNECTION_WINDOW - INITIAL_WINDOW);
        Self {
            out,
            greeted: false,
            decoder: hpack::Decoder::new(),
            streams: HashMap::new(),
            highest: 0,
            goaway_last: None,
            limit: StreamLimit::new(max_streams, refuse_excess),
            unfinished: None,
            consumed: 0,
            window: i64::from(INITIAL_WINDOW),
            stream_window: i64::from(INITIAL_WINDOW),
            credit: HashMap::new(),
            stalled: VecDeque::new(),
        }
    }

    /// Takes in what was read; returns how many octets were used up (the rest is the beginning of a frame).
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<usize, Violation> {
        let mut used = 0;
        if !self.greeted {
            let seen = input.len().min(frame::PREFACE.len());
            if input[..seen] != frame::PREFACE[..seen] {
                return Err(violation(code::PROTOCOL_ERROR, "not an HTTP/2 preface"));
            }
            if seen < frame::PREFACE.len() {
                return Ok(0);
            }
            self.greeted = true;
            used = seen;
        }
        loop {
            match frame::parse(&input[used..]) {
                Ok(Some((frame, length))) => {
                    self.frame(frame, events)?;
                    used += length;
                }
                Ok(None) => return Ok(used),
                Err(frame::TooLarge) => {
                    return Err(violation(code::FRAME_SIZE_ERROR, "frame too large"));
                }
            }
        }
    }

    fn frame(&mut self, frame: Frame<'_>, events: &mut Vec<Event>) -> Result<(), Violation> {
        if self.unfinished.is_some() && frame.kind != frame::CONTINUATION {
            return Err(violation(code::PROTOCOL_ERROR, "header block interrupted"));
        }
        match frame.kind {
            frame::HEADERS => self.headers(frame, events),
            frame::CONTINUATION => self.continuation(frame, events),
            frame::DATA => self.data(frame, events),
            frame::SETTINGS => self.settings(frame),
            frame::WINDOW_UPDATE => self.window_update(frame),
            frame::RST_STREAM => {
                if self.streams.remove(&frame.stream).is_some() {
                    self.forget(frame.stream);
                    events.push(Event::Cancelled);
                }
                Ok(())
            }
            frame::PING if frame.payload.len() != 8 => {
                Err(violation(code::FRAME_SIZE_ERROR, "PING of a wrong length"))
            }
            frame::PING => {
                if !frame.has(frame::ACK) {
                    frame::ping_ack(&mut self.out, frame.payload);
                }
                Ok(())
            }
            frame::PUSH_PROMISE => Err(violation(code::PROTOCOL_ERROR, "clients do not push")),
            _ => Ok(()), // GOAWAY, PRIORITY, and kinds to be ignored as unknown
        }
    }

    fn headers(&mut self, frame: Frame<'_>, events: &mut Vec<Event>) -> Result<(), Violation> {
        if frame.stream.is_multiple_of(2) {
            return Err(violation(
                code::PROTOCOL_ERROR,
                "HEADERS on a stream clients may not open",
            ));
        }
        let content = frame
            .content()
            .ok_or(violation(code::PROTOCOL_ERROR, "bad padding"))?;
        let ends_stream = frame.has(frame::END_STREAM);
        if frame.has(frame::END_HEADERS) {
            return self.block(frame.stream, ends_stream, content, events);
        }
        let (stream, block) = (frame.stream, content.to_vec());
        self.unfinished = Some(Unfinished {
            stream,
            ends_stream,
            block,
        });
        Ok(())
    }

    fn continuation(&mut self, frame: Frame<'_>, events: &mut Vec<Event>) -> Result<(), Violation> {
        let misplaced = violation(code::PROTOCOL_ERROR, "CONTINUATION out of place");
        let Some(mut unfinished) = self.unfinished.take() else {
            return Err(misplaced);
        };
        if unfinished.stream != frame.stream
            || unfinished.block.len() + frame.payload.len() > HEADER_BLOCK_OCTETS_MAX
        {
            return Err(misplaced);
        }
        unfinished.block.extend_from_slice(frame.payload);
        if !frame.has(frame::END_HEADERS) {
            self.unfinished = Some(unfinished);
            return Ok(());
        }
        self.block(
            unfinished.stream,
            unfinished.ends_stream,
            &unfinished.block,
            events,
        )
    }

    /// A complete header block: a new request, or the trailers of one.
    fn block(
        &mut self,
        id: u32,
        ends_stream: bool,
        block: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        let mut headers = Headers::default();
        self.decoder
            .decode(block, &mut headers)
            .map_err(|_| violation(code::COMPRESSION_ERROR, "bad header block"))?;
        if id <= self.highest {
            self.end(id, ends_stream, events);
            return Ok(());
        }
        if self.goaway_last.is_some() {
            self.highest = id;
            return Ok(()); // above the last stream: never answered, the client was told so
        }
        let admission = self.limit.admit(self.streams.len());
        if admission == Admission::Violation {
            let debug = "Maximum active streams violated";
            return Err(Violation {
                code: code::PROTOCOL_ERROR,
                debug,
                streams: true,
            });
        }
        self.highest = id;
        if admission == Admission::Refuse {
            frame::rst_stream(&mut self.out, id, code::REFUSED_STREAM);
            events.push(Event::Refused);
            return Ok(());
        }
        self.streams.insert(
            id,
            Stream {
                headers,
                ..Stream::default()
            },
        );
        self.end(id, ends_stream, events);
        Ok(())
    }

    fn data(&mut self, frame: Frame<'_>, events: &mut Vec<Event>) -> Result<(), Violation> {
        if frame.stream == 0 || frame.stream > self.highest {
            return Err(violation(code::PROTOCOL_ERROR, "DATA on an idle stream"));
        }
        self.consumed += frame.payload.len() as u32;
        if self.consumed >= CONNECTION_WINDOW / 2 {
            frame::window_update(&mut self.out, 0, self.consumed);
            self.consumed = 0;
        }
        let content = frame
            .content()
            .ok_or(violation(code::PROTOCOL_ERROR, "bad padding"))?;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return Ok(());
        };
        if stream.ended {
            return Err(violation(
                code::STREAM_CLOSED,
                "DATA after the end of a stream",
            ));
        }
        if stream.delivered {
            stream.ended = frame.has(frame::END_STREAM);
            return Ok(());
        }
        let room = BODY_OCTETS_MAX - stream.body.len();
        stream
            .body
            .extend_from_slice(&content[..content.len().min(room)]);
        if content.len() > room {
            stream.ended = frame.has(frame::END_STREAM);
            self.deliver(frame.stream, true, events);
        } else {
            self.end(frame.stream, frame.has(frame::END_STREAM), events);
        }
        Ok(())
    }

    /// Marks the request as ended, if it is, and hands it up.
    fn end(&mut self, id: u32, ends_stream: bool, events: &mut Vec<Event>) {
        if let Some(stream) = self.streams.get_mut(&id)
            && ends_stream
        {
            stream.ended = true;
            self.deliver(id, false, events);
        }
    }

    fn deliver(&mut self, id: u32, oversized: bool, events: &mut Vec<Event>) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.delivered
        {
            stream.delivered = true;
            events.push(Event::Request(Incoming {
                stream: id,
                headers: std::mem::take(&mut stream.headers),
                body: std::mem::take(&mut stream.body),
                oversized,
            }));
        }
    }

    fn settings(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        if frame.has(frame::ACK) {
            self.limit.acknowledged();
            return Ok(());
        }
        let values = frame::settings_values(frame.payload).ok_or(violation(
            code::FRAME_SIZE_ERROR,
            "SETTINGS of a wrong length",
        ))?;
        for (id, value) in values {
            if id == frame::SETTING_INITIAL_WINDOW_SIZE {
                if value > i32::MAX as u32 {
                    return Err(violation(
                        code::FLOW_CONTROL_ERROR,
                        "initial window too large",
                    ));
                }
                self.stream_window = i64::from(value);
            }
        }
        frame::settings_ack(&mut self.out);
        self.send_stalled();
        Ok(())
    }

    fn window_update(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        let octets = frame.number(0).ok_or(violation(
            code::FRAME_SIZE_ERROR,
            "WINDOW_UPDATE of a wrong length",
        ))?;
        if frame.stream == 0 {
            self.window += i64::from(octets);
            if self.window > i64::from(i32::MAX) {
                return Err(violation(code::FLOW_CONTROL_ERROR, "window too large"));
            }
        } else if self.streams.contains_key(&frame.stream) {
            *self.credit.entry(frame.stream).or_default() += i64::from(octets);
        }
        self.send_stalled();
        Ok(())
    }

    /// The highest stream the client opened.
    pub(crate) fn highest(&self) -> u32 {
        self.highest
    }

    /// True for a stream that GOAWAY has declared unprocessed.
    pub(crate) fn is_above_last(&self, id: u32) -> bool {
        self.goaway_last.is_some_and(|last| id > last)
    }

    /// After GOAWAY: nothing is left to answer.
    pub(crate) fn drained(&self) -> bool {
        self.goaway_last.is_some() && self.streams.is_empty()
    }
}
