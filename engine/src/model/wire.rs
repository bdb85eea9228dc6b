//! The versioned envelope in which jobs travel through the broker and wait in the store.
//!
//! CBOR (RFC 8949): arrays and maps with numbered members, so that a later version adds members without breaking
//! this one. The notification is one JSON byte string, decoded once per job and readable on an operator's screen.

use std::sync::Arc;

use minicbor::{Decode, Encode, bytes::ByteSlice};
use thiserror::Error;
use uuid::Uuid;

use super::audience::Entry;
use super::ids::{JobId, JobKind};
use super::job::{Attempts, Job};
use super::notification::Notification;
use crate::limits::JOB_ENTRIES_MAX;

/// The version this build writes; it reads no other.
const VERSION: u16 = 1;

/// Jobs in one message. They are settled one by one, and the message is acked when all are settled.
const JOBS_MAX: usize = 1_024;

/// A message body: version and jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// One or more jobs of one tenant and lane.
    pub jobs: Vec<Job>,
}

/// Why a message is not an envelope. The words are machine-readable reasons of dead rows.
#[derive(Debug, Error)]
pub enum WireError {
    /// Not CBOR, or not of this shape.
    #[error("malformed: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Written by another version.
    #[error("unknown_version: {0} (this build reads {VERSION})")]
    UnknownVersion(u16),
    /// The notification inside is not one.
    #[error("malformed_notification: {0}")]
    Notification(#[from] serde_json::Error),
    /// Nothing in it, or more than the bounds allow.
    #[error("out_of_bounds: {jobs} jobs, {entries} entries in one of them")]
    OutOfBounds {
        /// Jobs in the envelope.
        jobs: usize,
        /// Entries of the offending job.
        entries: usize,
    },
}

impl WireError {
    /// The machine-readable reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownVersion(_) => "unknown_version",
            Self::Notification(_) => "malformed_notification",
            Self::OutOfBounds { .. } => "out_of_bounds",
        }
    }
}

#[derive(Encode)]
struct EnvelopeOut<'a> {
    #[n(0)]
    version: u16,
    #[n(1)]
    jobs: Vec<JobOut<'a>>,
}

#[derive(Encode)]
struct JobOut<'a> {
    #[n(0)]
    id: &'a ByteSlice,
    #[n(1)]
    kind: JobKind,
    #[n(2)]
    page: Option<u32>,
    #[n(3)]
    attempts: Attempts,
    #[n(4)]
    recheck: bool,
    #[n(5)]
    notification: &'a ByteSlice,
    #[n(6)]
    entries: &'a Vec<Entry>,
}

#[derive(Decode)]
struct EnvelopeIn<'b> {
    #[b(1)]
    jobs: Vec<JobIn<'b>>,
}

#[derive(Decode)]
struct JobIn<'b> {
    #[b(0)]
    id: &'b ByteSlice,
    #[n(1)]
    kind: JobKind,
    #[n(2)]
    page: Option<u32>,
    #[n(3)]
    attempts: Attempts,
    #[n(4)]
    recheck: bool,
    #[b(5)]
    notification: &'b ByteSlice,
    #[n(6)]
    entries: Vec<Entry>,
}

impl Envelope {
    /// The bytes of a message with these jobs.
    ///
    /// # Errors
    /// [`WireError::Notification`] when the content cannot be written as JSON, and [`WireError::OutOfBounds`].
    pub fn encode(jobs: &[Job]) -> Result<Vec<u8>, WireError> {
        check_bounds(jobs.len(), jobs.iter().map(|job| job.entries.len()))?;
        let mut notifications = Vec::with_capacity(jobs.len());
        for job in jobs {
            notifications.push(serde_json::to_vec(&*job.notification)?);
        }
        let jobs = jobs
            .iter()
            .zip(&notifications)
            .map(|(job, notification)| JobOut {
                id: job.id.0.as_bytes().as_slice().into(),
                kind: job.kind,
                page: job.page,
                attempts: job.attempts,
                recheck: job.recheck,
                notification: notification.as_slice().into(),
                entries: &job.entries,
            });
        Ok(encode(&EnvelopeOut {
            version: VERSION,
            jobs: jobs.collect(),
        }))
    }

    /// The jobs of a message.
    ///
    /// # Errors
    /// A [`WireError`] whose reason becomes that of the dead row.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let version = version_of(bytes)?;
        if version != VERSION {
            return Err(WireError::UnknownVersion(version));
        }
        let EnvelopeIn { jobs } = minicbor::decode(bytes)?;
        check_bounds(jobs.len(), jobs.iter().map(|job| job.entries.len()))?;
        let jobs = jobs.into_iter().map(job_of).collect::<Result<_, _>>()?;
        Ok(Self { jobs })
    }
}

/// The first member of the envelope, without a look at the rest: that may be 60 kB, and is read once it is known to be ours.
fn version_of(bytes: &[u8]) -> Result<u16, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.array()?;
    decoder.u16()
}

fn job_of(wire: JobIn<'_>) -> Result<Job, WireError> {
    let notification: Notification = serde_json::from_slice(wire.notification)?;
    let id = Uuid::from_slice(wire.id)
        .map_err(|_| minicbor::decode::Error::message("a job id must have 16 bytes"))?;
    Ok(Job {
        id: JobId(id),
        notification: Arc::new(notification),
        kind: wire.kind,
        page: wire.page,
        attempts: wire.attempts,
        recheck: wire.recheck,
        entries: wire.entries,
    })
}

fn check_bounds(jobs: usize, entries: impl Iterator<Item = usize>) -> Result<(), WireError> {
    // A derived job holds resolved recipients, of which one job may have more than it has entries.
    let widest = entries.max().unwrap_or_default();
    let entries_max = crate::limits::JOB_RECIPIENTS_MAX.max(JOB_ENTRIES_MAX);
    if jobs == 0 || jobs > JOBS_MAX || widest > entries_max {
        return Err(WireError::OutOfBounds {
            jobs,
            entries: widest,
        });
    }
    Ok(())
}

/// The bytes of a page's entries.
#[must_use]
pub fn encode_entries(entries: &Vec<Entry>) -> Vec<u8> {
    encode(entries)
}

/// The entries of a page.
///
/// # Errors
/// [`WireError::Malformed`] when the bytes are not what [`encode_entries`] wrote.
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, WireError> {
    Ok(minicbor::decode(bytes)?)
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    match minicbor::encode(value, &mut bytes) {
        Ok(()) => bytes,
        // Writing into a vector fails only through a hand-written `Encode`, of which there is none.
        Err(error) => unreachable!("CBOR into memory: {error}"),
    }
}
