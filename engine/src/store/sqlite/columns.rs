//! How values stand in columns: numbers for words, 16 bytes for ids, and back.
//! It must not know which table a column belongs to.

use std::str::FromStr;

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

use super::super::{CredentialKind, DeadOrigin, Error, WaitingWhy};
use crate::model::{Environment, FinalState, Lane, Platform, TenantId};

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

impl Coded for DeadOrigin {
    const ALL: &'static [Self] = &[Self::Internal, Self::Unparsed, Self::External];
}

impl Coded for CredentialKind {
    const ALL: &'static [Self] = &[Self::ApnsKey, Self::ApnsCertificate, Self::Fcm];
}

/// What stands in a column and should not.
#[derive(Debug, thiserror::Error)]
#[error("column {0} holds what this build cannot read")]
pub(super) struct Unreadable(pub(super) usize);

/// Reads the columns of a row of one table.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    /// The columns of `row`, a row of `table`.
    pub(super) fn of(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, table }
    }

    /// A value as SQL has it.
    pub(super) fn get<T>(&self, column: usize) -> Result<T, Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.row.try_get(column).map_err(|error| Error::Corrupt {
            table: self.table,
            source: Box::new(error),
        })
    }

    /// A number.
    pub(super) fn int(&self, column: usize) -> Result<i64, Error> {
        self.get(column)
    }

    /// A number of a smaller kind.
    pub(super) fn small<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Error> {
        T::try_from(self.int(column)?).map_err(|_| self.corrupt(column))
    }

    /// A number of a smaller kind, or none.
    pub(super) fn small_or_null<T: TryFrom<i64>>(&self, column: usize) -> Result<Option<T>, Error> {
        let number: Option<i64> = self.get(column)?;
        number
            .map(|number| T::try_from(number).map_err(|_| self.corrupt(column)))
            .transpose()
    }

    /// Bytes that are text.
    pub(super) fn lossy(&self, column: usize) -> Result<String, Error> {
        let bytes: &[u8] = self.get(column)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A value with a number.
    pub(super) fn coded<T: Coded>(&self, column: usize) -> Result<T, Error> {
        T::of(self.int(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// A value with a number, or none.
    pub(super) fn coded_or_null<T: Coded>(&self, column: usize) -> Result<Option<T>, Error> {
        let code: Option<i64> = self.get(column)?;
        code.map(|code| T::of(code).ok_or_else(|| self.corrupt(column)))
            .transpose()
    }

    /// A validated id.
    pub(super) fn id<T: FromStr>(&self, column: usize) -> Result<T, Error> {
        let text: &str = self.get(column)?;
        text.parse().map_err(|_| self.corrupt(column))
    }

    /// A tenant.
    pub(super) fn tenant(&self, column: usize) -> Result<TenantId, Error> {
        self.id(column)
    }

    /// A UUID.
    pub(super) fn uuid(&self, column: usize) -> Result<Uuid, Error> {
        let bytes: &[u8] = self.get(column)?;
        Uuid::from_slice(bytes).map_err(|_| self.corrupt(column))
    }

    /// A UUID, or none.
    pub(super) fn uuid_or_null(&self, column: usize) -> Result<Option<Uuid>, Error> {
        let bytes: Option<&[u8]> = self.get(column)?;
        bytes
            .map(|bytes| Uuid::from_slice(bytes).map_err(|_| self.corrupt(column)))
            .transpose()
    }

    /// Bytes of a fixed length.
    pub(super) fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], Error> {
        let bytes: &[u8] = self.get(column)?;
        bytes.try_into().map_err(|_| self.corrupt(column))
    }

    fn corrupt(&self, column: usize) -> Error {
        corrupt(self.table, Unreadable(column))
    }
}

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

/// The bytes of a UUID.
pub(super) fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
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
        check::<DeadOrigin>();
        check::<CredentialKind>();
        for state in FinalState::ALL {
            assert_eq!(state.code(), i64::from(state as u8));
        }
    }
}
