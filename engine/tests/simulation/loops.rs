//! The feeder's and the releaser's rounds, step by step, so that a process can die between any two.
//! It must not know workers.

use clarion_engine::model::Millis;

use crate::calls::{Answer, Call};
use crate::world::{Event, Variant, World};

/// How often they look without being told, ms.
const LOOK: (Millis, Millis) = (500, 3_000);
/// How long they rest after an error, ms.
const REST: Millis = 1_000;

impl World {
    pub(crate) fn feed(&mut self, serial: u32) {
        let call = if self.variant == Variant::PublishBeforeReserve {
            Call::Peek
        } else {
            Call::Reserve(self.plan.pages_ahead)
        };
        self.call(serial, call);
    }

    pub(crate) fn release(&mut self, serial: u32) {
        let now = self.now;
        let Some(process) = self.process(serial) else {
            return;
        };
        let released = process.released.list(now);
        self.call(serial, Call::Due(released, self.plan.release_ahead));
    }

    fn look(&mut self, serial: u32, event: fn(u32) -> Event) {
        let at = self.now + self.rng.range(LOOK.0, LOOK.1);
        self.at(at, event(serial));
    }

    /// An answer to one of the loops; any other is given back.
    pub(crate) fn loop_answer(&mut self, serial: u32, answer: Answer) -> Option<Answer> {
        match answer {
            Answer::Reserved(Ok(pages)) if !pages.is_empty() => {
                // The broken variant's second reservation is of what it has published.
                self.call(serial, Call::PublishPages(pages));
            }
            Answer::Reserved(_) => self.look(serial, Event::Feed),
            Answer::PagesPublished(marks, Ok(())) => {
                if self.variant == Variant::PublishBeforeReserve {
                    self.store.reserve_these(&marks, self.now);
                }
                self.call(serial, Call::MarkFed(marks));
            }
            Answer::PagesPublished(_, Err(())) | Answer::MarkedFed(Err(())) => {
                self.at(self.now + REST, Event::Feed(serial));
            }
            Answer::MarkedFed(Ok(())) => self.at(self.now + 1, Event::Feed(serial)),
            Answer::Due(Ok((rows, _))) if !rows.is_empty() => {
                let now = self.now;
                if let Some(process) = self.process(serial) {
                    rows.iter().for_each(|row| process.released.add(row, now));
                }
                self.call(serial, Call::PublishRows(rows));
            }
            Answer::Due(Ok((_, Some(next)))) => {
                let at = next.clamp(self.now + 50, self.now + LOOK.1);
                self.at(at, Event::Release(serial));
            }
            Answer::Due(_) => self.look(serial, Event::Release),
            Answer::RowsPublished(rows, Ok(())) => {
                let jobs = rows.into_iter().map(|(_, _, job)| job).collect();
                self.call(serial, Call::DeleteRows(jobs));
            }
            Answer::RowsPublished(rows, Err(())) => {
                if let Some(process) = self.process(serial) {
                    for (tenant, lane, job) in rows {
                        process.released.end(&tenant, lane, job);
                    }
                }
                self.at(self.now + REST, Event::Release(serial));
            }
            Answer::RowsDeleted(Err(())) => self.at(self.now + REST, Event::Release(serial)),
            Answer::RowsDeleted(Ok(())) => self.at(self.now + 1, Event::Release(serial)),
            other => return Some(other),
        }
        None
    }
}
