//! Statements over many rows: `VALUES (?,?),(?,?)…` in few sizes, so that few statements stay prepared.
//! It must not know the tables.

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Rows per statement; a batch is cut into these sizes, largest first.
const SIZES: [usize; 3] = [64, 8, 1];

/// Sizes to which a batch is filled up where it must be one statement; beyond the last, its multiples.
const PADDED_SIZES: [usize; 4] = [1, 8, 64, 512];

/// A statement over rows: `head VALUES (?, …), … tail`.
#[derive(Debug)]
pub(crate) struct Rows {
    /// What stands before `VALUES`.
    pub(crate) head: &'static str,
    /// Values of one row.
    pub(crate) width: usize,
    /// What stands after the rows.
    pub(crate) tail: &'static str,
}

impl Rows {
    /// The statement for `rows` rows.
    pub(crate) fn sql(&self, rows: usize) -> String {
        let row_len = 2 * self.width + 2;
        let len = self.head.len() + 8 + rows * row_len + self.tail.len();
        let mut sql = String::with_capacity(len);
        sql.push_str(self.head);
        sql.push_str(" VALUES ");
        for row in 0..rows {
            sql.push_str(if row == 0 { "(?" } else { ",(?" });
            for _ in 1..self.width {
                sql.push_str(",?");
            }
            sql.push(')');
        }
        sql.push(' ');
        sql.push_str(self.tail);
        sql
    }

    /// Runs the statement for all items and returns how many rows it changed.
    pub(crate) async fn execute<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for chunk in chunks(items) {
            let arguments = self.arguments(chunk, &bind)?;
            let sql = AssertSqlSafe(self.sql(chunk.len()));
            let done = sqlx::query_with(sql, arguments)
                .execute(&mut *connection)
                .await?;
            changed += done.rows_affected();
        }
        Ok(changed)
    }

    /// Runs the statement for all items and returns the rows that it returns, in no order.
    pub(crate) async fn fetch<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut rows = Vec::new();
        for chunk in chunks(items) {
            let arguments = self.arguments(chunk, &bind)?;
            let sql = AssertSqlSafe(self.sql(chunk.len()));
            let found = sqlx::query_with(sql, arguments)
                .fetch_all(&mut *connection)
                .await?;
            rows.extend(found);
        }
        Ok(rows)
    }

    /// Runs the statement once for all items, filled up with rows of NULLs to a size that stays prepared;
    /// `rest` binds what stands in the tail.
    pub(crate) async fn fetch_once<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
        rest: impl FnOnce(&mut Binder),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let size = padded(items.len());
        let mut binder = Binder::with_capacity(size * self.width + 4);
        for item in items {
            bind(&mut binder, item);
        }
        for _ in items.len() * self.width..size * self.width {
            binder.bind(None::<i64>);
        }
        rest(&mut binder);
        let sql = AssertSqlSafe(self.sql(size));
        sqlx::query_with(sql, binder.finish()?)
            .fetch_all(connection)
            .await
    }

    fn arguments<T>(
        &self,
        items: &[T],
        bind: &impl Fn(&mut Binder, &T),
    ) -> Result<SqliteArguments, sqlx::Error> {
        let mut binder = Binder::with_capacity(items.len() * self.width);
        for item in items {
            bind(&mut binder, item);
        }
        binder.finish()
    }
}

/// The size to which a batch is filled up where it must be one statement.
fn padded(items: usize) -> usize {
    let size = PADDED_SIZES.into_iter().find(|size| *size >= items);
    size.unwrap_or_else(|| items.next_multiple_of(PADDED_SIZES[PADDED_SIZES.len() - 1]))
}

/// Cuts a batch into the sizes that stay prepared.
fn chunks<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rest.len())?;
        let (chunk, tail) = rest.split_at(size);
        rest = tail;
        Some(chunk)
    })
}

/// Collects the values of a statement.
#[derive(Debug, Default)]
pub(crate) struct Binder {
    arguments: SqliteArguments,
    failed: Option<sqlx::error::BoxDynError>,
}

impl Binder {
    fn with_capacity(values: usize) -> Self {
        let mut binder = Self::default();
        binder.arguments.reserve(values, 0);
        binder
    }

    /// The next value.
    pub(crate) fn bind<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failed = Some(error);
        }
        self
    }

    /// The values, unless one could not be written.
    pub(crate) fn finish(self) -> Result<SqliteArguments, sqlx::Error> {
        match self.failed {
            None => Ok(self.arguments),
            Some(error) => Err(sqlx::Error::Encode(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_the_prepared_sizes_in_order() {
        for len in [0, 1, 7, 8, 63, 64, 65, 200] {
            let items: Vec<usize> = (0..len).collect();
            let cut: Vec<&[usize]> = chunks(&items).collect();
            assert!(cut.iter().all(|chunk| SIZES.contains(&chunk.len())));
            assert_eq!(cut.concat(), items);
        }
    }

    #[test]
    fn a_single_statement_is_filled_up_to_a_size_that_holds_it() {
        for (items, size) in [(0, 1), (1, 1), (2, 8), (64, 64), (65, 512), (513, 1_024)] {
            assert_eq!(padded(items), size);
        }
    }

    #[test]
    fn the_statement_has_a_mark_for_every_value() {
        let rows = Rows {
            head: "INSERT INTO t",
            width: 2,
            tail: "RETURNING a",
        };
        let sql = rows.sql(2);
        assert_eq!(sql, "INSERT INTO t VALUES (?,?),(?,?) RETURNING a");
    }
}
