//! What Apple's "Sending notification requests to APNs" says of a request's path and headers. Knows nothing
//! of credentials.

use crate::http2::Headers;

use super::Reason;

/// Most octets of a collapse id.
const COLLAPSE_ID_OCTETS_MAX: usize = 64;
/// Hexadecimal digits of a device token: 32 to 100 octets.
const DEVICE_TOKEN_DIGITS: std::ops::RangeInclusive<usize> = 64..=200;
/// Most octets of a topic.
const TOPIC_OCTETS_MAX: usize = 255;
/// Most octets of a payload.
const PAYLOAD_OCTETS_MAX: usize = 4096;
/// Most octets of a VoIP payload.
const VOIP_PAYLOAD_OCTETS_MAX: usize = 5120;

/// Headers that may stand once only.
const SINGLE: [&[u8]; 9] = [
    b"authorization",
    b"apns-id",
    b"apns-topic",
    b"apns-push-type",
    b"apns-priority",
    b"apns-expiration",
    b"apns-collapse-id",
    b":path",
    b":method",
];

/// A push type: its name, what its topic ends in, its permitted priorities, and its payload's limit.
struct PushType {
    name: &'static str,
    suffix: &'static str,
    priorities: &'static [u8],
    payload_octets: usize,
}

const fn push_type(
    name: &'static str,
    suffix: &'static str,
    priorities: &'static [u8],
) -> PushType {
    PushType {
        name,
        suffix,
        priorities,
        payload_octets: PAYLOAD_OCTETS_MAX,
    }
}

const ANY_PRIORITY: &[u8] = &[10, 5, 1];

const PUSH_TYPES: [PushType; 11] = [
    push_type("alert", "", ANY_PRIORITY),
    push_type("background", "", &[5]),
    PushType {
        payload_octets: VOIP_PAYLOAD_OCTETS_MAX,
        ..push_type("voip", ".voip", ANY_PRIORITY)
    },
    push_type("complication", ".complication", ANY_PRIORITY),
    push_type("fileprovider", ".pushkit.fileprovider", ANY_PRIORITY),
    push_type("mdm", "", ANY_PRIORITY),
    push_type("location", ".location-query", &[10, 5]),
    push_type("liveactivity", ".push-type.liveactivity", &[10, 5]),
    push_type("pushtotalk", ".voip-ptt", ANY_PRIORITY),
    push_type("widgets", ".push-type.widgets", ANY_PRIORITY),
    push_type("controls", ".push-type.controls", ANY_PRIORITY),
];

/// The device token in the path of a request to push to a device.
pub(super) fn device_token(headers: &Headers) -> Result<&str, Reason> {
    let path = headers.get(b":path").unwrap_or(b"");
    let path = std::str::from_utf8(path).map_err(|_| Reason::BadPath)?;
    let rest = path.strip_prefix("/3/device").ok_or(Reason::BadPath)?;
    if headers.get(b":method") != Some(b"POST") {
        return Err(Reason::MethodNotAllowed);
    }
    match rest.strip_prefix('/') {
        Some(device) if device.contains('/') => Err(Reason::BadPath),
        Some("") => Err(Reason::MissingDeviceToken),
        Some(device) => Ok(device),
        None if rest.is_empty() => Err(Reason::MissingDeviceToken),
        None => Err(Reason::BadPath),
    }
}

pub(super) fn no_duplicates(headers: &Headers) -> Result<(), Reason> {
    let mut seen = [false; SINGLE.len()];
    for (name, _) in headers.iter() {
        if let Some(at) = SINGLE.iter().position(|single| *single == name) {
            if seen[at] {
                return Err(Reason::DuplicateHeaders);
            }
            seen[at] = true;
        }
    }
    Ok(())
}

pub(super) fn well_formed_device_token(device_token: &str) -> Result<(), Reason> {
    let good = DEVICE_TOKEN_DIGITS.contains(&device_token.len())
        && device_token.len().is_multiple_of(2)
        && device_token.bytes().all(|digit| digit.is_ascii_hexdigit());
    good.then_some(()).ok_or(Reason::BadDeviceToken)
}

/// The topic named by the request, if it is well formed.
pub(super) fn topic(headers: &Headers) -> Result<Option<&str>, Reason> {
    let Some(topic) = headers.get(b"apns-topic") else {
        return Ok(None);
    };
    let good = !topic.is_empty()
        && topic.len() <= TOPIC_OCTETS_MAX
        && topic
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_'));
    if good {
        Ok(std::str::from_utf8(topic).ok())
    } else {
        Err(Reason::BadTopic)
    }
}

/// Checks everything that depends on the push type; without one, only what holds for all.
pub(super) fn push_type_rules(
    headers: &Headers,
    topic: &str,
    payload: usize,
) -> Result<(), Reason> {
    let named = match headers.get(b"apns-push-type") {
        None => &PUSH_TYPES[0],
        Some(name) => PUSH_TYPES
            .iter()
            .find(|known| known.name.as_bytes() == name)
            .ok_or(Reason::InvalidPushType)?,
    };
    if !topic.ends_with(named.suffix) || topic.len() == named.suffix.len() {
        return Err(Reason::BadTopic);
    }
    let priority = match headers.get(b"apns-priority") {
        None => None,
        Some(b"10") => Some(10),
        Some(b"5") => Some(5),
        Some(b"1") => Some(1),
        Some(_) => return Err(Reason::BadPriority),
    };
    if priority.is_some_and(|priority| !named.priorities.contains(&priority)) {
        return Err(Reason::BadPriority);
    }
    if payload > named.payload_octets {
        return Err(Reason::PayloadTooLarge);
    }
    Ok(())
}

pub(super) fn remaining(headers: &Headers) -> Result<(), Reason> {
    if let Some(expiration) = headers.get(b"apns-expiration") {
        let digits =
            (1..=18).contains(&expiration.len()) && expiration.iter().all(u8::is_ascii_digit);
        if !digits {
            return Err(Reason::BadExpirationDate);
        }
    }
    if headers
        .get(b"apns-collapse-id")
        .is_some_and(|id| id.len() > COLLAPSE_ID_OCTETS_MAX)
    {
        return Err(Reason::BadCollapseId);
    }
    Ok(())
}

/// True for a UUID in its canonical form: lowercase, 8-4-4-4-12.
pub(super) fn canonical_uuid(id: &[u8]) -> bool {
    id.len() == 36
        && id.iter().enumerate().all(|(at, octet)| match at {
            8 | 13 | 18 | 23 => *octet == b'-',
            _ => matches!(octet, b'0'..=b'9' | b'a'..=b'f'),
        })
}
