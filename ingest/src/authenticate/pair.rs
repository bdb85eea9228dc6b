//! API Connect's pair of headers: an application's id, and its secret where it has one, in the order and with the words that
//! API Connect documents.
//! It must not know what a registered application may do.

use clarion_auth::TenantId;
use clarion_auth::api_key;
use clarion_auth::ids::ClientId;
use clarion_auth::principal::Principal;
use http::HeaderName;

use super::Shown;
use crate::app::Inner;
use crate::error::{ApiError, Kind};
use crate::face::Face;
use crate::metrics;

const CLIENT_ID: HeaderName = HeaderName::from_static("x-ibm-client-id");
const CLIENT_SECRET: HeaderName = HeaderName::from_static("x-ibm-client-secret");

const MISSING: &str = "Client id missing.";
const UNKNOWN: &str = "Client id not registered.";
const WRONG: &str = "Invalid client id or secret.";

/// The application whose pair was shown for this tenant; `None` when neither header was.
///
/// # Errors
/// 401 in API Connect's shape when the pair is not good, 503 when the store cannot be asked.
pub(crate) async fn by_pair(
    app: &Inner,
    shown: Shown<'_>,
    tenant: Option<&TenantId>,
) -> Result<Option<Principal>, ApiError> {
    let is_shown = |name: &HeaderName| shown.headers.contains_key(name);
    if !is_shown(&CLIENT_ID) && !is_shown(&CLIENT_SECRET) {
        return Ok(None);
    }
    let presented = shown.header(&CLIENT_SECRET);
    let Some(client_id) = shown.header(&CLIENT_ID).filter(|id| !id.is_empty()) else {
        return Err(refused(MISSING));
    };
    let known: Option<ClientId> = client_id.parse().ok();
    let record = match (tenant, &known) {
        // An id belongs to one application: elsewhere it is not registered.
        (Some(tenant), Some(id)) => app.store.client(tenant, id.as_str()).await?,
        _ => None,
    };
    let secret = record.as_ref().and_then(|record| record.secret.as_ref());
    // An unknown id is compared too, so that it takes as long as a wrong secret.
    let is_right = api_key::verify(secret, presented.unwrap_or_default());
    let (Some(record), Some(client_id)) = (record, known) else {
        return Err(refused(UNKNOWN));
    };
    let has_secret = record.secret.is_some();
    if (has_secret && !is_right) || (!has_secret && presented.is_some()) {
        return Err(refused(WRONG));
    }
    Ok(Some(Principal::ClientApp {
        tenant: record.tenant,
        client_id: Some(client_id),
        is_proven: has_secret,
    }))
}

fn refused(says: &'static str) -> ApiError {
    metrics::unauthenticated("client");
    ApiError::new(Kind::Unauthenticated, says).shaped(Face::Gateway)
}
