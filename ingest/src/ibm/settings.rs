//! `…/settings`: the credentials of Apple's and Google's push services, as far as IBM's settings can say them. Browsers have no
//! provider here, and Google's server keys of old are of no use any more: both are refused with a sentence that says what to do.
//! It must not know how credentials are sealed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clarion_engine::intake::credential_id;
use clarion_engine::model::Environment;
use clarion_engine::store::{CredentialKind, CredentialRecord, PushSecretsPatch, TenantPatch};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::multipart;
use super::page::href;
use crate::answer::Answer;
use crate::call::TenantCall;
use crate::error::{ApiError, FieldError, Kind};
use crate::notify::credentials::{self, AppleUpload, public_fact};

/// Longest sender id, bytes.
const SENDER_ID_MAX: usize = 64;
const NO_BROWSERS: &str = "Not Found - Clarion delivers to Apple's and Google's push services and not to \
                           browsers: there are apnsConf and gcmConf";
const NO_SERVER_KEYS: &str = "is Google's service account (its JSON, as text or as an object): Google ended \
                              server keys in 2024";

/// Links to the settings; empty for platforms that there is no provider for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingsLinks {
    apns_conf: String,
    gcm_conf: String,
    chrome_web_conf: &'static str,
    safari_web_conf: &'static str,
    firefox_web_conf: &'static str,
}

/// Apple's push service.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApnsConf {
    /// What can be shown of the certificate, or of the key that takes its place: its fingerprint.
    certificate: String,
    #[serde(rename = "isSandBox")]
    is_sand_box: bool,
    /// Of a certificate.
    valid_until: Option<String>,
}

/// A form.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the form; it is read by hand")]
pub(crate) struct ApnsConfForm {
    /// What opens the file.
    password: String,
    /// `true` or `false`: for which of Apple's environments, and which one devices register for from now on.
    #[schema(rename = "isSandBox")]
    is_sand_box: String,
    /// A `.p12` file.
    #[schema(value_type = String, format = Binary)]
    certificate: String,
}

/// Google's push service.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PutGcmConf {
    /// Google's service account: its JSON, as text or as an object. Server keys of old cannot be used.
    #[schema(value_type = Option<Object>)]
    api_key: Option<Value>,
    /// What apps register at Google with.
    sender_id: Option<String>,
}

/// Google's push service, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GcmConf {
    /// What can be shown of the service account: its address.
    api_key: String,
    sender_id: String,
}

/// What apps register at Google with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GcmConfPublic {
    sender_id: String,
}

/// Where the settings are.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/settings", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 200, body = SettingsLinks)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn links(call: TenantCall) -> Result<Answer, ApiError> {
    Answer::json(&SettingsLinks {
        apns_conf: href(&call.tenant, "settings/apnsConf"),
        gcm_conf: href(&call.tenant, "settings/gcmConf"),
        chrome_web_conf: "",
        safari_web_conf: "",
        firefox_web_conf: "",
    })
}

/// Read the settings of Apple's push service; never their secret.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/settings/apnsConf", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 200, body = ApnsConf)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn read_apns(mut call: TenantCall) -> Result<Answer, ApiError> {
    let environment = environment(&mut call).await?;
    let record = find(&call, credential_id(true, environment)).await?;
    Answer::json(&ApnsConf::of(&record))
}

/// Replace the certificate of Apple's push service.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/settings/apnsConf", tag = "IBM settings",
    params(("applicationId" = String, Path)),
    request_body(content = ApnsConfForm, content_type = "multipart/form-data"),
    responses((status = 200, body = ApnsConf)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn put_apns(mut call: TenantCall) -> Result<Answer, ApiError> {
    let held = call.raw_body().await?;
    let parts = multipart::parts(&call.headers, &held.bytes)?;
    let required = |name: &'static str| {
        let part = parts.iter().find(|part| part.name == name);
        let missing = || ApiError::field(FieldError::missing(["body".into(), name.into()]));
        part.map(|part| part.bytes).ok_or_else(missing)
    };
    let text = |name: &'static str| {
        let text = std::str::from_utf8(required(name)?);
        text.map_err(|_| wrong(name, "is not UTF-8"))
    };
    let is_sandbox = match &*text("isSandBox")?.trim().to_ascii_lowercase() {
        "true" => true,
        "false" => false,
        _ => return Err(wrong("isSandBox", "is true or false")),
    };
    let environment = match is_sandbox {
        true => Environment::Sandbox,
        false => Environment::Production,
    };
    let upload = AppleUpload {
        p12: Some(STANDARD.encode(required("certificate")?)),
        password: Some(text("password")?.to_owned()),
        ..AppleUpload::default()
    };
    let record = credentials::replace(&call, &upload.into_upload(environment)?).await?;
    // Devices that do not say theirs are of this environment from now on, as with IBM.
    let patch = TenantPatch {
        use_sandbox: Some(is_sandbox),
        ..TenantPatch::default()
    };
    call.app
        .store
        .update_tenant(&call.tenant, &patch, call.now)
        .await?;
    Answer::json(&ApnsConf::of(&record))
}

/// Delete the certificate of Apple's push service.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/settings/apnsConf", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 204)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delete_apns(mut call: TenantCall) -> Result<Answer, ApiError> {
    let environment = environment(&mut call).await?;
    delete(&call, credential_id(true, environment)).await
}

/// Read the settings of Google's push service; never their secret.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/settings/gcmConf", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 200, body = GcmConf)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn read_gcm(call: TenantCall) -> Result<Answer, ApiError> {
    let record = find(&call, google()).await?;
    Answer::json(&gcm_conf(&call, &record).await?)
}

/// Replace the settings of Google's push service: the service account, the sender id, or both.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/settings/gcmConf", tag = "IBM settings",
    params(("applicationId" = String, Path)), request_body = PutGcmConf,
    responses((status = 200, body = GcmConf)), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn put_gcm(mut call: TenantCall) -> Result<Answer, ApiError> {
    let request: PutGcmConf = call.json().await?;
    let account = request.api_key.map(account).transpose()?;
    if let Some(sender_id) = &request.sender_id {
        let is_plain = sender_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=SENDER_ID_MAX).contains(&sender_id.len()) || !is_plain {
            return Err(wrong("senderId", "has 1 to 64 visible ASCII characters"));
        }
    }
    let record = match account {
        Some(account) => credentials::replace(&call, &credentials::google(account)?).await?,
        None if request.sender_id.is_some() => find(&call, google()).await?,
        None => {
            return Err(ApiError::field(FieldError::missing([
                "body".into(),
                "apiKey".into(),
            ])));
        }
    };
    if let Some(sender_id) = request.sender_id {
        let patch = PushSecretsPatch {
            sender_id: Some(Some(sender_id.into())),
            ..PushSecretsPatch::default()
        };
        call.app
            .store
            .update_push_secrets(&call.tenant, &patch, call.now)
            .await?;
    }
    Answer::json(&gcm_conf(&call, &record).await?)
}

/// Delete the settings of Google's push service.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/settings/gcmConf", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 204)),
    security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delete_gcm(call: TenantCall) -> Result<Answer, ApiError> {
    let answer = delete(&call, google()).await?;
    let patch = PushSecretsPatch {
        sender_id: Some(None),
        ..PushSecretsPatch::default()
    };
    call.app
        .store
        .update_push_secrets(&call.tenant, &patch, call.now)
        .await?;
    Ok(answer)
}

/// Read what apps register at Google with.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/settings/gcmConfPublic", tag = "IBM settings",
    params(("applicationId" = String, Path)), responses((status = 200, body = GcmConfPublic)),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn read_gcm_public(call: TenantCall) -> Result<Answer, ApiError> {
    let secrets = call.app.store.push_secrets(&call.tenant).await?;
    let sender_id = secrets.sender_id.ok_or_else(|| {
        let says = "Not Found - there is no sender id: put it with gcmConf";
        ApiError::new(Kind::NotFound, says)
    })?;
    Answer::json(&GcmConfPublic {
        sender_id: sender_id.into(),
    })
}

/// Every other setting is one of browsers, for which there is no provider.
#[utoipa::path(get, path = "/imfpush/v1/apps/{applicationId}/settings/{setting}", tag = "IBM settings",
    params(("applicationId" = String, Path), ("setting" = String, Path)),
    responses((status = 404, description = "always")),
    security((), ("client_secret" = []), ("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn read_other(_: TenantCall) -> Result<Answer, ApiError> {
    Err(ApiError::new(Kind::NotFound, NO_BROWSERS))
}

/// Every other setting is one of browsers, for which there is no provider.
#[utoipa::path(put, path = "/imfpush/v1/apps/{applicationId}/settings/{setting}", tag = "IBM settings",
    params(("applicationId" = String, Path), ("setting" = String, Path)),
    responses((status = 404, description = "always")), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn put_other(_: TenantCall) -> Result<Answer, ApiError> {
    Err(ApiError::new(Kind::NotFound, NO_BROWSERS))
}

/// Every other setting is one of browsers, for which there is no provider.
#[utoipa::path(delete, path = "/imfpush/v1/apps/{applicationId}/settings/{setting}", tag = "IBM settings",
    params(("applicationId" = String, Path), ("setting" = String, Path)),
    responses((status = 404, description = "always")), security(("access_token" = []), ("app_secret" = [])))]
pub(crate) async fn delete_other(_: TenantCall) -> Result<Answer, ApiError> {
    Err(ApiError::new(Kind::NotFound, NO_BROWSERS))
}

/// The environment that devices register for.
async fn environment(call: &mut TenantCall) -> Result<Environment, ApiError> {
    Ok(match call.row().await?.use_sandbox {
        true => Environment::Sandbox,
        false => Environment::Production,
    })
}

fn google() -> &'static str {
    credential_id(false, Environment::Production)
}

async fn find(call: &TenantCall, credential_id: &str) -> Result<CredentialRecord, ApiError> {
    let records = call.app.store.credentials(&call.tenant).await?;
    let found = records
        .into_iter()
        .find(|record| record.credential_id == credential_id);
    found.ok_or_else(not_configured)
}

async fn delete(call: &TenantCall, credential_id: &str) -> Result<Answer, ApiError> {
    let store = &call.app.store;
    if !store
        .delete_credential(&call.tenant, credential_id, call.now)
        .await?
    {
        return Err(not_configured());
    }
    (call.app.control_obeyed)().await;
    Ok(Answer::silent())
}

fn not_configured() -> ApiError {
    ApiError::new(
        Kind::NotFound,
        "Not Found - this push service is not configured",
    )
}

/// A service account, where IBM's clients put a server key.
fn account(value: Value) -> Result<Map<String, Value>, ApiError> {
    let refused = || wrong("apiKey", NO_SERVER_KEYS);
    match value {
        Value::Object(file) => Ok(file),
        Value::String(text) => serde_json::from_str(&text).map_err(|_| refused()),
        _ => Err(refused()),
    }
}

async fn gcm_conf(call: &TenantCall, record: &CredentialRecord) -> Result<GcmConf, ApiError> {
    let secrets = call.app.store.push_secrets(&call.tenant).await?;
    Ok(GcmConf {
        api_key: public_fact(record, "client_email").unwrap_or_default(),
        sender_id: secrets.sender_id.map(String::from).unwrap_or_default(),
    })
}

fn wrong(field: &'static str, problem: &'static str) -> ApiError {
    ApiError::field(FieldError::value(["body".into(), field.into()], problem))
}

impl ApnsConf {
    fn of(record: &CredentialRecord) -> Self {
        let what = match record.kind {
            CredentialKind::ApnsKey => "key",
            _ => "certificate",
        };
        let fingerprint = public_fact(record, "fingerprint").unwrap_or_default();
        Self {
            certificate: format!("{what} {fingerprint}"),
            is_sand_box: record.environment == Environment::Sandbox,
            valid_until: public_fact(record, "valid_until"),
        }
    }
}
