//! `/identity/token`: an IAM key, or a refresh token, for an access token.
//! It must not know what an access token allows.

use aws_lc_rs::rand;
use axum::body::Body;
use axum::extract::Query;
use clarion_auth::opaque::{Opaque, OpaqueKind, hash_of};
use clarion_auth::token::{EXCHANGED_TTL, Grant, Holder};
use clarion_engine::model::Millis;
use clarion_engine::store::{IamKeyRecord, IamOwner, RefreshToken, Refreshed};
use http::{Request, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::app::{App, Inner};
use crate::body;
use crate::error::{ApiError, Kind};
use crate::metrics;

/// Largest body, bytes.
const BODY_MAX: usize = 16 * 1024;
/// How long a refresh token is good: 30 days, milliseconds.
const REFRESH_MILLIS: Millis = 30 * 24 * 60 * 60 * 1_000;

/// The codes that IBM's clients know.
const KEY_NOT_FOUND: &str = "BXNIM0415E";
const REFRESH_REFUSED: &str = "BXNIM0407E";

/// The fields of the form, in any order; others are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct TokenRequest {
    /// `urn:ibm:params:oauth:grant-type:apikey` or `refresh_token`.
    #[schema(example = "urn:ibm:params:oauth:grant-type:apikey")]
    grant_type: Option<String>,
    /// The IAM key.
    apikey: Option<String>,
    /// The refresh token of an earlier answer; good once.
    refresh_token: Option<String>,
}

/// An access token and what renews it.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenBody {
    access_token: String,
    refresh_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Unix seconds.
    expiration: i64,
    scope: &'static str,
    /// Always 1; some clients fail without it.
    ims_user_id: u32,
}

/// Exchange an IAM key or a refresh token for an access token. An `Authorization` header is ignored.
#[utoipa::path(post, path = "/identity/token", tag = "iam",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenBody)))]
pub(crate) async fn exchange(app: App, request: Request<Body>) -> Result<Answer, ApiError> {
    let app = &*app.0;
    let (parts, body) = request.into_parts();
    let held = body::read_raw(app, &parts.headers, body, BODY_MAX).await?;
    let form = read_form(&held.bytes)?;
    let grant = form.grant_type.as_deref().unwrap_or_default();
    if grant == Grant::ApiKey.as_str() {
        let key = form.apikey.ok_or_else(|| missing("apikey"))?;
        return by_key(app, &key).await;
    }
    if grant == Grant::Refresh.as_str() {
        let token = form.refresh_token.ok_or_else(|| missing("refresh_token"))?;
        return by_refresh(app, &token).await;
    }
    let says = "Property missing or unknown: grant_type: send urn:ibm:params:oauth:grant-type:apikey or \
                refresh_token";
    Err(ApiError::new(Kind::BadValue, says))
}

async fn by_key(app: &Inner, presented: &str) -> Result<Answer, ApiError> {
    let now = (app.now)();
    // What cannot be a key is refused without asking the store; unknown keys and wrong ones are one and the same.
    let found = match hash_of(OpaqueKind::IamKey, presented) {
        Some(hash) => app.store.iam_key_by_hash(&hash).await?,
        None => None,
    };
    let Some(key) = found.filter(|key| key.is_usable(now)) else {
        return Err(key_not_found());
    };
    let (fresh, stored) = refresh_token(now)?;
    let mut family = [0; 16];
    rand::fill(&mut family)
        .map_err(|_| ApiError::unavailable("the system has no random bytes: try again"))?;
    let access_token = access_token(app, &key, Grant::ApiKey, now).await?;
    let family = Uuid::from_bytes(family);
    app.store.begin_refresh(family, &key.id, &stored).await?;
    answer(access_token, &fresh, now)
}

async fn by_refresh(app: &Inner, presented: &str) -> Result<Answer, ApiError> {
    let now = (app.now)();
    let refused = |says: &'static str| {
        metrics::unauthenticated("refresh_token");
        Err(ApiError::new(Kind::BadValue, says).code(REFRESH_REFUSED))
    };
    const UNKNOWN: &str =
        "Provided refresh_token is invalid or expired: exchange the API key again.";
    let Some(hash) = hash_of(OpaqueKind::RefreshToken, presented) else {
        return refused(UNKNOWN);
    };
    let (fresh, stored) = refresh_token(now)?;
    match app.store.rotate_refresh(&hash, &stored, now).await? {
        Refreshed::Rotated(key) if key.is_usable(now) => {
            let access_token = access_token(app, &key, Grant::Refresh, now).await?;
            answer(access_token, &fresh, now)
        }
        Refreshed::Rotated(_) | Refreshed::Unknown => refused(UNKNOWN),
        Refreshed::Reused => {
            tracing::warn!(
                "a refresh token came twice: all that came from the same exchange are revoked"
            );
            refused("Provided refresh_token was used before: exchange the API key again.")
        }
    }
}

/// An access token for whom the key stands.
async fn access_token(
    app: &Inner,
    key: &IamKeyRecord,
    grant: Grant,
    now: Millis,
) -> Result<String, ApiError> {
    let roles;
    let service;
    let holder = match &key.owner {
        IamOwner::Person(subject) => {
            roles = app.store.roles_of(subject).await?;
            Holder::Person(subject, &roles)
        }
        IamOwner::Service(id) => {
            service = app.store.service_id(id).await?.ok_or_else(key_not_found)?;
            Holder::Service(&service.id, &service.org)
        }
    };
    let minted = app.issuer.exchange(holder, grant, now);
    let minted = minted.map_err(|error| ApiError::internal(&error))?;
    Ok(minted.reveal().to_owned())
}

fn answer(access_token: String, fresh: &Opaque, now: Millis) -> Result<Answer, ApiError> {
    let expires_in = EXCHANGED_TTL.as_secs();
    Answer::json(&TokenBody {
        access_token,
        refresh_token: fresh.reveal().to_owned(),
        token_type: "Bearer",
        expires_in,
        expiration: now.div_euclid(1_000) + expires_in.cast_signed(),
        scope: "ibm openid",
        ims_user_id: 1,
    })
}

fn refresh_token(now: Millis) -> Result<(Opaque, RefreshToken), ApiError> {
    let fresh = Opaque::generate(OpaqueKind::RefreshToken);
    let fresh = fresh.map_err(|error| ApiError::internal(&error))?;
    let stored = RefreshToken {
        hash: fresh.hash(),
        expires_at: now + REFRESH_MILLIS,
    };
    Ok((fresh, stored))
}

fn key_not_found() -> ApiError {
    metrics::unauthenticated("iam_key");
    ApiError::new(Kind::BadValue, "Provided API key could not be found.").code(KEY_NOT_FOUND)
}

fn missing(field: &'static str) -> ApiError {
    ApiError::new(
        Kind::BadValue,
        format!("Property missing or empty: {field}"),
    )
}

/// A form is what stands behind the question mark of a URL, and is read by the same code. A field that comes twice is
/// refused.
fn read_form(bytes: &[u8]) -> Result<TokenRequest, ApiError> {
    let bad = || ApiError::new(Kind::BadValue, "the body is no URL-encoded form");
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    let uri = Uri::builder().path_and_query(format!("/?{}", text.trim()));
    let uri = uri.build().map_err(|_| bad())?;
    let Query(form) = Query::<TokenRequest>::try_from_uri(&uri).map_err(|_| bad())?;
    Ok(TokenRequest {
        grant_type: form.grant_type.filter(|text| !text.is_empty()),
        apikey: form.apikey.filter(|text| !text.is_empty()),
        refresh_token: form.refresh_token.filter(|text| !text.is_empty()),
    })
}
