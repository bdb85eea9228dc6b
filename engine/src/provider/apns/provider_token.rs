//! The APNs JWT, minted on a grid that every process sharing the key computes alike.
//! It must not know connections, and takes the time from its caller.
//!
//! Apple wants a new provider token at most every 20 minutes and at least every 60. `iat` therefore sits on a grid of
//! 40 minutes whose phase derives from (team id, key id, public key), and the signature is deterministic (RFC 6979):
//! processes that share a key send byte-identical tokens without talking to each other.

use std::fmt;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};

use crate::model::Millis;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
/// Width of the grid.
const GRID: Millis = 40 * MINUTE;
/// A bucket is adopted this long after it began, so that no token is ever from the provider's future.
const LEAD: Millis = MINUTE;
/// A token is not sent when older.
const AGE_MAX: Millis = 55 * MINUTE;
/// Apple: no new token within this time.
const MINTING_REST: Millis = 20 * MINUTE;
/// A clock that differs by more is an alert, and no basis for minting.
const SKEW_MAX: Millis = 5 * MINUTE;
/// A measured difference is believed this long.
const SKEW_MEMORY: Millis = 10 * MINUTE;

/// Why there is no provider token to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMinted {
    /// Apple said TooManyProviderTokenUpdates and the last token is too old.
    #[error("provider tokens were updated too often: none is minted for {retry_in} ms")]
    Resting {
        /// Milliseconds until minting is allowed.
        retry_in: Millis,
    },
    /// Our clock and Apple's disagree.
    #[error("the clock differs from Apple's by {offset} ms: synchronise it")]
    Clock {
        /// Ours minus Apple's, milliseconds.
        offset: Millis,
    },
}

/// What an ExpiredProviderToken came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// A newer token is in use, or will be: try again soon.
    Replaced,
    /// A young token is refused: the clock is wrong. Rest.
    ClockFault,
}

/// The provider tokens of one signing key.
pub struct ProviderTokens {
    key: SigningKey,
    team_id: Box<str>,
    key_id: Box<str>,
    phase: Millis,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Token>,
    generation: u16,
    resting_until: Millis,
    skew: Option<Skew>,
}

struct Token {
    iat: Millis,
    header: HeaderValue,
}

struct Skew {
    offset: Millis,
    measured_at: Millis,
}

impl ProviderTokens {
    pub(super) fn new(key: SigningKey, team_id: &str, key_id: &str, identity: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *identity;
        let phase = Millis::from(u32::from_be_bytes([a, b, c, d])) * SECOND;
        Self {
            key,
            team_id: team_id.into(),
            key_id: key_id.into(),
            phase: phase % GRID,
            state: Mutex::default(),
        }
    }

    /// The `authorization` header for now, and which token it holds, to tell stragglers apart.
    ///
    /// # Errors
    /// While minting rests or the clock is known to be wrong, and the last token is too old.
    pub fn authorization(&self, now: Millis) -> Result<(HeaderValue, u16), NotMinted> {
        let mut state = self.lock();
        let fresh = |token: &&Token| (0..GRID).contains(&(now - token.iat));
        if let Some(token) = state.current.as_ref().filter(fresh) {
            return Ok((token.header.clone(), state.generation));
        }
        let iat = self.bucket(now);
        if let Some(obstacle) = state.obstacle(now) {
            let usable = |token: &&Token| (0..=AGE_MAX).contains(&(now - token.iat));
            let last = state.current.as_ref().filter(usable);
            let header = last.map(|token| token.header.clone());
            return Ok((header.ok_or(obstacle)?, state.generation));
        }
        Ok((self.mint(&mut state, iat), state.generation))
    }

    /// The start of the grid's bucket in use at `now`.
    fn bucket(&self, now: Millis) -> Millis {
        let at = now - LEAD;
        at - (at - self.phase).rem_euclid(GRID)
    }

    fn mint(&self, state: &mut State, iat: Millis) -> HeaderValue {
        if let Some(token) = state.current.as_ref().filter(|token| token.iat == iat) {
            return token.header.clone();
        }
        let header = self.sign(iat / SECOND);
        state.current = Some(Token {
            iat,
            header: header.clone(),
        });
        state.generation = state.generation.wrapping_add(1);
        header
    }

    fn sign(&self, iat: i64) -> HeaderValue {
        // Ids are letters and digits by construction: nothing to escape.
        let head = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.key_id);
        let claims = format!(r#"{{"iss":"{}","iat":{iat}}}"#, self.team_id);
        let mut text = String::with_capacity(256);
        text.push_str("bearer ");
        let start = text.len();
        URL_SAFE_NO_PAD.encode_string(head, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let signature: Signature = self.key.sign(&text.as_bytes()[start..]);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut text);
        #[expect(clippy::expect_used, reason = "base64url and dots are visible ASCII")]
        let mut value = HeaderValue::try_from(text).expect("base64url");
        value.set_sensitive(true);
        value
    }

    /// Apple calls token `generation` expired. An old one is replaced at once, off the grid; a young one means a wrong clock.
    pub(super) fn expired(&self, generation: u16, now: Millis) -> Expired {
        let mut state = self.lock();
        if state.generation != generation {
            return Expired::Replaced;
        }
        let age = state
            .current
            .as_ref()
            .map_or(Millis::MAX, |token| now - token.iat);
        if age < MINTING_REST || state.obstacle(now).is_some() {
            return Expired::ClockFault;
        }
        let iat = now - LEAD;
        self.mint(&mut state, iat - iat.rem_euclid(SECOND));
        Expired::Replaced
    }

    /// Apple says TooManyProviderTokenUpdates.
    pub(super) fn stop_minting(&self, now: Millis) {
        self.lock().resting_until = now + MINTING_REST;
    }

    /// Apple's clock, seen at `now`. The offset (ours minus theirs) if it is an alert.
    pub fn note_clock(&self, theirs: Millis, now: Millis) -> Option<Millis> {
        let offset = now - theirs;
        let wrong = offset.abs() > SKEW_MAX;
        self.lock().skew = wrong.then_some(Skew {
            offset,
            measured_at: now,
        });
        wrong.then_some(offset)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl State {
    fn obstacle(&self, now: Millis) -> Option<NotMinted> {
        if now < self.resting_until {
            let retry_in = self.resting_until - now;
            return Some(NotMinted::Resting { retry_in });
        }
        let skew = self.skew.as_ref()?;
        let believed = (now - skew.measured_at).abs() < SKEW_MEMORY;
        believed.then_some(NotMinted::Clock {
            offset: skew.offset,
        })
    }
}

impl fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderTokens")
            .field("team_id", &self.team_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
