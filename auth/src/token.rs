//! Access tokens for people and service IDs: minting, verification and the published key set.
//! Knows nothing of requests, of where the signing key is kept, or of what a role may do.
//!
//! An access token is a JWT of RFC 9068's type `at+jwt`, signed with ES256. The verifier follows RFC
//! 8725: one algorithm, fixed by us and not by the header; keys pinned and only looked up by `kid`
//! (`jku`, `x5u`, `x5c` and `jwk` are never followed); `iss`, `aud`, `exp`, `nbf` and `typ` checked;
//! size bounded. It reads no clock.

mod exchanged;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ids::{OrgId, PrincipalId, ServiceId};
use crate::principal::Role;

pub use exchanged::{EXCHANGED_TTL, Grant, Holder, SERVICE_IAM_ID};

/// How long an access token of the command line is good: 12 hours.
pub const CLI_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// The longest time an access token may be good: it cannot be revoked.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far another machine's clock may be ahead of ours, in seconds.
pub const LEEWAY_SECS: i64 = 60;
/// Longest access token, in bytes.
pub const ACCESS_TOKEN_LEN_MAX: usize = 8 * 1024;
/// Most keys a verifier holds: the present one and those before it.
pub const PINNED_KEYS_MAX: usize = 8;

/// The `typ` of RFC 9068: keeps other JWTs signed with the same key from passing as access tokens.
const ACCESS_TOKEN_TYPE: &str = "at+jwt";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
const PEM_LINE_LEN: usize = 64;
/// An uncompressed point: 0x04, x, y.
const POINT_LEN: usize = 65;

/// Why no access token could be minted or a presented one is not accepted. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum AccessTokenError {
    /// Not a signing key.
    #[error(
        "the signing key is not a P-256 private key in PKCS#8 PEM: let `clarion` create one or restore it"
    )]
    SigningKey,
    /// A lifetime of nothing or beyond [`TTL_MAX`].
    #[error(
        "an access token is good for at least 1 second and at most 30 days: choose another lifetime"
    )]
    Lifetime,
    /// Longer than [`ACCESS_TOKEN_LEN_MAX`].
    #[error(
        "the access token is longer than {ACCESS_TOKEN_LEN_MAX} bytes: name fewer organisations"
    )]
    TooLong,
    /// Expired.
    #[error("the access token has expired: mint a new one with `clarion token mint`")]
    Expired,
    /// Not an access token of this server: foreign key, issuer or audience, wrong type or signature.
    #[error("not an access token of this server: mint one with `clarion token mint`")]
    Foreign,
    /// The crypto or JSON library refused; the source says why, and for presented tokens is for logs only.
    #[error("the access token could not be made or read")]
    Jwt(#[source] jsonwebtoken::errors::Error),
}

/// An access token in plain text. Debug hides it, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The whole access token: for its holder, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

/// What an access token says, and what a verifier insists on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: PrincipalId,
    /// Unix seconds.
    iat: i64,
    /// Unix seconds.
    exp: i64,
    /// Unix seconds; other tools of the same issuer may set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    orgs: BTreeMap<OrgId, Role>,
    /// What was shown for it; absent where it was minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant_type: Option<String>,
    /// What the subject is, if it is no person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub_type: Option<String>,
}

/// Who holds an access token, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// A person with the roles that whoever minted the token gave it.
    Minted {
        /// Who.
        subject: PrincipalId,
        /// Role in each organisation that the token names.
        orgs: BTreeMap<OrgId, Role>,
    },
    /// A person who exchanged an IAM key; its roles are to be looked up.
    Exchanged(PrincipalId),
    /// A service ID that exchanged an IAM key; its grants are to be looked up.
    Service(ServiceId),
}

/// Who issues access tokens and for whom: the `iss` and `aud` claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` claim.
    pub iss: String,
    /// The `aud` claim.
    pub aud: String,
}

/// The private key that signs access tokens: P-256, kept as PKCS#8. Wiped when dropped.
pub struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl SigningKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`AccessTokenError::SigningKey`] when the crypto library fails.
    pub fn generate() -> Result<Self, AccessTokenError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| AccessTokenError::SigningKey)?;
        let der = pair
            .to_pkcs8v1()
            .map_err(|_| AccessTokenError::SigningKey)?;
        Self::from_pkcs8(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// Reads a PKCS#8 PEM, as [`SigningKey::reveal_pem`] or `openssl genpkey` writes it.
    ///
    /// # Errors
    /// [`AccessTokenError::SigningKey`] when it is anything else than one P-256 private key.
    pub fn from_pem(pem: &str) -> Result<Self, AccessTokenError> {
        let body = pem
            .trim()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .ok_or(AccessTokenError::SigningKey)?;
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
        let der = STANDARD
            .decode(&*base64)
            .map_err(|_| AccessTokenError::SigningKey)?;
        Self::from_pkcs8(Zeroizing::new(der))
    }

    /// The key as PKCS#8 PEM, for the file it is kept in and for nothing else.
    #[must_use]
    pub fn reveal_pem(&self) -> Zeroizing<String> {
        let base64 = Zeroizing::new(STANDARD.encode(&*self.pkcs8));
        let len = PEM_BEGIN.len() + PEM_END.len() + base64.len() + base64.len() / PEM_LINE_LEN + 4;
        let mut pem = Zeroizing::new(String::with_capacity(len));
        pem.push_str(PEM_BEGIN);
        for (at, letter) in base64.char_indices() {
            if at % PEM_LINE_LEN == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push('\n');
        pem.push_str(PEM_END);
        pem.push('\n');
        pem
    }

    /// The public half, for verifiers.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, AccessTokenError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
            .map_err(|_| AccessTokenError::SigningKey)?;
        let point: [u8; POINT_LEN] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| AccessTokenError::SigningKey)?;
        Ok(Self {
            pkcs8,
            public: PublicKey::from_point(&point),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.public.kid)
            .finish_non_exhaustive()
    }
}

/// The public half of a signing key, in the form of RFC 7517: what `/jwks.json` publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
}

impl PublicKey {
    fn from_point(point: &[u8; POINT_LEN]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(&point[1..33]);
        let y = URL_SAFE_NO_PAD.encode(&point[33..]);
        // The thumbprint of RFC 7638: the required members only, sorted, without spaces.
        let required = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = digest::digest(&digest::SHA256, required.as_bytes());
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        Self {
            kty: "EC",
            crv: "P-256",
            x,
            y,
            alg: "ES256",
            usage: "sig",
            kid,
        }
    }

    /// The key's id: its RFC 7638 thumbprint, so that the same key has the same id everywhere.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

/// A key set in the form of RFC 7517.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwks {
    /// The keys, the newest first.
    pub keys: Vec<PublicKey>,
}

/// Mints access tokens with one signing key.
pub struct AccessTokenIssuer {
    issuer: Issuer,
    key: EncodingKey,
    public: PublicKey,
}

impl AccessTokenIssuer {
    /// An issuer that signs with `key`.
    #[must_use]
    pub fn new(issuer: Issuer, key: &SigningKey) -> Self {
        Self {
            issuer,
            key: EncodingKey::from_ec_der(&key.pkcs8),
            public: key.public(),
        }
    }

    /// Mints an access token for `subject` with its roles, good from `now` (Unix milliseconds) for `ttl`
    /// (whole seconds; see [`CLI_TTL`]).
    ///
    /// # Errors
    /// [`AccessTokenError::Lifetime`], or [`AccessTokenError::TooLong`] for too many organisations.
    pub fn mint(
        &self,
        subject: &PrincipalId,
        orgs: &BTreeMap<OrgId, Role>,
        ttl: Duration,
        now: i64,
    ) -> Result<AccessToken, AccessTokenError> {
        let seconds = i64::try_from(ttl.as_secs()).map_err(|_| AccessTokenError::Lifetime)?;
        if seconds == 0 || ttl > TTL_MAX {
            return Err(AccessTokenError::Lifetime);
        }
        let iat = now.div_euclid(1000);
        let claims = Claims {
            iss: self.issuer.iss.clone(),
            aud: self.issuer.aud.clone(),
            sub: subject.clone(),
            iat,
            exp: iat.saturating_add(seconds),
            nbf: None,
            orgs: orgs.clone(),
            grant_type: None,
            sub_type: None,
        };
        self.sign(&claims)
    }

    fn sign<T: Serialize>(&self, claims: &T) -> Result<AccessToken, AccessTokenError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = Some(self.public.kid.clone());
        let text =
            jsonwebtoken::encode(&header, claims, &self.key).map_err(AccessTokenError::Jwt)?;
        let access_token = AccessToken(Zeroizing::new(text));
        if access_token.0.len() > ACCESS_TOKEN_LEN_MAX {
            return Err(AccessTokenError::TooLong);
        }
        Ok(access_token)
    }
}

impl fmt::Debug for AccessTokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AccessTokenIssuer");
        debug
            .field("issuer", &self.issuer)
            .field("kid", &self.public.kid)
            .finish_non_exhaustive()
    }
}

/// Verifies access tokens against pinned keys.
pub struct AccessTokenVerifier {
    keys: Vec<(PublicKey, DecodingKey)>,
    validation: Validation,
}

impl AccessTokenVerifier {
    /// A verifier for one issuer. Give the newest key first; keys beyond [`PINNED_KEYS_MAX`] are left out.
    ///
    /// # Errors
    /// [`AccessTokenError::Jwt`] when a key cannot be used.
    pub fn new(
        issuer: &Issuer,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, AccessTokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&issuer.iss]);
        validation.set_audience(&[&issuer.aud]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The library would ask the system's clock; times are compared below with the `now` we are given.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let keys: Result<Vec<_>, _> = keys
            .into_iter()
            .take(PINNED_KEYS_MAX)
            .map(|key| {
                let decoding = DecodingKey::from_ec_components(&key.x, &key.y);
                decoding
                    .map(|decoding| (key, decoding))
                    .map_err(AccessTokenError::Jwt)
            })
            .collect();
        Ok(Self {
            keys: keys?,
            validation,
        })
    }

    /// The pinned keys, for publication.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        Jwks {
            keys: self.keys.iter().map(|(key, _)| key.clone()).collect(),
        }
    }

    /// Who presents this access token at `now` (Unix milliseconds).
    ///
    /// `exp` is exact: a token is refused from that second on. Only the times that another machine's
    /// clock may have set ahead of ours (`nbf`, `iat`) have a leeway of [`LEEWAY_SECS`].
    ///
    /// # Errors
    /// [`AccessTokenError::TooLong`], [`AccessTokenError::Expired`] for a genuine one, and
    /// [`AccessTokenError::Foreign`] or [`AccessTokenError::Jwt`] for everything else.
    pub fn verify(&self, presented: &str, now: i64) -> Result<Verified, AccessTokenError> {
        if presented.len() > ACCESS_TOKEN_LEN_MAX {
            return Err(AccessTokenError::TooLong);
        }
        let header = jsonwebtoken::decode_header(presented).map_err(AccessTokenError::Jwt)?;
        // `crit` names extensions that a verifier must understand or refuse; we know none.
        let ours = header.alg == Algorithm::ES256
            && header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE)
            && header.crit.is_none();
        let kid = header
            .kid
            .as_deref()
            .filter(|_| ours)
            .ok_or(AccessTokenError::Foreign)?;
        let key = self.keys.iter().find(|(key, _)| key.kid == kid);
        let (_, key) = key.ok_or(AccessTokenError::Foreign)?;

        let claims = jsonwebtoken::decode::<Claims>(presented, key, &self.validation)
            .map_err(AccessTokenError::Jwt)?
            .claims;
        let now = now.div_euclid(1000);
        if claims.exp <= now {
            return Err(AccessTokenError::Expired);
        }
        let starts = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
        if starts > now.saturating_add(LEEWAY_SECS) {
            return Err(AccessTokenError::Foreign);
        }
        match (claims.sub_type.as_deref(), claims.grant_type) {
            (Some(exchanged::SERVICE), Some(_)) => {
                let id = claims.sub.as_str().parse();
                Ok(Verified::Service(
                    id.map_err(|_| AccessTokenError::Foreign)?,
                ))
            }
            (Some(_), _) => Err(AccessTokenError::Foreign),
            (None, Some(_)) => Ok(Verified::Exchanged(claims.sub)),
            (None, None) => Ok(Verified::Minted {
                subject: claims.sub,
                orgs: claims.orgs,
            }),
        }
    }
}

impl fmt::Debug for AccessTokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<&str> = self.keys.iter().map(|(key, _)| key.kid()).collect();
        f.debug_struct("AccessTokenVerifier")
            .field("kids", &kids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
