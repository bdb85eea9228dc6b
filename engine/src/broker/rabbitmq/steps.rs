//! What the tasks of the channels do: which consumer to start or cancel next, and what the consumers bring. It must not know
//! who is handed a message.

use std::sync::Arc;

use lapin::message::DeliveryResult;
use tokio::time::Instant;

use super::desk::{Desk, State};
use super::inbox::read;
use super::names::ReadyQueue;
use super::plan::{Plan, Step};
use crate::model::Lane;

/// A step for the task of a channel.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) queue: ReadyQueue,
    /// The consumer to start, where the step starts one.
    pub(super) consumer: u64,
    pub(super) step: Step,
}

impl State {
    /// The next queue to be looked at on a channel; `true` when it waited in line until now.
    fn next_name(&mut self, channel: usize) -> Option<(Arc<str>, bool)> {
        if let Some(name) = self.dirty[channel].pop_front() {
            if let Some(queue) = self.queues.get_mut(&name) {
                queue.is_dirty = false;
            }
            return Some((name, false));
        }
        let may = [Lane::Transactional, Lane::Bulk].map(|lane| (lane, self.may_begin(lane)));
        let name = self.line.pop(channel, |lane| may.contains(&(lane, true)))?;
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.is_in_line = false;
        }
        Some((name, true))
    }

    fn stand_in_line(&mut self, channel: usize, name: &Arc<str>) {
        if let Some(queue) = self.queues.get_mut(name)
            && !std::mem::replace(&mut queue.is_in_line, true)
        {
            let lane = queue.ready.lane;
            self.line.push(channel, lane, Arc::clone(name));
        }
    }
}

impl Desk {
    /// A consumer brought something: a message, its end, or the end of its channel. Runs on the connection's own thread.
    pub(super) fn brought(&self, from: (u64, &Arc<str>, u64), brought: DeliveryResult) {
        let (session, name, consumer) = from;
        let delivery = match brought {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return self.ended_by_broker(session, name, consumer),
            Err(error) => return self.channel_ended(session, &error),
        };
        let mut state = self.lock();
        if state.session != session {
            return;
        }
        let Some(queue) = state.queues.get_mut(name) else {
            return;
        };
        let mut arrived = match read(delivery, &queue.ready, consumer) {
            Ok(arrived) => arrived,
            Err(acker) => {
                state.returns.push_back((acker, false));
                drop(state);
                return self.give_backs.notify_one();
            }
        };
        queue.plan.brought(consumer);
        queue.has_brought = true;
        let lane = queue.ready.lane;
        let size = arrived.body.len();
        arrived.is_first = queue.leased == 0 && queue.inbox.is_empty();
        let first_size = if arrived.is_first { size } else { 0 };
        queue.inbox.push(arrived);
        state.bytes += size;
        state.first_bytes += first_size;
        let weighed = state.weigh();
        let is_listed = state.list(name);
        // Others wait: it gives way before it brings more.
        let gives_way = state.line.has(lane);
        let touched = gives_way.then(|| state.touch(name)).flatten();
        drop(state);
        if weighed {
            self.wake_channels();
        }
        self.wake(touched, is_listed);
    }

    fn channel_ended(&self, session: u64, error: &lapin::Error) {
        // Every consumer of the channel says so; the first is enough.
        if self.lock().session == session {
            tracing::debug!(%error, "a channel that consumes has ended");
            self.failed.notify_one();
        }
    }

    fn ended_by_broker(&self, session: u64, name: &Arc<str>, consumer: u64) {
        let mut state = self.lock();
        if state.session != session {
            return;
        }
        let queue = state.queues.get_mut(name);
        if !queue.is_some_and(|queue| queue.plan.gone(consumer)) {
            return;
        }
        let touched = state.touch(name);
        drop(state);
        tracing::warn!(
            queue = &**name,
            "RabbitMQ ended a consumer; the queue is consumed again"
        );
        self.metrics.consumer_cancelled();
        self.wake(touched, false);
    }

    /// The next thing to do on a channel, and when to look again otherwise.
    pub(super) fn next_step(&self, channel: usize, now: Instant) -> Result<Task, Option<Instant>> {
        let mut state = self.lock();
        while let Some((at, _)) = state.later[channel].first()
            && *at <= now
            && let Some((_, name)) = state.later[channel].pop_first()
        {
            state.touch(&name);
        }
        while let Some((name, was_in_line)) = state.next_name(channel) {
            let Some(queue) = state.queues.get(&name) else {
                continue;
            };
            let step = queue.plan.step(state.wanted(queue), now);
            let (lane, is_idle) = (queue.ready.lane, queue.plan.is_idle());
            let gives_back = is_idle
                && !queue.inbox.is_empty()
                && (state.out.is_none() || queue.credit(state.rest) == 0);
            let others_wait = state.line.has(lane);
            // Whoever comes later stands behind those who wait.
            let must_wait = !was_in_line && (others_wait || !state.may_begin(lane));
            state.ids += 1;
            let consumer = state.ids;
            let Some(queue) = state.queues.get_mut(&name) else {
                continue;
            };
            if was_in_line {
                // The next one may be another channel's.
                self.wake_channels();
            }
            match step {
                Step::Consume(_) if is_idle && must_wait => state.stand_in_line(channel, &name),
                Step::Rest if is_idle && queue.has_brought && others_wait && !gives_back => {
                    queue.has_brought = false;
                    state.stand_in_line(channel, &name);
                }
                Step::Rest if gives_back => {
                    if state.empty_inbox(&name) {
                        self.wake_channels();
                    }
                    self.give_backs.notify_one();
                }
                Step::Rest => {}
                Step::Wait(at) => {
                    state.later[channel].insert((at, name));
                }
                step => {
                    if let Step::Consume(prefetch) = step {
                        queue.plan.started(consumer, prefetch);
                        queue.has_brought = false;
                    }
                    let queue = queue.ready.clone();
                    return Ok(Task {
                        queue,
                        consumer,
                        step,
                    });
                }
            }
        }
        Err(state.later[channel].first().map(|(at, _)| *at))
    }

    /// A queue does not answer, and has stopped its channel: it is not consumed until [`Desk::speaks`].
    pub(super) fn is_mute(&self, name: &Arc<str>) {
        if let Some(queue) = self.lock().queues.get_mut(name) {
            queue.is_mute = true;
        }
    }

    /// Queues that do not answer.
    pub(super) fn mutes(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        let mutes = state.queues.iter().filter(|(_, queue)| queue.is_mute);
        mutes.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// A queue answers again.
    pub(super) fn speaks(&self, name: &Arc<str>) {
        let mut state = self.lock();
        if let Some(queue) = state.queues.get_mut(name) {
            queue.is_mute = false;
        }
        let touched = state.touch(name);
        drop(state);
        self.wake(touched, false);
    }

    /// A step was taken: `change` tells the plan; the queue is looked at again, at once or at this time.
    pub(super) fn stepped(
        &self,
        name: &Arc<str>,
        again_at: Option<Instant>,
        change: impl FnOnce(&mut Plan),
    ) {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(name) else {
            return;
        };
        change(&mut queue.plan);
        let channel = queue.channel;
        match again_at {
            Some(at) => {
                state.later[channel].insert((at, Arc::clone(name)));
            }
            None => {
                state.touch(name);
            }
        }
    }
}
