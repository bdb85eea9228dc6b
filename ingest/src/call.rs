//! A request whose caller is known and, for a tenant's routes, allowed: what handlers work with.
//! It must not know what a route does.

use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use clarion_auth::permission::{Denied, Operation, Target, authorize, operators};
use clarion_auth::principal::Principal;
use clarion_auth::{OrgId, TenantId};
use clarion_engine::model::Millis;
use clarion_engine::store::Tenant;
use http::{HeaderMap, Request};
use serde::de::DeserializeOwned;

use crate::app::{App, Inner};
use crate::audit::{RequestId, Source, Trace};
use crate::authenticate::{Authenticator, Shown};
use crate::body::{self, Held};
use crate::error::{ApiError, FieldError};
use crate::json;

/// The parts of paths that name the tenant: the Notify face's, and IBM's.
const TENANT_PARTS: [&str; 2] = ["tenant", "applicationId"];

/// An authenticated request.
pub(crate) struct Call {
    pub(crate) app: Arc<Inner>,
    pub(crate) principal: Principal,
    pub(crate) operation: Operation,
    /// The route's documented template: the same for all its prefixes.
    pub(crate) route: Arc<str>,
    pub(crate) headers: HeaderMap,
    pub(crate) method: http::Method,
    /// One reading of the clock for the whole request.
    pub(crate) now: Millis,
    /// Whose audit log it belongs in, once that is known.
    about: Arc<OnceLock<OrgId>>,
    source: Option<Source>,
    request_id: Option<RequestId>,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// Behind a lock only so that calls may be shared between tasks.
    body: Mutex<Body>,
}

/// What a route says of itself.
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    /// The route's documented template.
    pub(crate) route: Arc<str>,
    /// How callers of its face are known.
    pub(crate) authenticator: Authenticator,
}

impl Call {
    /// Finds out who is calling; 401 otherwise.
    pub(crate) async fn admit(
        app: App,
        asked: Asked,
        request: Request<Body>,
    ) -> Result<Self, ApiError> {
        let Asked {
            operation,
            route,
            authenticator,
        } = asked;
        let (mut parts, body) = request.into_parts();
        let path = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| ApiError::not_found("resource: the path is not valid UTF-8"))?;
        let path = path
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let path: Vec<_> = path.collect();
        let shown = Shown {
            headers: &parts.headers,
            path: &path,
            operation,
        };
        let principal = authenticator(&app.0, shown).await?;
        let invalid = |_| {
            let loc = ["query".into()];
            ApiError::field(FieldError::value(
                loc,
                "is not a URL-encoded list of parameters",
            ))
        };
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(invalid)?;
        Ok(Self {
            now: (app.0.now)(),
            app: app.0,
            principal,
            operation,
            route,
            headers: parts.headers,
            method: parts.method,
            about: Arc::default(),
            source: parts.extensions.get().copied(),
            request_id: parts.extensions.get().cloned(),
            path,
            query,
            body: Mutex::new(body),
        })
    }

    /// Whether the caller may do this in an organisation that the request names.
    pub(crate) fn authorize_in(&self, org: &OrgId) -> Result<(), ApiError> {
        self.authorize_about(self.operation, Target::org(org))
    }

    /// Whether the caller may do something about this.
    pub(crate) fn authorize_about(
        &self,
        operation: Operation,
        target: Target<'_>,
    ) -> Result<(), ApiError> {
        if let Some(org) = target.org {
            self.is_about(org);
        }
        Ok(authorize(&self.principal, operation, target)?)
    }

    /// Notes in whose audit log the call belongs; the first word counts.
    pub(crate) fn is_about(&self, org: &OrgId) {
        self.about.get_or_init(|| org.clone());
    }

    /// What the audit log will say of this call, but for its answer.
    pub(crate) fn trace(&self) -> Trace {
        let named = TENANT_PARTS.map(|part| self.path(part)).concat();
        let target = self.path.iter().filter(|(name, value)| {
            !value.is_empty() && name != "org" && !TENANT_PARTS.contains(&name.as_str())
        });
        let target: Vec<String> = target
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Trace {
            app: Arc::clone(&self.app),
            about: Arc::clone(&self.about),
            actor: self.principal.to_string(),
            credential: self.principal.credential().as_str(),
            operation: self.operation,
            tenant: named.parse().ok(),
            target: target.join(" "),
            source: self.source,
            request_id: self.request_id.clone(),
        }
    }

    /// Whether the caller may do this about all organisations of its own.
    pub(crate) fn authorize_everywhere(&self) -> Result<(), ApiError> {
        Ok(authorize(
            &self.principal,
            self.operation,
            Target::unnamed(),
        )?)
    }

    /// Refuses a credential that can never do this, before its body is read.
    pub(crate) fn refuse_never(&self) -> Result<(), ApiError> {
        match authorize(&self.principal, self.operation, Target::unnamed()) {
            Err(denied @ Denied::NotInList(_)) => Err(denied.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A part of the path, percent-decoded.
    pub(crate) fn path(&self, name: &str) -> &str {
        let part = self.path.iter().find(|(known, _)| known == name);
        part.map_or("", |(_, value)| value)
    }

    /// A query parameter; an empty one is absent.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let part = self.query.iter().find(|(known, _)| known == name);
        part.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A query parameter that is a number of a page: `limit`, at most `max`.
    pub(crate) fn limit(&self, default: u32, max: u32) -> Result<u32, ApiError> {
        let Some(text) = self.query("limit") else {
            return Ok(default);
        };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(query_error("limit", format!("is a number from 1 to {max}"))),
        }
    }

    /// The query parameter `cursor`, as an earlier answer gave it.
    pub(crate) fn cursor(&self) -> Result<i64, ApiError> {
        let Some(text) = self.query("cursor") else {
            return Ok(0);
        };
        let parsed = text.parse().ok().filter(|cursor| *cursor >= 0);
        parsed.ok_or_else(|| query_error("cursor", "is next_cursor of an earlier answer"))
    }

    /// Takes an ordinary body.
    pub(crate) async fn body(&mut self) -> Result<Held, ApiError> {
        self.take_body(self.app.config.body_max).await
    }

    /// Takes the body of a bulk.
    pub(crate) async fn bulk_body(&mut self) -> Result<Held, ApiError> {
        self.take_body(self.app.config.bulk_body_max).await
    }

    async fn take_body(&mut self, limit: usize) -> Result<Held, ApiError> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let body = std::mem::take(body);
        body::read(&self.app, &self.headers, body, limit).await
    }

    /// Takes an ordinary body of whatever media type.
    pub(crate) async fn raw_body(&mut self) -> Result<Held, ApiError> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let body = std::mem::take(body);
        body::read_raw(&self.app, &self.headers, body, self.app.config.body_max).await
    }

    /// Takes an ordinary body and reads it as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let held = self.body().await?;
        json::read(&held.bytes)
    }
}

/// Whether those who run the deployment may do this to any tenant, and to ids that are no tenant's: what was published for
/// nobody is nobody else's to look at.
fn is_the_operators(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ListDeadLetters | Operation::ReplayDeadLetters | Operation::PurgeDeadLetters
    )
}

/// A query parameter that breaks a rule.
pub(crate) fn query_error(
    name: &'static str,
    problem: impl Into<std::borrow::Cow<'static, str>>,
) -> ApiError {
    ApiError::field(FieldError::value(["query".into(), name.into()], problem))
}

/// A call about one tenant that the caller may make.
pub(crate) struct TenantCall {
    call: Call,
    /// The tenant of the path.
    pub(crate) tenant: TenantId,
    /// The organisation by which the caller was judged, where organisations decide.
    org: Option<OrgId>,
    /// Its row, where authorisation needed it.
    row: Option<Tenant>,
}

impl TenantCall {
    /// Judges whether the caller may do this to the tenant of the path.
    pub(crate) async fn allow(call: Call) -> Result<Self, ApiError> {
        let named = TENANT_PARTS.map(|part| call.path(part)).concat();
        Self::allow_to(call, &named).await
    }

    /// Judges whether the caller may do this to the tenant that the request names elsewhere.
    pub(crate) async fn allow_to(call: Call, named: &str) -> Result<Self, ApiError> {
        let parsed = named.parse::<TenantId>().ok();
        if call.principal.own_tenant().is_some() {
            // Judged by the path alone: a foreign tenant is refused alike, whether it exists or not.
            let target = Target {
                tenant: parsed.as_ref(),
                ..Target::unnamed()
            };
            authorize(&call.principal, call.operation, target)?;
            let tenant = parsed.ok_or_else(|| ApiError::not_found("tenant"))?;
            return Ok(Self {
                call,
                tenant,
                org: None,
                row: None,
            });
        }
        let tenant = parsed.ok_or_else(|| ApiError::not_found("tenant"))?;
        let row = call.app.store.tenant(&tenant).await?;
        let theirs = operators();
        let judge = |org| {
            let target = Target::tenant(&tenant).owned_by(org);
            authorize(&call.principal, call.operation, target)
        };
        let org = if is_the_operators(call.operation) && judge(&theirs).is_ok() {
            theirs
        } else {
            let row = row.as_ref().ok_or_else(|| ApiError::not_found("tenant"))?;
            call.is_about(&row.org);
            judge(&row.org)?;
            row.org.clone()
        };
        Ok(Self {
            call,
            tenant,
            org: Some(org),
            row,
        })
    }

    /// Whether the caller may do something else to the tenant as well: where only the body says which of several
    /// operations it is, the route names the least, and the handler asks about the others.
    pub(crate) fn allows(&self, operation: Operation) -> Result<(), ApiError> {
        let target = Target {
            tenant: Some(&self.tenant),
            org: self.org.as_ref(),
            person: None,
        };
        Ok(authorize(&self.call.principal, operation, target)?)
    }

    /// The tenant's row.
    pub(crate) async fn row(&mut self) -> Result<Tenant, ApiError> {
        if let Some(row) = self.row.take() {
            return Ok(row);
        }
        let row = self.call.app.store.tenant(&self.tenant).await?;
        row.ok_or_else(|| ApiError::not_found("tenant"))
    }
}

impl Deref for TenantCall {
    type Target = Call;
    fn deref(&self) -> &Call {
        &self.call
    }
}

impl std::ops::DerefMut for TenantCall {
    fn deref_mut(&mut self) -> &mut Call {
        &mut self.call
    }
}
