//! What is noted of administrative calls: one row at the route, whoever called, whatever came of it.
//! It must not know what an operation does; handlers only say what they made.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use clarion_auth::operation::Operation;
use clarion_auth::permission::operators;
use clarion_auth::{OrgId, TenantId};
use clarion_engine::store::AuditEntry;

use crate::answer::Answer;
use crate::app::Inner;
use crate::error::{ApiError, Chain};
use crate::face::Face;
use crate::metrics;

/// Longest target that is noted, bytes.
const TARGET_MAX: usize = 1_024;

/// The address that a request came from: the proxy's, where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) IpAddr);

/// The id under which the log knows a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// What is known of a call before it is answered.
pub(crate) struct Trace {
    pub(crate) app: Arc<Inner>,
    /// The organisation, once somebody found out.
    pub(crate) about: Arc<OnceLock<OrgId>>,
    pub(crate) actor: String,
    pub(crate) credential: &'static str,
    pub(crate) operation: Operation,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) target: String,
    pub(crate) source: Option<Source>,
    pub(crate) request_id: Option<RequestId>,
}

impl Trace {
    /// The row of the call that got this answer.
    pub(crate) fn answered(self, answer: &Result<Answer, ApiError>) -> Noted {
        let (status, made) = match answer {
            Ok(answer) => (answer.status(), answer.what_was_made()),
            Err(error) => (error.status_on(Face::Notify).as_u16(), None),
        };
        let mut target = self.target.clone();
        if let Some(made) = made {
            let gap = if target.is_empty() { "" } else { " " };
            target = format!("{target}{gap}{made}");
        }
        target.truncate(target.floor_char_boundary(TARGET_MAX));
        Noted {
            trace: self,
            status,
            target,
        }
    }
}

/// A call with what came of it.
pub(crate) struct Noted {
    trace: Trace,
    status: u16,
    target: String,
}

impl Noted {
    /// Appends the row. What was done stays done when it cannot be written; that is told to the log and counted.
    pub(crate) async fn append(self) {
        let Self {
            trace,
            status,
            target,
        } = self;
        let app = trace.app;
        let request_id = trace.request_id;
        let entry = AuditEntry {
            org: org(&app, &trace.about, trace.tenant.as_ref()).await,
            at: (app.now)(),
            actor: trace.actor,
            credential: trace.credential,
            source: trace.source.map(|source| source.0.to_string()),
            operation: trace.operation.as_str(),
            tenant: trace.tenant,
            target,
            status,
            request_id: request_id.map_or_else(String::new, |id| id.0.to_string()),
        };
        if let Err(error) = app.store.append_audit(&entry).await {
            metrics::audit_lost();
            tracing::error!(
                error = %Chain(&error), operation = entry.operation, actor = entry.actor,
                request_id = entry.request_id, status, "a row of the audit log could not be written"
            );
        }
    }
}

/// Whose log it belongs in: the organisation that was judged by, else that of the tenant of the path, else the operators'.
async fn org(app: &Inner, about: &OnceLock<OrgId>, tenant: Option<&TenantId>) -> OrgId {
    if let Some(org) = about.get() {
        return org.clone();
    }
    let Some(tenant) = tenant else {
        return operators();
    };
    let row = app.store.tenant(tenant).await.ok().flatten();
    row.map_or_else(operators, |row| row.org)
}
