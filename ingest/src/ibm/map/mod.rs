//! From a push message to what the engine sends: pure, field by field. Each platform's settings stay on that platform, so all
//! of it is said in the raw members of Apple's and Google's messages, in their own words and in those that IBM's client SDKs
//! read on the device.
//! It must not know for whom a message is, nor how it is stored or sent.

mod apns;
mod gcm;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::time::Duration;

use clarion_engine::intake::Expiry;
use clarion_engine::intake::request::{Problem, Step};
use clarion_engine::limits::TTL_MAX;
use clarion_engine::model::{MessageId, Millis, Options};
use serde_json::Value;

use super::wire::{Members, MessageBody, Payload, SettingsBody};

/// What the payload of a message is refused with.
pub(crate) const PAYLOAD_IS_NO_OBJECT: &str = "is a JSON object, or a JSON object as text";

/// A message in the engine's words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapped {
    pub(crate) options: Options,
    /// Until when it is worth sending, if the message says so.
    pub(crate) expiry: Option<Expiry>,
}

/// When and as what a message goes out.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    /// Devices report what became of it under this id.
    pub(crate) id: MessageId,
    pub(crate) now: Millis,
    /// Life of a message that names none.
    pub(crate) usual_life: Duration,
}

/// Maps a message.
///
/// # Errors
/// The first member that breaks a rule.
pub(crate) fn message(
    said: &MessageBody,
    settings: &SettingsBody,
    sending: Sending,
) -> Result<Mapped, Problem> {
    let apns = settings.apns.clone().unwrap_or_default().0;
    let gcm = settings.gcm.clone().unwrap_or_default().0;
    let life = life(gcm.time_to_live)?;
    // Google's time to live bounds how long the engine tries; Apple keeps its own copy for as long as usual.
    let apple_until = life.map(|_| until(sending));
    let options = Options {
        apns: Some(apns::map(said, apns, (sending.id, apple_until))?),
        fcm: Some(gcm::map(said, gcm, sending.id)?),
        ..Options::default()
    };
    Ok(Mapped {
        options,
        expiry: life.filter(|life| !life.is_zero()).map(Expiry::After),
    })
}

fn life(seconds: Option<u32>) -> Result<Option<Duration>, Problem> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let life = Duration::from_secs(seconds.into());
    if life > TTL_MAX {
        let most = format!("is a number of seconds from 0 to {}", TTL_MAX.as_secs());
        return Err(Problem::value(place("gcm", "timeToLive"), most));
    }
    Ok(Some(life))
}

/// Unix seconds at which a message of the usual life is over.
fn until(sending: Sending) -> i64 {
    let life = i64::try_from(sending.usual_life.as_secs()).unwrap_or(i64::MAX);
    sending.now.div_euclid(1_000).saturating_add(life)
}

fn place(platform: &'static str, member: &'static str) -> [Step; 3] {
    ["settings".into(), platform.into(), member.into()]
}

/// The word of `words` that `text` is, without regard to case; the first when there is none.
fn word<T: Copy>(
    text: Option<&str>,
    words: &[(&'static str, T)],
    at: [Step; 3],
) -> Result<Option<T>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let found = words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    let Some((_, value)) = found else {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        return Err(Problem::value(
            at,
            format!("is one of {}", known.join(", ")),
        ));
    };
    Ok(Some(*value))
}

/// The app's own data with the message's id in it, where IBM's client SDKs look for it, as JSON text.
fn payload(payload: Option<Payload>, id: MessageId, at: [Step; 3]) -> Result<String, Problem> {
    let refused = || Problem::value(at.clone(), PAYLOAD_IS_NO_OBJECT);
    let mut members = match payload.map(|payload| payload.0.0) {
        None => Members::new(),
        Some(Value::Object(members)) => members,
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_| refused())?,
        Some(_) => return Err(refused()),
    };
    members.insert("nid".to_owned(), Value::from(id.as_str()));
    Ok(Value::Object(members).to_string())
}

/// Puts a member that is there.
fn put<V: Into<Value>>(members: &mut Members, name: &str, value: Option<V>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}

/// Puts an object that is not empty.
fn put_object(members: &mut Members, name: &str, object: Members) {
    if !object.is_empty() {
        members.insert(name.to_owned(), Value::Object(object));
    }
}
