//! `…/clients`: registered client applications. One within the organisation gets its id and secret together, and neither
//! changes; one outside of it gets an id only, and may get a secret once. Five of each kind.
//! It must not know how a pair is compared.

use clarion_auth::api_key;
use clarion_engine::store::{
    self, CLIENTS_PER_SECTION_MAX, ClientCreated, ClientRecord, SecretAdded, Section,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::secrets::new_secret;
use crate::answer::{Answer, rfc3339};
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind};
use crate::fresh;

/// Longest name of a client, bytes.
const NAME_MAX: usize = 200;

/// A client application to be registered.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateClientRequest {
    /// The customer's name.
    #[schema(max_length = 200)]
    name: String,
    /// `inside` the organisation (id and secret) or `outside` (id only).
    #[schema(value_type = String, example = "inside")]
    section: SectionWord,
}

/// For whom a client application is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SectionWord {
    Inside,
    Outside,
}

/// A new client application, or one with a new secret; the only answer that contains the secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedClient {
    /// `X-IBM-Client-Id`
    client_id: String,
    /// `X-IBM-Client-Secret`; null outside the organisation. It is never shown again.
    client_secret: Option<String>,
    name: String,
    section: &'static str,
    created_at: String,
}

/// A client application without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedClient {
    client_id: String,
    name: String,
    section: &'static str,
    /// Whether it has a secret: then both are needed.
    has_secret: bool,
    created_at: String,
}

/// A new secret; the only answer that contains it.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddedSecret {
    client_id: String,
    /// It is never shown again.
    client_secret: String,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedClient {
    deleted: bool,
    client_id: String,
}

/// Register a client application: at most five inside the organisation, and five outside.
#[utoipa::path(post, path = "/tenants/{tenant}/clients", tag = "clients",
    params(("tenant" = String, Path)), request_body = CreateClientRequest,
    responses((status = 200, body = CreatedClient)), security(("access_token" = [])))]
pub(crate) async fn create(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: CreateClientRequest = call.json().await?;
    let name = check_name(request.name)?;
    let section = match request.section {
        SectionWord::Inside => Section::Inside,
        SectionWord::Outside => Section::Outside,
    };
    let secret = match section {
        Section::Inside => Some(new_secret()?),
        Section::Outside => None,
    };
    let record = ClientRecord {
        tenant: call.tenant.clone(),
        client_id: fresh::uuid(call.now)?.to_string(),
        name,
        section,
        secret: secret.as_deref().map(api_key::hash),
        created_at: call.now,
    };
    if call.app.store.create_client(&record).await? == ClientCreated::Full {
        let detail = format!(
            "a tenant has at most {CLIENTS_PER_SECTION_MAX} clients {} its organisation: delete one first",
            section.as_str(),
        );
        return Err(ApiError::new(Kind::Conflict, detail));
    }
    let created = CreatedClient {
        client_id: record.client_id,
        client_secret: secret.map(|secret| secret.to_string()),
        name: record.name,
        section: section.as_str(),
        created_at: rfc3339(record.created_at),
    };
    Ok(Answer::json(&created)?.made("client_id", &created.client_id))
}

/// List the client applications.
#[utoipa::path(get, path = "/tenants/{tenant}/clients", tag = "clients",
    params(("tenant" = String, Path)), responses((status = 200, body = Vec<ListedClient>)),
    security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let clients = call.app.store.clients(&call.tenant).await?;
    let clients: Vec<ListedClient> = clients.into_iter().map(ListedClient::from).collect();
    Answer::json(&clients)
}

/// Give a client application outside the organisation its secret, once. From then on both are needed.
#[utoipa::path(post, path = "/tenants/{tenant}/clients/{client_id}/secret", tag = "clients",
    params(("tenant" = String, Path), ("client_id" = String, Path)),
    responses((status = 200, body = AddedSecret)), security(("access_token" = [])))]
pub(crate) async fn add_secret(call: TenantCall) -> Result<Answer, ApiError> {
    let client_id = call.path("client_id");
    let secret = new_secret()?;
    let hash = api_key::hash(&secret);
    let store = &call.app.store;
    match store
        .add_client_secret(&call.tenant, client_id, &hash)
        .await?
    {
        SecretAdded::Stored => Answer::json(&AddedSecret {
            client_id: client_id.to_owned(),
            client_secret: secret.to_string(),
        }),
        SecretAdded::Unknown => Err(ApiError::not_found("client")),
        SecretAdded::Immutable => {
            let detail =
                "its secret cannot be changed: register another client, then delete this one";
            Err(ApiError::new(Kind::Conflict, detail))
        }
    }
}

/// Delete a client application: when this is answered, no request with its id is served any more.
#[utoipa::path(delete, path = "/tenants/{tenant}/clients/{client_id}", tag = "clients",
    params(("tenant" = String, Path), ("client_id" = String, Path)),
    responses((status = 200, body = DeletedClient)), security(("access_token" = [])))]
pub(crate) async fn delete(call: TenantCall) -> Result<Answer, ApiError> {
    // Nobody caches clients: every request asks the store.
    let client_id = call.path("client_id").to_owned();
    let deleted = call
        .app
        .store
        .delete_client(&call.tenant, &client_id)
        .await?;
    if !deleted {
        return Err(ApiError::not_found("client"));
    }
    Answer::json(&DeletedClient { deleted, client_id })
}

impl From<store::ClientRecord> for ListedClient {
    fn from(record: store::ClientRecord) -> Self {
        Self {
            client_id: record.client_id,
            name: record.name,
            section: record.section.as_str(),
            has_secret: record.secret.is_some(),
            created_at: rfc3339(record.created_at),
        }
    }
}

fn check_name(name: String) -> Result<String, ApiError> {
    let problem = if name.trim().is_empty() {
        "is blank: name the customer"
    } else if name.len() > NAME_MAX {
        "has more than 200 bytes"
    } else if name.chars().any(char::is_control) {
        "holds control characters: leave them out"
    } else {
        return Ok(name);
    };
    let loc = ["body".into(), "name".into()];
    Err(ApiError::field(FieldError::value(loc, problem)))
}
