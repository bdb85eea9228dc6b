//! What goes into the dispatcher and what comes out of it.
//! It must not know threads or connections.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::http2::{Origin, TlsOptions};
use crate::limits::{CONNECT_DEADLINE, CONNECTIONS_PER_KEY_MAX, REQUEST_DEADLINE};
use crate::model::{Environment, Lane, NotificationId, Outcome, Recipient};
use crate::provider::fcm::TokenEndpoint;
use crate::provider::{CredentialAlert, Prepared, Route, RouteKey};

/// Called with the time of each answered request, on a delivery thread; it must not block.
pub type LatencyHook = Arc<dyn Fn(&RouteKey, Duration) + Send + Sync>;

/// Where and how to deliver.
#[derive(Clone)]
pub struct DispatchOptions {
    /// Delivery threads; one per core.
    pub threads: usize,
    /// Apple's production host.
    pub apns_production: Origin,
    /// Apple's sandbox host.
    pub apns_sandbox: Origin,
    /// Google's host.
    pub fcm: Origin,
    /// Where Google grants access tokens.
    pub fcm_token_endpoint: TokenEndpoint,
    /// Which authorities are trusted.
    pub tls: TlsOptions,
    /// Total time of one request.
    pub request_deadline: Duration,
    /// Slices that find no connection for this long end as never handed over.
    pub connect_deadline: Duration,
    /// Connections per credential (FCM: per thread) on one thread.
    pub connections_per_key_max: usize,
    /// Sees the latency of every answered request.
    pub on_latency: Option<LatencyHook>,
}

impl DispatchOptions {
    /// Options with the default bounds.
    #[must_use]
    pub fn new(
        threads: usize,
        (apns_production, apns_sandbox): (Origin, Origin),
        fcm: Origin,
        fcm_token_endpoint: TokenEndpoint,
        tls: TlsOptions,
    ) -> Self {
        Self {
            threads,
            apns_production,
            apns_sandbox,
            fcm,
            fcm_token_endpoint,
            tls,
            request_deadline: REQUEST_DEADLINE,
            connect_deadline: CONNECT_DEADLINE,
            connections_per_key_max: CONNECTIONS_PER_KEY_MAX,
            on_latency: None,
        }
    }

    pub(super) fn apns(&self, environment: Environment) -> &Origin {
        match environment {
            Environment::Production => &self.apns_production,
            Environment::Sandbox => &self.apns_sandbox,
        }
    }
}

impl fmt::Debug for DispatchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DispatchOptions")
            .field("threads", &self.threads)
            .field("apns_production", &self.apns_production)
            .field("apns_sandbox", &self.apns_sandbox)
            .field("fcm", &self.fcm)
            .field("tls", &self.tls)
            .field("request_deadline", &self.request_deadline)
            .finish_non_exhaustive()
    }
}

/// Recipients of one notification who share a route: the unit of hand-over.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The caller's, returned with the outcomes.
    pub id: u64,
    /// Transactional slices go first and have reserved stream slots.
    pub lane: Lane,
    /// By which credential and to which host.
    pub route: Arc<Route>,
    /// What is said.
    pub prepared: Arc<Prepared>,
    /// Whose recipients; enters their ids.
    pub notification: NotificationId,
    /// The recipients of the job that go this way, shared by all its slices.
    pub recipients: Arc<Vec<Recipient>>,
    /// Which of them are in this slice: at most [`crate::limits::SLICE_RECIPIENTS_MAX`]. Outcomes are in this order.
    pub range: Range<usize>,
}

/// A slice's outcomes, in the order of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceDone {
    /// The slice's id.
    pub id: u64,
    /// One per recipient.
    pub outcomes: Vec<Outcome>,
}

/// What the delivery threads report, in batches.
#[derive(Debug)]
pub enum DispatchEvent {
    /// Slices whose last outcome is known.
    Done(Vec<SliceDone>),
    /// How many requests a route may have in flight now, over all its connections: 1 before its first success;
    /// it grows by itself while it is used up.
    Window {
        /// Which route.
        key: RouteKey,
        /// Requests.
        streams: usize,
    },
    /// Something an operator or a tenant should hear about a credential.
    Credential {
        /// Which route.
        key: RouteKey,
        /// What.
        alert: CredentialAlert,
    },
}
