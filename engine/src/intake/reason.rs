//! Why a published message is dead: machine-readable words, and the row that keeps the message.
//! It must not know how a message is judged.

use aws_lc_rs::digest::{SHA256, digest};
use clarion_auth::TenantId;

use super::request::{Problem, ProblemKind};
use super::take::address;
use crate::model::NotificationId;
use crate::store::{DeadOrigin, NewDead, RequestOrigin};

/// Of a body up to this size, in bytes, a dead row keeps everything.
const WHOLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of a larger one it keeps this much, in bytes: nobody can replay it anyway.
const HEAD_BYTES: usize = 1024 * 1024;
/// Longest text of a dead row, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;
/// The tenant of messages whose routing key names none; ids of real tenants are UUIDs.
const NOBODY: &str = "unroutable";

/// The reasons of dead publish requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not JSON in UTF-8.
    MalformedJson,
    /// The body is of a version that this build does not read.
    UnsupportedVersion,
    /// A member breaks a rule; the path says which.
    Invalid,
    /// The body, a list, a member or what a provider would be sent is over its limit.
    TooLarge,
    /// Its time is over.
    Expired,
    /// The routing key is not `TENANT.LANE`.
    InvalidRoutingKey,
    /// No valid API key of the tenant came with it.
    Unauthorized,
    /// There is no such tenant, or no longer.
    UnknownTenant,
    /// The tenant is suspended.
    TenantSuspended,
    /// The body names another tenant than the routing key.
    TenantMismatch,
    /// The message id was used for another message.
    MessageIdReused,
    /// The store says that it can never be written.
    Unrecordable,
    /// It was handed out again and again, and never taken: the broker gave up on it.
    DeliveryLimit,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::MalformedJson,
        Self::UnsupportedVersion,
        Self::Invalid,
        Self::TooLarge,
        Self::Expired,
        Self::InvalidRoutingKey,
        Self::Unauthorized,
        Self::UnknownTenant,
        Self::TenantSuspended,
        Self::TenantMismatch,
        Self::MessageIdReused,
        Self::Unrecordable,
        Self::DeliveryLimit,
    ];

    /// The word in dead rows, on screens and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::InvalidRoutingKey => "invalid_routing_key",
            Self::Unauthorized => "unauthorized",
            Self::UnknownTenant => "unknown_tenant",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantMismatch => "tenant_mismatch",
            Self::MessageIdReused => "message_id_reused",
            Self::Unrecordable => "unrecordable",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    /// The reason of a message with these problems: that of the first.
    #[must_use]
    pub fn of(problems: &[Problem]) -> Self {
        match problems
            .first()
            .map(|first| (first.kind, first.path.is_empty()))
        {
            Some((ProblemKind::Malformed(_), _) | (ProblemKind::Missing, true)) => {
                Self::MalformedJson
            }
            Some((ProblemKind::Version, _)) => Self::UnsupportedVersion,
            Some((ProblemKind::TooLarge, _)) => Self::TooLarge,
            Some((ProblemKind::OtherTenant, _)) => Self::TenantMismatch,
            Some((ProblemKind::Expired, _)) => Self::Expired,
            Some(_) | None => Self::Invalid,
        }
    }
}

/// A message that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    reason: Reason,
    problems: Vec<Problem>,
    /// Where the body was read: its notification and how many entries it has.
    about: Option<(NotificationId, usize)>,
}

impl Rejected {
    pub(super) fn of(reason: Reason, problem: Problem) -> Self {
        Self {
            reason,
            problems: vec![problem],
            about: None,
        }
    }

    /// For a reason that is not in the body.
    pub(super) fn whole(
        reason: Reason,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self::of(reason, Problem::value([], message))
    }

    /// Says which notification it would have been.
    pub(super) fn about(self, id: NotificationId, entries: usize) -> Self {
        Self {
            about: Some((id, entries)),
            ..self
        }
    }

    /// The row that keeps the message.
    pub(super) fn into_dead(self, routing_key: &str, body: &[u8]) -> NewDead {
        let path = self.problems.first().map(Problem::pointer);
        let told: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        let mut detail = told.join("; ");
        let kept = if body.len() > WHOLE_BYTES_MAX {
            detail.push_str(&of_the_rest(body));
            &body[..HEAD_BYTES]
        } else {
            body
        };
        NewDead {
            tenant: address(routing_key).map_or_else(|| owner(routing_key), |(tenant, _)| tenant),
            origin: DeadOrigin::External(RequestOrigin {
                routing_key: routing_key.to_owned(),
                path: shortened(path.unwrap_or_default()),
            }),
            reason: self.reason.as_str().to_owned(),
            detail: shortened(detail),
            notification: self.about.map(|(id, _)| id),
            job: None,
            recipients: self
                .about
                .map_or(0, |(_, entries)| u32::try_from(entries).unwrap_or(u32::MAX)),
            body: kept.to_vec(),
        }
    }
}

impl From<Vec<Problem>> for Rejected {
    fn from(problems: Vec<Problem>) -> Self {
        Self {
            reason: Reason::of(&problems),
            problems,
            about: None,
        }
    }
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        vec![problem].into()
    }
}

/// The dead row of a published message that the broker itself gave up on.
#[must_use]
pub fn given_up(routing_key: &str, body: &[u8]) -> NewDead {
    let message = "was handed out again and again, and taken by nobody";
    Rejected::whole(Reason::DeliveryLimit, message).into_dead(routing_key, body)
}

/// Whose list a message is shown in that says nothing of a tenant.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant of allowed characters")]
pub fn nobody() -> TenantId {
    NOBODY.parse().expect("an id")
}

/// Whose list a message is shown in whose routing key has no lane that we know.
pub(super) fn owner(routing_key: &str) -> TenantId {
    let first = routing_key.split('.').next().unwrap_or_default();
    first.parse().unwrap_or_else(|_| nobody())
}

/// What is not kept of a body can still be recognised.
fn of_the_rest(body: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "; the first {HEAD_BYTES} of {} bytes are kept, SHA-256 ",
        body.len()
    );
    for byte in digest(&SHA256, body).as_ref() {
        // Writing into a string does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

fn shortened(mut text: String) -> String {
    let mut end = TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_to_the_tenant_of_its_routing_key_or_to_nobody() {
        for (routing_key, tenant) in [
            ("acme.bulk", "acme"),
            ("acme.loud", "acme"),
            ("acme", "acme"),
            ("", NOBODY),
            ("a b.bulk", NOBODY),
            (&*format!("{}.bulk", "t".repeat(65)), NOBODY),
        ] {
            let dead = Rejected::whole(Reason::Invalid, "x").into_dead(routing_key, b"{}");
            assert_eq!(dead.tenant.as_str(), tenant, "{routing_key}");
            let DeadOrigin::External(origin) = dead.origin else {
                panic!("{:?}", dead.origin)
            };
            assert_eq!(origin.routing_key, routing_key);
        }
    }

    #[test]
    fn every_byte_is_kept_of_what_could_be_a_request_and_a_head_and_a_digest_of_the_rest() {
        let rejected = || Rejected::whole(Reason::TooLarge, "is too large");
        let body = vec![b'x'; WHOLE_BYTES_MAX];
        assert_eq!(rejected().into_dead("a.bulk", &body).body, body);
        let body = vec![b'x'; WHOLE_BYTES_MAX + 1];
        let dead = rejected().into_dead("a.bulk", &body);
        assert_eq!(dead.body.len(), HEAD_BYTES);
        assert!(
            dead.detail.contains("16777217 bytes are kept, SHA-256 "),
            "{}",
            dead.detail
        );
    }

    #[test]
    fn texts_of_a_row_are_short_however_long_a_members_name_is() {
        let name = "ä".repeat(100_000);
        let problem = Problem::value(["data".into(), name.into()], "is wrong");
        let dead = Rejected::from(problem).into_dead("a.bulk", b"{}");
        assert!(dead.detail.len() <= TEXT_BYTES_MAX && dead.detail.starts_with("/data/ä"));
    }

    #[test]
    fn words_are_unique() {
        let words: std::collections::HashSet<_> = Reason::ALL.map(Reason::as_str).into();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
