//! What was accepted, as a set that can be compared with what should have been. Knows nothing of
//! connections or files' formats.
//!
//! A receipt takes 16 octets here, so a million of them fit easily beside what is being tested.

use std::path::Path;

use aws_lc_rs::digest;

use crate::Error;
use crate::log::ReceiveLog;
use crate::receipt::Receipt;

/// What makes two accepted requests the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The same id, whatever the device.
    Id,
    /// The same device, whatever the id.
    Device,
    /// The same id for the same device.
    IdAndDevice,
}

/// The accepted receipts of a log, by identity.
#[derive(Debug)]
pub struct Ledger {
    identity: Identity,
    /// Sorted once `sorted`; may hold the same key several times.
    keys: Vec<u128>,
    refused: u64,
}

/// What a comparison found; all zero means that everything was accepted exactly once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Expected, and never accepted.
    pub missing: u64,
    /// Accepted, and not expected.
    pub unexpected: u64,
    /// Accepted again: how many acceptances more than one each.
    pub duplicates: u64,
    /// The most often that any one was accepted.
    pub most_copies: u64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            keys: Vec::new(),
            refused: 0,
        }
    }

    /// Reads a whole log.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Receipt`] if it cannot be read.
    pub fn of_log(path: impl AsRef<Path>, identity: Identity) -> Result<Self, Error> {
        let mut ledger = Self::new(identity);
        for receipt in ReceiveLog::read(path)? {
            ledger.add(&receipt?);
        }
        Ok(ledger)
    }

    /// Adds a receipt.
    pub fn add(&mut self, receipt: &Receipt) {
        if receipt.accepted() {
            self.keys
                .push(key(self.identity, &receipt.id, &receipt.device_token));
        } else {
            self.refused += 1;
        }
    }

    /// Requests accepted, duplicates included.
    pub fn accepted(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Requests processed and not accepted.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Compares with what should have been accepted, given as (id, device token); what the identity does
    /// not look at may be empty. Something expected several times counts once.
    pub fn compare<'a>(
        &mut self,
        expected: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Difference {
        let identity = self.identity;
        let mut wanted: Vec<_> = expected
            .into_iter()
            .map(|(id, device_token)| key(identity, id, device_token))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.keys.sort_unstable();
        let mut found = Difference::default();
        let mut wanted = wanted.into_iter().peekable();
        for copies in self.keys.chunk_by(|one, next| one == next) {
            while wanted.next_if(|key| *key < copies[0]).is_some() {
                found.missing += 1;
            }
            if wanted.next_if_eq(&copies[0]).is_none() {
                found.unexpected += 1;
            }
            let copies = copies.len() as u64;
            found.duplicates += copies - 1;
            found.most_copies = found.most_copies.max(copies);
        }
        found.missing += wanted.count() as u64;
        found
    }
}

fn key(identity: Identity, id: &str, device_token: &str) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    if identity != Identity::Device {
        context.update(id.as_bytes());
    }
    context.update(b"\n");
    if identity != Identity::Id {
        context.update(device_token.as_bytes());
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&context.finish().as_ref()[..16]);
    u128::from_be_bytes(octets)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::receipt::{Fate, Provider};

    fn receipt(id: &str, device_token: &str, status: u16) -> Receipt {
        Receipt {
            seq: 1,
            at_us: 1_000,
            provider: Provider::Apns,
            connection: 1,
            stream: 1,
            device_token: device_token.to_owned(),
            id: id.to_owned(),
            topic: String::new(),
            collapse_id: String::new(),
            status,
            reason: Cow::Borrowed(""),
            fate: Fate::Answer,
        }
    }

    fn found(identity: Identity, expected: &[(&str, &str)]) -> Difference {
        let mut ledger = Ledger::new(identity);
        for (id, device_token) in [
            ("1", "a"),
            ("2", "b"),
            ("3", "c"),
            ("2", "b"),
            ("2", "b"),
            ("9", "a"),
        ] {
            ledger.add(&receipt(id, device_token, 200));
        }
        ledger.add(&receipt("4", "d", 410));
        assert_eq!((ledger.accepted(), ledger.refused()), (6, 1));
        ledger.compare(expected.iter().copied())
    }

    #[test]
    fn missing_unexpected_and_repeated_ones_are_counted() {
        let expected = [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")];
        let both = found(Identity::IdAndDevice, &expected);
        assert_eq!(
            both,
            Difference {
                missing: 1,
                unexpected: 1,
                duplicates: 2,
                most_copies: 3
            }
        );
        let devices = found(Identity::Device, &expected);
        assert_eq!(
            devices,
            Difference {
                missing: 1,
                unexpected: 0,
                duplicates: 3,
                most_copies: 3
            }
        );
        let ids = found(Identity::Id, &[("1", ""), ("2", ""), ("3", ""), ("9", "")]);
        assert_eq!(
            ids,
            Difference {
                missing: 0,
                unexpected: 0,
                duplicates: 2,
                most_copies: 3
            }
        );
    }
}
