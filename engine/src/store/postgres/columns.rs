//! How values stand in the columns of PostgreSQL: UUIDs, bytes for text from outside, numbers of three widths,
//! and back. It must not know which table a column belongs to.

use std::str::FromStr;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, Postgres};
use sqlx::{Column, Decode, Encode, Row, Type, TypeInfo};
use uuid::Uuid;

use super::super::Error;
pub(super) use super::super::coded::{Coded, Unreadable, corrupt, int};
use crate::model::TenantId;

/// PostgreSQL's number of its type `uuid`, and of arrays of it.
const UUID_TYPES: (Oid, Oid) = (Oid(2950), Oid(2951));

/// A UUID as an argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) Uuid);

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID_TYPES.0)
    }
}

impl PgHasArrayType for Id {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID_TYPES.1)
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// One column of what is written: an argument for `UNNEST`.
pub(super) fn column<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// Reads the columns of a row of one table.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    /// The columns of `row`, a row of `table`.
    pub(super) fn of(row: &'r PgRow, table: &'static str) -> Self {
        Self { row, table }
    }

    /// A value as SQL has it.
    pub(super) fn get<T>(&self, column: usize) -> Result<T, Error>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.row
            .try_get(column)
            .map_err(|error| corrupt(self.table, error))
    }

    /// A number.
    pub(super) fn int(&self, column: usize) -> Result<i64, Error> {
        self.int_or_null(column)?
            .ok_or_else(|| self.corrupt(column))
    }

    /// A number, or none. Three widths are read alike.
    pub(super) fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error> {
        let kind = self.row.try_column(column).map(|c| c.type_info().name());
        match kind.map_err(|error| corrupt(self.table, error))? {
            "INT2" => Ok(self.get::<Option<i16>>(column)?.map(i64::from)),
            "INT4" => Ok(self.get::<Option<i32>>(column)?.map(i64::from)),
            _ => self.get(column),
        }
    }

    /// A number of a smaller kind.
    pub(super) fn small<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Error> {
        T::try_from(self.int(column)?).map_err(|_| self.corrupt(column))
    }

    /// A number of a smaller kind, or none.
    pub(super) fn small_or_null<T: TryFrom<i64>>(&self, column: usize) -> Result<Option<T>, Error> {
        self.int_or_null(column)?
            .map(|number| T::try_from(number).map_err(|_| self.corrupt(column)))
            .transpose()
    }

    /// Bytes that are text which this store wrote.
    pub(super) fn text(&self, column: usize) -> Result<&'r str, Error> {
        self.text_or_null(column)?
            .ok_or_else(|| self.corrupt(column))
    }

    /// Bytes that are text, or none.
    pub(super) fn text_or_null(&self, column: usize) -> Result<Option<&'r str>, Error> {
        let bytes: Option<&'r [u8]> = self.get(column)?;
        bytes
            .map(|bytes| std::str::from_utf8(bytes).map_err(|error| corrupt(self.table, error)))
            .transpose()
    }

    /// Bytes that are text from elsewhere.
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
        self.int_or_null(column)?
            .map(|code| T::of(code).ok_or_else(|| self.corrupt(column)))
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
        self.uuid_or_null(column)?
            .ok_or_else(|| self.corrupt(column))
    }

    /// A UUID, or none.
    pub(super) fn uuid_or_null(&self, column: usize) -> Result<Option<Uuid>, Error> {
        let found: Option<Stored> = self.get(column)?;
        Ok(found.map(|Stored(id)| id))
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

/// A UUID as a column holds it.
struct Stored(Uuid);

impl Type<Postgres> for Stored {
    fn type_info() -> PgTypeInfo {
        Id::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Stored {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(Uuid::from_slice(value.as_bytes()?)?))
    }
}
