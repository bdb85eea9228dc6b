//! One client connection: reads, has requests judged, lets rules act, writes receipts, then answers. Knows
//! nothing of why a request is good or bad.
//!
//! One task per connection and none per request: a batch is what one read brings, its receipts are one
//! write to the log, and its answers one write to the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};

use crate::http2::{Answer, Event, Http2, Incoming, code};
use crate::receipt::{Fate, Provider, Receipt};
use crate::rules::{Action, Decision, Goaway, RuleSet, Subject};
use crate::schedule::Schedule;
use crate::site::Site;
use crate::stats::Stats;
use crate::verdict::Verdict;
use crate::world::{Command, World};

/// Octets read at once.
const READ_OCTETS: usize = 64 * 1024;
/// How long a closing connection waits for its client to take the last octets.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Write what is left, then close.
    Close,
    /// Close at once.
    Cut,
    /// Stay open, silent and deaf, until cut.
    Frozen,
}

/// What one batch adds to the counters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    refused: u64,
    cancelled: u64,
    resets: u64,
    hangs: u64,
    goaways: u64,
    cuts: u64,
    unprocessed: u64,
    violations: u64,
    provider_tokens: u64,
    token_requests: u64,
    access_tokens: u64,
}

impl Tally {
    fn add_to(&self, stats: &mut Stats) {
        stats.streams_refused += self.refused;
        stats.cancelled += self.cancelled;
        stats.resets += self.resets;
        stats.hangs += self.hangs;
        stats.goaways += self.goaways;
        stats.cuts += self.cuts;
        stats.unprocessed += self.unprocessed;
        stats.stream_limit_violations += self.violations;
        stats.provider_tokens += self.provider_tokens;
        stats.token_requests += self.token_requests;
        stats.access_tokens += self.access_tokens;
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    world: Arc<World>,
    number: u64,
    site: Site,
    http2: Http2,
    schedule: Schedule<(u32, Answer)>,
    receipts: Vec<Receipt>,
    tally: Tally,
    ending: Option<Ending>,
    /// The stream limit to announce after the first success.
    held_limit: Option<u32>,
}

impl Connection {
    /// The provider's `number`th connection.
    pub(crate) fn new(world: Arc<World>, site: Site, number: u64) -> Self {
        let options = world.options();
        let (limit, held_limit) = site.stream_limit(options);
        Self {
            http2: Http2::new(limit, options.refuse_excess_streams),
            schedule: Schedule::new(Duration::from_millis(options.latency_ms)),
            held_limit,
            number,
            site,
            receipts: Vec::new(),
            tally: Tally::default(),
            ending: None,
            world,
        }
    }

    /// Serves the client until either side has had enough.
    pub(crate) async fn serve<T: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut io: T,
    ) -> io::Result<()> {
        let mut commands = self.world.commands();
        let mut input = BytesMut::with_capacity(READ_OCTETS);
        let mut events = Vec::new();
        loop {
            match self.ending {
                Some(Ending::Cut) => return Ok(()),
                Some(Ending::Frozen) => {
                    until_cut(commands).await;
                    return Ok(());
                }
                Some(Ending::Close) | None => {}
            }
            if !self.http2.out.is_empty() {
                io.write_all(&self.http2.out).await?;
                io.flush().await?;
                self.http2.out.clear();
            }
            if self.ending == Some(Ending::Close) || self.http2.drained() {
                return part(io).await;
            }
            input.reserve(READ_OCTETS);
            let due = self.schedule.next_due();
            tokio::select! {
                read = io.read_buf(&mut input) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    let used = self.take_in(&input, &mut events);
                    input.advance(used);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                command = commands.recv() => self.obey(command),
            }
            self.book()?;
            self.answer_due();
        }
    }

    fn take_in(&mut self, input: &[u8], events: &mut Vec<Event>) -> usize {
        let received = self.http2.receive(input, events);
        let rules = self.world.rules();
        let (now, now_ms) = (Instant::now(), self.world.now_ms());
        for event in events.drain(..) {
            match event {
                Event::Request(request)
                    if self.ending.is_none() && !self.http2.is_above_last(request.stream) =>
                {
                    self.request(&request, &rules, now, now_ms);
                }
                Event::Request(_) => self.tally.unprocessed += 1,
                Event::Cancelled => self.tally.cancelled += 1,
                Event::Refused => self.tally.refused += 1,
            }
        }
        match received {
            Ok(used) => used,
            Err(violation) => {
                self.tally.violations += u64::from(violation.streams);
                let debug = match violation.streams {
                    true => serde_json::json!({ "reason": violation.debug }).to_string(),
                    false => violation.debug.to_owned(),
                };
                self.http2
                    .goaway(self.http2.highest(), violation.code, debug.as_bytes());
                self.ending.get_or_insert(Ending::Close);
                input.len()
            }
        }
    }

    fn request(&mut self, request: &Incoming, rules: &RuleSet, now: Instant, now_ms: i64) {
        let mut verdict = self.site.judge(request, &self.world, now_ms);
        self.tally.provider_tokens += u64::from(verdict.fresh_provider_token);
        if verdict.logged {
            self.world.keep_body(&verdict.device_token, &request.body);
        }
        let decision = rules.decide(Subject {
            provider: verdict.provider,
            device_token: &verdict.device_token,
            topic: &verdict.topic,
            connection: self.number,
            now_ms,
        });
        let Some(decision) = decision else {
            self.process(request.stream, verdict, now);
            return;
        };
        let action = decision.action;
        if let Some(limit) = action.stream_limit {
            self.held_limit = None;
            self.http2.set_max_streams(limit);
        }
        if self.keeps_out(request.stream, action) {
            self.tally.unprocessed += 1;
            return;
        }
        if verdict.success() && (action.status.is_some() || action.reason.is_some()) {
            self.site.script(&mut verdict, action, now_ms);
        }
        if let Some(retry_after) = &action.retry_after {
            verdict
                .answer
                .headers
                .push(("retry-after", retry_after.clone()));
        }
        if let Some(body) = &action.body {
            verdict.answer.body = body.clone().into_bytes();
        }
        self.act(request.stream, verdict, decision, now);
    }

    /// Does what a rule wants done to a request that is not to be processed; false if it is to be.
    fn keeps_out(&mut self, stream: u32, action: &Action) -> bool {
        if let Some(goaway) = action.goaway.as_ref().filter(|goaway| !goaway.process) {
            self.goaway(stream.saturating_sub(2), goaway);
            return true;
        }
        if action.accept {
            return false;
        }
        if let Some(name) = &action.rst {
            self.reset(stream, name);
        } else if action.hang {
            self.tally.hangs += 1;
        } else if action.cut {
            self.cut();
        } else if action.freeze {
            self.freeze();
        } else {
            return false;
        }
        true
    }

    /// Processes a request as a rule wants it.
    fn act(&mut self, stream: u32, verdict: Verdict, decision: Decision<'_>, now: Instant) {
        let action = decision.action;
        if let Some(name) = &action.rst {
            self.record(stream, verdict, Fate::Reset);
            self.reset(stream, name);
        } else if action.hang {
            self.tally.hangs += 1;
            self.record(stream, verdict, Fate::Hang);
        } else if action.cut {
            self.record(stream, verdict, Fate::Cut);
            self.cut();
        } else if action.freeze {
            self.record(stream, verdict, Fate::Hang);
            self.freeze();
        } else if decision.delay_ms() > 0 {
            let answer = self.record(stream, verdict, Fate::Answer);
            let delay = Duration::from_millis(decision.delay_ms());
            self.schedule.push(now, delay, (stream, answer));
        } else {
            self.process(stream, verdict, now);
        }
        if let Some(goaway) = &action.goaway {
            self.goaway(stream, goaway);
        }
    }

    fn process(&mut self, stream: u32, verdict: Verdict, now: Instant) {
        let answer = self.record(stream, verdict, Fate::Answer);
        self.schedule.push(now, Duration::ZERO, (stream, answer));
    }

    fn record(&mut self, stream: u32, verdict: Verdict, fate: Fate) -> Answer {
        if verdict.provider == Provider::Oauth {
            self.tally.token_requests += 1;
            self.tally.access_tokens += u64::from(verdict.success());
        }
        if !verdict.logged {
            return verdict.answer;
        }
        self.receipts.push(Receipt {
            seq: 0,
            at_us: self.world.now_us(),
            provider: verdict.provider,
            connection: self.number,
            stream,
            device_token: verdict.device_token,
            id: verdict.id,
            topic: verdict.topic,
            collapse_id: verdict.collapse_id,
            status: verdict.status,
            reason: verdict.reason,
            fate,
        });
        verdict.answer
    }

    fn reset(&mut self, stream: u32, name: &str) {
        self.tally.resets += 1;
        self.http2
            .reset(stream, code::by_name(name).unwrap_or(code::NO_ERROR));
    }

    fn cut(&mut self) {
        self.tally.cuts += 1;
        self.ending = Some(Ending::Cut);
    }

    fn freeze(&mut self) {
        self.tally.hangs += 1;
        self.ending = Some(Ending::Frozen);
    }

    fn goaway(&mut self, last: u32, goaway: &Goaway) {
        self.tally.goaways += 1;
        self.http2.goaway(last, goaway.number(), &goaway.debug());
        if goaway.close {
            self.ending.get_or_insert(Ending::Close);
        }
    }

    fn obey(&mut self, command: Result<Command, broadcast::error::RecvError>) {
        match command {
            Ok(Command::Cut) => self.cut(),
            Ok(Command::Freeze) => self.freeze(),
            Ok(Command::Goaway(goaway)) => self.goaway(self.http2.highest(), &goaway),
            Ok(Command::StreamLimit(limit)) => {
                self.held_limit = None;
                self.http2.set_max_streams(limit);
            }
            // Too many commands at once: the latest ones count.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => self.ending = Some(Ending::Close),
        }
    }

    /// Writes the batch's receipts. Without them in the log nothing may be answered, so a failure ends the
    /// connection.
    fn book(&mut self) -> io::Result<()> {
        let tally = std::mem::take(&mut self.tally);
        if self.receipts.is_empty() && tally == Tally::default() {
            return Ok(());
        }
        self.world
            .book(&mut self.receipts, |stats| tally.add_to(stats))
            .inspect_err(|error| {
                tracing::error!(%error, "the receive log cannot be written; connection closed");
            })
    }

    fn answer_due(&mut self) {
        if self.schedule.next_due().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some((stream, answer)) = self.schedule.pop(now) {
            if answer.status == 200
                && let Some(limit) = self.held_limit.take()
            {
                self.http2.set_max_streams(limit);
            }
            self.http2.answer(stream, answer);
        }
    }
}

/// Waits for the command that cuts everything, or for the simulator's end.
async fn until_cut(mut commands: broadcast::Receiver<Command>) {
    while !matches!(
        commands.recv().await,
        Ok(Command::Cut) | Err(broadcast::error::RecvError::Closed)
    ) {}
}

/// Closes the own side, then takes in what the client still says: closing with unread octets would reset
/// the connection and could cost the client the last frames written to it. A client that does not close is
/// not waited for.
async fn part<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) -> io::Result<()> {
    let mut rest = [0; 1024];
    let parting = async {
        io.shutdown().await?;
        while io.read(&mut rest).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LINGER, parting)
        .await
        .unwrap_or(Ok(()))
}
