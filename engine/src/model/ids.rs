//! Identities: of notifications, of jobs, and of one recipient of a notification. All are UUIDs, and all but a
//! notification's are derived, so that doing something twice gives the same name twice.

use std::fmt;

use clarion_auth::{MacKey, TenantId};
use uuid::Uuid;

use super::audience::{DeviceId, Entry};
use super::{Attempts, Millis};

/// The namespace of the ids of published messages.
const PUBLISHED: Uuid = Uuid::from_u128(0x0c1a_7104_9b1e_5c0f_8a3d_7e52_6d61_7267);

/// A notification's id: UUIDv7 whose last 32 bits are a MAC over the tenant and the other bits, or for what was published
/// straight to the queue a UUIDv5 of the tenant and the publisher's message id.
///
/// An id that verifies and has no row yet is a known, queued notification; any other unknown id does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(pub Uuid);

/// A job's id, derived from what it is made of; see [`JobId::first`] and [`JobId::derived`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub Uuid);

/// Where a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum JobKind {
    /// The first job of a page (a direct notification has one page, number 0).
    #[n(0)]
    First,
    /// Recipients to be tried again.
    #[n(1)]
    Retry,
    /// Recipients set aside unsent: a limit, a pause, a schedule, a breaker.
    #[n(2)]
    Parked,
    /// What one resolve could not hold.
    #[n(3)]
    Continuation,
    /// An operator's replay of a dead row.
    #[n(4)]
    Replay,
}

impl JobKind {
    /// The word that enters a derived id and the operator's screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Parked => "parked",
            Self::Continuation => "continuation",
            Self::Replay => "replay",
        }
    }
}

impl NotificationId {
    /// Mints an id at `now`; `random` are ten fresh random bytes, of which six enter the id.
    #[must_use]
    pub fn mint(key: &MacKey, tenant: &TenantId, now: Millis, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now).unwrap_or_default();
        let mut bytes = *uuid::Builder::from_unix_timestamp_millis(millis, &random)
            .as_uuid()
            .as_bytes();
        let mac = key.tag32(&[b"notification", tenant.as_str().as_bytes(), &bytes[..12]]);
        bytes[12..].copy_from_slice(&mac);
        Self(Uuid::from_bytes(bytes))
    }

    /// The id of what a backend published under its own `message_id`: the same message is the same notification.
    #[must_use]
    pub fn of_message(tenant: &TenantId, message_id: &str) -> Self {
        let of_tenant = Uuid::new_v5(&PUBLISHED, tenant.as_str().as_bytes());
        Self(Uuid::new_v5(&of_tenant, message_id.as_bytes()))
    }

    /// Whether this id was minted for `tenant` with `key`.
    #[must_use]
    pub fn verifies(self, key: &MacKey, tenant: &TenantId) -> bool {
        let bytes = self.0.as_bytes();
        let mac = key.tag32(&[b"notification", tenant.as_str().as_bytes(), &bytes[..12]]);
        self.0.get_version_num() == 7 && mac == bytes[12..]
    }

    /// When the id was minted, to the millisecond. Says nothing for the id of a published message.
    #[must_use]
    pub fn minted_at(self) -> Millis {
        let bytes = self.0.as_bytes();
        bytes[..6]
            .iter()
            .fold(0, |millis, byte| (millis << 8) | Millis::from(*byte))
    }
}

impl JobId {
    /// The first job of a page: derived from the notification and the page's first ordinal.
    #[must_use]
    pub fn first(notification: NotificationId, first_ordinal: u32) -> Self {
        let mut name = Vec::with_capacity(9);
        name.extend_from_slice(b"first");
        name.extend_from_slice(&first_ordinal.to_be_bytes());
        Self(Uuid::new_v5(&notification.0, &name))
    }

    /// Any other job: derived from its parent, its kind, its attempts and the digest of its sorted recipients, so
    /// that another set is another id.
    #[must_use]
    pub fn derived(parent: Self, kind: JobKind, attempts: Attempts, entries: &[Entry]) -> Self {
        let mut name = Vec::with_capacity(64);
        name.extend_from_slice(kind.as_str().as_bytes());
        name.extend_from_slice(&[attempts.total, attempts.unsent, attempts.ambiguous]);
        name.extend_from_slice(&digest(entries));
        Self(Uuid::new_v5(&parent.0, &name))
    }
}

/// SHA-256 over the sorted recipients of a job. An entry that is not resolved yet counts as its ordinal and the
/// device after which it continues.
#[must_use]
pub(super) fn digest(entries: &[Entry]) -> [u8; 32] {
    let mut keys: Vec<(u32, DeviceId)> = entries.iter().map(Entry::key).collect();
    keys.sort_unstable();
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for (ordinal, device) in keys {
        context.update(&ordinal.to_be_bytes());
        context.update(&device.to_be_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The id of one recipient of a notification: `apns-id`, and by default the collapse id and the Android tag of an
/// alert, so that a duplicate carries the same id and replaces its twin on the device.
#[must_use]
pub fn recipient_id(notification: NotificationId, ordinal: u32, device: DeviceId) -> Uuid {
    let mut name = [0; 12];
    name[..4].copy_from_slice(&ordinal.to_be_bytes());
    name[4..].copy_from_slice(&device.to_be_bytes());
    Uuid::new_v5(&notification.0, &name)
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for NotificationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for NotificationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self)
    }
}
