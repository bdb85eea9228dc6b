//! The values that flow through the engine; each stage turns one into the next.
//! They know nothing of queues, databases, HTTP or time beyond a passed-in `Millis`.
//!
//! Words: a *device token* addresses one installation of an app; a *provider token* is the APNs JWT; an *access
//! token* is Google's; an *API key* is how a producer calls us. *Accepted* means that the provider took it; nobody
//! can know whether it was delivered.

mod audience;
mod ids;
mod job;
mod message;
mod notification;
mod outcome;
mod selection;
mod wire;

pub use audience::{
    Address, Audience, Device, DeviceId, Entry, Environment, Platform, Recipient, Target,
};
pub use clarion_auth::TenantId;
pub use ids::{JobId, JobKind, NotificationId, recipient_id};
pub use job::{Attempts, Job};
pub use message::{MESSAGE_ID_LEN, MessageId, MessageIdError};
pub use notification::{
    ApnsOverride, Content, DeliveryMode, InterruptionLevel, Lane, LiveActivity, LiveActivityEvent,
    Notification, Options, Priority, PushType,
};
pub use outcome::{Counts, FinalState, Outcome, Processed, Reason, ThrottleScope};
pub use selection::{Candidate, SelectedPage, Selection, VersionRange, is_version};
pub use wire::{Envelope, WireError, decode_entries, encode_entries};

/// Unix time in milliseconds.
pub type Millis = i64;
