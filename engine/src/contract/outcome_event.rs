//! What a backend hears of its notifications: one event per part of a job's record.
//! It must not know how events are kept or published.

use serde::Serialize;
use utoipa::ToSchema;

/// What came of some recipients of a notification. Events may come twice: the same id is the same event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutcomeEvent {
    /// The version of this contract.
    #[schema(example = 1)]
    pub v: u32,
    /// The receipt's id: the job's and the place of the receipt among its receipts, joined by a dot.
    #[schema(max_length = 128)]
    pub id: String,
    /// Whose notification it is; also the routing key.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub tenant: String,
    /// The notification. Of a published request: UUIDv5 of its message id, in the namespace UUIDv5 of the tenant in
    /// 0c1a7104-9b1e-5c0f-8a3d-7e526d617267.
    #[schema(format = "uuid")]
    pub notification_id: String,
    /// The job whose record it is.
    #[schema(format = "uuid")]
    pub job_id: String,
    /// When it was recorded.
    #[schema(format = "date-time")]
    pub at: String,
    /// Those that were not accepted, or all, as the deployment is configured; in the order of the request. A job may tell of
    /// its recipients in several events, of each in one.
    pub recipients: Vec<RecipientOutcome>,
}

/// How a push to one recipient ended.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecipientOutcome {
    /// The entry's place in the request, from 0.
    pub ordinal: u32,
    /// `accepted`, `unregistered`, `rejected`, `expired`, `exhausted`, `cancelled`, `dead`, `no_device` or `unknown`.
    /// Accepted by the provider is not delivered to the device.
    pub state: String,
    /// The user of a failed push, where the entry named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// `ios`, `watchos` or `android`: of a failed push, where a device was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The device token of a failed push: the tenant's own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    /// The provider's word for a failure, or ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl std::fmt::Debug for RecipientOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecipientOutcome")
            .field("ordinal", &self.ordinal)
            .field("state", &self.state)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
