//! One connection of the fast sink: finds where requests end and answers them. Does no I/O and decodes
//! nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::http2::frame;

/// Octets clients may have in flight towards the sink on one connection.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// The window every connection starts with.
const INITIAL_WINDOW: u32 = 65_535;
/// Requests that may wait for their latency; above it the connection is broken off.
const WAITING_MAX: usize = 1 << 20;
/// HEADERS with END_STREAM and END_HEADERS, whose block is `:status: 200` from the static table; the
/// stream's number belongs into octets 5 to 8.
const OK: [u8; 10] = [
    0,
    0,
    1,
    frame::HEADERS,
    frame::END_STREAM | frame::END_HEADERS,
    0,
    0,
    0,
    0,
    0x88,
];

#[derive(Debug)]
pub(super) struct Lane {
    /// To be written to the client.
    pub(super) out: Vec<u8>,
    /// Requests since this was last looked at.
    pub(super) requests: u64,
    /// The client does not speak HTTP/2: close.
    pub(super) broken: bool,
    greeted: bool,
    consumed: u32,
    latency: Duration,
    waiting: VecDeque<(Instant, u32)>,
}

impl Lane {
    pub(super) fn new(max_streams: u32, latency: Duration) -> Self {
        let mut out = Vec::with_capacity(16 * 1024);
        frame::settings(
            &mut out,
            &[
                (frame::SETTING_HEADER_TABLE_SIZE, 0),
                (frame::SETTING_MAX_CONCURRENT_STREAMS, max_streams),
            ],
        );
        frame::window_update(&mut out, 0, CONNECTION_WINDOW - INITIAL_WINDOW);
        Self {
            out,
            requests: 0,
            broken: false,
            greeted: false,
            consumed: 0,
            latency,
            waiting: VecDeque::new(),
        }
    }

    /// Takes in what was read; returns how many octets were used up.
    pub(super) fn take_in(&mut self, input: &[u8], now: Instant) -> usize {
        let mut used = 0;
        if !self.greeted {
            if input.len() < frame::PREFACE.len() {
                self.broken = !frame::PREFACE.starts_with(input);
                return 0;
            }
            self.broken = !input.starts_with(frame::PREFACE);
            if self.broken {
                return 0;
            }
            self.greeted = true;
            used = frame::PREFACE.len();
        }
        loop {
            match frame::parse(&input[used..]) {
                Ok(Some((frame, length))) => {
                    self.frame(&frame, now);
                    used += length;
                }
                Ok(None) => break,
                Err(frame::TooLarge) => {
                    self.broken = true;
                    break;
                }
            }
        }
        if self.consumed >= CONNECTION_WINDOW / 2 {
            frame::window_update(&mut self.out, 0, self.consumed);
            self.consumed = 0;
        }
        used
    }

    fn frame(&mut self, frame: &frame::Frame<'_>, now: Instant) {
        match frame.kind {
            frame::HEADERS if frame.has(frame::END_STREAM) => self.request(frame.stream, now),
            frame::DATA => {
                self.consumed += frame.payload.len() as u32;
                if frame.has(frame::END_STREAM) {
                    self.request(frame.stream, now);
                }
            }
            frame::SETTINGS if !frame.has(frame::ACK) => frame::settings_ack(&mut self.out),
            frame::PING if !frame.has(frame::ACK) => frame::ping_ack(&mut self.out, frame.payload),
            _ => {}
        }
    }

    fn request(&mut self, stream: u32, now: Instant) {
        self.requests += 1;
        if self.latency.is_zero() {
            self.answer(stream);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((now + self.latency, stream));
        } else {
            self.broken = true;
        }
    }

    fn answer(&mut self, stream: u32) {
        let mut answer = OK;
        answer[5..9].copy_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(&answer);
    }

    /// When the next answer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Answers what is due at `now`.
    pub(super) fn answer_due(&mut self, now: Instant) {
        while let Some((due, stream)) = self.waiting.front().copied()
            && due <= now
        {
            self.waiting.pop_front();
            self.answer(stream);
        }
    }
}
