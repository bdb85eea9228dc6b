//! A Google service account: parsed and checked offline, and the assertion that asks for an access token.
//! It must not know where credentials are stored; URLs inside the file are ignored.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Version};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::access_token::AccessTokens;
use crate::http2::{Origin, OriginError, Request};
use crate::model::{Millis, Outcome};
use crate::provider::verdict::reason_of;
use crate::provider::{CredentialAlert, CredentialEffect};

/// What may be asked of FCM.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// An assertion's life, seconds: Google allows an hour.
const ASSERTION_LIFE: i64 = 3_600;
/// Clocks differ: an assertion is dated back this much, seconds.
const ASSERTION_BACKDATE: i64 = 30;
/// Longest project id, bytes (Google: 30, domain-scoped ones longer).
const PROJECT_ID_MAX: usize = 128;
/// How long a refused service account rests the first time.
const REST: Millis = 5 * 60 * 1_000;

/// Why a service account is not usable.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not the JSON that Google gives out.
    #[error("not a service-account file: give the JSON as downloaded from Google")]
    Json(#[source] serde_json::Error),
    /// A field is missing or wrong.
    #[error("the service account's `{field}` {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The private key is not an RSA key in PEM.
    #[error(
        "the service account's private key is unusable: give the JSON as downloaded from Google"
    )]
    PrivateKey(#[source] jsonwebtoken::errors::Error),
}

/// Where access tokens are asked for: configuration, never a tenant's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    origin: Origin,
    path: PathAndQuery,
}

impl TokenEndpoint {
    /// Where to connect.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }
}

impl FromStr for TokenEndpoint {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let uri: http::Uri = text.parse().map_err(|_| OriginError::Malformed)?;
        let path = uri
            .path_and_query()
            .cloned()
            .ok_or(OriginError::Malformed)?;
        let bare = text.strip_suffix(path.as_str()).unwrap_or(text);
        Ok(Self {
            origin: bare.parse()?,
            path,
        })
    }
}

/// A service account.
pub struct Credential {
    project_id: Box<str>,
    client_email: Box<str>,
    private_key_id: Option<Box<str>>,
    key: EncodingKey,
    send_path: PathAndQuery,
    identity: [u8; 32],
    access_tokens: AccessTokens,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    project_id: String,
    #[serde(default)]
    private_key_id: Option<String>,
    private_key: String,
    client_email: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl Credential {
    /// Parses a service-account file.
    ///
    /// # Errors
    /// When it is not one, or its key is unusable.
    pub fn from_json(json: &str) -> Result<Self, CredentialError> {
        let mut file: File = serde_json::from_str(json).map_err(CredentialError::Json)?;
        let private_key = Zeroizing::new(std::mem::take(&mut file.private_key));
        let field = |field, problem| Err(CredentialError::Field { field, problem });
        if file.kind != "service_account" {
            return field("type", "must be `service_account`");
        }
        let of_project =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
        let project = file.project_id.as_bytes();
        let fits = (1..=PROJECT_ID_MAX).contains(&project.len());
        if !fits || !project.iter().all(|byte| of_project(*byte)) {
            return field("project_id", "is not a project id");
        }
        if !file.client_email.contains('@') {
            return field("client_email", "is not an address");
        }
        let key = EncodingKey::from_rsa_pem(private_key.as_bytes())
            .map_err(CredentialError::PrivateKey)?;
        let path = format!("/v1/projects/{}/messages:send", file.project_id);
        let Ok(send_path) = PathAndQuery::try_from(path) else {
            return field("project_id", "is not a project id");
        };
        let identity = digest(&[
            file.project_id.as_bytes(),
            file.client_email.as_bytes(),
            private_key.trim().as_bytes(),
        ]);
        let credential = Self {
            project_id: file.project_id.into(),
            client_email: file.client_email.into(),
            private_key_id: file.private_key_id.map(Into::into),
            key,
            send_path,
            identity,
            access_tokens: AccessTokens::default(),
        };
        // Proves offline that the key signs.
        credential.assertion("https://oauth2.googleapis.com/token", 0)?;
        Ok(credential)
    }

    /// The project that pushes go through.
    #[must_use]
    pub fn project_id(&self) -> &str {
        &self.project_id
    }

    /// The account's address.
    #[must_use]
    pub fn client_email(&self) -> &str {
        &self.client_email
    }

    /// Digest over project, account and key.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// The account's access tokens.
    #[must_use]
    pub fn access_tokens(&self) -> &AccessTokens {
        &self.access_tokens
    }

    pub(super) fn send_path(&self) -> &PathAndQuery {
        &self.send_path
    }

    /// The request for an access token.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn token_request(
        &self,
        endpoint: &TokenEndpoint,
        now: Millis,
    ) -> Result<Request, CredentialError> {
        let assertion = self.assertion(&endpoint.url(), now)?;
        // A JWT is base64url and dots: nothing to escape in a form.
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"
        );
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        let authority = endpoint.origin.authority().clone();
        *head.uri_mut() = super::absolute(authority, endpoint.path.clone());
        head.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        Ok(Request {
            head,
            body: Bytes::from(form),
        })
    }

    fn assertion(&self, audience: &str, now: Millis) -> Result<String, CredentialError> {
        let iat = now.div_euclid(1_000) - ASSERTION_BACKDATE;
        let claims = Claims {
            iss: &self.client_email,
            scope: SCOPE,
            aud: audience,
            iat,
            exp: iat + ASSERTION_LIFE,
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid = self.private_key_id.as_deref().map(str::to_owned);
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(CredentialError::PrivateKey)
    }

    /// Lets an answer to a request with access token `generation` act on the credential.
    pub fn apply(
        &self,
        effect: CredentialEffect,
        outcome: Outcome,
        generation: u16,
        now: Millis,
    ) -> (Outcome, Option<CredentialAlert>) {
        let reason = reason_of(&outcome);
        let pause = match effect {
            CredentialEffect::None | CredentialEffect::StopMinting => return (outcome, None),
            CredentialEffect::Accepted => {
                self.access_tokens.accepted();
                return (outcome, None);
            }
            CredentialEffect::Refresh => {
                match self.access_tokens.rejected(generation, reason.clone(), now) {
                    Ok(()) => return (outcome, None),
                    Err(refusal) => refusal.pause,
                }
            }
            CredentialEffect::Refused => self.access_tokens.refused(REST, now),
        };
        let alert = CredentialAlert::Refused {
            reason: reason.clone(),
        };
        (Outcome::Unauthorized { reason, pause }, Some(alert))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("fcm::Credential")
            .field("project_id", &self.project_id)
            .finish_non_exhaustive()
    }
}

/// SHA-256 over length-prefixed parts.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests;
