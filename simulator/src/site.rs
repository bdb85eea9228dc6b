//! Which provider a connection talks to. Knows of each only how to hand it a request.

use crate::apns;
use crate::fcm;
use crate::http2::Incoming;
use crate::options::Options;
use crate::rules::Action;
use crate::verdict::Verdict;
use crate::world::World;

/// Streams allowed before the first success of a provider token.
const FIRST_STREAMS: u32 = 1;

#[derive(Debug)]
pub(crate) enum Site {
    Apns(apns::Session),
    Fcm(fcm::Session),
}

impl Site {
    /// The stream limit to begin with, and the one to announce after the first success.
    pub(crate) fn stream_limit(&self, options: &Options) -> (u32, Option<u32>) {
        match self {
            Self::Apns(session) if options.strict_first_stream && !session.has_certificate() => {
                (FIRST_STREAMS, Some(options.apns_max_streams))
            }
            Self::Apns(_) => (options.apns_max_streams, None),
            Self::Fcm(_) => (options.fcm_max_streams, None),
        }
    }

    pub(crate) fn judge(&mut self, request: &Incoming, world: &World, now_ms: i64) -> Verdict {
        match self {
            Self::Apns(session) => session.judge(request, world, now_ms),
            Self::Fcm(session) => session.judge(request, world, now_ms),
        }
    }

    pub(crate) fn script(&self, verdict: &mut Verdict, action: &Action, now_ms: i64) {
        match self {
            Self::Apns(_) => apns::Session::script(verdict, action, now_ms),
            Self::Fcm(_) => fcm::Session::script(verdict, action),
        }
    }
}
