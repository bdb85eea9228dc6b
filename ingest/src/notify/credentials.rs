//! `…/credentials`: what authenticates a tenant at Apple and Google. Checked offline, sealed, never shown again.
//! It must not know what credentials are made of; the engine's door parses them.

use clarion_auth::TenantId;
use clarion_auth::ids::CredentialId;
use clarion_auth::seal::SealedFor;
use clarion_engine::intake::request::default_environment;
use clarion_engine::intake::{StoredCredential, check_credential, credential_id};
use clarion_engine::model::Environment;
use clarion_engine::store::{self, CredentialKind, CredentialRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::{Answer, rfc3339};
use crate::call::{Call, TenantCall, query_error};
use crate::error::{ApiError, FieldError, Kind};
use crate::json::Member;

/// Replacements at once of the same credential; each tries again with the next version.
const VERSIONS_TRIED_MAX: usize = 4;

/// A provider credential. For `apns` give the key (`team_id`, `key_id`, `private_key`), or a certificate
/// (`certificate_p12` with its `password`, or `certificate_pem`); for `fcm` give `service_account`.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PutCredentialRequest {
    /// `production` or `sandbox`, for Apple; the tenant's default when absent.
    #[schema(value_type = Option<String>, example = "production")]
    environment: Option<Environment>,
    /// Apple's team id: ten capital letters and digits.
    team_id: Option<String>,
    /// Apple's key id: ten capital letters and digits.
    key_id: Option<String>,
    /// The text of the `.p8` file.
    private_key: Option<String>,
    /// A `.p12` file in base64.
    certificate_p12: Option<String>,
    /// What opens the `.p12` file.
    password: Option<String>,
    /// Certificate chain and private key.
    certificate_pem: Option<String>,
    /// Google's service account, as downloaded.
    #[schema(value_type = Option<Object>)]
    service_account: Option<Member<Map<String, Value>>>,
}

/// A stored credential, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialBody {
    /// `apns-production`, `apns-sandbox` or `fcm`.
    credential_id: String,
    /// `apns_key`, `apns_certificate` or `fcm`.
    kind: &'static str,
    #[schema(value_type = String, example = "production")]
    environment: Environment,
    /// Grows with every replacement.
    version: i64,
    /// Public facts: team id and key id, topics, project id, fingerprint of the public key.
    #[schema(value_type = Object)]
    public: Value,
    created_at: String,
}

/// A tenant's credentials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialList {
    credentials: Vec<CredentialBody>,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedCredential {
    deleted: bool,
    credential_id: &'static str,
}

/// The members of an upload for Apple.
#[derive(Default)]
pub(crate) struct AppleUpload {
    pub(crate) team_id: Option<String>,
    pub(crate) key_id: Option<String>,
    pub(crate) private_key: Option<String>,
    pub(crate) p12: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) pem: Option<String>,
}

/// A credential on its way to its place.
pub(crate) struct Upload {
    pub(crate) credential_id: &'static str,
    pub(crate) environment: Environment,
    pub(crate) secret: StoredCredential,
}

/// Store or replace a provider credential.
#[utoipa::path(put, path = "/tenants/{tenant}/credentials/{provider}", tag = "credentials",
    params(("tenant" = String, Path),
        ("provider" = String, Path, description = "`apns` or `fcm`")),
    request_body = PutCredentialRequest, responses((status = 200, body = CredentialBody)),
    security(("access_token" = [])))]
pub(crate) async fn put(mut call: TenantCall) -> Result<Answer, ApiError> {
    let is_apple = match call.path("provider") {
        "apns" => true,
        "fcm" => false,
        _ => return Err(ApiError::not_found("provider: apns or fcm")),
    };
    let request: PutCredentialRequest = call.json().await?;
    let upload = match (is_apple, request.service_account) {
        (true, _) => {
            let default = default_environment(call.row().await?.use_sandbox);
            let environment = request.environment.unwrap_or(default);
            let upload = AppleUpload {
                team_id: request.team_id,
                key_id: request.key_id,
                private_key: request.private_key,
                p12: request.certificate_p12,
                password: request.password,
                pem: request.certificate_pem,
            };
            upload.into_upload(environment)?
        }
        (false, Some(file)) => google(file.0)?,
        (false, None) => {
            let loc = ["body".into(), "service_account".into()];
            return Err(ApiError::field(FieldError::missing(loc)));
        }
    };
    let record = replace(&call, &upload).await?;
    Answer::json(&CredentialBody::from(record))
}

/// Stores or replaces a credential; engines obey it when this returns.
pub(crate) async fn replace(
    call: &TenantCall,
    upload: &Upload,
) -> Result<CredentialRecord, ApiError> {
    for _ in 0..VERSIONS_TRIED_MAX {
        let store = &call.app.store;
        let version = store
            .next_credential_version(&call.tenant, upload.credential_id)
            .await?;
        let record = seal(call, &call.tenant, upload, version)?;
        match store.put_credential(&record).await {
            Err(store::Error::Conflict(_)) => {}
            answer => {
                answer?;
                (call.app.control_obeyed)().await;
                return Ok(record);
            }
        }
    }
    let detail = "somebody else is replacing the same credential: look at the list and try again";
    Err(ApiError::new(Kind::Conflict, detail))
}

/// List the provider credentials, without their secrets.
#[utoipa::path(get, path = "/tenants/{tenant}/credentials", tag = "credentials",
    params(("tenant" = String, Path)), responses((status = 200, body = CredentialList)),
    security(("access_token" = [])))]
pub(crate) async fn list(call: TenantCall) -> Result<Answer, ApiError> {
    let records = call.app.store.credentials(&call.tenant).await?;
    let credentials = records.into_iter().map(CredentialBody::from).collect();
    Answer::json(&CredentialList { credentials })
}

/// Delete a provider credential: nothing is sent with it any more.
#[utoipa::path(delete, path = "/tenants/{tenant}/credentials/{provider}", tag = "credentials",
    params(("tenant" = String, Path),
        ("provider" = String, Path, description = "`apns` or `fcm`, or a credential's id"),
        ("environment" = Option<String>, Query, description = "for `apns`")),
    responses((status = 200, body = DeletedCredential)), security(("access_token" = [])))]
pub(crate) async fn delete(mut call: TenantCall) -> Result<Answer, ApiError> {
    let default = default_environment(call.row().await?.use_sandbox);
    let environment = match call.query("environment") {
        None => default,
        Some(word) => Environment::parse(word)
            .ok_or_else(|| query_error("environment", "is production or sandbox"))?,
    };
    let credential_id = match call.path("provider") {
        "apns" => credential_id(true, environment),
        "apns-production" => credential_id(true, Environment::Production),
        "apns-sandbox" => credential_id(true, Environment::Sandbox),
        "fcm" => credential_id(false, Environment::Production),
        _ => return Err(ApiError::not_found("provider: apns or fcm")),
    };
    let store = &call.app.store;
    if !store
        .delete_credential(&call.tenant, credential_id, call.now)
        .await?
    {
        return Err(ApiError::not_found("credential"));
    }
    (call.app.control_obeyed)().await;
    Answer::json(&DeletedCredential {
        deleted: true,
        credential_id,
    })
}

/// The credentials that a tenant is created with.
pub(crate) fn seal_new(
    call: &Call,
    tenant: &TenantId,
    uploads: &[Upload],
) -> Result<Vec<CredentialRecord>, ApiError> {
    uploads
        .iter()
        .map(|upload| seal(call, tenant, upload, 1))
        .collect()
}

fn seal(
    call: &Call,
    tenant: &TenantId,
    upload: &Upload,
    version: i64,
) -> Result<CredentialRecord, ApiError> {
    let checked = check_credential(&upload.secret, call.now)
        .map_err(|refusal| ApiError::new(Kind::BadValue, refusal.to_string()))?;
    let credential: CredentialId = upload
        .credential_id
        .parse()
        .map_err(|error: clarion_auth::ids::IdError| ApiError::internal(&error))?;
    let row = SealedFor {
        tenant,
        credential: &credential,
        version: version.unsigned_abs(),
    };
    let sealed = call
        .app
        .sealer
        .seal(row, &upload.secret.to_bytes())
        .map_err(|error| ApiError::new(Kind::BadValue, error.to_string()))?;
    Ok(CredentialRecord {
        tenant: tenant.clone(),
        credential_id: upload.credential_id.to_owned(),
        kind: checked.kind,
        environment: upload.environment,
        version,
        public: checked.public,
        sealed,
        created_at: call.now,
    })
}

impl AppleUpload {
    /// Whether nothing of it was given.
    pub(crate) fn is_empty(&self) -> bool {
        let members = [
            &self.team_id,
            &self.key_id,
            &self.private_key,
            &self.p12,
            &self.pem,
        ];
        members.into_iter().all(Option::is_none)
    }

    /// The one credential that its members make.
    pub(crate) fn into_upload(self, environment: Environment) -> Result<Upload, ApiError> {
        let required = |field: &'static str, value: Option<String>| {
            let missing = || FieldError::missing(["body".into(), field.into()]);
            value.ok_or_else(|| ApiError::field(missing()))
        };
        let secret = match (self.p12, self.pem) {
            (None, None) => StoredCredential::ApnsKey {
                private_key: required("private_key", self.private_key)?,
                team_id: required("team_id", self.team_id)?,
                key_id: required("key_id", self.key_id)?,
            },
            (Some(file), None) if self.private_key.is_none() => StoredCredential::ApnsP12 {
                file,
                password: self.password.unwrap_or_default(),
            },
            (None, Some(pem)) if self.private_key.is_none() => StoredCredential::ApnsPem { pem },
            _ => {
                let problem = "give one of private_key, certificate_p12 and certificate_pem";
                let loc = ["body".into()];
                return Err(ApiError::field(FieldError::value(loc, problem)));
            }
        };
        Ok(Upload {
            credential_id: credential_id(true, environment),
            environment,
            secret,
        })
    }
}

/// A service account: the file itself, or in a member `service_account`.
pub(crate) fn google(mut file: Map<String, Value>) -> Result<Upload, ApiError> {
    let file = match file.remove("service_account") {
        None => Value::Object(file),
        Some(inner @ Value::Object(_)) => inner,
        Some(_) => {
            let loc = ["body".into(), "service_account".into()];
            let problem = "is the service account's JSON object";
            return Err(ApiError::field(FieldError::value(loc, problem)));
        }
    };
    let environment = Environment::Production;
    Ok(Upload {
        credential_id: credential_id(false, environment),
        environment,
        secret: StoredCredential::Fcm {
            service_account: file.to_string(),
        },
    })
}

/// A text among a credential's public facts.
pub(crate) fn public_fact(record: &CredentialRecord, name: &str) -> Option<String> {
    let facts: Value = serde_json::from_str(&record.public).ok()?;
    facts.get(name)?.as_str().map(ToOwned::to_owned)
}

impl From<CredentialRecord> for CredentialBody {
    fn from(record: CredentialRecord) -> Self {
        Self {
            kind: match record.kind {
                CredentialKind::ApnsKey => "apns_key",
                CredentialKind::ApnsCertificate => "apns_certificate",
                CredentialKind::Fcm => "fcm",
            },
            environment: record.environment,
            version: record.version,
            public: serde_json::from_str(&record.public).unwrap_or_default(),
            created_at: rfc3339(record.created_at),
            credential_id: record.credential_id,
        }
    }
}
