//! Scripted behaviour: an ordered list of rules, of which the first that matches a request acts on it.
//! Knows nothing of connections or of what a strict provider would have answered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::http2::code;
use crate::receipt::Provider;

/// Rules in one set; a guard against a runaway file.
const RULES_MAX: usize = 1_000;

/// A rule file, or the body of `PUT /rules`.
///
/// ```toml
/// seed = 7
///
/// [[rule]]
/// name = "dead devices"
/// match = { provider = "apns", share = 0.05 }
/// action = { reason = "Unregistered" }
///
/// [[rule]]
/// name = "an unquiet minute"
/// match = { chance = 0.02, from_ms = 5000, until_ms = 65000 }
/// action = { rst = "REFUSED_STREAM" }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Seed of `share` and `chance`, so that a run can be repeated.
    #[serde(default)]
    pub seed: u64,
    /// In order; the first that matches acts.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For people, and for the hit counts of `GET /stats`.
    #[serde(default)]
    pub name: String,
    /// Which requests; everything given must hold.
    #[serde(default, rename = "match")]
    pub when: Match,
    /// What is done with them.
    #[serde(default, rename = "action")]
    pub then: Action,
}

/// Which requests a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Match {
    /// `apns`, `fcm`, or `oauth` for Google's token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// This device token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    /// Device tokens that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_token_prefix: Option<String>,
    /// This APNs topic or FCM project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A fixed share (0 to 1) of the device tokens, see [`share_matches`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Seed for `share` in place of the set's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The provider's nth connection, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// Milliseconds since the rules were installed: not before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Milliseconds since the rules were installed: before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Of the requests for which all of the above holds, only the nth, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Of those requests, every nth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Of those requests, a share (0 to 1) drawn anew for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Act only this many times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

/// What a rule does. A status or reason replaces an answer of success; a request the provider refuses
/// anyway keeps its refusal. With `rst`, `hang`, `cut` or `freeze` the request is not processed (and not
/// logged) unless `accept` is set: then it is processed and logged, and only the answer is missing, which
/// is the ambiguous case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Action {
    /// HTTP status. May be left out where `reason` implies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// APNs: a reason. FCM: an error code (`UNREGISTERED`) or a status (`UNAUTHENTICATED`). OAuth: an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Raw body in place of the provider's JSON (a front end's HTML page, say).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// APNs 410: since when the device is gone, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// APNs 410: since when the device is gone, milliseconds before the answer. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ago_ms: Option<i64>,
    /// The `retry-after` header as it stands: seconds, or a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// Milliseconds added to the latency.
    pub delay_ms: u64,
    /// Up to so many milliseconds more, drawn for each request.
    pub jitter_ms: u64,
    /// End the stream with RST_STREAM and this error code (`REFUSED_STREAM`, `INTERNAL_ERROR`, ...).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rst: Option<String>,
    /// Never answer.
    pub hang: bool,
    /// Close the connection at once, with everything on it.
    pub cut: bool,
    /// Keep the connection open and from now on neither read from it nor write to it.
    pub freeze: bool,
    /// With `rst`, `hang`, `cut` or `freeze`: process and log the request first.
    pub accept: bool,
    /// End the connection with GOAWAY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goaway: Option<Goaway>,
    /// Announce another SETTINGS_MAX_CONCURRENT_STREAMS on this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_limit: Option<u32>,
}

/// How a connection ends with GOAWAY.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goaway {
    /// True: the request that met the rule is the last one processed. False: the one before it is.
    pub process: bool,
    /// The error code's name.
    pub code: String,
    /// Becomes `{"reason": …}` in the debug data, as APNs sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Close without answering what is still in flight.
    pub close: bool,
}

impl Default for Goaway {
    fn default() -> Self {
        Self {
            process: true,
            code: "NO_ERROR".to_owned(),
            reason: None,
            close: false,
        }
    }
}

impl Goaway {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match code::by_name(&self.code) {
            Some(_) => Ok(()),
            None => Err("goaway.code is the name of an HTTP/2 error code, such as NO_ERROR"),
        }
    }

    /// The error code's number.
    pub(crate) fn number(&self) -> u32 {
        code::by_name(&self.code).unwrap_or(code::NO_ERROR)
    }

    pub(crate) fn debug(&self) -> Vec<u8> {
        match &self.reason {
            Some(reason) => serde_json::json!({ "reason": reason })
                .to_string()
                .into_bytes(),
            None => Vec::new(),
        }
    }
}

impl Rules {
    /// Reads and checks a rule file.
    ///
    /// # Errors
    /// [`Error::Rules`] with the place and the cause.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let rules: Self = toml::from_str(text).map_err(|error| Error::Rules(error.to_string()))?;
        rules.check()?;
        Ok(rules)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.rules.len() > RULES_MAX {
            return Err(Error::Rules(format!("more than {RULES_MAX} rules")));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            if let Err(cause) = rule.check() {
                return Err(Error::Rules(format!(
                    "rule {} ({}): {cause}",
                    at + 1,
                    rule.name
                )));
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        let unit = |share: Option<f64>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
        let known = |name: &str| code::by_name(name).is_some();
        let (when, then) = (&self.when, &self.then);
        if !unit(when.share) || !unit(when.chance) {
            return Err("share and chance are between 0 and 1");
        }
        if when.nth == Some(0) || when.every == Some(0) {
            return Err("nth and every count from 1");
        }
        if then
            .status
            .is_some_and(|status| !(200..=599).contains(&status))
        {
            return Err("status is between 200 and 599");
        }
        if !then.rst.as_deref().is_none_or(known) {
            return Err("rst is the name of an HTTP/2 error code, such as REFUSED_STREAM");
        }
        if let Some(goaway) = &then.goaway {
            goaway.check()?;
        }
        let ends = [then.rst.is_some(), then.hang, then.cut, then.freeze];
        if ends.into_iter().filter(|end| *end).count() > 1 {
            return Err("rst, hang, cut and freeze exclude each other");
        }
        Ok(())
    }
}

/// What rules are matched against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) provider: Provider,
    pub(crate) device_token: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) connection: u64,
    /// Unix milliseconds.
    pub(crate) now_ms: i64,
}

/// Rules at work, with their counts.
#[derive(Debug)]
pub(crate) struct RuleSet {
    rules: Rules,
    counts: Vec<Counts>,
    installed_ms: i64,
}

#[derive(Debug, Default)]
struct Counts {
    seen: AtomicU64,
    hits: AtomicU64,
}

/// A rule's action on one request, with the number that draws its jitter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'a> {
    pub(crate) action: &'a Action,
    draw: u64,
}

impl Decision<'_> {
    /// Milliseconds to add to the latency.
    pub(crate) fn delay_ms(&self) -> u64 {
        let jitter = match self.action.jitter_ms {
            0 => 0,
            most => self.draw % (most + 1),
        };
        self.action.delay_ms + jitter
    }
}

impl RuleSet {
    pub(crate) fn new(rules: Rules, installed_ms: i64) -> Self {
        let counts = rules.rules.iter().map(|_| Counts::default()).collect();
        Self {
            rules,
            counts,
            installed_ms,
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How often each rule has acted, in order.
    pub(crate) fn hits(&self) -> Vec<u64> {
        self.counts
            .iter()
            .map(|counts| counts.hits.load(Relaxed))
            .collect()
    }

    pub(crate) fn decide(&self, subject: Subject<'_>) -> Option<Decision<'_>> {
        self.rules
            .rules
            .iter()
            .zip(&self.counts)
            .enumerate()
            .find_map(|(at, (rule, counts))| {
                let draw = self.draw(&rule.when, subject, counts, at)?;
                Some(Decision {
                    action: &rule.then,
                    draw,
                })
            })
    }

    /// A number drawn for this request if the rule acts on it.
    fn draw(&self, when: &Match, subject: Subject<'_>, counts: &Counts, at: usize) -> Option<u64> {
        let since = subject.now_ms - self.installed_ms;
        let holds = when
            .provider
            .is_none_or(|provider| provider == subject.provider)
            && when
                .device_token
                .as_ref()
                .is_none_or(|exact| exact == subject.device_token)
            && when
                .device_token_prefix
                .as_ref()
                .is_none_or(|head| subject.device_token.starts_with(head))
            && when
                .topic
                .as_ref()
                .is_none_or(|topic| topic == subject.topic)
            && when
                .connection
                .is_none_or(|number| number == subject.connection)
            && when.from_ms.is_none_or(|from| since >= from)
            && when.until_ms.is_none_or(|until| since < until)
            && when.share.is_none_or(|share| {
                share_matches(
                    when.seed.unwrap_or(self.rules.seed),
                    subject.device_token,
                    share,
                )
            });
        if !holds {
            return None;
        }
        let count = counts.seen.fetch_add(1, Relaxed) + 1;
        let draw = mix(self.rules.seed ^ mix(count ^ mix(at as u64)));
        let chosen = when.nth.is_none_or(|nth| count == nth)
            && when.every.is_none_or(|every| count.is_multiple_of(every))
            && when.chance.is_none_or(|chance| below(draw, chance));
        // `first` is counted last, so that only requests acted on use it up.
        let acts = chosen
            && match when.first {
                Some(first) => counts
                    .hits
                    .try_update(Relaxed, Relaxed, |hits| (hits < first).then_some(hits + 1))
                    .is_ok(),
                None => {
                    counts.hits.fetch_add(1, Relaxed);
                    true
                }
            };
        acts.then(|| mix(draw))
    }
}

/// Whether a device token belongs to the share a rule names: the same answer for the same seed and token,
/// always. SHA-256 over the seed (eight octets, little endian) and the token as it is sent; its first eight
/// octets, big endian, as a fraction of 2^64, are less than `share`.
pub fn share_matches(seed: u64, device_token: &str, share: f64) -> bool {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&seed.to_le_bytes());
    context.update(device_token.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&context.finish().as_ref()[..8]);
    below(u64::from_be_bytes(head), share)
}

fn below(draw: u64, share: f64) -> bool {
    (draw as f64) < share * (u64::MAX as f64 + 1.0)
}

/// The finaliser of splitmix64: spreads a counter over all 64 bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
