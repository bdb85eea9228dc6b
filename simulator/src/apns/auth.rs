//! Who may push: provider tokens (ES256) and client certificates, as Apple's "Establishing a token-based
//! connection to APNs" describes them. Knows nothing of the rest of a request.

use std::sync::Arc;

use aws_lc_rs::digest;
use serde::Deserialize;

use crate::jwt;
use crate::options::Options;
use crate::registry::{KeyName, Registry, SeenToken};

use super::Reason;

/// Characters of a team's and of a key's id.
const ID_CHARACTERS: usize = 10;

#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct TokenClaims {
    iss: String,
    iat: i64,
}

/// Who signed a provider token, and when.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) name: KeyName,
    pub(super) issued_s: i64,
    /// `None` means every topic.
    pub(super) topics: Option<Arc<[String]>>,
    /// Not seen before, at this simulator.
    pub(super) fresh: bool,
}

/// The provider token of an `authorization` header.
pub(super) fn bearer(authorization: Option<&[u8]>) -> Result<&str, Reason> {
    let text = authorization.ok_or(Reason::MissingProviderToken)?;
    let text = std::str::from_utf8(text).map_err(|_| Reason::InvalidProviderToken)?;
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() => {
            Ok(rest)
        }
        _ => Err(Reason::InvalidProviderToken),
    }
}

/// Verifies form, signature and age of a provider token, but not how often its key is used for new ones.
pub(super) fn verify(
    provider_token: &str,
    registry: &Registry,
    options: &Options,
    now_s: i64,
) -> Result<Signer, Reason> {
    let parts = jwt::parse::<TokenHeader, TokenClaims>(provider_token)
        .ok_or(Reason::InvalidProviderToken)?;
    let id = |text: &str| {
        text.len() == ID_CHARACTERS && text.bytes().all(|octet| octet.is_ascii_alphanumeric())
    };
    if parts.header.alg != "ES256" || !id(&parts.header.kid) || !id(&parts.claims.iss) {
        return Err(Reason::InvalidProviderToken);
    }
    let name = (parts.claims.iss, parts.header.kid);
    let topics = match registry.apns_key(&name) {
        Some(key) => {
            key.public
                .verify_sig(parts.signed.as_bytes(), &parts.signature)
                .map_err(|_| Reason::InvalidProviderToken)?;
            key.topics.clone()
        }
        None if options.accept_any_credential && parts.signature.len() == 64 => None,
        None => return Err(Reason::InvalidProviderToken),
    };
    in_time(parts.claims.iat, options, now_s)?;
    Ok(Signer {
        name,
        issued_s: parts.claims.iat,
        topics,
        fresh: false,
    })
}

pub(super) fn in_time(issued_s: i64, options: &Options, now_s: i64) -> Result<(), Reason> {
    let age = now_s.saturating_sub(issued_s).saturating_abs();
    if age > options.provider_token_age_s {
        Err(Reason::ExpiredProviderToken)
    } else {
        Ok(())
    }
}

/// Admits a verified provider token: a new one of a key too soon after another of it is refused.
pub(super) fn admit(
    provider_token: &str,
    signer: &mut Signer,
    registry: &mut Registry,
    options: &Options,
    now_s: i64,
) -> Result<(), Reason> {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, provider_token.as_bytes()).as_ref());
    let seen = registry.provider_tokens(&signer.name, now_s - options.provider_token_age_s);
    if seen.iter().any(|one| one.digest == digest) {
        return Ok(());
    }
    let interval = options.provider_token_interval_s;
    if seen
        .iter()
        .any(|one| (one.issued_s - signer.issued_s).abs() < interval)
    {
        return Err(Reason::TooManyProviderTokenUpdates);
    }
    seen.push(SeenToken {
        digest,
        issued_s: signer.issued_s,
    });
    signer.fresh = true;
    Ok(())
}

/// A client certificate: its fingerprint and the UID of its subject, which names its topic.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) fingerprint: [u8; 32],
    uid: Option<String>,
}

impl ClientCertificate {
    pub(crate) fn new(der: &[u8]) -> Self {
        Self {
            fingerprint: fingerprint(der),
            uid: subject_uid(der),
        }
    }

    /// The topics the certificate may push to.
    pub(super) fn topics(
        &self,
        registry: &Registry,
        options: &Options,
    ) -> Result<Arc<[String]>, Reason> {
        match (registry.certificate(&self.fingerprint), &self.uid) {
            (Some(topics), _) => Ok(topics),
            (None, Some(uid)) if options.accept_any_credential => Ok(certificate_topics(uid)),
            _ => Err(Reason::BadCertificate),
        }
    }
}

/// What Apple puts into a certificate for all of an app's topics.
fn certificate_topics(uid: &str) -> Arc<[String]> {
    ["", ".voip", ".complication"]
        .iter()
        .map(|suffix| format!("{uid}{suffix}"))
        .collect()
}

pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    octets
}

/// The UID (0.9.2342.19200300.100.1.1) in a certificate's subject.
pub(crate) fn subject_uid(der: &[u8]) -> Option<String> {
    const UID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
    let (certificate, _) = element(der)?;
    let (mut fields, _) = element(certificate)?;
    if fields.first() == Some(&0xa0) {
        fields = element(fields)?.1; // version
    }
    for _ in 0..4 {
        fields = element(fields)?.1; // serial number, signature, issuer, validity
    }
    let (mut names, _) = element(fields)?;
    while !names.is_empty() {
        let (set, rest) = element(names)?;
        names = rest;
        let (pair, _) = element(set)?;
        let (kind, value) = element(pair)?;
        if kind == UID {
            return String::from_utf8(element(value)?.0.to_vec()).ok();
        }
    }
    None
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) = rest
            .split_at_checked(usize::from(first & 0x7f))
            .filter(|_| first <= 0x83)?;
        (
            octets
                .iter()
                .fold(0, |length, octet| length << 8 | usize::from(*octet)),
            rest,
        )
    };
    rest.split_at_checked(length)
}
