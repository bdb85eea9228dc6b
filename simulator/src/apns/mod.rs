//! Apple's push service: judges the requests of one connection as strictly as Apple documents. Knows
//! nothing of frames, rules or logs.
//!
//! Order of checks: path and method, repeated headers, credentials, device token, id, topic and push type,
//! the remaining headers, payload. Apple does not document its own order; a request with one fault gets the
//! documented reason.

pub(crate) mod auth;
mod headers;
pub(crate) mod reasons;

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::rand;
use serde::de::IgnoredAny;

use crate::http2::{Headers, Incoming};
use crate::receipt::Provider;
use crate::registry::{KeyName, Registry};
use crate::rules::Action;
use crate::verdict::{Verdict, text};
use crate::world::World;

use auth::{ClientCertificate, Signer};
pub use reasons::Reason;

/// What one connection remembers.
#[derive(Debug)]
pub(crate) struct Session {
    certificate: Option<ClientCertificate>,
    /// The first valid provider token's team and key: the connection is welded to them.
    bound: Option<KeyName>,
    /// The last provider token that verified, so that it is verified once.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    authorization: Vec<u8>,
    version: u64,
    signer: Signer,
}

/// What the credentials allow.
struct Permit {
    /// `None` means every topic.
    topics: Option<Arc<[String]>>,
    /// The topic when the request names none.
    default_topic: Option<String>,
    fresh: bool,
}

impl Session {
    pub(crate) fn new(certificate: Option<ClientCertificate>) -> Self {
        Self {
            certificate,
            bound: None,
            known: None,
        }
    }

    /// Certificate connections are not held to one stream.
    pub(crate) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    pub(crate) fn judge(&mut self, request: &Incoming, world: &World, now_ms: i64) -> Verdict {
        let headers = &request.headers;
        let device_token = headers::device_token(headers);
        let given = headers.get(b"apns-id");
        let id = match given {
            Some(id) if headers::canonical_uuid(id) => text(given),
            _ => random_uuid(),
        };
        let mut verdict = Verdict {
            provider: Provider::Apns,
            device_token: device_token.unwrap_or("").to_owned(),
            id,
            topic: text(headers.get(b"apns-topic")),
            collapse_id: text(headers.get(b"apns-collapse-id")),
            status: 200,
            reason: Cow::Borrowed(""),
            answer: Default::default(),
            fresh_provider_token: false,
            logged: true,
        };
        let checked = device_token
            .map(|_| ())
            .and_then(|()| self.check(request, world, now_ms, &mut verdict));
        if let Err(reason) = checked {
            verdict.status = reason.status();
            verdict.reason = Cow::Borrowed(reason.name());
        }
        verdict.answer = reasons::answer(verdict.status, &verdict.reason, now_ms, &verdict.id);
        verdict
    }

    fn check(
        &mut self,
        request: &Incoming,
        world: &World,
        now_ms: i64,
        verdict: &mut Verdict,
    ) -> Result<(), Reason> {
        let headers = &request.headers;
        headers::no_duplicates(headers)?;
        let permit = self.permit(headers, world, now_ms / 1000)?;
        verdict.fresh_provider_token = permit.fresh;
        headers::well_formed_device_token(&verdict.device_token)?;
        if headers
            .get(b"apns-id")
            .is_some_and(|id| !headers::canonical_uuid(id))
        {
            return Err(Reason::BadMessageId);
        }
        match (headers::topic(headers)?, permit.default_topic) {
            (Some(_), _) => {}
            (None, Some(topic)) => verdict.topic = topic,
            (None, None) => return Err(Reason::MissingTopic),
        }
        if permit
            .topics
            .is_some_and(|topics| !topics.contains(&verdict.topic))
        {
            return Err(Reason::TopicDisallowed);
        }
        if request.body.is_empty() {
            return Err(Reason::PayloadEmpty);
        }
        headers::push_type_rules(headers, &verdict.topic, request.body.len())?;
        headers::remaining(headers)?;
        if !is_object(&request.body) {
            return Err(Reason::PayloadEmpty);
        }
        Ok(())
    }

    fn permit(&mut self, headers: &Headers, world: &World, now_s: i64) -> Result<Permit, Reason> {
        if let Some(certificate) = &self.certificate {
            let topics = certificate.topics(&world.registry(), world.options())?;
            let default_topic = topics.first().cloned();
            return Ok(Permit {
                topics: Some(topics),
                default_topic,
                fresh: false,
            });
        }
        let authorization = headers.get(b"authorization");
        let version = world.credentials_version();
        if let Some(known) = &self.known
            && Some(known.authorization.as_slice()) == authorization
            && known.version == version
        {
            auth::in_time(known.signer.issued_s, world.options(), now_s)?;
            let topics = known.signer.topics.clone();
            return Ok(Permit {
                topics,
                default_topic: None,
                fresh: false,
            });
        }
        let provider_token = auth::bearer(authorization)?;
        let signer = self.admit(provider_token, &mut world.registry(), world, now_s)?;
        let (topics, fresh) = (signer.topics.clone(), signer.fresh);
        let authorization = authorization.unwrap_or_default().to_vec();
        self.known = Some(Known {
            authorization,
            version,
            signer,
        });
        Ok(Permit {
            topics,
            default_topic: None,
            fresh,
        })
    }

    /// Verifies a provider token and welds the connection to its signer.
    fn admit(
        &mut self,
        provider_token: &str,
        registry: &mut Registry,
        world: &World,
        now_s: i64,
    ) -> Result<Signer, Reason> {
        let mut signer = auth::verify(provider_token, registry, world.options(), now_s)?;
        if let Some((team, key)) = &self.bound {
            if *team != signer.name.0 {
                return Err(Reason::InvalidProviderToken);
            }
            if *key != signer.name.1 {
                return Err(Reason::UnrelatedKeyIdInToken);
            }
        }
        auth::admit(
            provider_token,
            &mut signer,
            registry,
            world.options(),
            now_s,
        )?;
        self.bound = Some(signer.name.clone());
        Ok(signer)
    }

    /// Replaces a success by what a rule says.
    pub(crate) fn script(verdict: &mut Verdict, action: &Action, now_ms: i64) {
        let name = action.reason.as_deref().unwrap_or("");
        let status = action
            .status
            .or(Reason::by_name(name).map(Reason::status))
            .unwrap_or(500);
        let gone_ms = action
            .timestamp_ms
            .unwrap_or(now_ms - action.timestamp_ago_ms.unwrap_or(0));
        verdict.status = status;
        verdict.reason = Cow::Owned(name.to_owned());
        verdict.answer = reasons::answer(status, name, gone_ms, &verdict.id);
    }
}

fn is_object(payload: &[u8]) -> bool {
    payload.trim_ascii_start().first() == Some(&b'{')
        && serde_json::from_slice::<IgnoredAny>(payload).is_ok()
}

/// A random UUID (version 4), as APNs invents one for a request without an id.
fn random_uuid() -> String {
    let mut octets = [0u8; 16];
    // Without randomness the id is all zeros: still an id, and the simulator stays up.
    if rand::fill(&mut octets).is_err() {
        octets = [0; 16];
    }
    octets[6] = (octets[6] & 0x0f) | 0x40;
    octets[8] = (octets[8] & 0x3f) | 0x80;
    let mut id = String::with_capacity(36);
    for (at, octet) in octets.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for digit in [octet >> 4, octet & 0x0f] {
            id.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    id
}
