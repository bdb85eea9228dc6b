//! The outgoing half of a connection: answers within the client's windows, resets, GOAWAY. Knows nothing of
//! how requests come in.

use super::frame;
use super::hpack;
use super::{Answer, Http2, Stalled, code};

impl Http2 {
    /// Sends a whole answer, or as much of it as the client's windows allow; nothing if the stream is gone.
    pub(crate) fn answer(&mut self, id: u32, answer: Answer) {
        if !self.streams.contains_key(&id) {
            return;
        }
        let start = self.out.len();
        let flags = if answer.body.is_empty() {
            frame::END_STREAM
        } else {
            0
        };
        frame::head(
            &mut self.out,
            0,
            frame::HEADERS,
            flags | frame::END_HEADERS,
            id,
        );
        hpack::encode_status(answer.status, &mut self.out);
        for (name, value) in &answer.headers {
            hpack::encode_literal(name, value, &mut self.out);
        }
        let length = (self.out.len() - start - frame::HEADER_OCTETS) as u32;
        self.out[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        if answer.body.is_empty() {
            self.close(id);
        } else {
            self.stalled.push_back(Stalled {
                stream: id,
                body: answer.body,
                sent: 0,
            });
            self.send_stalled();
        }
    }

    pub(super) fn send_stalled(&mut self) {
        for _ in 0..self.stalled.len() {
            let Some(mut stalled) = self.stalled.pop_front() else {
                break;
            };
            let credit = self.credit.get(&stalled.stream).copied().unwrap_or(0);
            let stream_room = self.stream_window + credit - stalled.sent as i64;
            let room = self
                .window
                .min(stream_room)
                .clamp(0, frame::FRAME_OCTETS_MAX as i64) as usize;
            let left = stalled.body.len() - stalled.sent;
            let piece = left.min(room);
            if piece > 0 {
                let flags = if piece == left { frame::END_STREAM } else { 0 };
                frame::head(&mut self.out, piece, frame::DATA, flags, stalled.stream);
                self.out
                    .extend_from_slice(&stalled.body[stalled.sent..stalled.sent + piece]);
                stalled.sent += piece;
                self.window -= piece as i64;
            }
            if stalled.sent == stalled.body.len() {
                self.close(stalled.stream);
            } else {
                self.stalled.push_back(stalled);
            }
        }
    }

    /// The answer is complete. A client that is still sending is told to stop (RFC 9113, 8.1).
    fn close(&mut self, id: u32) {
        if let Some(stream) = self.streams.remove(&id)
            && !stream.ended
        {
            frame::rst_stream(&mut self.out, id, code::NO_ERROR);
        }
        self.credit.remove(&id);
    }

    pub(super) fn forget(&mut self, id: u32) {
        self.credit.remove(&id);
        self.stalled.retain(|stalled| stalled.stream != id);
    }

    /// Ends a stream without an answer.
    pub(crate) fn reset(&mut self, id: u32, code: u32) {
        if self.streams.remove(&id).is_some() {
            self.forget(id);
            frame::rst_stream(&mut self.out, id, code);
        }
    }

    /// Announces the end of the connection; streams above `last` are dropped and will never be answered.
    pub(crate) fn goaway(&mut self, last: u32, code: u32, debug: &[u8]) {
        self.goaway_last = Some(last);
        self.streams.retain(|id, _| *id <= last);
        self.stalled.retain(|stalled| stalled.stream <= last);
        self.credit.retain(|id, _| *id <= last);
        frame::goaway(&mut self.out, last, code, debug);
    }

    /// Announces another stream limit; it binds the client from its acknowledgement on.
    pub(crate) fn set_max_streams(&mut self, max_streams: u32) {
        self.limit.announce(max_streams);
        frame::settings(
            &mut self.out,
            &[(frame::SETTING_MAX_CONCURRENT_STREAMS, max_streams)],
        );
    }
}
