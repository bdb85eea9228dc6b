//! The unit of work: one notification for up to 500 entries. One queue message, one record, one ack.

use std::sync::Arc;

use super::audience::{Entry, Recipient, Target};
use super::ids::{JobId, JobKind, digest};
use super::notification::Notification;

/// How often the recipients of a job have been tried. All recipients of one job share one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
pub struct Attempts {
    /// Attempts made, whatever came of them.
    #[n(0)]
    pub total: u8,
    /// Of these, never handed over.
    #[n(1)]
    pub unsent: u8,
    /// Of these, handed over and never answered.
    #[n(2)]
    pub ambiguous: u8,
}

/// A job: what the broker holds and a worker sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Derived id.
    pub id: JobId,
    /// What is said, and for which tenant.
    pub notification: Arc<Notification>,
    /// Where the job comes from.
    pub kind: JobKind,
    /// The page whose first job this is; only first jobs have one.
    pub page: Option<u32>,
    /// What its recipients have been through.
    pub attempts: Attempts,
    /// It may have been published before: its record is read before anything is sent.
    pub recheck: bool,
    /// Whom it is for.
    pub entries: Vec<Entry>,
}

impl Job {
    /// The first job of page `page`, whose entries start at `entries[0].ordinal`.
    #[must_use]
    pub fn first(notification: Arc<Notification>, page: u32, entries: Vec<Entry>) -> Self {
        let first_ordinal = entries.first().map_or(0, |entry| entry.ordinal);
        let id = JobId::first(notification.id, first_ordinal);
        let (kind, attempts) = (JobKind::First, Attempts::default());
        Self {
            id,
            notification,
            kind,
            page: Some(page),
            attempts,
            recheck: false,
            entries,
        }
    }

    /// A job born from this one, with an id of its own.
    #[must_use]
    pub fn child(&self, kind: JobKind, attempts: Attempts, entries: Vec<Entry>) -> Self {
        let id = JobId::derived(self.id, kind, attempts, &entries);
        Self {
            id,
            notification: Arc::clone(&self.notification),
            kind,
            page: None,
            attempts,
            recheck: true,
            entries,
        }
    }

    /// SHA-256 over the sorted recipients; the same id with another digest is a foreign or corrupt message.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.entries)
    }

    /// Whether every entry already names its device.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| matches!(entry.target, Target::Device(_)))
    }
}

impl From<Recipient> for Entry {
    fn from(recipient: Recipient) -> Self {
        Self {
            ordinal: recipient.ordinal,
            target: Target::Device(recipient.address),
        }
    }
}
