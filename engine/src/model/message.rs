//! The id of a push message of the IBM Push face: eight letters and digits, unique within its tenant.
//! It must not know what a message says or where it is kept.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

/// Characters of an id.
pub const MESSAGE_ID_LEN: usize = 8;
/// What an id is made of.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes from here on would favour some characters.
const UNBIASED: u8 = 248;
/// Random bytes drawn in a round: of 32, fewer than eight fit once in 10^20 rounds.
const DRAW_LEN: usize = 32;

/// A push message's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; MESSAGE_ID_LEN]);

/// A text that is not the id of a push message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id has eight letters and digits")]
pub struct MessageIdError;

impl MessageId {
    /// A fresh id. That it is free, the store says.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn draw() -> Result<Self, Unspecified> {
        let mut id = [0; MESSAGE_ID_LEN];
        let mut filled = 0;
        while filled < MESSAGE_ID_LEN {
            let mut random = [0; DRAW_LEN];
            rand::fill(&mut random)?;
            let letters = random.into_iter().filter(|byte| *byte < UNBIASED);
            for byte in letters.take(MESSAGE_ID_LEN - filled) {
                id[filled] = ALPHABET[usize::from(byte) % ALPHABET.len()];
                filled += 1;
            }
        }
        Ok(Self(id))
    }

    /// The eight characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        let bytes: [u8; MESSAGE_ID_LEN] = text.as_bytes().try_into().map_err(|_| MessageIdError)?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) {
            Ok(Self(bytes))
        } else {
            Err(MessageIdError)
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn drawn_ids_are_eight_characters_and_differ() {
        let ids: HashSet<MessageId> = (0..500).map(|_| MessageId::draw().unwrap()).collect();
        assert_eq!(ids.len(), 500);
        let letters: HashSet<u8> = ids.iter().flat_map(|id| id.0).collect();
        // 4,000 random characters: one of 62 is missing once in 10^26 runs.
        assert_eq!(letters.len(), ALPHABET.len());
        for id in ids {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn anything_else_is_no_id() {
        for bad in ["", "short", "ninechars", "a-b_c.d!", "äaaaaaa"] {
            assert_eq!(bad.parse::<MessageId>(), Err(MessageIdError), "{bad:?}");
        }
    }
}
