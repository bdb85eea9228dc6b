//! The store: everything that must be remembered and is not ready to be sent.
//!
//! One trait in parts, each part one concern with batch-shaped use-cases; `sqlite` and `postgres` implement them side by
//! side in files of the same names. It must not know HTTP, queues or providers. Every method leads with the tenant where
//! it has one, and every table leads its keys with the tenant.

mod accounts;
mod analytics;
mod api_keys;
mod audit;
mod block;
mod changes;
mod clients;
mod coded;
mod control;
mod dead;
mod devices;
mod iam;
mod idempotency;
mod installations;
mod log;
mod messages;
mod notifications;
mod orgs;
mod outbox;
mod pages;
pub mod postgres;
mod rates;
mod records;
mod revocations;
mod selections;
pub mod sqlite;
mod tags;
mod turns;
mod waiting;

use std::fmt;

use thiserror::Error;

pub use accounts::{Accounts, CredentialKind, CredentialRecord, Tenant, TenantLimits, TenantPatch};
pub use analytics::{Analytics, DailyCounts, Day};
pub use api_keys::{ApiKeyPatch, ApiKeyRecord, ApiKeys, KeyUse, Usage, day_of};
pub use audit::{Audit, AuditEntry, AuditRow};
pub use clients::{
    CLIENTS_PER_SECTION_MAX, ClientCreated, ClientRecord, Clients, PushSecrets, PushSecretsPatch,
    SecretAdded, SecretHash, Section,
};
pub use control::{Control, ControlState, Suspension, SweepHorizon};
pub use dead::{Dead, DeadFilter, DeadOrigin, DeadRow, NewDead, RequestOrigin};
pub use devices::{Devices, PruneCandidate, Registration, ResolvedDevice, UserCursor};
pub use iam::{Iam, IamKeyRecord, IamOwner, RefreshToken, Refreshed, ServiceIdRecord};
pub use idempotency::{Begun, Idempotency, StoredAnswer};
pub use installations::{Installation, Installations, PlatformCount, PutInstallation};
pub use messages::{
    DeliveryReceipt, Message, MessageCursor, MessageDay, Messages, Seen, SeenCounts,
};
pub use notifications::{
    FailureRow, NotificationState, NotificationStatus, Notifications, PageOfEntries,
};
pub use orgs::{Member, Org, Orgs};
pub use outbox::{Outbox, OutboxRow};
pub use pages::{Pages, ReservedPage, StalePages};
pub use rates::{RateWish, Rates};
pub use records::{
    ClaimAnswer, ClaimRequest, CommitAnswer, Failure, JobKey, Part, Prune, Records, Settlement,
    Writer,
};
pub use revocations::{Revocation, Revocations};
pub use selections::Selections;
pub use tags::{Subscribed, Subscription, SubscriptionFilter, Tag, TagAndDevice, Tags};
pub use waiting::{Waiting, WaitingRow, WaitingWhy};

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be reached, is busy beyond its timeout, or is closing. Worth another try.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was asked to be written contradicts what is there, for example an id that exists.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// What was asked for does not exist.
    #[error("not found: {0}")]
    NotFound(&'static str),
    /// What is stored cannot be read.
    #[error("corrupt row in {table}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data itself cannot be written (one of a group makes the group fail).
    #[error("the data cannot be written: {0}")]
    Data(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was written by a newer Clarion.
    #[error("the database has schema {found}, this build knows up to {known}: run a newer clarion")]
    NewerSchema {
        /// Version found.
        found: i64,
        /// Newest version this build knows.
        known: i64,
    },
}

/// The store was closed.
#[derive(Debug, Error)]
#[error("it is closing")]
struct Closing;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let is_data = match &error {
            sqlx::Error::Database(database) => match database.try_downcast_ref() {
                Some(refused) => postgres::is_data(refused),
                None => sqlite::is_data(&**database),
            },
            sqlx::Error::Encode(_) => true,
            _ => false,
        };
        if is_data {
            Self::Data(Box::new(error))
        } else {
            Self::Unavailable(Box::new(error))
        }
    }
}

/// The whole store.
///
/// Contract, checked by one suite on every implementation: a method that returns `Ok` has committed durably (fsync);
/// each method is one transaction unless it says otherwise; all times are the passed-in `now`, which the caller takes
/// from [`Control::clock`] or its own clock.
pub trait Store:
    Accounts
    + ApiKeys
    + Orgs
    + Iam
    + Audit
    + Devices
    + Installations
    + Tags
    + Notifications
    + Selections
    + Pages
    + Records
    + Analytics
    + Outbox
    + Waiting
    + Dead
    + Idempotency
    + Messages
    + Clients
    + Control
    + Rates
    + Revocations
    + Send
    + Sync
    + fmt::Debug
{
}
