//! A receipt: one request that a simulated provider has processed, and its line in the receive log. Does no
//! I/O.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Which simulated service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Apple's push service.
    Apns,
    /// Google's push service.
    Fcm,
    /// Google's token endpoint.
    Oauth,
}

impl Provider {
    /// As written in rules and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Fcm => "fcm",
            Self::Oauth => "oauth",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::Apns, Self::Fcm, Self::Oauth]
            .into_iter()
            .find(|provider| provider.name() == name)
    }
}

/// What became of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Sent, or about to be.
    Answer,
    /// Replaced by RST_STREAM.
    Reset,
    /// Never sent.
    Hang,
    /// The connection was closed in its place.
    Cut,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Cut => "cut",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::Answer, Self::Reset, Self::Hang, Self::Cut]
            .into_iter()
            .find(|fate| fate.name() == name)
    }
}

/// One processed request. The device token is whole: this is the provider's side, and the log file is
/// readable by its owner only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Place in the log, from 1, without gaps.
    pub seq: u64,
    /// When the request was processed, Unix microseconds.
    pub at_us: i64,
    /// By whom.
    pub provider: Provider,
    /// The provider's nth connection since its start, from 1.
    pub connection: u64,
    /// The HTTP/2 stream.
    pub stream: u32,
    /// The device addressed.
    pub device_token: String,
    /// APNs: the `apns-id`. FCM: the `x-request-id` header, or empty.
    pub id: String,
    /// APNs: the topic. FCM: the project.
    pub topic: String,
    /// APNs: the collapse id. FCM: the Android notification's tag, or else the collapse key.
    pub collapse_id: String,
    /// 200 means accepted, whatever became of the answer.
    pub status: u16,
    /// The provider's reason, empty for an accepted request.
    pub reason: Cow<'static, str>,
    /// What became of the answer.
    pub fate: Fate,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.device_token.get(..8).unwrap_or("");
        write!(
            f,
            "#{} {} {}/{} {shown}… id={} {} {} {}",
            self.seq,
            self.provider.name(),
            self.connection,
            self.stream,
            self.id,
            self.status,
            self.reason,
            self.fate.name()
        )
    }
}

impl Receipt {
    /// True if the provider took the notification.
    pub fn accepted(&self) -> bool {
        self.status == 200
    }

    /// When the request was processed, Unix milliseconds.
    pub fn at_ms(&self) -> i64 {
        self.at_us.div_euclid(1_000)
    }

    /// Appends the receipt's line: its fields in the order above, separated by tabs, ended by a newline.
    /// Control characters in a field become spaces.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>) {
        let stamps = [self.seq as i64, self.at_us];
        for stamp in stamps {
            out.extend_from_slice(stamp.to_string().as_bytes());
            out.push(b'\t');
        }
        out.extend_from_slice(self.provider.name().as_bytes());
        out.push(b'\t');
        out.extend_from_slice(self.connection.to_string().as_bytes());
        out.push(b'\t');
        out.extend_from_slice(self.stream.to_string().as_bytes());
        for text in [&self.device_token, &self.id, &self.topic, &self.collapse_id] {
            out.push(b'\t');
            push_clean(text, out);
        }
        out.push(b'\t');
        out.extend_from_slice(self.status.to_string().as_bytes());
        out.push(b'\t');
        push_clean(&self.reason, out);
        out.push(b'\t');
        out.extend_from_slice(self.fate.name().as_bytes());
        out.push(b'\n');
    }

    /// Reads a line without its newline.
    pub(crate) fn parse_line(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let receipt = Self {
            seq: next()?.parse().ok()?,
            at_us: next()?.parse().ok()?,
            provider: Provider::by_name(next()?)?,
            connection: next()?.parse().ok()?,
            stream: next()?.parse().ok()?,
            device_token: next()?.to_owned(),
            id: next()?.to_owned(),
            topic: next()?.to_owned(),
            collapse_id: next()?.to_owned(),
            status: next()?.parse().ok()?,
            reason: Cow::Owned(next()?.to_owned()),
            fate: Fate::by_name(next()?)?,
        };
        next().is_none().then_some(receipt)
    }
}

fn push_clean(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes().map(|octet| {
        if octet.is_ascii_control() {
            b' '
        } else {
            octet
        }
    }));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_its_receipt() {
        let receipt = Receipt {
            seq: 7,
            at_us: 1_700_000_000_123_456,
            provider: Provider::Fcm,
            connection: 3,
            stream: 41,
            device_token: "abc:DEF".to_owned(),
            id: "id\twith\na break".to_owned(),
            topic: String::new(),
            collapse_id: "ünïcode".to_owned(),
            status: 404,
            reason: Cow::Borrowed("UNREGISTERED"),
            fate: Fate::Reset,
        };
        let mut line = Vec::new();
        receipt.write_line(&mut line);
        let line = String::from_utf8(line).unwrap();
        let read = Receipt::parse_line(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(
            read,
            Receipt {
                id: "id with a break".to_owned(),
                ..receipt
            }
        );
        assert_eq!(Receipt::parse_line(&line[..line.len() / 2]), None);
        assert_eq!(
            Receipt::parse_line(&format!("{}\tmore", line.trim_end())),
            None
        );
    }
}
