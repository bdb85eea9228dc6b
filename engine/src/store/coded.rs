//! How words stand in columns of either database: by small numbers, which are never given to another word.
//! It must not know tables or databases.

use super::{CredentialKind, DeadOrigin, Error, RequestOrigin, Section, Seen, WaitingWhy};
use crate::model::{Environment, FinalState, Lane, Platform};
use clarion_auth::{IamRole, Role};

/// A value that is a small number in the database.
pub(super) trait Coded: Sized + Copy + PartialEq + 'static {
    /// Every value, at the place of its number.
    const ALL: &'static [Self];

    /// Its number.
    fn code(self) -> i64 {
        let place = Self::ALL.iter().position(|value| *value == self);
        place
            .and_then(|place| i64::try_from(place).ok())
            .unwrap_or(-1)
    }

    /// The value of a number.
    fn of(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

impl Coded for Lane {
    const ALL: &'static [Self] = &[Self::Transactional, Self::Bulk];
}

impl Coded for Platform {
    const ALL: &'static [Self] = &[Self::Ios, Self::Watchos, Self::Android];
}

impl Coded for Environment {
    const ALL: &'static [Self] = &[Self::Production, Self::Sandbox];
}

impl Coded for FinalState {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Coded for WaitingWhy {
    const ALL: &'static [Self] = &Self::ALL;
}

/// The number of a dead row's origin; how a publish request came stands in columns of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Internal,
    Unparsed,
    External,
}

impl Coded for Door {
    const ALL: &'static [Self] = &[Self::Internal, Self::Unparsed, Self::External];
}

impl Door {
    /// The columns of an origin.
    pub(super) fn of_origin(origin: &DeadOrigin) -> (Self, Option<&RequestOrigin>) {
        match origin {
            DeadOrigin::Internal => (Self::Internal, None),
            DeadOrigin::Unparsed => (Self::Unparsed, None),
            DeadOrigin::External(request) => (Self::External, Some(request)),
        }
    }
}

impl Coded for CredentialKind {
    const ALL: &'static [Self] = &[Self::ApnsKey, Self::ApnsCertificate, Self::Fcm];
}

impl Coded for Role {
    const ALL: &'static [Self] = &[Self::Member, Self::Admin, Self::Owner];
}

impl Coded for IamRole {
    const ALL: &'static [Self] = &[Self::Reader, Self::Writer, Self::Manager];
}

impl Coded for Seen {
    const ALL: &'static [Self] = &[Self::Shown, Self::Opened];
}

impl Coded for Section {
    const ALL: &'static [Self] = &[Self::Inside, Self::Outside];
}

/// What stands in a column and should not.
#[derive(Debug, thiserror::Error)]
#[error("column {0} holds what this build cannot read")]
pub(super) struct Unreadable(pub(super) usize);

/// What is stored in `table` cannot be read.
pub(super) fn corrupt(
    table: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Corrupt {
        table,
        source: Box::new(source),
    }
}

/// A number for a column; what is beyond is as large as a column can hold.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_coded_value_comes_back_from_its_number() {
        fn check<T: Coded + std::fmt::Debug>() {
            for (place, value) in T::ALL.iter().enumerate() {
                assert_eq!(value.code(), i64::try_from(place).unwrap());
                assert_eq!(T::of(value.code()), Some(*value));
            }
            assert_eq!(T::of(-1), None);
            assert_eq!(T::of(99), None);
        }
        check::<Lane>();
        check::<Platform>();
        check::<Environment>();
        check::<FinalState>();
        check::<WaitingWhy>();
        check::<Door>();
        check::<CredentialKind>();
        check::<Role>();
        check::<IamRole>();
        check::<Seen>();
        check::<Section>();
        for state in FinalState::ALL {
            assert_eq!(state.code(), i64::from(state as u8));
        }
    }
}
