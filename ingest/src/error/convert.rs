//! From the errors of other rooms to refusals.
//! It must not know statuses or shapes.

use clarion_auth::permission::Denied;
use clarion_auth::principal::CredentialType;
use clarion_engine::intake::request::{self, ProblemKind};
use clarion_engine::{intake, store};

use super::{ApiError, Chain, FieldError, Kind, Step};

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let kind = match denied {
            // Nothing was shown, or only half of what is needed.
            Denied::NotInList(CredentialType::AppId) | Denied::Unproven => Kind::Unauthenticated,
            _ => Kind::Forbidden,
        };
        Self::new(kind, denied.to_string())
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => {
                tracing::warn!(error = %Chain(&error), "the store cannot serve a request");
                Self::unavailable("the store cannot be reached: try again")
            }
            store::Error::NotFound(what) => Self::not_found(what),
            store::Error::Conflict(what) => Self::new(Kind::Conflict, what),
            store::Error::Corrupt { .. }
            | store::Error::Data(_)
            | store::Error::NewerSchema { .. } => Self::internal(&error),
        }
    }
}

impl From<request::Problem> for FieldError {
    fn from(problem: request::Problem) -> Self {
        let kind = problem.kind.as_str();
        let mut loc = vec![Step::from("body")];
        loc.extend(problem.path);
        if let ProblemKind::Malformed(at) = problem.kind {
            loc.push(at.into());
        }
        Self {
            loc,
            msg: problem.message,
            kind,
        }
    }
}

impl From<Vec<request::Problem>> for ApiError {
    /// One answer has one status: that of the first problem.
    fn from(mut problems: Vec<request::Problem>) -> Self {
        let Some(first) = problems.first_mut() else {
            return Self::fields(Vec::new());
        };
        match first.kind {
            ProblemKind::TooLarge => Self::new(
                Kind::TooLarge,
                format!("{}: {}", first.way(), first.message),
            ),
            ProblemKind::DeviceToken => {
                // The place of the entry, as documented, not that of its member.
                first.path.pop();
                let detail = format!("invalid token format: {}: {}", first.way(), first.message);
                Self::new(Kind::BadValue, detail)
            }
            _ => Self::fields(problems.into_iter().map(FieldError::from).collect()),
        }
    }
}

impl From<request::Problem> for ApiError {
    fn from(problem: request::Problem) -> Self {
        vec![problem].into()
    }
}

impl From<intake::Refusal> for ApiError {
    fn from(refusal: intake::Refusal) -> Self {
        match refusal {
            intake::Refusal::Field { path, problem } => {
                let way = path.into_iter().map(Step::from);
                let loc = std::iter::once(Step::from("body")).chain(way);
                Self::field(FieldError::value(loc, problem))
            }
            intake::Refusal::Expired { field } => {
                let loc = ["body".into(), "options".into(), field.into()];
                Self::field(FieldError::value(loc, intake::Refusal::IS_OVER))
            }
            intake::Refusal::TooLarge { .. } => Self::new(Kind::TooLarge, refusal.to_string()),
            intake::Refusal::Unwritable(_) => Self::internal(&refusal),
        }
    }
}

impl From<intake::Error> for ApiError {
    fn from(error: intake::Error) -> Self {
        match error {
            intake::Error::Refused(refusal) => refusal.into(),
            intake::Error::UnknownTenant => Self::not_found("tenant"),
            intake::Error::Suspended => Self::new(Kind::Forbidden, error.to_string()),
            intake::Error::BacklogFull { retry_after, .. }
            | intake::Error::SelectionsFull { retry_after } => {
                Self::new(Kind::LimitReached, error.to_string()).retry_after(retry_after)
            }
            intake::Error::Queue(_) => {
                tracing::warn!(error = %Chain(&error), "the queue did not take a notification");
                Self::unavailable(
                    "the queue did not confirm: try again with the same Idempotency-Key",
                )
            }
            intake::Error::Store(error) => error.into(),
        }
    }
}
