//! The slices that are under way on one thread, by number: what is sent, what is answered.
//! It must not know connections, credentials or other threads.

use super::types::{Slice, SliceDone};
use crate::model::{Outcome, Recipient};

/// A slice under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) slice: Slice,
    /// The route's number on this thread.
    pub(super) route: u32,
    /// The next recipient to be sent.
    pub(super) next: usize,
    outcomes: Vec<Option<Outcome>>,
    left: usize,
}

impl Open {
    /// A recipient of this slice, counted from its first.
    pub(super) fn recipient(&self, index: usize) -> Option<&Recipient> {
        self.slice.recipients.get(self.slice.range.start + index)
    }

    /// Recipients that were not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.len() - self.next
    }

    /// Its recipients.
    pub(super) fn len(&self) -> usize {
        self.slice.range.len()
    }
}

/// Slices under way.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    open: usize,
}

impl Slices {
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Takes a slice with at least one recipient; its number.
    pub(super) fn insert(&mut self, slice: Slice, route: u32) -> u32 {
        let count = slice.range.len();
        let open = Open {
            slice,
            route,
            next: 0,
            outcomes: vec![None; count],
            left: count,
        };
        self.open += 1;
        match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(open);
                number
            }
            None => {
                self.slots.push(Some(open));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Open> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Open> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// Notes an outcome; the finished slice if it was the last.
    pub(super) fn record(
        &mut self,
        number: u32,
        recipient: usize,
        outcome: Outcome,
    ) -> Option<SliceDone> {
        let open = self.slots.get_mut(number as usize)?.as_mut()?;
        let place = open.outcomes.get_mut(recipient)?;
        if place.replace(outcome).is_none() {
            open.left -= 1;
        }
        if open.left > 0 {
            return None;
        }
        let done = self.slots[number as usize].take()?;
        self.free.push(number);
        self.open -= 1;
        Some(SliceDone {
            id: done.slice.id,
            outcomes: done.outcomes.into_iter().flatten().collect(),
        })
    }
}

/// A recipient's number in the transport: slice, place in it, and generation of the token it was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) slice: u32,
    pub(super) recipient: u16,
    pub(super) generation: u16,
}

impl From<Number> for u64 {
    fn from(number: Number) -> Self {
        Self::from(number.slice) << 32
            | Self::from(number.recipient) << 16
            | Self::from(number.generation)
    }
}

impl From<u64> for Number {
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    fn from(number: u64) -> Self {
        Self {
            slice: (number >> 32) as u32,
            recipient: (number >> 16) as u16,
            generation: number as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_the_transport(slice: u32, recipient: u16, generation: u16) {
            let number = Number { slice, recipient, generation };
            prop_assert_eq!(Number::from(u64::from(number)), number);
        }
    }
}
