//! How values stand in the columns of SQLite: 16 bytes for ids, numbers for all that is small, and back.
//! It must not know which table a column belongs to.

use std::str::FromStr;

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

use super::super::Error;
pub(super) use super::super::coded::{Coded, Unreadable, corrupt, int};
use crate::model::TenantId;

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

/// The bytes of a UUID.
pub(super) fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}
