//! Events on their way out of a thread, batched: one send per turn, and none is ever lost or waited for.
//! It must not know what the events mean.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{OwnedPermit, Sender};

use super::types::{DispatchEvent, SliceDone};

type Reserve = Result<OwnedPermit<DispatchEvent>, SendError<()>>;

/// A thread's outgoing events. Its length is bounded by the slices that are under way.
pub(super) struct Outbox {
    sender: Sender<DispatchEvent>,
    done: Vec<SliceDone>,
    others: VecDeque<DispatchEvent>,
    permit: Option<Pin<Box<dyn Future<Output = Reserve>>>>,
}

impl Outbox {
    pub(super) fn new(sender: Sender<DispatchEvent>) -> Self {
        Self {
            sender,
            done: Vec::new(),
            others: VecDeque::new(),
            permit: None,
        }
    }

    pub(super) fn done(&mut self, done: SliceDone) {
        self.done.push(done);
    }

    pub(super) fn event(&mut self, event: DispatchEvent) {
        self.others.push_back(event);
    }

    /// Whether the receiver is behind; what can wait should not be added then.
    pub(super) fn is_blocked(&self) -> bool {
        self.permit.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.others.is_empty()
    }

    /// Alerts and windows first: whoever reads an outcome then knows them already.
    fn next(&mut self) -> Option<DispatchEvent> {
        let other = self.others.pop_front();
        other.or_else(|| match self.done.is_empty() {
            true => None,
            false => Some(DispatchEvent::Done(std::mem::take(&mut self.done))),
        })
    }

    fn put_back(&mut self, event: DispatchEvent) {
        match event {
            DispatchEvent::Done(done) => self.done = done,
            other => self.others.push_front(other),
        }
    }

    /// Sends what there is; what does not fit goes when the receiver has made room. A receiver that is gone wants
    /// nothing more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(permit) = &mut self.permit {
                let Poll::Ready(permit) = permit.as_mut().poll(cx) else {
                    return;
                };
                self.permit = None;
                match (permit, self.next()) {
                    (Ok(permit), Some(event)) => drop(permit.send(event)),
                    (Ok(_), None) => {}
                    (Err(_), _) => self.abandon(),
                }
            }
            let Some(event) = self.next() else {
                return;
            };
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => self.abandon(),
                Err(TrySendError::Full(event)) => {
                    self.put_back(event);
                    self.permit = Some(Box::pin(self.sender.clone().reserve_owned()));
                }
            }
        }
    }

    fn abandon(&mut self) {
        self.done.clear();
        self.others.clear();
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}
