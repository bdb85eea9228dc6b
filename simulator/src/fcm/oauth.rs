//! Google's token endpoint: a service account's signed assertion for an access token, as "Using OAuth 2.0
//! for server to server applications" describes it. Knows nothing of messages.

use std::borrow::Cow;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use crate::credentials::MESSAGING_SCOPE;
use crate::http2::{Answer, Incoming};
use crate::jwt;
use crate::receipt::Provider;
use crate::registry::{Grant, Registry};
use crate::rules::Action;
use crate::verdict::Verdict;
use crate::world::World;

use super::errors::json_answer;

/// Where Google's own endpoint is: assertions made out to it are taken too, as clients may pin it.
const GOOGLE_AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Longest life of an assertion.
const ASSERTION_SECONDS_MAX: i64 = 3600;
/// How far a client's clock may be ahead.
const SKEW_SECONDS: i64 = 300;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    scope: String,
    aud: String,
    iat: i64,
    exp: i64,
}

/// An error and its description.
type Refused = (&'static str, &'static str);

const INVALID_SIGNATURE: Refused = ("invalid_grant", "Invalid JWT Signature.");
const NOT_SHORT_LIVED: Refused = (
    "invalid_grant",
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
     Check your iat and exp values in the JWT claim.",
);

pub(super) fn judge(request: &Incoming, world: &World, now_ms: i64) -> Verdict {
    let form = Form::read(&request.body);
    let (account, outcome) = exchange(&form, world, now_ms);
    let (status, reason, answer) = match outcome {
        Ok(access_token) => (200, "", granted(&access_token, world)),
        Err((error, description)) => (400, error, refused(400, error, description)),
    };
    Verdict {
        provider: Provider::Oauth,
        device_token: String::new(),
        id: String::new(),
        topic: account,
        collapse_id: String::new(),
        status,
        reason: Cow::Borrowed(reason),
        answer,
        fresh_provider_token: false,
        logged: false,
    }
}

/// Replaces a success by what a rule says.
pub(super) fn script(verdict: &mut Verdict, action: &Action) {
    let error = action
        .reason
        .as_deref()
        .unwrap_or("temporarily_unavailable");
    verdict.status = action.status.unwrap_or(400);
    verdict.reason = Cow::Owned(error.to_owned());
    verdict.answer = refused(verdict.status, error, "Scripted by a rule.");
}

/// The account named by the assertion, and its access token.
fn exchange(form: &Form, world: &World, now_ms: i64) -> (String, Result<String, Refused>) {
    if form.grant_type != GRANT_TYPE {
        return (
            String::new(),
            Err(("unsupported_grant_type", "Invalid grant_type")),
        );
    }
    let Some(parts) = jwt::parse::<Header, Claims>(&form.assertion) else {
        let malformed = ("invalid_grant", "Invalid JWT: malformed assertion");
        return (String::new(), Err(malformed));
    };
    let account = parts.claims.iss.clone();
    let mut registry = world.registry();
    let outcome = verify(&parts, &registry, world).and_then(|project| {
        in_time(&parts.claims, now_ms / 1000)?;
        audience_and_scope(&parts.claims, world)?;
        let access_token = random_token().ok_or(("internal_failure", "no randomness"))?;
        let expires_ms = now_ms + world.options().access_token_life_s * 1000;
        registry.grant(
            access_token.clone(),
            Grant {
                project,
                expires_ms,
            },
            now_ms,
        );
        Ok(access_token)
    });
    (account, outcome)
}

/// The project that the assertion's signer may send for; `None` means any.
fn verify(
    parts: &jwt::Parts<'_, Header, Claims>,
    registry: &Registry,
    world: &World,
) -> Result<Option<String>, Refused> {
    if parts.header.alg != "RS256" {
        return Err(INVALID_SIGNATURE);
    }
    match registry.account(&parts.claims.iss) {
        Some(account) => {
            let right_key = parts
                .header
                .kid
                .as_ref()
                .is_none_or(|kid| *kid == account.key_id);
            let verified = account
                .public
                .verify_sig(parts.signed.as_bytes(), &parts.signature);
            if right_key && verified.is_ok() {
                Ok(Some(account.project.clone()))
            } else {
                Err(INVALID_SIGNATURE)
            }
        }
        None if world.options().accept_any_credential && parts.signature.len() >= 256 => Ok(None),
        None => Err(("invalid_grant", "Invalid grant: account not found")),
    }
}

fn in_time(claims: &Claims, now_s: i64) -> Result<(), Refused> {
    let life = claims.exp.saturating_sub(claims.iat);
    let good = (1..=ASSERTION_SECONDS_MAX).contains(&life)
        && claims.iat <= now_s.saturating_add(SKEW_SECONDS)
        && claims.exp > now_s;
    good.then_some(()).ok_or(NOT_SHORT_LIVED)
}

fn audience_and_scope(claims: &Claims, world: &World) -> Result<(), Refused> {
    if claims.aud != GOOGLE_AUDIENCE && claims.aud != world.token_url() {
        return Err(("invalid_grant", "Invalid JWT: Failed audience check"));
    }
    let mut scopes = claims.scope.split(' ');
    if !scopes.any(|scope| scope == MESSAGING_SCOPE || scope == PLATFORM_SCOPE) {
        return Err((
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        ));
    }
    Ok(())
}

fn random_token() -> Option<String> {
    let mut octets = [0u8; 96];
    rand::fill(&mut octets).ok()?;
    Some(format!("ya29.c.{}", URL_SAFE_NO_PAD.encode(octets)))
}

fn granted(access_token: &str, world: &World) -> Answer {
    let life = world.options().access_token_life_s;
    let body = json!({ "access_token": access_token, "expires_in": life, "token_type": "Bearer" });
    json_answer(200, &body)
}

fn refused(status: u16, error: &str, description: &str) -> Answer {
    json_answer(
        status,
        &json!({ "error": error, "error_description": description }),
    )
}

/// The two fields of the form that matter.
#[derive(Debug, Default)]
struct Form {
    grant_type: String,
    assertion: String,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        for pair in body.split(|octet| *octet == b'&') {
            let at = pair
                .iter()
                .position(|octet| *octet == b'=')
                .unwrap_or(pair.len());
            let value = pair.get(at + 1..).unwrap_or(&[]);
            match &pair[..at] {
                b"grant_type" => form.grant_type = unescape(value),
                b"assertion" => form.assertion = unescape(value),
                _ => {}
            }
        }
        form
    }
}

/// Undoes application/x-www-form-urlencoded; a broken escape stays as it is.
fn unescape(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(octet) => {
                plain.push(octet);
                rest = &tail[2..];
            }
            None => {
                plain.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
