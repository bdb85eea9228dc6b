//! What is wrong with a request, and where: the same words for every face.
//! It must not know how a face answers, and never holds a value of the request.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::intake::Refusal;

/// Problems told at once; the rest is left out.
pub const PROBLEMS_MAX: usize = 20;

/// A step of the way to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Step {
    /// A member's name.
    Name(Cow<'static, str>),
    /// A place in a list.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(name: &'static str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<String> for Step {
    fn from(name: String) -> Self {
        Self::Name(Cow::Owned(name))
    }
}

impl From<Cow<'static, str>> for Step {
    fn from(name: Cow<'static, str>) -> Self {
        Self::Name(name)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => index.fmt(f),
        }
    }
}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The text is not JSON from this byte on.
    Malformed(usize),
    /// A member is there twice.
    Duplicate,
    /// A required member is not there.
    Missing,
    /// A value of another type; the word says which one is wanted.
    Type(&'static str),
    /// A word that is not one of the documented.
    Word,
    /// A value that breaks a rule.
    Value,
    /// A list, a member or a payload over its limit.
    TooLarge,
    /// A text that is no device token of its platform.
    DeviceToken,
    /// A version of the contract that this build does not read.
    Version,
    /// Another tenant than the one whose it is.
    OtherTenant,
    /// Its time is over.
    Expired,
}

impl ProblemKind {
    /// The machine-readable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed(_) => "json_invalid",
            Self::Duplicate => "duplicate_key",
            Self::Missing => "missing",
            Self::Type(word) => word,
            Self::Word => "enum",
            Self::Value | Self::OtherTenant | Self::Expired => "value_error",
            Self::Version => "unsupported_version",
            Self::TooLarge => "too_large",
            Self::DeviceToken => "device_token",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the outermost member on; empty where the whole body is meant.
    pub path: Vec<Step>,
    /// What is wrong and what to do.
    pub message: Cow<'static, str>,
    /// Its kind.
    pub kind: ProblemKind,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(
        kind: ProblemKind,
        path: impl IntoIterator<Item = Step>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            path: path.into_iter().collect(),
            message: message.into(),
            kind,
        }
    }

    /// A value that breaks a rule.
    pub fn value(
        path: impl IntoIterator<Item = Step>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ProblemKind::Value, path, message)
    }

    /// A required member that is not there.
    pub fn missing(path: impl IntoIterator<Item = Step>) -> Self {
        Self::new(ProblemKind::Missing, path, "Field required")
    }

    /// The path as people write it, with dots.
    #[must_use]
    pub fn way(&self) -> String {
        let steps: Vec<String> = self.path.iter().map(Step::to_string).collect();
        steps.join(".")
    }

    /// The path as a JSON Pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self) -> String {
        let escaped = |step: &Step| step.to_string().replace('~', "~0").replace('/', "~1");
        let steps = self.path.iter().map(|step| format!("/{}", escaped(step)));
        steps.collect()
    }

    /// Whether it lies at or below the member of this name.
    #[must_use]
    pub fn is_in(&self, name: &str) -> bool {
        matches!(self.path.first(), Some(Step::Name(first)) if first == name)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field { path, problem } => {
                Self::value(path.into_iter().map(Step::from), problem)
            }
            Refusal::Expired { field } => Self::new(
                ProblemKind::Expired,
                ["options".into(), field.into()],
                Refusal::IS_OVER,
            ),
            Refusal::TooLarge { .. } => Self::new(ProblemKind::TooLarge, [], refusal.to_string()),
            Refusal::Unwritable(_) => Self::value([], refusal.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.pointer(), self.kind) {
            ("", ProblemKind::Malformed(at)) => write!(f, "byte {at}: {}", self.message),
            ("", _) => f.write_str(&self.message),
            (pointer, _) => write!(f, "{pointer}: {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_what_separates_its_steps() {
        let path = ["data".into(), "a/b~c".to_owned().into(), Step::Index(3)];
        let problem = Problem::value(path, "is wrong");
        assert_eq!(problem.pointer(), "/data/a~1b~0c/3");
        assert_eq!(problem.way(), "data.a/b~c.3");
        assert_eq!(problem.to_string(), "/data/a~1b~0c/3: is wrong");
        assert!(problem.is_in("data") && !problem.is_in("a/b~c"));
        let whole = Problem::value([], "is empty");
        assert_eq!(
            (whole.pointer(), whole.to_string()),
            (String::new(), "is empty".to_owned())
        );
    }
}
