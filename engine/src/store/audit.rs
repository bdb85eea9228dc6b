//! The audit log: who did what to what people decide about. Rows are added, and deleted only by their age.
//! It must not know operations or who may read it.

use async_trait::async_trait;
use clarion_auth::{OrgId, TenantId};

use super::Error;
use crate::model::Millis;

/// What is noted of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whose log it stands in: the organisation that it was about.
    pub org: OrgId,
    /// When it was answered.
    pub at: Millis,
    /// Who: a subject, a key's public id, a service's or a client's id.
    pub actor: String,
    /// What kind of credential was shown.
    pub credential: &'static str,
    /// The address that it came from.
    pub source: Option<String>,
    /// What was asked for.
    pub operation: &'static str,
    /// The tenant that it was about.
    pub tenant: Option<TenantId>,
    /// What else the path names, as `name=value`, separated by spaces.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// The request's id.
    pub request_id: String,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place: greater is later.
    pub id: i64,
    /// When it was answered.
    pub at: Millis,
    /// See [`AuditEntry::actor`].
    pub actor: String,
    /// See [`AuditEntry::credential`].
    pub credential: String,
    /// See [`AuditEntry::source`].
    pub source: Option<String>,
    /// See [`AuditEntry::operation`].
    pub operation: String,
    /// See [`AuditEntry::tenant`].
    pub tenant: Option<TenantId>,
    /// See [`AuditEntry::target`].
    pub target: String,
    /// See [`AuditEntry::status`].
    pub status: u16,
    /// See [`AuditEntry::request_id`].
    pub request_id: String,
}

/// The audit log.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Adds a row.
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), Error>;

    /// An organisation's rows, latest first, of places before `before`.
    async fn audit(&self, org: &OrgId, before: i64, limit: u32) -> Result<Vec<AuditRow>, Error>;
}
